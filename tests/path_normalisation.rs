//! The promise: no spelling of a path avoids the route that it means, nor that route's filters; and a server
//! never sees a path that it could read as another one than the gate did.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, Request, Response};

/// `/admin` is closed to everybody; everything else is open.
fn guarded(admin: &Backend, open: &Backend) -> Gate {
    Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /admin, upstream: admin, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
  - { path: /, upstream: open }
upstreams: { admin: { servers: [$admin] }, open: { servers: [$open] } }
",
        &[admin, open],
    )
}

/// Spellings of `/admin` and of paths below it.
const ADMIN: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x=1",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%61%64%6D%69%6E",
    "/adm%69n/x",
    "//admin",
    "///admin",
    "/.//admin",
    "//admin//x",
    "/./admin",
    "/././admin",
    "/x/../admin",
    "/x/y/../../admin",
    "/../admin",
    "/../../admin",
    "/x/%2e%2e/admin",
    "/x/%2E%2E/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/%2e/admin",
    "/x%2f..%2fadmin",
    "/x%2F%2e%2e%2Fadmin",
    "/%2fadmin",
    "/%2Fadmin",
    "/%2f%2Fadmin",
    "/admin%2fx",
    "/admin%2Fx",
    "/\\admin",
    "/%5cadmin",
    "/%5Cadmin",
    "/admin%5cx",
    "/admin\\x",
    "/x\\..\\admin",
    "/x/..%5cadmin",
    "/x%5c..%5cadmin",
    "/admin/.",
    "/admin/./",
    "/admin/x/..",
    "/admin/../admin",
    "/admin/../x/../admin",
    "/admin;x=1",
    "/admin;x/y",
    "/;x/admin",
    "/x/..;/admin",
    "/.;/admin",
    "http://gate.test/admin",
    "http://gate.test//admin",
    "http://gate.test/x/../admin",
];

/// Paths that look similar and mean something else.
const OPEN: &[&str] = &[
    "/",
    "/adminx",
    "/x/admin",
    "/admin.html",
    "/.admin",
    "/admin/../x",
    "/admin/..",
    "/admin/%2e%2e/x",
    "/admin%2f..%2fx",
    "/...admin",
    "/%2561dmin",
    "/x?/../admin",
    "/?u=/admin",
    "/%41dmin",
    "/ADMIN",
    "/admin%3Fx",
];

fn ask(gate: &Gate, target: &str) -> Response {
    gate.raw(format!("GET {target} HTTP/1.1\r\nHost: gate.test\r\n\r\n"))
}

#[test]
fn every_spelling_of_admin_meets_the_filter_of_admin() {
    let (admin, open) = (Backend::start("admin"), Backend::start("open"));
    let gate = guarded(&admin, &open);
    let mut escaped = Vec::new();
    for target in ADMIN {
        let response = ask(&gate, target);
        // A spelling may be refused as malformed (400) instead; what it may not do is to get through.
        if response.status != 403 && response.status != 400 {
            escaped.push((target, response.status, response.text()));
        }
    }
    assert!(escaped.is_empty(), "these reached a server: {escaped:?}");
    assert!(admin.requests().is_empty(), "{:?}", admin.requests());
    assert!(open.requests().is_empty(), "{:?}", open.requests());
}

#[test]
fn the_plain_spellings_are_refused_by_the_filter_and_not_as_malformed() {
    let (admin, open) = (Backend::start("admin"), Backend::start("open"));
    let gate = guarded(&admin, &open);
    for target in
        ["/admin", "/%61dmin", "//admin", "/x/../admin", "/%2fadmin", "/./admin", "/admin%2fx", "/%5cadmin"]
    {
        assert_eq!(ask(&gate, target).status, 403, "{target}");
    }
}

#[test]
fn paths_that_only_look_like_admin_are_open() {
    let (admin, open) = (Backend::start("admin"), Backend::start("open"));
    let gate = guarded(&admin, &open);
    for target in OPEN {
        assert_eq!(ask(&gate, target).text(), "open", "{target}");
    }
}

#[test]
fn an_exact_path_and_a_regex_meet_the_normalised_path_too() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { exact: /exact/path, respond: { body: exact } }
  - { regex: \"/re/[a-z]+\", respond: { body: regex } }
",
        &[],
    );
    for target in
        ["/exact/path", "/exact//path", "/e%78act/path", "/exact/./path", "/exact%2fpath", "/x/../exact/path"]
    {
        assert_eq!(ask(&gate, target).text(), "exact", "{target}");
    }
    for target in ["/re/abc", "//re/abc", "/re/%61bc", "/x/../re/abc"] {
        assert_eq!(ask(&gate, target).text(), "regex", "{target}");
    }
}

#[test]
fn a_server_reads_the_same_path_as_the_gate_did() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes: [{ path: /api, upstream: api }]
upstreams: { api: { servers: [$api] } }
",
        &[&api],
    );
    // Harmless spellings arrive as they were sent, byte for byte.
    for target in [
        "/api/a%20b",
        "/api/caf%C3%A9?q=%2F..%2F",
        "/api/a+b;c=d,e",
        "/api/~user/",
        "/api/a%3Fb?c",
        "/api/%25",
    ] {
        assert_eq!(ask(&gate, target).text(), "api", "{target}");
        assert_eq!(api.last_request().target, target);
    }
    // What a server might resolve to a path outside /api never arrives in that spelling.
    for target in [
        "/x/../api/secret",
        "/api/../api/x",
        "//api/x",
        "/api/./x",
        "/api/x/%2e%2e/y",
        "/api\\x",
        "/api%5c..%5cx",
    ] {
        api.forget();
        let response = ask(&gate, target);
        let Some(arrived) = api.requests().pop().map(|request| request.target) else {
            assert!(matches!(response.status, 400 | 404), "{target}: {}", response.status);
            continue;
        };
        let lower = arrived.to_ascii_lowercase();
        let dots = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
        assert!(
            !dots.split('/').any(|segment| segment == ".." || segment == "."),
            "{target} arrived as {arrived}"
        );
        assert!(arrived.starts_with("/api"), "{target} arrived as {arrived}");
    }
}

#[test]
fn the_asterisk_and_odd_targets_are_not_routed_by_accident() {
    let (admin, open) = (Backend::start("admin"), Backend::start("open"));
    let gate = guarded(&admin, &open);
    for line in [
        "OPTIONS * HTTP/1.1",
        "GET admin HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT admin:443 HTTP/1.1",
        "GET  HTTP/1.1",
    ] {
        let response = gate.raw(format!("{line}\r\nHost: gate.test\r\n\r\n"));
        assert!(response.status >= 400 || line.starts_with("OPTIONS"), "{line}: {}", response.status);
        assert!(admin.requests().is_empty(), "{line} reached the closed group");
    }
}

#[test]
fn bytes_that_do_not_belong_in_a_path_are_refused() {
    let (admin, open) = (Backend::start("admin"), Backend::start("open"));
    let gate = guarded(&admin, &open);
    for target in ["/%", "/%4", "/%zz", "/x%00y", "/\u{7f}", "/a\tb", "/%0d%0aX: y"] {
        open.forget();
        let response = ask(&gate, target);
        if let Some(arrived) = open.requests().pop().map(|request| request.target) {
            assert!(!arrived.contains("%00") && !arrived.contains("%0d"), "{target:?} arrived as {arrived}");
        }
        assert!(response.status == 400 || response.status == 200, "{target:?}: {}", response.status);
    }
    assert_eq!(gate.ask(&Request::get("/fine")).text(), "open");
}
