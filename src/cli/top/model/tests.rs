use super::*;
use crate::cli::top::counts;
use std::time::Instant;

/// A gate with two routes and two groups, in one of which a server is down.
pub(in crate::cli::top) fn overview() -> Overview {
    serde_json::from_value(serde_json::json!({
        "state": "ready",
        "status": {
            "version": "0.1.0", "pid": 812, "reloads": 2, "refusals": 1,
            "config": { "file": "/etc/weirgate.yaml", "hash": "0f1e2d3c4b5a6978", "since": "2026-11-21T03:00:00.000Z" },
            "last_refused": { "at": "2026-11-21T03:10:00.000Z", "by": "SIGHUP", "why": "weirgate.yaml:3:5: error[E020]: unknown key\n\n1 error" }
        },
        "listeners": [{ "name": "web", "address": "0.0.0.0:8080", "protocols": ["h1", "h2"], "tls": true, "open": 7, "passes_to": [] }],
        "routes": [
            { "name": "shop", "hosts": ["shop.example"], "path": "/", "conditions": [], "action": "upstream goods", "upstreams": ["goods"] },
            { "name": "users", "hosts": [], "path": "/users", "conditions": ["method: GET"], "action": "upstream people", "upstreams": ["people"] }
        ],
        "routes_total": 5,
        "upstreams": [
            { "name": "goods", "balance": "round_robin", "usable": 1, "in_flight": 3, "panics": false, "servers": [
                { "address": "10.0.0.1:80", "state": "up", "why": [], "in_flight": 3, "weight": 2, "priority": 0, "warmth": 100, "since": "2026-11-21T03:00:00.000Z" },
                { "address": "10.0.0.2:80", "state": "down", "in_flight": 0, "weight": 1, "priority": 1, "warmth": 100, "since": "2026-11-21T03:05:00.000Z",
                  "why": [{ "state": "down", "reason": "connection refused", "since": "2026-11-21T03:05:00.000Z" }] }
            ] },
            { "name": "people", "balance": "maglev", "usable": 0, "in_flight": 0, "queued": 2, "panics": true, "servers": [] }
        ],
        "last_failure": 1
    }))
    .unwrap()
}

pub(in crate::cli::top) fn failure(number: u64, path: &str) -> Failure {
    Failure {
        number,
        at: "2026-11-21T03:05:01.000Z".into(),
        method: "GET".into(),
        host: "shop.example".into(),
        path: path.into(),
        status: 502,
        upstream: Some("goods".into()),
        server: Some("10.0.0.2:80".into()),
        duration_ms: 12.0,
        reason: "connection refused".into(),
        ..Failure::default()
    }
}

pub(in crate::cli::top) fn model() -> Model {
    let mut model = Model::new("127.0.0.1:9901".into());
    let failures = vec![failure(1, "/first"), failure(2, "/second")];
    model.look(Ok(Look { overview: overview(), page: counts::Page::new(), failures, at: Instant::now() }));
    model
}

