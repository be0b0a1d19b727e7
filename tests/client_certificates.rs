//! The promise: where a listener or a name asks for certificates of clients, nobody gets around that: not without a
//! certificate, not with one of somebody else's, a revoked or an expired one, not by another host on an open connection
//! and not by a session of another name.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, ClientTls, Gate, GateBuilder, H2Client, Received, Request};
use rcgen::{ExtendedKeyUsagePurpose, SerialNumber};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

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

/// What a server is told, over HTTP/1.1 and HTTP/2.
fn told(world: &World, gate: &Gate, client: &ClientTls, request: &Request) -> Vec<Vec<(String, String)>> {
    world.api.forget();
    assert_eq!(client.connect(gate.at("secure")).ask(request).status, 200);
    assert_eq!(H2Client::connect(gate.at("secure"), client).ask(request).status, 200);
    let of_certificate = |name: &str| name.to_ascii_lowercase().replace('_', "-").contains("client-cert");
    let told = |received: &Received| {
        let headers = received.headers.iter().filter(|(name, _)| of_certificate(name));
        let mut headers: Vec<_> =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        headers.sort();
        headers
    };
    world.api.requests().iter().map(told).collect()
}

#[test]
fn servers_are_told_who_has_shown_what() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt, mode: optional }", "");
    let own = world.clients.issue_with(&["client one"], |params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        let uri = "spiffe://example/one".try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    });
    let der = CertificateDer::from_pem_slice(own.0.as_bytes()).unwrap();
    let base64 = own.0.lines().filter(|line| !line.starts_with("---")).collect::<String>();
    let fingerprint: String = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let expected: Vec<(String, String)> = [
        ("client-cert", format!(":{base64}:")),
        ("x-client-cert-fingerprint", fingerprint.clone()),
        ("x-client-cert-san", "URI:spiffe://example/one".to_owned()),
        ("x-client-cert-subject", r"O=Example\, Inc.,CN=client one".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let forging = Request::get("/told")
        .host("a.example")
        .header("Client-Cert", ":Zm9yZ2Vk:")
        .header("Client-Cert-Chain", ":Zm9yZ2Vk:")
        .header("X-Client-Cert-Subject", "CN=forged")
        .header("X-Client-Cert-Verified", "yes")
        .header("X_Client_Cert_Subject", "CN=forged");
    let showing = world.client("a.example").showing(own);
    assert_eq!(told(&world, &gate, &showing, &forging), [expected.clone(), expected]);
    assert_eq!(told(&world, &gate, &world.client("a.example"), &forging), [vec![], vec![]], "nothing shown");
    let line = gate.logged(|line| line["client_cert_fingerprint"] == *fingerprint);
    assert_eq!(line["client_cert_subject"], r"O=Example\, Inc.,CN=client one");
    assert_eq!((&line["sni"], &line["tls"]), (&"a.example".into(), &"TLSv1.3".into()));
    assert!(line["tls_cipher"].as_str().is_some_and(|name| name.starts_with("TLS_")), "{line}");
}

#[test]
fn a_resumed_session_tells_who_it_was_opened_by() {
    let world = World::new();
    let gate = world.start("client_auth: { ca: $dir/clients.crt }", "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = world.client("a.example").showing(world.numbered(1)).version(version).resuming();
        for resumed in [false, true] {
            let mut client = client.connect(gate.at("secure"));
            assert_eq!(client.ask(&Request::get("/").host("a.example")).status, 200);
            assert_eq!(client.agreed.resumed, resumed);
            let subject = world.api.last_request().header("x-client-cert-subject");
            assert_eq!(subject.as_deref(), Some("CN=client one"), "{version:?}");
        }
    }
}

const ROUTES: &str = "
  - { name: one, path: /, client_certificate: { subject: CN=client one }, respond: { body: one } }
  - { name: named, path: /, client_certificate: { san: { prefix: 'DNS:client t' } }, respond: { body: named } }
  - { name: any, path: /, client_certificate: { verified: true }, respond: { body: any } }
  - { name: none, path: /, client_certificate: { verified: false }, respond: { body: none } }
";

#[test]
fn certificates_choose_routes() {
    let world = World::new();
    let config = config("client_auth: { ca: $dir/clients.crt, mode: optional }", "")
        .replace("routes: [{ path: /, upstream: api }]", &format!("routes:{ROUTES}"));
    let gate = world.builder().start(&config.replace("upstreams: { api: { servers: [$api] } }", ""));
    let issue = |name: &str| world.clients.issue(&[name]);
    std::fs::write(gate.dir().join("shown.crt"), issue("client one").0).unwrap();
    let shown = gate.dir().join("shown.crt").display().to_string();
    let question = ["explain", "GET", "https://a.example/", "--listener", "secure"];
    let asked = gate.command(&[&question[..], &["--client-cert", &shown]].concat());
    assert!(asked.stdout.contains("client_certificate.subject"), "{asked:?}");
    let asked = gate.command(&question);
    assert!(asked.stdout.contains("client_certificate.verified"), "{asked:?}");
    for (own, body) in [
        (Some(issue("client one")), "one"),
        (Some(issue("client two")), "named"),
        (Some(issue("other")), "any"),
        (None, "none"),
    ] {
        let client = world.client("a.example");
        let client = own.into_iter().fold(client, ClientTls::showing);
        let forged = Request::get("/").host("a.example").header("X-Client-Cert-Subject", "CN=client one");
        assert_eq!(client.connect(gate.at("secure")).ask(&forged).text(), body);
        assert_eq!(H2Client::connect(gate.at("secure"), &client).ask(&forged).text(), body, "HTTP/2");
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
