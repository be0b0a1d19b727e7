//! The promise: servers learn who really asked. What a client claims about itself is believed only from
//! `trusted_proxies`; everybody else's claims are replaced.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Client, Gate, H2Client, Received, Request, ServerAddress};

const FIELDS: &[(&str, &str)] = &[
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "public.example"),
    ("Forwarded", "for=203.0.113.7;proto=https;host=public.example"),
    ("X-Request-Id", "from-the-client"),
];

fn claiming() -> Request {
    FIELDS.iter().fold(Request::get("/"), |request, (name, value)| request.header(name, value))
}

/// A gate before `$api` with these further top-level keys.
fn before(api: &Backend, keys: &str) -> Gate {
    let config = format!(
        "{keys}
listeners: [{{ name: web, address: $web }}]
routes:
  - {{ path: /, upstream: api }}
  - {{ exact: /who, respond: {{ body: \"{{client_ip}} {{scheme}} {{request_id}}\" }} }}
upstreams: {{ api: {{ servers: [$api] }} }}
"
    );
    Gate::start(&config, &[api])
}

#[track_caller]
fn header(request: &Received, name: &str) -> String {
    request.header(name).unwrap_or_else(|| panic!("no {name} in {request:#?}"))
}

/// The parameters of the only element of `Forwarded` (RFC 7239 §4), sorted.
fn forwarded_pairs(element: &str) -> Vec<String> {
    let mut pairs: Vec<_> =
        element.split(';').map(|pair| pair.trim().replace('"', "").to_lowercase()).collect();
    pairs.retain(|pair| !pair.starts_with("by="));
    pairs.sort();
    pairs
}

#[test]
fn a_server_learns_the_client_the_scheme_and_the_host() {
    let api = Backend::start("api");
    let gate = before(&api, "");
    let response = gate.ask(&Request::get("/").host("shop.test:8080"));
    let arrived = api.only_request();
    assert_eq!(header(&arrived, "x-forwarded-for"), "127.0.0.1");
    assert_eq!(header(&arrived, "x-forwarded-proto"), "http");
    assert_eq!(header(&arrived, "x-forwarded-host"), "shop.test:8080");
    let forwarded = forwarded_pairs(&header(&arrived, "forwarded"));
    assert_eq!(forwarded, ["for=127.0.0.1", "host=shop.test:8080", "proto=http"]);
    let id = header(&arrived, "x-request-id");
    assert!(id.len() >= 16 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{id}");
    assert_eq!(response.header("x-request-id"), Some(id), "the client is told the same id");
}

#[test]
fn what_an_untrusted_client_claims_is_replaced() {
    let api = Backend::start("api");
    for keys in ["", "trusted_proxies: [10.0.0.0/8, 192.0.2.1]"] {
        let gate = before(&api, keys);
        let twice = claiming().header("X-Forwarded-For", "198.51.100.1").header("x_forwarded_for", "1.2.3.4");
        assert_eq!(gate.ask(&twice).status, 200);
        let arrived = api.last_request();
        assert_eq!(header(&arrived, "x-forwarded-for"), "127.0.0.1");
        assert_eq!(header(&arrived, "x-forwarded-proto"), "http");
        assert_eq!(header(&arrived, "x-forwarded-host"), "gate.test");
        assert!(!header(&arrived, "forwarded").contains("203.0.113.7"));
        assert_ne!(header(&arrived, "x-request-id"), "from-the-client");
        let who = gate.ask(&Request { target: "/who".into(), ..claiming() }).text();
        assert!(who.starts_with("127.0.0.1 http "), "{who}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_added_to() {
    let api = Backend::start("api");
    let gate = before(&api, "trusted_proxies: [127.0.0.0/8]");
    let response = gate.ask(&claiming());
    let arrived = api.only_request();
    assert_eq!(header(&arrived, "x-forwarded-for"), "203.0.113.7, 127.0.0.1");
    assert_eq!(header(&arrived, "x-forwarded-proto"), "https");
    assert_eq!(header(&arrived, "x-forwarded-host"), "public.example");
    let forwarded = header(&arrived, "forwarded");
    let elements: Vec<_> = forwarded.split(',').map(forwarded_pairs).collect();
    assert_eq!(elements.len(), 2, "{forwarded}");
    assert_eq!(elements[0], ["for=203.0.113.7", "host=public.example", "proto=https"]);
    assert!(elements[1].contains(&"for=127.0.0.1".to_owned()), "{forwarded}");
    assert_eq!(header(&arrived, "x-request-id"), "from-the-client");
    assert_eq!(response.header("x-request-id").as_deref(), Some("from-the-client"));
    let who = gate.ask(&Request { target: "/who".into(), ..claiming() }).text();
    assert_eq!(who, "203.0.113.7 https from-the-client");
}

#[test]
fn the_client_is_the_nearest_address_that_is_not_a_trusted_proxy() {
    let api = Backend::start("api");
    let gate = before(&api, "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]");
    let who = |chain: &str| {
        let text = gate.ask(&Request::get("/who").header("X-Forwarded-For", chain)).text();
        text.split(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!(who("203.0.113.7"), "203.0.113.7");
    assert_eq!(
        who("198.51.100.9, 203.0.113.7"),
        "203.0.113.7",
        "what stands before it the client may have written"
    );
    assert_eq!(who("198.51.100.9, 203.0.113.7, 10.1.1.1, 10.2.2.2"), "203.0.113.7");
    assert_eq!(who("10.3.3.3, 10.1.1.1"), "10.3.3.3", "the farthest when all are proxies");
    assert_eq!(who("2001:db8::7"), "2001:db8::7");
    for nonsense in ["nonsense", "203.0.113.7, nonsense", ""] {
        assert_eq!(who(nonsense), "127.0.0.1", "{nonsense:?} says nothing of the client");
    }
}

#[test]
fn ip_filters_and_client_conditions_look_at_the_real_client() {
    let gate = Gate::start(
        "trusted_proxies: [127.0.0.1]
listeners: [{ name: web, address: $web }]
routes:
  - { path: /, respond: { body: wide } }
  - { path: /, client: [203.0.113.0/24], respond: { body: partner } }
  - { path: /closed, respond: { body: open }, filters: [{ ip: { deny: [203.0.113.0/24] } }] }
",
        &[],
    );
    let from = |source: &str, target: &str| {
        let source = source.parse().expect("an address");
        Client::connect_from(source, gate.at("web"))
            .ask(&Request::get(target).header("X-Forwarded-For", "203.0.113.7"))
    };
    assert_eq!(from("127.0.0.1", "/").text(), "partner");
    assert_eq!(from("127.0.0.2", "/").text(), "wide", "not a trusted proxy");
    assert_eq!(from("127.0.0.1", "/closed").status, 403);
    assert_eq!(from("127.0.0.2", "/closed").text(), "open");
}

#[test]
fn a_request_id_that_is_not_fit_for_a_log_is_replaced() {
    let api = Backend::start("api");
    let gate = before(&api, "trusted_proxies: [127.0.0.0/8]");
    for id in ["", "a b\"c", &"x".repeat(2000)] {
        gate.ask(&Request::get("/").header("X-Request-Id", id));
        let arrived = header(&api.last_request(), "x-request-id");
        assert!(
            !arrived.is_empty() && arrived.len() <= 200 && !arrived.contains(['"', ' ']),
            "{id:?} became {arrived:?}"
        );
    }
}

#[test]
fn each_request_has_an_id_of_its_own() {
    let api = Backend::start("api");
    let gate = before(&api, "");
    let mut client = gate.connect();
    let mut ids: Vec<_> = (0..50).map(|_| client.get("/").header("x-request-id").expect("an id")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[test]
fn the_headers_can_be_turned_off() {
    let api = Backend::start("api");
    let gate = before(&api, "proxy_headers: { x_forwarded: false, forwarded: false, request_id: false }");
    let response = gate.ask(&claiming());
    assert_eq!(response.header("x-request-id"), None);
    let arrived = api.only_request();
    for (name, _) in FIELDS.iter().filter(|(name, _)| *name != "X-Request-Id") {
        assert_eq!(arrived.header(name), None, "an untrusted client's {name} goes through");
    }
}

#[test]
fn over_tls_and_h2_the_scheme_is_https() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = Gate::secure(&authority, &api, "");
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    assert_eq!(client.ask(&Request::get("/").host("localhost")).status, 200);
    let arrived = api.only_request();
    assert_eq!(header(&arrived, "x-forwarded-proto"), "https");
    assert_eq!(header(&arrived, "x-forwarded-host"), "localhost");
    assert_eq!(
        forwarded_pairs(&header(&arrived, "forwarded")),
        ["for=127.0.0.1", "host=localhost", "proto=https"]
    );
}

#[test]
fn the_host_is_preserved_or_the_servers_or_a_name() {
    let api = Backend::start("api");
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]
routes:
  - { path: /default, upstream: default }
  - { path: /preserve, upstream: preserve }
  - { path: /server, upstream: server }
  - { path: /name, upstream: name }
upstreams:
  default: { servers: [$api] }
  preserve: { servers: [$api], host: preserve }
  server: { servers: [$api], host: server }
  name: { servers: [$api], host: api.internal }
",
        &[&api],
    );
    let host = |target: &str| {
        assert_eq!(gate.ask(&Request::get(target).host("Shop.test:8080")).status, 200);
        let arrived = api.last_request();
        assert_eq!(arrived.headers_named("host").len(), 1, "{arrived:#?}");
        header(&arrived, "host")
    };
    assert_eq!(host("/default"), "Shop.test:8080");
    assert_eq!(host("/preserve"), "Shop.test:8080");
    assert_eq!(host("/server"), api.address().to_string());
    assert_eq!(host("/name"), "api.internal");
}

#[test]
fn headers_that_are_for_one_connection_stay_on_it() {
    let api = Backend::start("api");
    api.answers_by(|_| {
        harness::Reply::ok("api")
            .header("Connection", "X-Back")
            .header("X-Back", "1")
            .header("Keep-Alive", "timeout=5")
    });
    let gate = before(&api, "");
    let response = gate.ask(
        &Request::get("/")
            .header("Connection", "X-Hop, keep-alive")
            .header("X-Hop", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Connection", "keep-alive")
            .header("TE", "gzip")
            .header("X-Stays", "1"),
    );
    let arrived = api.only_request();
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(arrived.header(name), None, "{name} reached the server");
    }
    assert_eq!(header(&arrived, "x-stays"), "1");
    assert_eq!((response.header("x-back"), response.header("keep-alive")), (None, None), "{response:?}");
}