pub(in crate::cli::top) fn press(model: &mut Model, keys: &str) -> Option<Deed> {
    let mut deed = None;
    for key in keys.chars() {
        let code = match key {
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            '⏎' => KeyCode::Enter,
            '⎋' => KeyCode::Esc,
            '←' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        deed = model.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
    deed
}

fn wish(call: &str, body: &str) -> Option<Deed> {
    let path = format!("/v1/upstreams/goods/servers/10.0.0.1%3A80/{call}");
    Some(Deed::Wish(Wish { upstream: "goods".into(), path, body: body.into() }))
}

#[test]
fn keys_choose_what_is_there() {
    let mut model = model();
    press(&mut model, "↓");
    assert_eq!(model.chosen, Some(Chosen::Route("shop".into())));
    press(&mut model, "↓↓↓");
    assert_eq!(model.chosen, Some(Chosen::Server("goods".into(), "10.0.0.1:80".into())));
    press(&mut model, "G");
    assert_eq!(model.chosen, Some(Chosen::Upstream("people".into())));
    press(&mut model, "↓");
    assert_eq!(model.chosen, Some(Chosen::Upstream("people".into())), "there is no more");
    press(&mut model, "g↑");
    assert_eq!(model.chosen, Some(Chosen::Route("shop".into())));
    let [goods, people] = [0, 1].map(|at| model.overview.upstreams[at].clone());
    assert!(model.touches_upstream(&goods) && !model.touches_upstream(&people));
    press(&mut model, "⎋");
    assert!(model.touches_upstream(&people) && model.chosen.is_none());
}

#[test]
fn home_and_end_are_the_first_and_the_last_when_nothing_is_chosen() {
    for (key, chosen) in [("g", Chosen::Route("shop".into())), ("G", Chosen::Upstream("people".into()))] {
        let mut model = model();
        press(&mut model, key);
        assert_eq!(model.chosen, Some(chosen), "{key}");
    }
}

#[test]
fn what_is_scrolled_ends_where_it_ends() {
    let mut model = model();
    press(&mut model, "fG");
    assert_eq!(model.above, 1);
    press(&mut model, "↓↓↓↑");
    assert_eq!(model.above, 0, "what was pressed in vain is not to be pressed back");
    let lines = model.overview.status.last_refused.as_ref().map_or(0, |refused| refused.why.lines().count());
    press(&mut model, "⎋rG");
    assert_eq!(model.above + 1, lines);
}

#[test]
fn a_server_is_told_what_keys_wish() {
    let mut model = model();
    assert_eq!(press(&mut model, "d"), None, "not from the map");
    press(&mut model, "↓↓↓↓⏎");
    assert_eq!(model.view, View::Server);
    assert_eq!(press(&mut model, "d"), wish("drain", "{}"));
    model.overview.upstreams[0].servers[0].why =
        vec![crate::cli::top::answers::Why { state: "draining".into(), ..Default::default() }];
    assert_eq!(press(&mut model, "d"), wish("undrain", "{}"));
    assert_eq!(press(&mut model, "e"), wish("eject", "{}"));
    assert_eq!(press(&mut model, "+"), wish("weight", "{\"weight\":3}"));
    assert_eq!(press(&mut model, "-"), wish("weight", "{\"weight\":1}"));
    assert_eq!(press(&mut model, "w12q←3⏎"), wish("weight", "{\"weight\":13}"), "other keys do nothing");
    assert_eq!(press(&mut model, "w0⏎"), None);
    assert!(matches!(&model.said, Some(Err(why)) if why.contains("1 to 65535")));
    assert_eq!(press(&mut model, "w5⎋"), None);
    assert_eq!((model.view, model.weight.as_deref()), (View::Server, None));
    let now =
        Server { state: "breaker_open".into(), weight: 30, ..model.overview.upstreams[0].servers[0].clone() };
    model.done(Ok(("goods".into(), now)));
    assert_eq!(model.said, Some(Ok("done: breaker open, weight 30".into())));
    assert_eq!(press(&mut model, "+"), wish("weight", "{\"weight\":31}"), "it is known at once");
    // it is gone with the next look
    model.overview.upstreams[0].servers.clear();
    assert_eq!(press(&mut model, "d"), None);
    press(&mut model, "⎋");
    assert_eq!(model.view, View::Map);
}

#[test]
fn a_refused_reload_is_told_until_one_is_done() {
    let mut model = model();
    assert!(model.refused().is_some());
    press(&mut model, "r");
    assert_eq!(model.view, View::Refused);
    press(&mut model, "⎋");
    model.overview.status.config.since = "2026-11-21T03:20:00.000Z".into();
    assert!(model.refused().is_none());
}

#[test]
fn what_fails_is_kept_with_the_newest_first_and_trouble_passes() {
    let mut model = model();
    assert_eq!(model.failures.front().map(|failure| failure.number), Some(2));
    model.look(Err("nobody answers".into()));
    assert_eq!(model.trouble.as_deref(), Some("nobody answers"));
    assert_eq!(model.overview.upstreams.len(), 2, "what was known stays");
    let many = (3..400).map(|number| failure(number, "/")).collect();
    let page = counts::Page::new();
    model.look(Ok(Look { overview: overview(), page, failures: many, at: Instant::now() }));
    assert_eq!((model.trouble.as_deref(), model.failures.len()), (None, FAILURES));
    assert_eq!(press(&mut model, "q"), Some(Deed::Leave));
    let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(model.key(stop), Some(Deed::Leave));
}
