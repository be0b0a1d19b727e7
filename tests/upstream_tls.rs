//! The promise: a group with `tls` speaks TLS to its servers and believes only the certificates it is told to believe. A
//! server that cannot be trusted, does not shake hands or does not speak what is wanted gets no request, and others are
//! asked instead.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// a part of it is used here
#[allow(dead_code)]
#[path = "harness/dns_server.rs"]
mod dns_server;
mod harness;

use dns_server::DnsServer;
use harness::{
    Authority, BlackHole, Gate, GateBuilder, Origin, RawServer, Request, ServerAddress, eventually,
};
use std::io::{Read, Write};

/// A gate in front of these servers, with this said of the group. `$dir/ca.crt` is the authority.
fn start(authority: &Authority, servers: &[&dyn ServerAddress], group: &str) -> Gate {
    prepared(authority, servers).start(&config(servers, group))
}

fn prepared(authority: &Authority, servers: &[&dyn ServerAddress]) -> GateBuilder {
    // the system trusts somebody, but nobody that we know
    let system = Authority::new().pem();
    let builder = Gate::with(servers).file("ca.crt", authority.pem()).file("system.crt", system);
    let trusted = builder.dir().join("system.crt").display().to_string();
    builder.env("SSL_CERT_FILE", &trusted)
}

fn config(servers: &[&dyn ServerAddress], group: &str) -> String {
    let names: Vec<_> = servers.iter().map(|server| format!("${}", server.label())).collect();
    format!(
        "server: {{ threads: 1 }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group:
    servers: [{}]
    {}
",
        names.join(", "),
        group.replace("; ", "\n    ")
    )
}

/// An origin with a certificate for its own address.
fn origin(label: &str, authority: &Authority) -> Origin {
    let builder = Origin::with(label);
    let name = builder.address().ip().to_string();
    builder.tls(authority.issue(&[&name])).start()
}

const TRUSTED: &str = "tls: { ca: $dir/ca.crt }";

/// What the log says about the only request for this path: status, tries and error.
fn outcome(gate: &Gate, path: &str) -> (u64, u64, String) {
    let line = gate.logged_path(path);
    let number = |key: &str| line[key].as_u64().unwrap_or_default();
    (number("status"), number("attempts"), line["error"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn assert_refused(gate: &Gate, origin: &Origin, why: &str) {
    assert_eq!(gate.get("/refused").status, 502);
    assert_eq!(outcome(gate, "/refused"), (502, 1, "no server answered".to_owned()));
    eventually(&format!("the log to say {why:?}"), || gate.stderr().contains(why));
    assert!(origin.arrived().is_empty(), "a request went to a server that is not trusted");
}

#[test]
fn a_server_that_is_trusted_is_asked_over_one_connection() {
    let authority = Authority::new();
    let origin = origin("one", &authority);
    let gate = start(&authority, &[&origin], TRUSTED);
    let mut client = gate.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(&Request::get("/")).text(), "one");
    }
    assert_eq!(gate.ask(&Request::post("/", "a body")).text(), "one");
    assert_eq!(origin.last().body, b"a body");
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.last().sni, None, "an address is not a name that is sent (RFC 6066 §3)");
    assert_eq!(origin.last().protocol, "h1");
}

#[test]
fn a_server_that_nobody_vouches_for_gets_no_request() {
    let authority = Authority::new();
    let origin = origin("one", &authority);
    let unknown = "the certificate is from an authority that is not trusted";
    assert_refused(&start(&authority, &[&origin], "tls: {}"), &origin, unknown);
    let other = Authority::new();
    assert_refused(&start(&other, &[&origin], TRUSTED), &origin, unknown);
}

#[test]
fn a_server_with_a_certificate_for_somebody_else_gets_no_request() {
    let authority = Authority::new();
    let elsewhere = Origin::with("one").tls(authority.issue(&["other.internal"])).start();
    assert_refused(&start(&authority, &[&elsewhere], TRUSTED), &elsewhere, "certificate not valid for name");
    assert_refused(
        &start(&authority, &[&elsewhere], "tls: { ca: $dir/ca.crt, sni: api.internal }"),
        &elsewhere,
        "certificate not valid for name \"api.internal\"",
    );
}

