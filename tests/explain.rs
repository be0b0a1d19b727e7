//! The promise: `weirgate explain` says what the running gate does with a request, and why, and what each
//! code means; `weirgate routes` shows the order in which routes are tried.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// What a failing test found is for whoever reads its output.
#![allow(clippy::print_stderr)]

#[path = "explain/generated.rs"]
mod generated;
mod harness;

use generated::{Dice, config, question};
use harness::{Backend, Checked, Client, Gate, weirgate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use weirgate::config::plan::Plan;
use weirgate::explain::{Does, Explainer, Explanation, Question};

/// Configurations, and requests to each: ten thousand in all.
const CONFIGURATIONS: u64 = 40;
const REQUESTS: u64 = 250;

const CONFIG: &str = "
listeners:
  - { name: web, address: 127.0.0.1:8080, filters: [{ ip: { deny: [192.0.2.9] } }] }
  - { name: plain, address: 127.0.0.1:8081, redirect_https: { port: 443 } }
routes:
  - { name: api, path: /api, upstream: api, filters: [headers: { request: { set: { X-Edge: a } } }], timeouts: { response: 5s } }
  - { name: team, host: '*.example.com', path: /api, headers: { x-team: ops }, methods: [GET], upstream: api }
  - { name: old, exact: /old, redirect: { to: '/new{query}', status: 301 } }
  - { name: ping, exact: /ping, respond: { body: pong } }
  - { name: both, path: /both, split: [{ upstream: api, weight: 3 }, { upstream: web, weight: 1 }] }
  - { name: none, path: /one, host: one.example.com, upstream: web }
upstreams:
  api: { servers: [127.0.0.1:3001], balance: least_connections, retry: { attempts: 4 } }
  web: { servers: [127.0.0.1:3002] }
";

fn run(config: &str, arguments: &[&str]) -> Checked {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("weirgate.yaml");
    std::fs::write(&file, config).expect("write the configuration");
    Checked::of(weirgate(arguments).arg("-c").arg(&file))
}

fn explain(arguments: &[&str]) -> Checked {
    run(CONFIG, &[&["explain"], arguments].concat())
}

#[test]
fn the_whole_way_of_a_request_is_told() {
    let said = explain(&["GET", "http://127.0.0.1:8080//api/%61?x=1", "-H", "Host: www.example.com"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let wanted = "\
request     GET http://www.example.com/api/a?x=1
            written //api/%61, matched as /api/a, sent on as /api/a
client      127.0.0.1
listener    web (127.0.0.1:8080)
route       api
  host      www.example.com is *
  path      /api/a is /api
filters     1. ip of listener web (request)
            2. headers of route api (request)
upstream    api (least_connections: 127.0.0.1:3001)
  timeouts  connect 3s, response 5s
  retry     4 tries, after connect, reset
not         team: headers.x-team must be ops, and is none
";
    assert_eq!(said.stdout, wanted, "{said:?}");
}

#[test]
fn conditions_and_runners_up_are_told() {
    let said = explain(&["HEAD", "http://www.example.com/api", "-H", "X-Team: ops", "--listener", "web"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "route       team",
        "  host      www.example.com is *.example.com",
        "  holds     methods: GET (HEAD)",
        "  holds     headers.x-team: ops (ops)",
        "not         api: less specific: it is for every host",
    ] {
        assert!(said.stdout.lines().any(|said| said == line), "no {line:?} in\n{}", said.stdout);
    }
    let said = explain(&["GET", "/apix"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for line in
        ["refused     404 (no route)", "not         api: it is for /api: a prefix ends where a segment does"]
    {
        assert!(said.stdout.lines().any(|said| said == line), "no {line:?} in\n{}", said.stdout);
    }
    let said = explain(&["GET", "http://two.example.com:8080/one"]);
    assert!(said.stdout.contains("none: it is for one.example.com"), "{said:?}");
}

#[test]
fn what_is_in_effect_at_the_group_is_told() {
    const SECURE: &str = "
listeners: [{ name: web, address: 127.0.0.1:8080 }]
routes:
  - { name: secure, path: /, upstream: secure, timeouts: { tls: 2s, try: 9s } }
  - { name: twice, path: /twice, upstream: twice, retry: { when: [connect], within: 4s, backoff: {}, hedge: { after: p90 } } }
  - { name: once, path: /once, upstream: twice, retry: { attempts: 1, within: 4s } }
  - { name: stream, path: /stream, upstream: stream }
upstreams:
  secure:
    servers: [127.0.0.1:3001]
    protocol: auto
    host: api.example.com
    tls: { sni: api.internal, verify: false }
    timeouts: { connect: 1s, tls: 8s, request: 1m }
  stream: { servers: [127.0.0.1:3002], protocol: h2c, timeouts: { tls: 8s } }
  twice: { servers: [127.0.0.1:3003], host: server }
";
    for (method, path, lines) in [
        (
            "GET",
            "/",
            &[
                "  speaks    HTTP/2 or HTTP/1.1 over TLS with api.internal, believes any certificate",
                "  host      api.example.com",
                "  timeouts  connect 1s, tls 2s, response 1m, try 9s, request 1m",
            ][..],
        ),
        (
            "GET",
            "/twice",
            &[
                "  host      that of the server",
                "  timeouts  connect 3s, response 1m",
                "  retry     3 tries, after connect, within 4s, pauses up to 25ms, then 250ms, \
                 a second beside the first after p90",
            ],
        ),
        (
            "POST",
            "/twice",
            &["  retry     3 tries, after connect; POST only where nothing was sent, within 4s, \
                 pauses up to 25ms, then 250ms"],
        ),
        ("GET", "/once", &["  retry     none"]),
        // without TLS its deadline has no effect
        ("GET", "/stream", &["  speaks    HTTP/2", "  timeouts  connect 3s, response 1m"]),
    ] {
        let said = run(SECURE, &["explain", method, path]);
        assert_eq!(said.code, Some(0), "{said:?}");
        for line in lines {
            assert!(said.stdout.lines().any(|said| said == *line), "no {line:?} in\n{}", said.stdout);
        }
    }
    let said = run(SECURE, &["explain", "GET", "/", "--format", "json"]);
    let value: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let group = &value["action"]["upstream"];
    let tls = serde_json::json!({ "sni": "api.internal", "trusted": "anyone", "client_certificate": false });
    assert_eq!((&group["protocol"], &group["tls"]), (&"auto".into(), &tls), "{value:#}");
    assert_eq!(group["timeouts"]["tls"], "2s", "{value:#}");
}

#[test]
fn answers_of_the_gate_are_rendered() {
    let of = |arguments: &[&str]| {
        let said = explain(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str::<Value>(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    };
    let old = of(&["GET", "http://a.test:8080/old?x=1"]);
    assert_eq!(old["action"]["redirect"], serde_json::json!({ "status": 301, "to": "/new?x=1" }), "{old:#}");
    let ping = of(&["GET", "http://a.test:8080/ping"]);
    assert_eq!(ping["action"]["respond"], serde_json::json!({ "status": 200, "body": "pong" }), "{ping:#}");
    let both = of(&["GET", "http://a.test:8080/both"]);
    let shares: Vec<_> = both["action"]["split"]["groups"].as_array().expect("groups").iter().collect();
    assert_eq!((&shares[0]["share"], &shares[1]["share"]), (&75.0.into(), &25.0.into()), "{both:#}");
    let plain = of(&["GET", "http://a.test:8081/api?x=1"]);
    assert_eq!(
        plain["redirect_https"],
        serde_json::json!({ "status": 308, "to": "https://a.test/api?x=1" }),
        "{plain:#}"
    );
    assert_eq!(plain["route"]["name"], "api", "{plain:#}");
    assert_eq!(plain["action"], Value::Null, "{plain:#}");
}

#[test]
fn what_is_refused_before_routes_are_asked_is_told_with_its_status() {
    for (arguments, wanted) in [
        (&["GET", "/a%00"][..], "refused     400 (NUL in path)"),
        (&["GET", "/", "-H", "Host: a b"], "refused     400 (malformed Host header)"),
        (&["GET", "/", "-H", "Host: a", "-H", "Host: b"], "refused     400 (more than one Host header)"),
        (&["CONNECT", "/x"], "refused     405 (method not allowed)"),
        (&["GET", "/", "-H", "X-A: a\u{1}b"], "refused     400 (control character in a header)"),
    ] {
        let said = explain(arguments);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stdout.lines().any(|line| line == wanted), "no {wanted:?} in {said:?}");
    }
}

#[test]
fn the_listener_follows_from_the_url() {
    let said = explain(&["GET", "http://a.test:8081/ping"]);
    assert!(said.stdout.contains("listener    plain (127.0.0.1:8081)"), "{said:?}");
    let said = explain(&["GET", "http://a.test/ping"]);
    assert!(said.stdout.contains("no listener is at port 80; asked of web"), "{said:?}");
    assert!(said.stdout.contains("others fit as well: plain (--listener)"), "{said:?}");
    let said = explain(&["GET", "https://a.test/ping"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(
        said.stderr.contains("no listener speaks https; there are web (http, 127.0.0.1:8080)"),
        "{said:?}"
    );
    let said = explain(&["GET", "/ping", "--listener", "wen"]);
    assert_eq!(said.code, Some(64), "{said:?}");
}

#[test]
fn every_code_is_explained() {
    let said = Checked::of(&mut weirgate(&["explain", "e014"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    for words in ["E014 (error): a name refers to nothing", "Wrong:", "upstream: apo", "Right:"] {
        assert!(said.stdout.contains(words), "no {words:?} in\n{}", said.stdout);
    }
    let said = Checked::of(&mut weirgate(&["explain", "W009", "--format", "json"]));
    let value: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((&value["code"], &value["severity"]), (&"W009".into(), &"warning".into()), "{value:#}");
    let said = Checked::of(&mut weirgate(&["explain", "E999"]));
    assert_eq!(said.code, Some(64), "{said:?}");
}

#[test]
fn routes_are_listed_in_the_order_in_which_they_are_tried() {
    let config = CONFIG
        .replace("upstreams:\n", "  - { name: again, exact: /ping, respond: { body: no } }\nupstreams:\n");
    let said = run(&config, &["routes"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let rows: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    let wanted: &[&[&str]] = &[
        &["HOST", "PATH", "CONDITIONS", "ACTION", "FILTERS", "ROUTE"],
        &["one.example.com", "/one", "-", "upstream web", "-", "none"],
        &["*.example.com", "/api", "methods: GET; headers.x-team: ops", "upstream api", "-", "team"],
        &["*", "= /old", "-", "redirect 301 /new{query}", "-", "old"],
        &["*", "= /ping", "-", "respond 200", "-", "ping"],
        &["*", "= /ping", "-", "respond 200", "-", "again", "! never chosen: ping takes its requests"],
        &["*", "/both", "-", "split api 3, web 1", "-", "both"],
        &["*", "/api", "-", "upstream api", "headers", "api"],
    ];
    assert_eq!(rows, wanted, "{}", said.stdout);
    let said = run(&config, &["routes", "--format", "json"]);
    let value: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((&value[4]["name"], &value[4]["hidden_by"]), (&"again".into(), &"ping".into()), "{value:#}");
}

/// A gate with a generated configuration, and the same configuration for the one who explains.
struct Pair {
    gate: Gate,
    plan: Plan,
}

fn start(dice: &mut Dice, backends: &[Backend; 2]) -> Pair {
    let gate = Gate::start(&config(dice), &[&backends[0], &backends[1]]);
    let checked = weirgate::Gate::from_file(gate.dir().join("weirgate.yaml")).check();
    let shown = checked.report.render_text(&checked.sources);
    Pair { gate, plan: checked.plan.unwrap_or_else(|| panic!("{shown}")) }
}

#[test]
fn explain_agrees_with_the_running_gate() {
    let seed = std::env::var("WEIRGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    let backends = [Backend::start("one"), Backend::start("two")];
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..CONFIGURATIONS {
        let mut dice = Dice::new(seed + number);
        let Pair { gate, plan } = start(&mut dice, &backends);
        let explainer = Explainer::new(&plan);
        let mut clients: BTreeMap<String, Client> = BTreeMap::new();
        for request in 0..REQUESTS {
            let question = question(&mut dice);
            let explained = explainer.explain(&question).unwrap_or_else(|why| panic!("{question:?}: {why}"));
            match agree(&gate, &mut clients, &question, &explained) {
                Ok(kind) => *kinds.entry(kind).or_default() += 1,
                Err(why) => {
                    let config =
                        std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap_or_default();
                    panic!(
                        "WEIRGATE_SEED={seed}, configuration {number}, request {request}: {why}\n{question:?}\n{explained}\n{config}"
                    );
                }
            }
        }
        if number % 13 == 0 {
            asked_by_hand(&mut dice, gate.dir(), &explainer);
        }
    }
    assert_eq!(kinds.values().sum::<u64>(), CONFIGURATIONS * REQUESTS);
    // it would say nothing if all of them were one kind
    for kind in ["refused", "to https", "upstream", "split", "redirect", "respond", "no route"] {
        assert!(kinds.get(kind).is_some_and(|times| *times >= 50), "few or no {kind}: {kinds:?}");
    }
}

/// Sends the request and holds the answer against what was said of it: the kind of it, or what differs.
fn agree(
    gate: &Gate,
    clients: &mut BTreeMap<String, Client>,
    question: &Question,
    said: &Explanation,
) -> Result<&'static str, String> {
    let name = question.listener.clone().unwrap_or_default();
    let mut bytes = format!("{} {} HTTP/1.1\r\n", question.method, question.url).into_bytes();
    for (name, value) in &question.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    let client = clients.entry(name.clone()).or_insert_with(|| Client::connect(gate.at(&name)));
    let answer = client
        .send(bytes)
        .try_response_to(&question.method)
        .map_err(|error| format!("no answer: {error}"))?;
    if answer.header("connection").is_some_and(|said| said.contains("close")) || answer.status == 400 {
        clients.remove(&name);
    }
    let same = |what: &str, gate: &str, explained: &str| match gate == explained {
        true => Ok(()),
        false => Err(format!("{what}: the gate says {gate:?}, explain says {explained:?}")),
    };
    let status = answer.status.to_string();
    if let Some(refused) = &said.refused {
        same("status", &status, &refused.status.to_string())?;
        return Ok(if refused.status == 404 { "no route" } else { "refused" });
    }
    let route = said.route.as_ref().map_or("none", |route| route.name.as_str());
    same("route", &answer.header("x-route").unwrap_or_else(|| "none".into()), route)?;
    let location = answer.header("location").unwrap_or_default();
    if let Some(redirect) = &said.redirect_https {
        same("status", &status, &redirect.status.to_string())?;
        same("location", &location, &redirect.to)?;
        return Ok("to https");
    }
    let with_body = question.method != "HEAD";
    match said.action.as_ref().ok_or("explain names no action")? {
        Does::Upstream(group) => {
            same(
                "server",
                if with_body { answer.text() } else { group.upstream.clone() }.as_str(),
                &group.upstream,
            )?;
            Ok("upstream")
        }
        Does::Split { groups, .. } => {
            let known = groups.iter().any(|share| share.group.upstream == answer.text());
            if known || !with_body {
                Ok("split")
            } else {
                Err(format!("{} is not of the split", answer.text()))
            }
        }
        Does::Redirect(redirect) => {
            same("status", &status, &redirect.status.to_string())?;
            same("location", &location, &redirect.to)?;
            Ok("redirect")
        }
        Does::Respond { status: wanted, body } => {
            same("status", &status, &wanted.to_string())?;
            same("body", if with_body { answer.text() } else { body.clone() }.as_str(), body)?;
            Ok("respond")
        }
    }
}

/// The command says the same as the library: ten requests.
fn asked_by_hand(dice: &mut Dice, dir: &Path, explainer: &Explainer<'_>) {
    for _ in 0..10 {
        let question = question(dice);
        let mut command = weirgate(&["explain", "--format", "json"]);
        command.arg("-c").arg(dir.join("weirgate.yaml"));
        command.args(["--listener", question.listener.as_deref().unwrap_or_default()]);
        for (name, value) in &question.headers {
            command.arg("-H").arg(format!("{name}: {value}"));
        }
        let said = Checked::of(command.arg("--").args([&question.method, &question.url]));
        let explained = explainer.explain(&question).expect("an explanation");
        let value: Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(value, serde_json::to_value(&explained).expect("JSON"), "{question:?}");
        assert_eq!(said.code, Some(i32::from(explained.route.is_none())), "{said:?}");
    }
}
