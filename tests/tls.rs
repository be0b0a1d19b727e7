//! The promise: TLS is terminated with the right certificate, in the version and protocol both sides agree on,
//! and a certificate that cannot work is found by `check`.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, Backend, Checked, ClientTls, Gate, GateBuilder, H2Client, Request};
use rustls::{NamedGroup, ProtocolVersion};
use std::io::{Read, Write};
use std::net::TcpStream;

const SECURE: &str = "
listeners:
  - name: secure
    address: $secure
    protocols: [h1, h2]
    tls: { certificates: [{ cert: $dir/a.crt, key: $dir/a.key }] }
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
";

fn with_certificate(authority: &Authority, api: &Backend, names: &[&str]) -> GateBuilder {
    let builder = Gate::with(&[api]);
    authority.issue_into(builder.dir(), "a", names);
    builder
}

#[test]
fn h1_over_tls() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let mut client = authority.client("localhost").alpn(&["http/1.1"]).connect(gate.at("secure"));
    assert_eq!(client.agreed.alpn.as_deref(), Some("http/1.1"));
    assert_eq!(client.agreed.version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(client.get("/one").text(), "api");
    assert_eq!(client.ask(&Request::post("/two", "x".repeat(100_000))).text(), "api");
    assert_eq!(api.last_request().body.len(), 100_000);
    assert_eq!(api.last_request().header("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn h2_by_alpn() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let mut client = H2Client::connect(gate.at("secure"), &authority.client("localhost"));
    assert_eq!(client.ask(&Request::get("/one?a=b").host("localhost")).text(), "api");
    let posted = Request::post("/two", "x".repeat(200_000)).host("localhost").header("x-mine", "1");
    assert_eq!(client.ask(&posted).text(), "api");
    let arrived = api.last_request();
    assert_eq!((arrived.body.len(), arrived.target.as_str()), (200_000, "/two"));
    assert_eq!(arrived.header("host").as_deref(), Some("localhost"));
    assert_eq!(arrived.header("x-mine").as_deref(), Some("1"));
    let many: Vec<_> = (0..50).map(|n| Request::get(&format!("/{n}")).host("localhost")).collect();
    for answer in client.try_ask_all(&many) {
        assert_eq!(answer.expect("an answer").text(), "api");
    }
}

#[test]
fn alpn_prefers_h2_and_does_without() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let agreed = |protocols: &[&str]| {
        authority.client("localhost").alpn(protocols).connect(gate.at("secure")).agreed.alpn
    };
    assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&[]), None);
    let mut without = authority.client("localhost").connect(gate.at("secure"));
    assert_eq!(without.get("/").text(), "api");
    let foreign = authority.client("localhost").alpn(&["acme-tls/1"]).try_connect(gate.at("secure"));
    assert!(foreign.is_err(), "no protocol in common (RFC 7301 §3.2)");
}

#[test]
fn a_listener_may_speak_only_h1() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(&SECURE.replace("[h1, h2]", "[h1]"));
    let client = authority.client("localhost").alpn(&["h2", "http/1.1"]).connect(gate.at("secure"));
    assert_eq!(client.agreed.alpn.as_deref(), Some("http/1.1"));
}

#[test]
fn sni_picks_the_certificate_and_the_first_is_the_default() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = with_certificate(&authority, &api, &["a.example.com"]);
    authority.issue_into(builder.dir(), "b", &["b.example.com", "*.wild.example.com"]);
    let gate = builder.start(
        &SECURE.replace("key: $dir/a.key }", "key: $dir/a.key }, { cert: $dir/b.crt, key: $dir/b.key }"),
    );
    // Connecting verifies that the certificate carries the name.
    for name in ["a.example.com", "b.example.com", "x.wild.example.com"] {
        assert_eq!(authority.client(name).connect(gate.at("secure")).get("/").text(), "api", "{name}");
    }
    let other = authority.client("c.example.com").try_connect(gate.at("secure"));
    assert!(other.is_err(), "the client refuses the default certificate, which is not for its name");
    let shown = |name: &str| ClientTls::trusting_anyone(name).connect(gate.at("secure")).agreed.certificate;
    assert_eq!(shown("c.example.com"), shown("a.example.com"), "the first is the default");
    assert_ne!(shown("b.example.com"), shown("a.example.com"));
    assert_eq!(shown("127.0.0.1"), shown("a.example.com"), "without SNI too");
}

#[test]
fn the_oldest_version_is_the_one_configured() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let tls12 = authority.client("localhost").version(&rustls::version::TLS12);
    let mut client = tls12.connect(gate.at("secure"));
    assert_eq!((client.agreed.version, client.get("/").status), (Some(ProtocolVersion::TLSv1_2), 200));
    let builder = with_certificate(&authority, &api, &["localhost"]);
    let strict = builder.start(&SECURE.replace("tls: {", "tls: { min_version: \"1.3\","));
    assert!(tls12.try_connect(strict.at("secure")).is_err(), "TLS 1.2 is refused");
    assert_eq!(authority.client("localhost").connect(strict.at("secure")).get("/").status, 200);
}

