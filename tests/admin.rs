//! The promise: the admin address tells what the gate does and does what it is told, by those who may.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, Load, Reply, Request, Response, ServerAddress, eventually};
use std::time::Duration;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gate of this configuration with an admin address, which takes the token for changes.
fn config(rest: &str) -> String {
    format!(
        "admin: {{ address: $admin, token: {TOKEN} }}\nlisteners: [{{ name: web, address: $web }}]\n{rest}"
    )
}

const HELLO: &str = "routes: [{ path: /, respond: { status: 200, body: hello } }]\n";

/// A request for the admin address as a program on this machine sends it.
fn to_admin(gate: &Gate, method: &str, target: &str) -> Request {
    Request::new(method, target).host(&gate.at("admin").to_string())
}

fn ask(gate: &Gate, request: &Request) -> Response {
    Client::connect(gate.at("admin")).ask(request)
}

fn get(gate: &Gate, target: &str) -> Response {
    ask(gate, &to_admin(gate, "GET", target))
}

#[test]
fn health_and_metrics_are_there() {
    let gate = Gate::start(&config(HELLO), &[]);
    let live = get(&gate, "/v1/live");
    assert_eq!((live.status, live.text().as_str()), (200, "{\"live\":true}"));
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let metrics = get(&gate, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{metrics:?}");
    assert!(metrics.text().contains("weirgate_build_info{version="), "{}", metrics.text());
    for (method, target, status) in
        [("GET", "/none", 404), ("DELETE", "/metrics", 405), ("HEAD", "/metrics", 200)]
    {
        let answer = ask(&gate, &to_admin(&gate, method, target));
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
}

#[test]
fn another_host_and_another_origin_are_refused() {
    let gate = Gate::start(&config(HELLO), &[]);
    for target in ["/", "/metrics"] {
        let answer = ask(&gate, &Request::get(target).host("evil.example"));
        assert_eq!(answer.status, 421, "{answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("admin.hosts"), "{answer:?}");
    }
    assert_eq!(ask(&gate, &Request::get("/metrics").host("localhost:1")).status, 200);
    let foreign = to_admin(&gate, "GET", "/metrics").header("Origin", "http://evil.example");
    assert_eq!(ask(&gate, &foreign).status, 403);
    // load balancers name us as they like
    assert_eq!(ask(&gate, &Request::get("/v1/live").host("evil.example")).status, 200);
}

#[test]
fn readiness_goes_before_anything_else_does() {
    let api = Backend::start("api");
    api.answers(Reply::ok("slow").after(Duration::from_millis(600)));
    let rest = "server: { shutdown_delay: 400ms }\nroutes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$api] } }\n";
    let gate = Gate::start(&config(rest), &[&api]);
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    eventually("the request to reach the server", || !api.requests().is_empty());
    gate.terminate();
    eventually("not ready", || get(&gate, "/v1/ready").status == 503);
    assert_eq!(get(&gate, "/v1/ready").json()["state"], "draining");
    assert_eq!(get(&gate, "/v1/live").status, 200);
    assert_eq!(client.response().text(), "slow");
    assert_eq!(gate.exit().code(), Some(0));
}

#[test]
fn whoever_has_no_certificate_does_not_come_in() {
    let authority = Authority::new();
    let builder = Gate::with(&[]).file("ca.crt", authority.pem());
    authority.issue_into(builder.dir(), "admin", &["gate.test"]);
    let gate = builder.start(
        "admin:
  address: $admin
  tls: { certificates: [{ cert: $dir/admin.crt, key: $dir/admin.key }], client_auth: { ca: $dir/ca.crt } }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { status: 200, body: hello } }]
",
    );
    let client = authority.client("gate.test");
    let known = client.clone().showing(authority.issue(&["operator"]));
    let answer = known.connect(gate.at("admin")).ask(&Request::get("/metrics"));
    assert_eq!(answer.status, 200, "the name in the certificate is ours");
    let stranger = client.try_connect(gate.at("admin"));
    let refused = stranger.and_then(|mut stranger| {
        stranger.try_send(Request::get("/metrics").bytes())?;
        stranger.try_response_to("GET")
    });
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_reload_moves_the_address_and_an_upgrade_hands_it_over() {
    let named = "server: { upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }\n";
    let mut gate = Gate::start(&format!("{named}{}", config(HELLO)), &[]);
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let mut kept = Client::connect(gate.at("admin"));
    let old = gate.at("admin");
    let moved = format!("{named}{}", config(HELLO).replace("$admin", "$other"));
    let reloaded = gate.reload(&moved);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stdout.contains("admin.address"), "{}", reloaded.stdout);
    assert_eq!(Client::connect(gate.at("other")).get("/v1/live").status, 200);
    eventually("the old one is closed", || Client::try_connect(old).is_err());
    assert!(kept.try_send(Request::get("/v1/live").bytes()).is_err() || kept.until_closed().is_empty());

    let taken = gate.reload(&moved.replace("$other", "$web"));
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.stderr.contains("admin and a listener are both on"), "{}", taken.stderr);
    assert_eq!(Client::connect(gate.at("other")).get("/v1/live").status, 200);

    gate.rewrite(&moved);
    gate.upgrade();
    eventually("the new process answers", || {
        Client::try_connect(gate.at("other")).is_ok_and(|mut client| {
            client.try_send(Request::get("/v1/ready").bytes()).is_ok()
                && client.try_response_to("GET").is_ok_and(|answer| answer.status == 200)
        })
    });
    assert_eq!(gate.exit().code(), Some(0), "the old one has nobody left");
    assert_eq!(Client::connect(gate.at("other")).get("/v1/ready").status, 200);
    assert!(!gate.stderr().contains("no listener has this address"), "{}", gate.stderr());

    let off = gate.reload(&format!("{named}listeners: [{{ name: web, address: $web }}]\n{HELLO}"));
    assert_eq!(off.code, Some(0), "{}", off.stderr);
    eventually("it is off", || Client::try_connect(gate.at("other")).is_err());
}

