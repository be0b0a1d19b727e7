//! The promise: where a listener or a name asks for certificates of clients, nobody gets around that: not without a
//! certificate, not with one of somebody else's, a revoked or an expired one, not by another host on an open connection
//! and not by a session of another name.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, ClientTls, Gate, GateBuilder, Request};
use rcgen::{ExtendedKeyUsagePurpose, SerialNumber};

/// `listener` is said of the listener's tls, `name` of the second certificate, which is for `b.example`.
fn config(listener: &str, name: &str) -> String {
    format!(
        "
server: {{ upgrade_sock: $dir/control.sock }}
listeners:
  - name: secure
    address: $secure
    tls:
      {listener}
      certificates:
        - {{ cert: $dir/a.crt, key: $dir/a.key }}
        - {{ cert: $dir/b.crt, key: $dir/b.key{name} }}
routes: [{{ path: /, upstream: api }}]
upstreams: {{ api: {{ servers: [$api] }} }}
"
    )
}

struct World {
    /// Whose certificates the gate shows.
    gate: Authority,
    /// Whose certificates it believes.
    clients: Authority,
    api: Backend,
}

impl World {
    fn new() -> World {
        World { gate: Authority::new(), clients: Authority::new(), api: Backend::start("api") }
    }

    /// With `clients.crt`, and `revoked.crl`, by which the certificate number 666 is revoked.
    fn builder(&self) -> GateBuilder {
        let builder = Gate::with(&[&self.api])
            .file("clients.crt", self.clients.pem())
            .file("revoked.crl", self.clients.revoke(&[666], (2090, 1, 1)))
            .file("outdated.crl", self.clients.revoke(&[666], (2021, 1, 1)));
        for name in ["a", "b"] {
            self.gate.issue_into(builder.dir(), name, &[&format!("{name}.example")]);
        }
        builder
    }

    fn start(&self, listener: &str, name: &str) -> Gate {
        self.builder().start(&config(listener, name))
    }

    fn client(&self, name: &str) -> ClientTls {
        self.gate.client(name)
    }

    /// One that the gate believes, with this serial number.
    fn numbered(&self, serial: u64) -> (String, String) {
        self.clients.issue_with(&["client one"], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }
}

/// The status of an answer, or `None` when there is no connection. In TLS 1.3 a client learns only from the first
/// answer that its certificate was refused.
fn asked(gate: &Gate, client: &ClientTls, host: &str) -> Option<u16> {
    let mut client = client.try_connect(gate.at("secure")).ok()?;
    client.client.send(Request::get("/").host(host).bytes());
    client.client.try_response_to("GET").ok().map(|answer| answer.status)
}

#[test]
fn required_is_required() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt }", "");
    let client = world.client("a.example");
    let foreign = Authority::new().issue(&["client one"]);
    let expired = world.clients.issue_with(&["client one"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client.clone().version(version);
        assert_eq!(asked(&gate, &client, "a.example"), None, "none");
        assert_eq!(asked(&gate, &client.clone().showing(foreign.clone()), "a.example"), None, "foreign");
        assert_eq!(asked(&gate, &client.clone().showing(expired.clone()), "a.example"), None, "expired");
        assert_eq!(asked(&gate, &client.showing(world.numbered(1)), "a.example"), Some(200));
    }
    assert_eq!(world.api.requests().len(), 2);
}

#[test]
fn optional_may_be_left_out_and_has_to_be_good() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: [$dir/clients.crt], mode: optional }", "");
    let client = world.client("a.example");
    assert_eq!(asked(&gate, &client, "a.example"), Some(200));
    assert_eq!(asked(&gate, &client.clone().showing(world.numbered(1)), "a.example"), Some(200));
    let foreign = Authority::new().issue(&["client one"]);
    assert_eq!(asked(&gate, &client.showing(foreign), "a.example"), None);
}

#[test]
fn several_authorities_are_believed() {
    let (world, other) = (World::new(), Authority::new());
    let builder = world.builder().file("other.crt", other.pem());
    let gate = builder.start(&config("client_auth: { ca: [$dir/clients.crt, $dir/other.crt] }", ""));
    let client = world.client("a.example");
    for own in [world.numbered(1), other.issue(&["client two"])] {
        assert_eq!(asked(&gate, &client.clone().showing(own), "a.example"), Some(200));
    }
}