/// `name` over TLS 1.2, and over TLS 1.3: whether there is a connection.
fn versions(authority: &Authority, gate: &Gate, name: &str) -> (bool, bool) {
    let client = authority.client(name);
    let connects = |version| client.clone().version(version).try_connect(gate.at("secure")).is_ok();
    (connects(&rustls::version::TLS12), connects(&rustls::version::TLS13))
}

#[test]
fn versions_are_those_of_the_listener_or_of_the_name() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = with_certificate(&authority, &api, &["a.example.com"]);
    for name in ["old", "new"] {
        authority.issue_into(builder.dir(), name, &[&format!("{name}.example.com")]);
    }
    let gate = builder.start(&SECURE.replace(
        "[{ cert: $dir/a.crt, key: $dir/a.key }]",
        "[{ cert: $dir/a.crt, key: $dir/a.key }
           , { cert: $dir/old.crt, key: $dir/old.key, max_version: \"1.2\" }
           , { cert: $dir/new.crt, key: $dir/new.key, min_version: \"1.3\" }]",
    ));
    assert_eq!(versions(&authority, &gate, "a.example.com"), (true, true));
    assert_eq!(versions(&authority, &gate, "old.example.com"), (true, false));
    assert_eq!(versions(&authority, &gate, "new.example.com"), (false, true));
}

#[test]
fn an_ecdsa_and_an_rsa_certificate_for_one_name() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let (ecdsa, rsa) = (authority.issue(&["localhost"]), authority.issue_rsa(&["localhost"]));
    let builder = Gate::with(&[&api]).file("a.crt", &ecdsa.0).file("a.key", &ecdsa.1);
    let gate = builder.file("rsa.crt", &rsa.0).file("rsa.key", &rsa.1).start(
        &SECURE.replace("key: $dir/a.key }", "key: $dir/a.key }, { cert: $dir/rsa.crt, key: $dir/rsa.key }"),
    );
    let shown = |client: ClientTls| client.connect(gate.at("secure")).agreed.certificate.unwrap();
    let der = |pem: &str| {
        use rustls::pki_types::pem::PemObject;
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    };
    let client = authority.client("localhost");
    assert_eq!(shown(client.clone()), der(&ecdsa.0), "the first of the two");
    let old = client.version(&rustls::version::TLS12);
    assert_eq!(shown(old.clone()), der(&ecdsa.0));
    let only_rsa = old.clone().ciphers(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(shown(only_rsa), der(&rsa.0), "what the client can verify");
    let only_ecdsa = old.ciphers(&["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    assert_eq!(shown(only_ecdsa), der(&ecdsa.0));
}

#[test]
fn unknown_names_are_refused_when_that_is_asked_for() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = with_certificate(&authority, &api, &["a.example.com", "*.b.example.com"]);
    let gate = builder.start(&SECURE.replace("tls: {", "tls: { unknown_names: refuse,"));
    for name in ["a.example.com", "x.b.example.com"] {
        let mut client = authority.client(name).connect(gate.at("secure"));
        assert_eq!(client.ask(&Request::get("/").host(name)).status, 200, "{name}");
        assert_eq!(
            client.ask(&Request::get("/").host("c.example.com")).status,
            421,
            "a name that is not served"
        );
    }
    for name in ["b.example.com", "x.y.b.example.com", "c.example.com", "127.0.0.1"] {
        let refused = ClientTls::trusting_anyone(name).try_connect(gate.at("secure")).err().unwrap();
        assert!(refused.to_string().contains("UnrecognisedName"), "{name}: {refused}");
    }
    assert_eq!(api.requests().len(), 2);
}

#[test]
fn ciphers_are_those_that_are_named() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(&SECURE.replace(
        "tls: {",
        "tls: { ciphers: [ECDHE-ECDSA-CHACHA20-POLY1305, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],",
    ));
    let client = authority.client("localhost");
    let agreed =
        |client: &ClientTls| client.try_connect(gate.at("secure")).ok().and_then(|c| c.agreed.cipher);
    let old = client.clone().version(&rustls::version::TLS12);
    let expected = Some("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    assert_eq!(agreed(&old), expected, "the first that is named, whatever the client prefers");
    assert_eq!(agreed(&old.ciphers(&["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])), None, "not named");
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let new = client.clone().ciphers(&[suite]);
        assert!(agreed(&new).is_some(), "{suite}: none of TLS 1.3 is named, so it has all");
    }
}

#[test]
fn the_key_exchange_may_be_post_quantum() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    for group in
        [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]
    {
        let mut client = authority.client("localhost").group(group).connect(gate.at("secure"));
        assert_eq!((client.agreed.group, client.get("/").status), (Some(group), 200));
    }
}

#[test]
fn sessions_are_resumed_and_bring_no_early_data() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = authority.client("localhost").version(version).resuming();
        let mut first = client.connect(gate.at("secure"));
        assert_eq!((first.agreed.resumed, first.get("/").status), (false, 200));
        let mut second = client.connect(gate.at("secure"));
        assert_eq!((second.agreed.resumed, second.get("/").status), (true, 200), "{version:?}");
        assert!(!second.agreed.early_data, "it can be replayed (RFC 8446 §8)");
    }
}

/// A connection that was opened for one name is not for another with other terms (RFC 9110 §15.5.20).
#[test]
fn a_host_with_other_terms_is_misdirected() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = with_certificate(&authority, &api, &["a.example.com", "b.example.com"]);
    authority.issue_into(builder.dir(), "new", &["new.example.com"]);
    let gate = builder.start(&SECURE.replace(
        "key: $dir/a.key }",
        "key: $dir/a.key }, { cert: $dir/new.crt, key: $dir/new.key, min_version: \"1.3\" }",
    ));
    let asked = |sni: &str, host: &str| {
        let tls = ClientTls::trusting_anyone(sni);
        let request = Request::get("/").host(host);
        let h1 = tls.connect(gate.at("secure")).ask(&request).status;
        assert_eq!(
            H2Client::connect(gate.at("secure"), &tls).ask(&request).status,
            h1,
            "{sni} {host} on HTTP/2"
        );
        h1
    };
    for (sni, host, status) in [
        ("a.example.com", "a.example.com", 200),
        ("a.example.com", "b.example.com", 200),
        ("a.example.com", "other.example.com", 200),
        ("a.example.com", "new.example.com", 421),
        ("a.example.com", "NEW.example.com.:8443", 421),
        ("new.example.com", "new.example.com:443", 200),
        ("new.example.com", "a.example.com", 421),
        ("new.example.com", "other.example.com", 421),
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "new.example.com", 421),
    ] {
        assert_eq!(asked(sni, host), status, "opened for {sni}, asked for {host}");
    }
    // the connection goes on
    let mut client = authority.client("a.example.com").connect(gate.at("secure"));
    for (host, status) in [("new.example.com", 421), ("a.example.com", 200)] {
        assert_eq!(client.ask(&Request::get("/").host(host)).status, status);
    }
}

