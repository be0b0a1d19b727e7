//! The promise: one line per request, with what one needs to know of it, as JSON or in the combined format, on
//! stdout or in a file; and no client can write lines of its own.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Gate, H2Client, Load, RefusedAddress, Reply, Request, ServerAddress, eventually,
};
use serde_json::json;
use std::time::Duration;

fn logging(log: &str, servers: &[&dyn ServerAddress], group: &str) -> Gate {
    let config = format!(
        "log: {{ access: {log} }}
server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web }}]
routes:
  - {{ name: the-api, path: /, upstream: group }}
  - {{ name: the-ping, exact: /ping, respond: {{ body: pong }} }}
upstreams: {{ group: {{ servers: [{group}] }} }}
"
    );
    Gate::start(&config, servers)
}

#[test]
fn a_json_line_tells_what_happened() {
    let api = Backend::start("api");
    api.answers(Reply::ok("0123456789").after(Duration::from_millis(120)));
    let gate = logging("{ format: json, to: stdout }", &[&api], "$api");
    let request = Request::post("/things/1?page=2", "x".repeat(1000)).host("Shop.test:8080");
    let response = gate.ask(&request.header("User-Agent", "tests/1").header("Referer", "http://from.test/"));
    let line = gate.logged(|line| line["method"] == "POST");
    for (field, value) in [
        ("listener", json!("web")),
        ("method", json!("POST")),
        ("status", json!(200)),
        ("route", json!("the-api")),
        ("upstream", json!("group")),
        ("server", json!(api.address().to_string())),
        ("attempts", json!(1)),
        ("user_agent", json!("tests/1")),
        ("referer", json!("http://from.test/")),
        ("request_id", json!(response.header("x-request-id"))),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    let text = |field: &str| line[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}"));
    assert!(text("client").starts_with("127.0.0.1"), "{line}");
    assert!(text("host").to_lowercase().starts_with("shop.test"), "{line}");
    assert!(text("path").starts_with("/things/1"), "{line}");
    assert!(text("protocol").contains("1.1"), "{line}");
    assert!(text("time").starts_with("20") && text("time").contains('T'), "{line}");
    let number = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("no {field} in {line}"));
    assert!(number("request_bytes") >= 1000.0, "{line}");
    assert!(number("response_bytes") >= 10.0, "{line}");
    // The server waited 120 ms before its first byte: both durations contain that wait.
    assert!(number("upstream_response_ms") >= 100.0, "{line}");
    assert!(number("duration_ms") >= number("upstream_response_ms") - 1.0, "{line}");
    assert!(number("upstream_connect_ms") >= 0.0, "{line}");
    assert!(line["tls"].is_null(), "{line}");
}

#[test]
fn what_the_gate_answered_itself_names_no_server() {
    let api = Backend::start("api");
    let gate = logging("{ to: stdout }", &[&api], "$api");
    assert_eq!(gate.get("/ping").text(), "pong");
    let line = gate.logged_path("/ping");
    assert_eq!((&line["route"], &line["status"]), (&json!("the-ping"), &json!(200)), "{line}");
    assert!(line["server"].is_null() && line["upstream"].is_null(), "{line}");
}

#[test]
fn a_second_try_is_counted() {
    let (api, down) = (Backend::start("api"), RefusedAddress::new("down"));
    let gate = logging("{ to: stdout }", &[&api, &down], "$down, $api");
    assert_eq!(gate.get("/first").text(), "api");
    let line = gate.logged_path("/first");
    assert_eq!(
        (&line["attempts"], &line["server"]),
        (&json!(2), &json!(api.address().to_string())),
        "{line}"
    );
}

#[test]
fn a_failure_says_why_in_the_log_and_not_to_the_client() {
    let down = RefusedAddress::new("down");
    let gate = logging("{ to: stdout }", &[&down], "$down");
    let reply = gate.get("/first");
    let line = gate.logged_path("/first");
    assert_eq!(line["status"], json!(reply.status), "{line}");
    assert!(line["error"].as_str().is_some_and(|error| !error.is_empty()), "{line}");
    assert!(!reply.text().contains(&down.address().ip().to_string()));
}