#[test]
fn revoked_certificates_are_refused() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt, crl: $dir/revoked.crl }", "");
    let client = world.client("a.example");
    assert_eq!(asked(&gate, &client.clone().showing(world.numbered(665)), "a.example"), Some(200));
    assert_eq!(asked(&gate, &client.showing(world.numbered(666)), "a.example"), None);
}

#[test]
fn an_outdated_list_of_revoked_certificates_lets_nobody_in() {
    let world = World::new();
    let config = config("client_auth: { ca: $dir/clients.crt, crl: $dir/outdated.crl }", "");
    let checked = world.builder().check(&config, &[]);
    assert!(checked.code == Some(0) && checked.text().contains("W005"), "{checked:?}");
    let gate = world.builder().start(&config);
    assert_eq!(asked(&gate, &world.client("a.example").showing(world.numbered(1)), "a.example"), None);
}

#[test]
fn a_name_may_ask_for_what_the_listener_does_not() {
    let world = World::new();
    let gate = world.start("min_version: \"1.2\"", ", client_auth: { ca: $dir/clients.crt }");
    assert_eq!(asked(&gate, &world.client("a.example"), "a.example"), Some(200));
    assert_eq!(asked(&gate, &world.client("b.example"), "b.example"), None);
    let known = world.client("b.example").showing(world.numbered(1));
    assert_eq!(asked(&gate, &known, "b.example"), Some(200));
    // nor by another host on a connection that asked for nothing
    assert_eq!(asked(&gate, &world.client("a.example"), "b.example"), Some(421));
    assert_eq!(asked(&gate, &world.client("a.example").showing(world.numbered(1)), "b.example"), Some(421));
    assert_eq!(world.api.requests().len(), 2);
}

#[test]
fn a_name_may_do_without_what_the_listener_asks_for() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt }", ", client_auth: off");
    assert_eq!(asked(&gate, &world.client("a.example"), "a.example"), None);
    assert_eq!(asked(&gate, &world.client("b.example"), "b.example"), Some(200));
    assert_eq!(asked(&gate, &world.client("b.example"), "a.example"), Some(421));
    let unknown = ClientTls::trusting_anyone("unknown.example");
    assert_eq!(asked(&gate, &unknown, "unknown.example"), None, "as the first certificate");
}

/// A ticket is worth something under the policy it was given under, and under no other.
#[test]
fn a_session_of_another_name_does_not_get_around_it() {
    let world = World::new();
    let gate = world.start("min_version: \"1.2\"", ", client_auth: { ca: $dir/clients.crt }");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = ClientTls::trusting_anyone("a.example").version(version).resuming();
        assert_eq!(asked(&gate, &client, "a.example"), Some(200));
        assert!(client.connect(gate.at("secure")).agreed.resumed, "{version:?}");
        assert_eq!(asked(&gate, &client.asking_for("b.example"), "b.example"), None);
    }
}

/// What the certificate was believed for goes with its session.
#[test]
fn sessions_with_a_certificate_are_resumed() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt }", "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = world.client("a.example").showing(world.numbered(1)).version(version).resuming();
        assert_eq!(asked(&gate, &client, "a.example"), Some(200));
        let mut again = client.connect(gate.at("secure"));
        let answer = again.ask(&Request::get("/").host("a.example"));
        assert_eq!((again.agreed.resumed, answer.status), (true, 200), "{version:?}");
    }
}

#[test]
fn new_terms_retire_connections_that_were_opened_on_others() {
    let world = World::new();
    let mut gate = world.start("min_version: \"1.2\"", "");
    let mut open = world.client("a.example").connect(gate.at("secure"));
    assert_eq!(open.ask(&Request::get("/").host("b.example")).status, 200);
    let reloaded = gate.reload(&config("min_version: \"1.2\"", ", client_auth: { ca: $dir/clients.crt }"));
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    open.until_closed();
    assert_eq!(asked(&gate, &world.client("a.example"), "b.example"), Some(421));
}