#[test]
fn a_client_hello_may_come_in_pieces() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let mut session = authority.client("localhost").session();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect(gate.at("secure")).unwrap();
    for piece in hello.chunks(7) {
        socket.write_all(piece).unwrap();
        socket.flush().unwrap();
    }
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], 22, "a handshake record, not an alert: {answer:?}");
}

#[test]
fn plaintext_on_a_tls_listener_disturbs_nobody() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let gate = with_certificate(&authority, &api, &["localhost"]).start(SECURE);
    let mut plain = harness::Client::connect(gate.at("secure"));
    plain.send(Request::get("/").bytes());
    plain.until_closed();
    assert!(api.requests().is_empty());
    assert_eq!(authority.client("localhost").connect(gate.at("secure")).get("/").text(), "api");
}

#[track_caller]
fn assert_refused(builder: &GateBuilder, code: &str, words: &[&str]) {
    let Checked { code: exit, stdout, stderr } = builder.check(SECURE, &[]);
    let text = stdout + &stderr;
    assert_eq!(exit, Some(64), "{text}");
    for word in [&[code], words].concat() {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn check_finds_certificates_that_cannot_work() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let files = |cert: &[u8], key: &[u8]| Gate::with(&[&api]).file("a.crt", cert).file("a.key", key);
    let (cert, key) = authority.issue(&["localhost"]);
    let (_, other_key) = authority.issue(&["localhost"]);
    let (cert, key) = (cert.as_bytes(), key.as_bytes());

    assert_eq!(files(cert, key).check(SECURE, &[]).code, Some(0), "a pair that works");
    assert_refused(&Gate::with(&[&api]), "E033", &["a.crt", "a.key"]);
    assert_refused(&files(b"not a certificate", key), "E033", &["a.crt"]);
    assert_refused(&files(b"", key), "E033", &["a.crt"]);
    assert_refused(&files(cert, b"not a key"), "E034", &["a.key"]);
    assert_refused(&files(cert, cert), "E034", &["a.key"]);
    assert_refused(&files(cert, other_key.as_bytes()), "E035", &["a.key"]);
    let broken = String::from_utf8_lossy(cert).replacen("MII", "MIX", 1);
    assert_refused(&files(broken.as_bytes(), key), "E033", &["a.crt"]);
}

#[test]
fn check_warns_of_an_expired_certificate() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let (cert, key) = authority.issue_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let checked = Gate::with(&[&api]).file("a.crt", cert).file("a.key", key).check(SECURE, &[]);
    assert_eq!(checked.code, Some(0), "a warning only: {checked:?}");
    assert!(checked.text().contains("W005"), "{checked:?}");
}

