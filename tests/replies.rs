//! The promise: what the gate answers by itself is short, in the kind the client asked for, carries the request
//! id, and tells nothing about the inside.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Gate, H2Client, RefusedAddress, Reply, Request, Response, ServerAddress};
use serde_json::json;

const REASONS: &[(u16, &str)] = &[
    (400, "Bad Request"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (408, "Request Timeout"),
    (413, "Payload Too Large"),
    (414, "URI Too Long"),
    (431, "Request Header Fields Too Large"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
];

/// A gate with a path for each status, and the servers that it needs for them.
struct Everything {
    gate: Gate,
    backend: Backend,
    refused: RefusedAddress,
}

impl Everything {
    fn start() -> Self {
        let (backend, refused) = (Backend::start("backend"), RefusedAddress::new("refused"));
        backend.answers_by(|request| match request.target.as_str() {
            "/502" => Reply::reset(),
            "/504" => Reply::hang(),
            _ => Reply::ok("backend"),
        });
        let gate = Gate::start(
            "listeners:
  - name: web
    address: $web
    limits: { max_header_bytes: 4KB, max_uri_bytes: 1KB, header_timeout: 500ms, max_body_bytes: 1KB }
routes:
  - { path: /ok, upstream: backend }
  - { path: /403, upstream: backend, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
  - { path: /413, upstream: backend }
  - { path: /502, upstream: backend }
  - { path: /503, upstream: down }
  - { path: /504, upstream: backend, timeouts: { response: 300ms } }
upstreams:
  backend: { servers: [$backend] }
  down:
    servers: [$refused]
    health_check: { tcp: {}, interval: 50ms, timeout: 500ms, unhealthy_after: 1 }
",
            &[&backend, &refused],
        );
        let everything = Self { gate, backend, refused };
        harness::eventually("the dead server to be known as dead", || {
            everything.gate.get("/503").status == 503
        });
        everything
    }

    /// Provokes this status, with these further header lines in the request.
    fn provoke(&self, status: u16, headers: &str) -> Response {
        let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: gate.test\r\n{headers}");
        let request = match status {
            400 => head("GET /ok") + "Content-Length: nonsense\r\n\r\n",
            403 | 404 | 502 | 503 | 504 => head(&format!("GET /{status}")) + "\r\n",
            408 => head("GET /ok"),
            413 => head("POST /413") + "Content-Length: 5000\r\n\r\n",
            414 => head(&format!("GET /{}", "x".repeat(1500))) + "\r\n",
            431 => head("GET /ok") + &format!("X-Big: {}\r\n\r\n", "x".repeat(4500)),
            _ => unreachable!("no way to provoke {status}"),
        };
        self.gate.raw(request)
    }
}

#[test]
fn each_reply_in_the_kind_that_was_asked_for() {
    let everything = Everything::start();
    for (status, reason) in REASONS {
        let text = everything.provoke(*status, "");
        assert_eq!(text.status, *status);
        assert!(text.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{text:?}");
        assert!(text.text().starts_with(&format!("{status} ")), "{text:?}");

        let json = everything.provoke(*status, "Accept: application/json\r\n");
        assert_eq!(json.status, *status);
        assert_eq!(json.header("content-type").as_deref(), Some("application/json"), "{status}");
        assert_eq!(json.json()["status"], json!(status));
        let said = json.json()["error"].as_str().unwrap_or_default().to_owned();
        let same = said == *reason || (*status == 413 && said == "Content Too Large");
        assert!(same, "{status} is called {said:?}");
    }
}

#[test]
fn each_reply_carries_the_request_id_that_the_log_has() {
    let everything = Everything::start();
    for (status, _) in REASONS {
        let reply = everything.provoke(*status, "Accept: application/json\r\n");
        let id = reply.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id on {reply:?}"));
        assert!(!id.is_empty());
        assert_eq!(reply.json()["request_id"], json!(id), "{status}");
        let line = everything.gate.logged(|line| line["request_id"] == json!(id));
        assert_eq!(line["status"], json!(status), "{line}");
    }
}

#[test]
fn no_reply_tells_about_the_inside() {
    let everything = Everything::start();
    let addresses = [everything.backend.address(), everything.refused.address()];
    for (status, _) in REASONS {
        let reply = everything.provoke(*status, "");
        let all = format!("{:?} {}", reply.headers, reply.text()).to_lowercase();
        for address in addresses {
            assert!(!all.contains(&address.ip().to_string()), "{status} names a server: {all}");
            assert!(!all.contains(&format!(":{}", address.port())), "{status} names a port: {all}");
        }
        for word in ["pingora", "panic", "src/", ".rs", "errno", "os error", "refused", "upstream"] {
            assert!(!all.contains(word), "{status} says {word:?}: {all}");
        }
        assert!(reply.body.len() < 300, "{status} is long: {all}");
    }
}

#[test]
fn only_503_says_when_to_come_back() {
    let everything = Everything::start();
    for (status, _) in REASONS {
        let after = everything.provoke(*status, "").header("retry-after");
        assert_eq!(after.is_some(), *status == 503, "{status}: {after:?}");
    }
}

#[test]
fn accept_is_weighed() {
    let everything = Everything::start();
    let kind = |accept: &str| {
        let reply = everything.provoke(404, &format!("Accept: {accept}\r\n"));
        reply.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().to_owned()
    };
    assert_eq!(kind("*/*"), "text/plain");
    assert_eq!(kind("text/html,application/xhtml+xml,*/*;q=0.8"), "text/plain");
    assert_eq!(kind("application/json, text/plain;q=0.5"), "application/json");
    assert_eq!(kind("application/json;q=0.1, text/plain"), "text/plain");
}

#[test]
fn a_reply_leaves_the_connection_usable_where_it_can() {
    let everything = Everything::start();
    let mut client = everything.gate.connect();
    for path in ["/404", "/403", "/503", "/503", "/404"] {
        assert_eq!(client.get(path).status.to_string(), path[1..]);
    }
    assert_eq!(client.get("/ok").text(), "backend");
    let head = client.ask(&Request::new("HEAD", "/404"));
    assert_eq!(head.status, 404);
    assert_eq!(client.get("/ok").text(), "backend", "a reply to HEAD has no body");
    for status in [400, 408, 413, 414, 431, 502, 504] {
        let reply = everything.provoke(status, "");
        let closes = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert!(closes, "{status} ends the connection and says so: {reply:?}");
    }
}

#[test]
fn h2_has_the_same_replies() {
    let authority = Authority::new();
    let refused = RefusedAddress::new("refused");
    let gate = Gate::with(&[&refused]).certified(&authority).start(
        "listeners: [{ name: secure, address: $secure, $tls }]
routes:
  - { path: /403, respond: { body: never }, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
  - { path: /down, upstream: down }
upstreams: { down: { servers: [$refused] } }
",
    );
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    for (path, statuses) in [("/404", &[404][..]), ("/403", &[403]), ("/down", &[502, 503])] {
        let reply = client.ask(&Request::get(path).host("localhost").header("accept", "application/json"));
        assert!(statuses.contains(&reply.status), "{path}: {reply:?}");
        assert_eq!(reply.json()["request_id"], json!(reply.header("x-request-id")), "{reply:?}");
    }
}

#[test]
fn connect_is_refused() {
    let everything = Everything::start();
    let reply = everything.gate.raw("CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
    assert!(matches!(reply.status, 400 | 405), "{reply:?}");
    assert!(everything.backend.requests().is_empty());
}