#[test]
fn tls_and_h2_are_in_the_line() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = Gate::secure(&authority, &api, "");
    let mut h2 = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    assert_eq!(h2.ask(&Request::get("/h2").host("localhost")).status, 200);
    let line = gate.logged_path("/h2");
    assert_eq!((&line["tls"], &line["listener"]), (&json!("TLSv1.3"), &json!("secure")), "{line}");
    assert!(line["protocol"].as_str().is_some_and(|protocol| protocol.contains('2')), "{line}");
    let tls12 = authority.client("localhost").version(&rustls::version::TLS12);
    assert_eq!(tls12.connect(gate.at("secure")).get("/old").status, 200);
    assert_eq!(gate.logged_path("/old")["tls"], json!("TLSv1.2"));
}

#[test]
fn a_client_cannot_write_lines_of_its_own() {
    let api = Backend::start("api");
    let gate = logging("{ to: stdout }", &[&api], "$api");
    let hostile = "x\" \\ \u{1b}[31m }{ \u{e9}";
    gate.ask(&Request::get("/quote%22%0a%7b%7d\"{").header("User-Agent", hostile).header("Referer", "\\\""));
    gate.get("/ping");
    gate.logged_path("/ping");
    let lines: Vec<_> = gate.stdout().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in lines {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "not JSON: {line}");
        assert!(!line.contains('\u{1b}'), "a raw escape: {line:?}");
    }
}

#[test]
fn the_combined_format() {
    let api = Backend::start("api");
    let gate = logging("{ format: combined, to: stdout }", &[&api], "$api");
    gate.ask(
        &Request::get("/a?b=c").header("User-Agent", "tests \"1\"").header("Referer", "http://from.test/"),
    );
    eventually("a line", || gate.stdout().contains('\n'));
    let line = gate.stdout();
    // 127.0.0.1 - - [21/Nov/2026:04:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 3 "http://from.test/" "tests \"1\""
    let pattern = concat!(
        r#"^127\.0\.0\.1 - - \[\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4}\] "#,
        r#""GET /a\?b=c HTTP/1\.1" 200 3 "http://from\.test/" "tests (\\"|\\x22)1(\\"|\\x22)""#,
    );
    assert!(regex::Regex::new(pattern).expect("a pattern").is_match(&line), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn to_a_file_appending() {
    let api = Backend::start("api");
    let builder = Gate::with(&[&api]).file("access.log", "an older line\n");
    let gate = builder.start(
        "log: { access: { to: { file: $dir/access.log } } }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
    );
    gate.get("/one");
    gate.get("/two");
    let read = || std::fs::read_to_string(gate.dir().join("access.log")).unwrap_or_default();
    eventually("two lines in the file", || read().lines().count() >= 3);
    let text = read();
    assert!(text.starts_with("an older line\n{"), "{text}");
    assert!(gate.stdout().is_empty(), "and nothing on stdout: {}", gate.stdout());
}

#[test]
fn off_writes_nothing() {
    let api = Backend::start("api");
    let gate = logging("{ to: off }", &[&api], "$api");
    gate.get("/one");
    gate.terminate();
    gate.exit();
    assert!(gate.stdout().is_empty(), "{}", gate.stdout());
}

#[test]
fn no_line_is_lost_under_load_or_at_the_end() {
    let api = Backend::start("api");
    let gate = logging("{ to: stdout }", &[&api], "$api");
    let load = Load::start(gate.at("web"), &Request::get("/x"), 4, 250);
    load.wait_for(1000);
    assert!(load.finish().iter().all(|outcome| *outcome == Ok(200)));
    gate.terminate();
    gate.exit();
    assert_eq!(gate.access_log().len(), 1000);
}