/// What a client of OpenSSL sees of this name, with these further arguments.
fn openssl(gate: &Gate, name: &str, arguments: &[&str]) -> String {
    let address = gate.at("secure").to_string();
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-servername", name]).args(arguments);
    let checked = Checked::of(command.stdin(std::process::Stdio::null()));
    checked.text()
}

/// What the authority `ca.crt`, `ca.key` says of the certificate number 5.
fn ocsp_response(dir: &std::path::Path, days: &str) {
    let run = |arguments: &[&str]| {
        let checked = Checked::of(std::process::Command::new("openssl").current_dir(dir).args(arguments));
        assert_eq!(checked.code, Some(0), "{arguments:?}: {}", checked.text());
    };
    std::fs::write(dir.join("index.txt"), "V\t401231235959Z\t\t05\tunknown\t/CN=localhost\n").unwrap();
    let signer = ["-index", "index.txt", "-rsigner", "ca.crt", "-rkey", "ca.key", "-CA", "ca.crt"];
    let question = ["-issuer", "ca.crt", "-serial", "5", "-ndays", days, "-respout", "a.ocsp", "-noverify"];
    run(&[&["ocsp"], &signer[..], &question[..]].concat());
}

#[test]
fn what_the_authority_says_is_shown_with_the_certificate() {
    if !harness::need_program("openssl") {
        return;
    }
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let numbered = |serial: u64| {
        authority.issue_with(&["localhost"], |params| {
            params.serial_number = Some(rcgen::SerialNumber::from(serial));
        })
    };
    let (cert, key) = numbered(5);
    let builder = Gate::with(&[&api]).file("a.crt", cert).file("a.key", key);
    let builder = builder.file("ca.crt", authority.pem()).file("ca.key", authority.key_pem());
    ocsp_response(builder.dir(), "7");
    let config = SECURE.replace("key: $dir/a.key", "key: $dir/a.key, ocsp: $dir/a.ocsp");
    let checked = builder.check(&config, &[]);
    assert!(checked.code == Some(0) && !checked.text().contains("W013"), "{checked:?}");
    // one of another certificate is left out
    let (other, other_key) = numbered(6);
    let builder = builder.file("b.crt", other).file("b.key", other_key);
    let unfit = config.replace("a.crt", "b.crt").replace("a.key", "b.key");
    let checked = builder.check(&unfit, &[]);
    assert!(checked.code == Some(0) && checked.text().contains("about another certificate"), "{checked:?}");
    let gate = builder.start(&config);
    for version in ["-tls1_2", "-tls1_3"] {
        let shown = openssl(&gate, "localhost", &["-status", version]);
        assert!(
            shown.contains("OCSP Response Status: successful") && shown.contains("Cert Status: good"),
            "{shown}"
        );
    }
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let (cert, key) = authority.issue_with(&["localhost"], |params| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let two_days_and_a_half = std::time::Duration::from_secs(60 * 60 * 60);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + two_days_and_a_half;
    });
    let checked = Gate::with(&[&api]).file("a.crt", cert).file("a.key", key).check(SECURE, &[]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.text().contains("W005") && checked.text().contains("expires in 2 days"), "{checked:?}");
}

#[test]
fn browsers_are_told_to_come_by_https() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let both = SECURE.replace(
        "routes: [{ path: /,",
        "  - { name: plain, address: $plain }
routes: [{ path: /, filters: [{ hsts: { include_subdomains: true } }],",
    );
    let gate = with_certificate(&authority, &api, &["localhost"]).start(&both);
    let told = authority.client("localhost").connect(gate.at("secure")).get("/");
    let expected = "max-age=31536000; includeSubDomains";
    assert_eq!(told.header("strict-transport-security").as_deref(), Some(expected));
    let plain = harness::Client::connect(gate.at("plain")).get("/");
    assert_eq!(plain.header("strict-transport-security"), None, "RFC 6797 §7.2");
}

#[test]
fn status_tells_when_certificates_end() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = with_certificate(&authority, &api, &["localhost"]);
    let gate = builder.start(&format!("server: {{ upgrade_sock: $dir/control.sock }}{SECURE}"));
    let status = gate.command(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    let certificate = &status["certificates"][0];
    assert_eq!((&certificate["listener"], &certificate["names"][0]), (&"secure".into(), &"localhost".into()));
    assert!(certificate["not_after"].as_str().is_some_and(|date| date.starts_with("4096-")), "{certificate}");
    assert!(gate.command(&["status"]).stdout.contains("certificate of secure until 4096-"));
}
