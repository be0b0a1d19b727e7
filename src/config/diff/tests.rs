use super::*;
use crate::config::check::check_document;
use crate::config::load::load_str;
use crate::config::report::Report;
use crate::config::{Checked, Comparable};
use crate::filter::Catalogue;

fn checked(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Checked {
    let mut report = Report::new();
    let document = load_str("test.yaml", text, env, &mut report);
    let checked = check_document(document, &Catalogue::standard(), report);
    assert!(checked.plan.is_some(), "{}\n{text}", checked.report.render_text(&checked.sources));
    checked
}

fn between(old: &str, new: &str) -> Vec<String> {
    let [old, new] = [old, new].map(|text| Comparable::of(&checked(text, &|_| None)));
    let changes = diff(&old.to_value(), &new.to_value());
    assert_eq!(old.changes(&new), changes, "piece by piece");
    changes.iter().map(ToString::to_string).collect()
}

/// What changes when `from` is written as `to`.
#[track_caller]
fn edited(from: &str, to: &str) -> Vec<String> {
    assert!(CONFIG.contains(from), "no {from:?}");
    between(CONFIG, &CONFIG.replace(from, to))
}

const CONFIG: &str = "
trusted_proxies: [10.0.0.0/8, 192.168.0.0/16]
listeners:
  - { name: web, address: 127.0.0.1:8080 }
  - { name: admin, address: 127.0.0.1:8081 }
filters:
  edge: [headers: { response: { set: { X-Edge: a } } }, ip: { deny: [192.0.2.1] }]
routes:
  - { name: api, path: /api, upstream: api, filters: [{ use: edge }, headers: { request: { set: { X-A: a } } }] }
  - { path: /site, upstream: web }
  - { name: one, regex: /x.*, upstream: web }
  - { name: two, regex: /.*y, upstream: web }
  - { name: rest, path: /, upstream: web }
upstreams:
  api: { servers: [127.0.0.1:3001] }
  web: { servers: [127.0.0.1:3003, { address: 127.0.0.1:3004, weight: 2 }] }
";

#[test]
fn equal_configurations_differ_in_nothing_however_they_are_written() {
    assert_eq!(between(CONFIG, CONFIG), [""; 0]);
    assert_eq!(edited("address: 127.0.0.1:8080", "address: '127.0.0.1:8080', limits: {}"), [""; 0]);
    assert_eq!(edited("path: /api,", "path: /api, timeouts: { }, # a comment\n   "), [""; 0]);
    assert_eq!(
        edited("servers: [127.0.0.1:3001]", "servers: [{ address: 127.0.0.1:3001, weight: 1 }]"),
        [""; 0]
    );
}

#[test]
fn values_are_told_by_their_keys() {
    assert_eq!(
        edited("path: /api, upstream: api", "path: /api, upstream: web"),
        ["routes.api.upstream: api -> web"]
    );
    assert_eq!(
        edited("servers: [127.0.0.1:3001]", "servers: [127.0.0.1:3001], slow_start: 30s, balance: random"),
        ["upstreams.api.balance: round_robin -> random", "+ upstreams.api.slow_start: 30s"]
    );
    assert_eq!(edited("X-Edge: a", "X-Edge: b"), ["filters.edge[headers].response.set.X-Edge: a -> b"]);
    assert_eq!(edited("weight: 2", "weight: 3"), ["upstreams.web.servers[127.0.0.1:3004].weight: 2 -> 3"]);
    assert_eq!(
        edited("api: { servers", "api: { balance: { hash: { key: client } }, servers"),
        ["upstreams.api.balance: round_robin -> { hash: { key: client } }"]
    );
    assert_eq!(
        between(
            &CONFIG.replace("api: { servers", "api: { balance: { hash: { key: client } }, servers"),
            &CONFIG.replace("api: { servers", "api: { balance: { maglev: { key: client } }, servers"),
        )
        .len(),
        1
    );
}

#[test]
fn items_are_known_by_what_they_are_called_not_by_their_place() {
    assert_eq!(
        edited("[127.0.0.1:3003,", "[127.0.0.1:3005, 127.0.0.1:3003,"),
        ["+ upstreams.web.servers 127.0.0.1:3005"]
    );
    assert_eq!(edited("127.0.0.1:3003,", ""), ["- upstreams.web.servers 127.0.0.1:3003"]);
    assert_eq!(
        edited("[127.0.0.1:3003, {", "[{ address: 127.0.0.1:3006, weight: 5 }, 127.0.0.1:3003, {"),
        ["+ upstreams.web.servers { address: 127.0.0.1:3006, weight: 5 }"]
    );
    assert_eq!(
        edited("  - { name: admin, address: 127.0.0.1:8081 }\n", ""),
        ["- listeners.admin: { address: 127.0.0.1:8081 }"]
    );
    assert_eq!(
        edited("path: /site, upstream: web", "path: /site, upstream: api"),
        ["routes[/site].upstream: web -> api"]
    );
    assert_eq!(
        edited("  - { path: /site, upstream: web }\n", "  - { path: /new, upstream: web, methods: [GET] }\n"),
        [
            "+ routes[/new]: { path: /new, methods: [GET], upstream: web }",
            "- routes[/site]: { path: /site, upstream: web }"
        ]
    );
    assert_eq!(edited("[10.0.0.0/8, 192", "[192"), ["- trusted_proxies 10.0.0.0/8"]);
    assert_eq!(edited("[10.0.0.0/8, 192.168.0.0/16]", "[192.168.0.0/16, 10.0.0.0/8]"), [""; 0]);
}

#[test]
fn what_is_new_is_shown_without_its_defaults() {
    let more = "upstreams:\n  more: { servers: [127.0.0.1:3009, { address: 127.0.0.1:3010, zone: a }], timeouts: { connect: 1s } }\n";
    assert_eq!(
        edited("upstreams:\n", more),
        [
            "+ upstreams.more: { servers: [127.0.0.1:3009, { address: 127.0.0.1:3010, zone: a }], timeouts: { connect: 1s } }"
        ]
    );
}

#[test]
fn order_is_told_where_it_means_something() {
    // patterns are tried in file order, prefixes are not
    let (one, two) = (
        "  - { name: one, regex: /x.*, upstream: web }\n",
        "  - { name: two, regex: /.*y, upstream: web }\n",
    );
    assert_eq!(edited(&format!("{one}{two}"), &format!("{two}{one}")), ["routes.two: now before routes.one"]);
    let (site, rest) =
        ("  - { path: /site, upstream: web }\n", "  - { name: rest, path: /, upstream: web }\n");
    let moved = CONFIG.replace(rest, "").replace(site, &format!("{rest}{site}"));
    assert_eq!(between(CONFIG, &moved), [""; 0]);
    let first = "filters: [{ use: edge }, headers: { request: { set: { X-A: a } } }]";
    let last = "filters: [headers: { request: { set: { X-A: a } } }, { use: edge }]";
    assert_eq!(edited(first, last), ["routes.api.filters[headers]: now before routes.api.filters[use edge]"]);
}

#[test]
fn order_of_routes_with_the_same_host_and_path_matters_when_a_request_could_take_either() {
    let with = |routes: &str| CONFIG.replace("  - { path: /site, upstream: web }\n", routes);
    let a = "  - { name: a, path: /q, headers: { x-a: '1' }, upstream: web }\n";
    let b = "  - { name: b, path: /q, query: { b: '1' }, upstream: web }\n";
    assert_eq!(
        between(&with(&format!("{a}{b}")), &with(&format!("{b}{a}"))),
        ["routes.b: now before routes.a"]
    );
    let (get, post) = (
        a.replace("headers: { x-a: '1' }", "methods: [GET]"),
        b.replace("query: { b: '1' }", "methods: [POST]"),
    );
    assert_eq!(between(&with(&format!("{get}{post}")), &with(&format!("{post}{get}"))), [""; 0]);
}

#[test]
fn secrets_are_said_to_have_changed_and_never_shown() {
    let config = |secret: &str| {
        CONFIG.replace(
            "servers: [127.0.0.1:3001]",
            &format!("servers: [127.0.0.1:3001], sticky: {{ cookie: {{ secret: \"{secret}\" }} }}"),
        )
    };
    let variable = |value: &'static str| {
        let text = CONFIG
            .replace("X-A: a", "X-Token: '${API_TOKEN}', X-B: '${PLAIN}'")
            .replace("path: /site,", "path: /site, headers: { x-key: '${SITE_SECRET}' },");
        Comparable::of(&checked(&text, &move |name| Some(format!("{name} {value}")))).to_value()
    };
    let (old, new) = (config("first-secret-of-all"), config("other-secret-of-all"));
    assert_eq!(between(&old, &new), ["upstreams.api.sticky.cookie.secret: changed (****)"]);
    let (old, new) = (variable("first-secret-of-all"), variable("other-secret-of-all"));
    let changes = diff(&old, &new);
    let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "routes.api.filters[headers].request.set.X-Token: changed (${API_TOKEN})",
            "routes.api.filters[headers].request.set.X-B: changed (${PLAIN})",
            "routes[/site].headers.x-key.is: changed (${SITE_SECRET})",
        ]
    );
    let json = serde_json::to_string(&changes).unwrap();
    for value in [old.to_string(), new.to_string(), json.clone()] {
        assert!(!value.contains("secret-of-all"), "{value}");
    }
    assert!(!json.contains(DIGEST), "{json}");
    assert!(diff(&old, &old).is_empty());
}

