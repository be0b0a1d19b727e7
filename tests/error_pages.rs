//! The promise: what clients are told when something is wrong can be said in the user's own words, by status.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Gate, H2Client, RefusedAddress, Reply, Request, Response};

fn gate(gone: &RefusedAddress, api: &Backend) -> Gate {
    let config = "listeners: [{ name: web, address: $web, protocols: [h1, h2] }]
error_pages:
  - { status: 404, body: 'nothing at {path}, {request_id}' }
  - { status: 4xx, body: '{{\"sorry\": true}}', content_type: application/json }
routes:
  - { path: /api, upstream: api }
  - path: /page
    upstream: gone
    error_pages: [{ status: [500, 502-504], file: $dir/sorry.html }]
  - path: /moved
    upstream: gone
    error_pages: [{ status: 5xx, redirect: 'https://status.example.com/?from={path}' }]
  - { path: /plain, upstream: gone }
  - { path: /closed, respond: { status: 403, body: mine }, filters: [{ ip: { allow: [192.0.2.1] } }] }
  - { path: /own, respond: { status: 404, body: mine } }
upstreams:
  gone: { servers: [$gone] }
  api: { servers: [$api] }
";
    Gate::with(&[gone, api]).file("sorry.html", "<h1>{sorry}</h1>").start(config)
}

fn header(response: &Response, name: &str) -> String {
    response.header(name).unwrap_or_default()
}

#[test]
fn the_first_page_for_the_status_is_shown() {
    let (gone, api) = (RefusedAddress::new("gone"), Backend::start("api"));
    let gate = gate(&gone, &api);

    let page = gate.get("/page");
    assert_eq!((page.status, page.text().as_str()), (502, "<h1>{sorry}</h1>"), "a file is sent as it is");
    assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&page, "cache-control"), "no-store");
    let id = header(&page, "x-request-id");
    assert!(!id.is_empty());
    assert_eq!(gate.logged_path("/page")["status"], 502);

    let moved = gate.get("/moved/x");
    assert_eq!(
        (moved.status, header(&moved, "location")),
        (302, "https://status.example.com/?from=/moved/x".into())
    );
    assert_eq!(gate.logged_path("/moved/x")["error"], "no server answered");

    let nothing = gate.get("/elsewhere");
    assert_eq!(nothing.status, 404, "without a route");
    assert_eq!(nothing.text(), format!("nothing at /elsewhere, {}", header(&nothing, "x-request-id")));

    let closed = gate.get("/closed");
    assert_eq!((closed.status, closed.text().as_str()), (403, "{\"sorry\": true}"), "what a filter refuses");
    assert_eq!(header(&closed, "content-type"), "application/json");

    let plain = gate.get("/plain");
    assert!(plain.status == 502 && plain.text().starts_with("502 Bad Gateway"), "{plain:?}");
}

#[test]
fn a_head_has_no_page_and_http2_has() {
    let (gone, api) = (RefusedAddress::new("gone"), Backend::start("api"));
    let gate = gate(&gone, &api);
    let mut client = gate.connect();
    client.send(Request::new("HEAD", "/page").bytes());
    let head = client.try_response_to("HEAD").unwrap();
    assert_eq!((head.status, header(&head, "content-length").as_str()), (502, "16"));
    assert!(head.body.is_empty());

    let mut client = H2Client::connect_plaintext(gate.at("web"));
    let page = client.get("/page");
    assert_eq!((page.status, page.text().as_str()), (502, "<h1>{sorry}</h1>"));
    assert_eq!(client.get("/moved").status, 302);
}

#[test]
fn what_servers_and_routes_answer_is_theirs() {
    let (gone, api) = (RefusedAddress::new("gone"), Backend::start("api"));
    api.answers(Reply::new(404, "the server's own"));
    let gate = gate(&gone, &api);
    assert_eq!(gate.get("/api").text(), "the server's own");
    assert_eq!(gate.get("/own").text(), "mine");
}