#[test]
fn it_may_be_a_unix_socket() {
    let gate = Gate::with(&[]).start(
        "admin: { address: \"unix:$dir/admin.sock\", socket_mode: 0600 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { status: 200, body: hello } }]
",
    );
    let path = gate.dir().join("admin.sock");
    assert_eq!(Client::connect_unix(&path).ask(&Request::get("/metrics").host("localhost")).status, 200);
    gate.terminate();
    assert_eq!(gate.exit().code(), Some(0));
    assert!(!path.exists());
}

/// A change, with the token, as a program sends it.
fn change(gate: &Gate, target: &str, body: &str) -> Response {
    ask(gate, &with_token(change_of(gate, target, body)))
}

fn change_of(gate: &Gate, target: &str, body: &str) -> Request {
    let request = Request { body: body.into(), ..to_admin(gate, "POST", target) };
    request.header("Content-Type", "application/json")
}

fn with_token(request: Request) -> Request {
    request.header("Authorization", &format!("Bearer {TOKEN}"))
}

const TWO: &str = "routes:
  - { name: all, path: /, upstream: api }
  - { name: old, exact: /old, redirect: { to: /new, status: 308 } }
upstreams:
  api:
    servers: [$a, $b]
    health_check: { http: { path: /healthz }, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }
    outlier: {}
";

fn two() -> (Backend, Backend, Gate) {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let gate = Gate::start(&config(TWO), &[&a, &b]);
    (a, b, gate)
}

fn path_of(server: &Backend, call: &str) -> String {
    format!("/v1/upstreams/api/servers/{}/{call}", server.address())
}