#[test]
fn files_are_compared_by_their_contents() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let config = format!("{CONFIG}error_pages: [{{ status: 5xx, file: {} }}]\n", page.display());
    std::fs::write(&page, "before").unwrap();
    let old = Comparable::of(&checked(&config, &|_| None)).to_value();
    std::fs::write(&page, "after").unwrap();
    let new = Comparable::of(&checked(&config, &|_| None)).to_value();
    assert_eq!(
        diff(&old, &new).iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!("error_pages[5xx].file: the contents of {} have changed", page.display())]
    );
}

#[test]
fn as_json_each_change_has_its_path_and_kind() {
    let value = |text: &str| Comparable::of(&checked(text, &|_| None)).to_value();
    let changes = diff(
        &value(CONFIG),
        &value(&CONFIG.replace("weight: 2", "weight: 3").replace("127.0.0.1:3003", "127.0.0.1:3005")),
    );
    assert_eq!(
        serde_json::to_value(changes).unwrap(),
        serde_json::json!([
            { "path": "upstreams.web.servers[127.0.0.1:3004].weight", "change": "changed", "from": 2, "to": 3 },
            { "path": "upstreams.web.servers", "change": "added", "item": true,
              "value": { "address": "127.0.0.1:3005", "weight": 1, "priority": 0 } },
            { "path": "upstreams.web.servers", "change": "removed", "item": true,
              "value": { "address": "127.0.0.1:3003", "weight": 1, "priority": 0 } },
        ])
    );
}