#[test]
fn a_server_with_an_expired_certificate_gets_no_request() {
    let authority = Authority::new();
    let pair = authority.issue_with(&["api.internal"], |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let expired = Origin::with("one").tls(pair).start();
    let gate = start(&authority, &[&expired], "tls: { ca: $dir/ca.crt, sni: api.internal }");
    assert_refused(&gate, &expired, "expired");
}

/// As `openssl req -x509` makes them.
#[test]
fn a_server_with_the_certificate_of_an_authority_gets_no_request() {
    let authority = Authority::new();
    let pair = authority.issue_with(&["api.internal"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let origin = Origin::with("one").tls(pair).start();
    let gate = start(&authority, &[&origin], "tls: { ca: $dir/ca.crt, sni: api.internal }");
    assert_refused(&gate, &origin, "the certificate is that of an authority (CA:TRUE), not that of a server");
}

#[test]
fn the_name_that_is_sent_and_looked_for() {
    let authority = Authority::new();
    let origin = Origin::with("one").tls(authority.issue(&["api.internal", "localhost"])).start();
    for (group, name, host) in [
        ("tls: { ca: $dir/ca.crt, sni: api.internal }", "api.internal", "gate.test"),
        ("tls: { ca: $dir/ca.crt }; host: api.internal", "api.internal", "api.internal"),
        ("tls: { ca: $dir/ca.crt, sni: localhost }; host: api.internal", "localhost", "api.internal"),
    ] {
        let gate = start(&authority, &[&origin], group);
        assert_eq!(gate.get("/").text(), "one", "{group}");
        assert_eq!(origin.last().sni.as_deref(), Some(name), "{group}");
        assert_eq!(origin.last().host, host, "{group}");
    }
}

#[test]
fn a_server_that_was_found_by_name_has_that_name() {
    let (authority, dns) = (Authority::new(), DnsServer::start("dns"));
    let origin = Origin::with("one").tls(authority.issue(&["api.test"])).start();
    dns.addresses("api.test", 60, &[origin.address().ip()]);
    let port = origin.address().port();
    let group = format!(
        "tls: {{ ca: $dir/ca.crt }}; discover: {{ dns: {{ name: api.test, port: {port}, resolvers: [$dns] }} }}; health_check: {{ tcp: {{}}, initial: down, interval: 50ms }}"
    );
    let config = config(&[], &group).replace("    servers: []\n", "");
    let gate = prepared(&authority, &[&dns]).start(&config);
    eventually("a check that passes", || gate.get("/").status == 200);
    assert_eq!(origin.last().sni.as_deref(), Some("api.test"));
}

#[test]
fn without_verification_any_server_is_asked_and_no_other_group_uses_its_connections() {
    let authority = Authority::new();
    let origin = origin("one", &authority);
    let config = "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes:
  - { path: /open, upstream: open }
  - { path: /system, upstream: system }
  - { path: /other, upstream: other }
  - { path: /right, upstream: right }
upstreams:
  open: { servers: [$one], tls: { verify: false } }
  system: { servers: [$one], tls: {} }
  other: { servers: [$one], tls: { ca: $dir/other.crt } }
  right: { servers: [$one], tls: { ca: $dir/ca.crt } }
";
    let gate = prepared(&authority, &[&origin]).file("other.crt", Authority::new().pem()).start(config);
    for _ in 0..3 {
        assert_eq!(gate.get("/open").text(), "one");
        assert_eq!(gate.get("/right").text(), "one");
        // with both kinds of connections kept, and sessions that could be resumed
        assert_eq!(gate.get("/system").status, 502);
        assert_eq!(gate.get("/other").status, 502);
    }
    let paths: Vec<_> = origin.arrived().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/open", "/right"].repeat(3));
    assert!(gate.stderr().contains("upstream \"open\" takes any certificate"), "{}", gate.stderr());
}

#[test]
fn a_session_without_verification_is_not_resumed_with_it() {
    let authority = Authority::new();
    let origin = origin("one", &authority);
    let config = "server: { threads: 1 }
listeners: [{ name: web, address: $web }]
routes: [{ path: /bye/open, upstream: open }, { path: /bye/system, upstream: system }]
upstreams:
  open: { servers: [$one], tls: { verify: false } }
  system: { servers: [$one], tls: {} }
";
    let gate = prepared(&authority, &[&origin]).start(config);
    for _ in 0..3 {
        assert_eq!(gate.get("/bye/open").status, 200);
        assert_eq!(gate.get("/bye/system").status, 502);
    }
}

#[test]
fn sessions_are_resumed_with_servers_that_the_system_trusts() {
    let authority = Authority::new();
    let builder = Origin::with("one");
    let name = builder.address().ip().to_string();
    let origin = builder.tls(authority.issue(&[&name])).start();
    let servers: [&dyn ServerAddress; 1] = [&origin];
    let builder = Gate::with(&servers).file("system.crt", authority.pem());
    let trusted = builder.dir().join("system.crt").display().to_string();
    let gate = builder.env("SSL_CERT_FILE", &trusted).start(&config(&servers, "tls: {}"));
    for _ in 0..3 {
        assert_eq!(gate.get("/bye").text(), "one");
    }
    let resumed: Vec<_> = origin.arrived().iter().map(|one| one.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let builder = Origin::with("one");
    let name = builder.address().ip().to_string();
    let origin = builder.tls(authority.issue(&[&name])).clients_of(clients.pem()).start();
    let without = start(&authority, &[&origin], TRUSTED);
    assert_eq!(without.get("/").status, 502);
    assert!(origin.arrived().is_empty());

    let (cert, key) = clients.issue(&["gate.internal"]);
    let with = prepared(&authority, &[&origin]).file("gate.crt", cert).file("gate.key", key).start(&config(
        &[&origin],
        "tls: { ca: $dir/ca.crt, cert: $dir/gate.crt, key: $dir/gate.key }; health_check: { tcp: {}, initial: down, interval: 50ms }",
    ));
    eventually("the check, which shows it as well", || with.get("/").status == 200);
    assert!(origin.last().certified);

    let (cert, key) = Authority::new().issue(&["gate.internal"]);
    let wrong = prepared(&authority, &[&origin])
        .file("gate.crt", cert)
        .file("gate.key", key)
        .start(&config(&[&origin], "tls: { ca: $dir/ca.crt, cert: $dir/gate.crt, key: $dir/gate.key }"));
    assert_eq!(wrong.get("/").status, 502);
}

#[test]
fn who_cannot_shake_hands_is_passed_over() {
    let authority = Authority::new();
    let good = origin("good", &authority);
    let plaintext = harness::Backend::start("plain");
    let closing = RawServer::start("closing", drop);
    for bad in [&plaintext as &dyn ServerAddress, &closing] {
        let gate = start(&authority, &[bad, &good], TRUSTED);
        for number in 0..4 {
            assert_eq!(gate.get(&format!("/{number}")).text(), "good");
            // nothing was sent, so nothing can have been done twice
            assert_eq!(gate.ask(&Request::post("/", "once")).text(), "good");
        }
        let tries: Vec<_> = (0..4).map(|number| outcome(&gate, &format!("/{number}")).1).collect();
        assert!(tries.contains(&2), "nobody was passed over: {tries:?}");
    }
    assert!(plaintext.requests().is_empty());

    let puzzled = RawServer::start("puzzled", |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let gate = start(&authority, &[&puzzled], TRUSTED);
    assert_eq!(gate.get("/alone").status, 502);
    eventually("the reason", || gate.stderr().contains("TLS: the server does not speak it on this port"));
}

/// Accepts, and takes whatever it is sent.
fn stalling(label: &str) -> RawServer {
    RawServer::start(label, |mut stream| {
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    })
}

#[test]
fn a_handshake_that_stalls_ends_in_time_and_another_server_is_asked() {
    let authority = Authority::new();
    let (stalled, good) = (stalling("stalled"), origin("good", &authority));
    let short = "tls: { ca: $dir/ca.crt }; timeouts: { tls: 300ms, connect: 60s }";
    let gate = start(&authority, &[&stalled, &good], short);
    for _ in 0..4 {
        assert_eq!(gate.get("/").text(), "good");
    }
    eventually("the reason", || gate.stderr().contains("TLS: no handshake within 300ms"));

    let alone = start(&authority, &[&stalled], short);
    assert_eq!(alone.get("/alone").status, 504);
    assert_eq!(outcome(&alone, "/alone"), (504, 1, "tls timed out".to_owned()));
}

#[test]
fn each_phase_of_connecting_has_its_name() {
    let authority = Authority::new();
    let (stalled, hole) = (stalling("stalled"), BlackHole::new("hole"));
    for (server, timeouts, error) in [
        (&hole as &dyn ServerAddress, "connect: 300ms, tls: 60s", "connect timed out"),
        (&stalled, "connect: 60s, tls: 300ms", "tls timed out"),
        (&stalled, "try: 300ms, tls: 60s", "try timed out"),
        (&stalled, "request: 300ms, tls: 60s", "request timed out"),
        (&hole, "try: 300ms, connect: 60s", "try timed out"),
    ] {
        let group =
            format!("tls: {{ ca: $dir/ca.crt }}; timeouts: {{ {timeouts} }}; retry: {{ attempts: 1 }}");
        let gate = start(&authority, &[server], &group);
        assert_eq!(gate.get("/late").status, 504, "{timeouts}");
        assert_eq!(outcome(&gate, "/late"), (504, 1, error.to_owned()), "{timeouts}");
    }
}

#[test]
fn checks_speak_tls_as_requests_do() {
    let authority = Authority::new();
    let trusted = Origin::with("one").tls(authority.issue(&["api.internal"])).start();
    let check = "health_check: { http: { path: / }, initial: down, interval: 50ms, timeout: 5s";
    let group = format!("tls: {{ ca: $dir/ca.crt, sni: api.internal }}; {check} }}");
    let gate = start(&authority, &[&trusted], &group);
    eventually("a check that passes", || gate.get("/asked").status == 200);
    assert!(trusted.arrived().iter().all(|one| one.sni.as_deref() == Some("api.internal")));

    // what the check says of its own counts, and the rest is the group's
    let group =
        format!("tls: {{ ca: $dir/ca.crt, sni: api.internal }}; {check}, tls: {{ sni: other.internal }} }}");
    let gate = start(&authority, &[&trusted], &group);
    eventually("a check that fails", || {
        gate.stderr().contains("certificate not valid for name \"other.internal\"")
    });
    assert_eq!(gate.get("/").status, 503);

    let plain = Origin::with("plain").start();
    let port = plain.address().port();
    let beside = Origin::with("one").at((plain.address().ip(), 0).into());
    let beside = beside.tls(authority.issue(&["api.internal"])).start();
    let group = format!("tls: {{ ca: $dir/ca.crt, sni: api.internal }}; {check}, tls: off, port: {port} }}");
    let gate = start(&authority, &[&beside], &group);
    eventually("a check that passes", || gate.get("/asked").status == 200);
}

#[test]
fn a_key_of_another_certificate_is_refused_at_once() {
    let authority = Authority::new();
    let ((cert, _), (_, key)) = (authority.issue(&["gate.internal"]), authority.issue(&["gate.internal"]));
    let builder = prepared(&authority, &[]).file("gate.crt", cert).file("gate.key", key);
    let config = config(&[], "servers: [127.0.0.1:1]; tls: { cert: $dir/gate.crt, key: $dir/gate.key }")
        .replace("    servers: []\n", "");
    let said = builder.check(&config, &[]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.text().contains("the key does not belong to the certificate"), "{}", said.text());
}