fn state_of(gate: &Gate, server: &Backend) -> serde_json::Value {
    let upstream = get(gate, "/v1/upstreams/api").json();
    let servers = upstream["servers"].as_array().unwrap().clone();
    servers.into_iter().find(|found| found["address"] == server.address().to_string()).expect("the server")
}

#[test]
fn a_server_is_told_with_the_reason_why_it_is_what_it_is() {
    let (a, _b, gate) = two();
    assert_eq!(state_of(&gate, &a)["state"], "up");
    a.health(Reply::status(500));
    eventually("down", || state_of(&gate, &a)["state"] == "down");
    let down = state_of(&gate, &a);
    assert_eq!(
        (down["usable"].as_bool(), down["why"][0]["reason"].as_str()),
        (Some(false), Some("status 500, expected 2xx"))
    );
    a.health(Reply::ok("fine"));
    eventually("up", || state_of(&gate, &a)["state"] == "up");
    let ejected = change(&gate, &path_of(&a, "eject"), "{}").json();
    assert_eq!(
        (ejected["state"].as_str(), ejected["why"][0]["reason"].as_str()),
        (Some("ejected"), Some("by hand"))
    );
    assert_eq!(change(&gate, &path_of(&a, "eject"), "{}").status, 409, "it is");
    assert_eq!(change(&gate, &path_of(&a, "restore"), "{}").json()["state"], "up");
}

#[test]
fn a_drained_server_gets_nothing_more_and_no_request_fails() {
    let (a, b, gate) = two();
    let load = Load::start(gate.at("web"), &Request::get("/x"), 4, 100_000);
    load.wait_for(50);
    assert_eq!(change(&gate, &path_of(&a, "drain"), "{}").json()["state"], "draining");
    eventually("its requests end", || state_of(&gate, &a)["in_flight"] == 0);
    a.forget();
    load.wait_for(load.answered() + 200);
    assert!(a.requests().is_empty(), "{:?}", a.requests().len());
    // the same configuration once more changes nothing of it
    assert_eq!(change(&gate, "/v1/config/reload", "{}").json()["changes"], serde_json::json!([]));
    assert_eq!(state_of(&gate, &a)["state"], "draining");
    assert_eq!(change(&gate, &path_of(&a, "undrain"), "{}").json()["state"], "up");
    eventually("it gets requests again", || !a.requests().is_empty());
    let weighed = change(&gate, &path_of(&b, "weight"), "{\"weight\": 7}");
    assert_eq!((weighed.status, &weighed.json()["weight"]), (200, &serde_json::json!(7)));
    for body in ["{\"weight\": 0}", "{}", "{\"weight\": 70000}", "{\"weight\": 1, \"wait\": 2}", ""] {
        assert_eq!(change(&gate, &path_of(&b, "weight"), body).status, 400, "{body}");
    }
    let all = load.finish();
    assert!(
        all.iter().all(|answer| *answer == Ok(200)),
        "{:?}",
        all.iter().find(|answer| **answer != Ok(200))
    );
    assert_eq!(change(&gate, "/v1/upstreams/api/servers/127.0.0.1:1/drain", "{}").status, 404);
    assert_eq!(change(&gate, "/v1/upstreams/none/servers/127.0.0.1:1/drain", "{}").status, 404);
}