/// Routes and groups come, go, change and move, some of the same name: what is left out because it is the same on both
/// sides changes nothing of what is told.
#[test]
fn comparing_piece_by_piece_tells_the_same() {
    let route = |random: &mut fastrand::Rng| {
        let name = match random.u8(0..3) {
            0 => format!("name: n{}, ", random.u8(0..6)),
            _ => String::new(),
        };
        let (path, method, group) = (random.u8(0..5), ["GET", "PUT"][random.usize(0..2)], random.u8(0..3));
        (name, format!("path: /p{path}, methods: [{method}], upstream: g{group}"))
    };
    let text = |routes: &[(String, String)], groups: &[u16]| {
        // a name may stand once
        let mut seen = std::collections::HashSet::new();
        let lines: String = routes
            .iter()
            .filter(|(name, _)| name.is_empty() || seen.insert(name.clone()))
            .map(|(name, rest)| format!("  - {{ {name}{rest} }}\n"))
            .collect();
        let groups: String = groups
            .iter()
            .enumerate()
            .map(|(n, port)| format!("  g{n}: {{ servers: [\"10.0.0.1:{port}\"] }}\n"))
            .collect();
        format!("listeners: [{{ address: 127.0.0.1:8080 }}]\nroutes:\n{lines}upstreams:\n{groups}")
    };
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut routes: Vec<_> = (0..random.usize(1..9)).map(|_| route(&mut random)).collect();
        let mut groups = [1, 2, 3];
        let before = text(&routes, &groups);
        for _ in 0..random.usize(0..4) {
            let at = random.usize(0..routes.len());
            match random.u8(0..5) {
                0 => routes.insert(at, route(&mut random)),
                1 if routes.len() > 1 => _ = routes.remove(at),
                2 => routes.swap(at, 0),
                3 => groups[at % 3] += 1,
                _ => routes[at] = route(&mut random),
            }
        }
        // asserts it
        between(&before, &text(&routes, &groups));
    }
}