#[test]
fn a_refused_reload_is_told_as_check_tells_it() {
    let (_a, _b, mut gate) = two();
    let load = Load::start(gate.at("web"), &Request::get("/x"), 2, 100_000);
    load.wait_for(20);
    let before = get(&gate, "/v1/config").json()["config"]["hash"].clone();
    let wrong = config(&TWO.replace("upstream: api }", "upstream: apo }"));
    gate.rewrite(&wrong);
    let checked = gate.command(&["check"]);
    let refused = change(&gate, "/v1/config/reload", "{}");
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(refused.json()["error"], checked.text(), "the same report");
    let status = get(&gate, "/v1/config").json();
    assert_eq!(
        (&status["config"]["hash"], &status["last_refused"]["why"]),
        (&before, &refused.json()["error"])
    );
    let written = std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap();
    let looked = change(&gate, "/v1/config/check", &written).json();
    assert_eq!((&looked["ok"], &looked["text"]), (&serde_json::json!(false), &refused.json()["error"]));
    assert_eq!(looked["report"]["diagnostics"][0]["code"], "E014");
    assert_eq!(change(&gate, "/v1/config/diff", &written).status, 422);

    gate.rewrite(&config(&TWO.replace("unhealthy_after: 1", "unhealthy_after: 3")));
    let written = std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap();
    let diff = change(&gate, "/v1/config/diff", &written).json();
    assert_eq!(diff["text"], serde_json::json!(["upstreams.api.health_check.unhealthy_after: 1 -> 3"]));
    assert_eq!((diff["same"].as_bool(), diff.get("fixed")), (Some(false), None));
    let threads = change(&gate, "/v1/config/diff", &format!("server: {{ threads: 3 }}\n{written}")).json();
    assert!(threads["fixed"].as_str().unwrap().contains("server.threads cannot change"), "{threads}");
    let reloaded = change(&gate, "/v1/config/reload", "{}").json();
    assert_eq!(reloaded["changes"], diff["text"], "{reloaded}");
    assert_ne!(get(&gate, "/v1/config").json()["config"]["hash"], before);
    assert!(load.finish().iter().all(|answer| *answer == Ok(200)));
}

#[test]
fn requests_that_fail_are_told_with_the_reason() {
    let (a, b, gate) = two();
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    for server in [&a, &b] {
        server.answers(Reply::status(503));
    }
    assert_eq!(gate.get("/pay?token=secret").status, 503);
    gate.get("/old");
    a.stop();
    b.stop();
    assert!(gate.get("/again").status >= 500);
    let told = || get(&gate, "/v1/errors").json();
    eventually("both are noted", || told()["failures"].as_array().is_some_and(|all| all.len() == 2));
    let told = told();
    let failures = told["failures"].as_array().unwrap();
    assert_eq!((failures[0]["path"].as_str(), failures[0]["status"].as_u64()), (Some("/pay"), Some(503)));
    assert_eq!((failures[0]["route"].as_str(), failures[0]["upstream"].as_str()), (Some("all"), Some("api")));
    assert!(failures[1]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{told}");
    let later = get(&gate, "/v1/errors?after=1").json();
    assert_eq!(later["failures"].as_array().unwrap().len(), 1);
}

#[test]
fn certificates_are_told_with_their_end() {
    let authority = Authority::new();
    let builder = Gate::with(&[]).file("unused", "");
    authority.issue_into(builder.dir(), "web", &["www.example.com"]);
    let gate = builder.start(
        "admin: { address: $admin }
listeners: [{ name: web, address: $web, tls: { certificates: [{ cert: $dir/web.crt, key: $dir/web.key }] } }]
routes: [{ path: /, respond: { status: 200, body: hello } }]
",
    );
    let all = get(&gate, "/v1/certificates").json();
    assert_eq!(
        (&all[0]["listener"], &all[0]["names"]),
        (&serde_json::json!("web"), &serde_json::json!(["www.example.com"]))
    );
    assert_eq!(all[0]["fingerprint"].as_str().unwrap().len(), 64);
    assert!(all[0]["not_after"].as_str().is_some(), "{all}");
}

/// Without a token in the configuration everybody on this machine may change what runs, but not have files read.
#[test]
fn a_configuration_is_looked_at_for_those_with_a_token_only() {
    let open = format!("admin: {{ address: $admin }}\nlisteners: [{{ name: web, address: $web }}]\n{HELLO}");
    let gate = Gate::start(&open, &[]);
    assert_eq!(ask(&gate, &change_of(&gate, "/v1/config/reload", "{}")).status, 200);
    for target in ["/v1/config/check", "/v1/config/diff"] {
        let refused = ask(&gate, &change_of(&gate, target, "include: /etc/passwd"));
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(!refused.text().contains("root:"), "{refused:?}");
    }
}

/// Every call of the document: it answers as it says, and nobody who may not.
#[test]
fn every_call_is_as_the_document_says() {
    let (a, _b, gate) = two();
    eventually("ready", || get(&gate, "/v1/ready").status == 200);
    let document = get(&gate, "/v1/openapi.json").json();
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/openapi.json");
    let text = format!("{document:#}\n");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&committed, &text).unwrap();
    }
    let known = std::fs::read_to_string(&committed).unwrap_or_default();
    assert_eq!(known, text, "UPDATE_OPENAPI=1 writes conf/openapi.json");

    let (mut calls, mut server) = (0, path_of(&a, ""));
    server.pop();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            calls += 1;
            let target = path
                .replace("/v1/upstreams/{upstream}/servers/{server}", &server)
                .replace("{upstream}", "api");
            let body = match operation["operationId"].as_str().unwrap() {
                "Weight" => "{\"weight\": 2}".to_owned(),
                "Check" | "Diff" => std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap(),
                _ => "{}".to_owned(),
            };
            let request = match method.as_str() {
                "post" => change_of(&gate, &target, &body),
                _ => to_admin(&gate, "GET", &target),
            };
            guarded(&gate, &request, operation["security"].is_array());
            let answer = ask(&gate, &with_token(request));
            assert_eq!(answer.status, 200, "{target}: {answer:?}");
            if let Some(schema) = operation["responses"]["200"]["content"].get("application/json") {
                let wrong = differs(&document, &schema["schema"], &answer.json(), &target);
                assert!(wrong.is_empty(), "{wrong:#?}");
            }
        }
    }
    assert_eq!(calls, 20);
}

/// From another origin, with another `Host`, without the token.
fn guarded(gate: &Gate, request: &Request, guarded: bool) {
    let writes = request.method == "POST";
    let cases = [
        (with_token(request.clone()).header("Origin", "http://evil.example"), 403, guarded),
        (with_token(request.clone()).header("Sec-Fetch-Site", "cross-site"), 403, guarded),
        (with_token(request.clone().host("evil.example")), 421, guarded),
        (request.clone(), 401, writes),
        (request.clone().header("Authorization", "Bearer 0123456789abcdef0123456789abcdeX"), 401, writes),
    ];
    for (request, status, refused) in cases {
        let answer = ask(gate, &request);
        assert_eq!(answer.status == status, refused, "{request:?}: {answer:?}");
    }
    if writes {
        let mut form = with_token(request.clone());
        form.headers.retain(|(name, _)| name != "Content-Type");
        assert_eq!(ask(gate, &form.header("Content-Type", "text/plain")).status, 415);
    }
}

/// Where a value is not of this schema: types, required and unknown keys.
fn differs(
    document: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    at: &str,
) -> Vec<String> {
    use serde_json::Value;
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).expect("the schema is there");
        return differs(document, schema, value, at);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    let mut wrong = Vec::new();
    match &schema["type"] {
        Value::Null => {}
        Value::Array(several) if several.iter().any(fits) => {}
        wanted if fits(wanted) => {}
        wanted => wrong.push(format!("{at} is {value}, not {wanted}")),
    }
    if let (Value::Object(map), Some(properties)) = (value, schema["properties"].as_object()) {
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                wrong.push(format!("{at} lacks {key}"));
            }
        }
        for (key, value) in map {
            match properties.get(key) {
                Some(schema) => wrong.extend(differs(document, schema, value, &format!("{at}.{key}"))),
                None => wrong.push(format!("{at}.{key} is not in the document")),
            }
        }
    }
    if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        wrong.extend(items.iter().flat_map(|item| differs(document, schema, item, &format!("{at}[]"))));
    }
    wrong
}
