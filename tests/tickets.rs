//! The promise: a client resumes its session wherever its ticket should be good, after a reload, an upgrade and at a
//! replica, and nowhere else.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Authority, ClientTls, Gate, GateBuilder, Request};
use std::path::Path;

/// `tls` is said of the listener beside its certificate.
fn config(tls: &str) -> String {
    format!(
        "
server: {{ upgrade_sock: $dir/control.sock }}
listeners:
  - {{ name: secure, address: $secure, tls: {{ {tls} certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
routes: [{{ path: /, respond: {{ body: here }} }}]
"
    )
}

fn builder(authority: &Authority) -> GateBuilder {
    let builder = Gate::with(&[]);
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    builder
}

/// One client for each version, which remembers sessions.
fn clients(authority: &Authority) -> [ClientTls; 2] {
    [&rustls::version::TLS12, &rustls::version::TLS13]
        .map(|version| authority.client("localhost").version(version).resuming())
}

/// Whether the session was resumed. Takes new tickets in.
#[track_caller]
fn resumes(gate: &Gate, client: &ClientTls) -> bool {
    let mut client = client.connect(gate.at("secure"));
    assert_eq!(client.ask(&Request::get("/").host("localhost")).text(), "here");
    client.agreed.resumed
}

fn key(dir: &Path, name: &str, byte: u8) {
    let bytes: Vec<u8> = (0..80).map(|at| 0x80 | (byte ^ at)).collect();
    std::fs::write(dir.join(name), bytes).unwrap();
}

#[test]
fn a_session_outlives_a_reload_with_a_renewed_certificate() {
    let authority = Authority::new();
    let mut gate = builder(&authority).start(&config(""));
    for client in clients(&authority) {
        assert!(!resumes(&gate, &client));
        assert!(resumes(&gate, &client));
        authority.issue_into(gate.dir(), "a", &["localhost"]);
        let reloaded = gate.reload(&config(""));
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        assert!(resumes(&gate, &client), "after a reload");
    }
}

#[test]
fn a_session_outlives_an_upgrade() {
    let authority = Authority::new();
    let gate = builder(&authority).start(&config(""));
    let [old, new] = clients(&authority);
    assert!(!resumes(&gate, &old) && !resumes(&gate, &new));
    gate.upgrade();
    assert!(gate.exit().success());
    assert!(resumes(&gate, &old) && resumes(&gate, &new), "at the next process");
}

#[test]
fn replicas_with_the_same_keys_resume_each_others_sessions() {
    let authority = Authority::new();
    let start = |byte: u8| {
        let builder = builder(&authority);
        key(builder.dir(), "tickets.key", byte);
        builder.start(&config("tickets: { keys: $dir/tickets.key },"))
    };
    let (one, two, other) = (start(1), start(1), start(2));
    for client in clients(&authority) {
        assert!(!resumes(&one, &client));
        assert!(resumes(&two, &client), "the same keys");
        assert!(!resumes(&other, &client), "other keys");
        assert!(!resumes(&two, &client), "a ticket of the other");
    }
}

/// In steps at each of which every ticket that is out opens: the new key opens, then makes, then is the only one.
#[test]
fn keys_are_exchanged_without_a_full_handshake() {
    let authority = Authority::new();
    let builder = builder(&authority);
    key(builder.dir(), "old", 1);
    key(builder.dir(), "new", 2);
    let keys = |keys: &str| config(&format!("tickets: {{ keys: [{keys}], lifetime: 1h }},"));
    let mut gate = builder.start(&keys("$dir/old"));
    let [old, new] = clients(&authority);
    assert!(!resumes(&gate, &old) && !resumes(&gate, &new));
    for step in ["$dir/old, $dir/new", "$dir/new, $dir/old", "$dir/new"] {
        let reloaded = gate.reload(&keys(step));
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        assert!(resumes(&gate, &old) && resumes(&gate, &new), "{step}");
    }
    key(gate.dir(), "new", 3);
    let reloaded = gate.reload(&keys("$dir/new"));
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert!(!resumes(&gate, &old) && !resumes(&gate, &new), "another key in the same file");
}

#[test]
fn off_is_off() {
    let authority = Authority::new();
    let gate = builder(&authority).start(&config("tickets: off,"));
    for client in clients(&authority) {
        assert!(!resumes(&gate, &client) && !resumes(&gate, &client));
    }
}

/// Other authorities: a client that was believed has to show its certificate again.
#[test]
fn a_session_ends_with_the_authority_it_was_opened_under() {
    let (authority, clients_of, others) = (Authority::new(), Authority::new(), Authority::new());
    let builder = builder(&authority).file("clients.crt", clients_of.pem()).file("others.crt", others.pem());
    key(builder.dir(), "tickets.key", 1);
    let auth =
        |ca: &str| config(&format!("tickets: {{ keys: $dir/tickets.key }}, client_auth: {{ ca: {ca} }},"));
    let mut gate = builder.start(&auth("$dir/clients.crt"));
    let own = clients_of.issue(&["client one"]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = authority.client("localhost").version(version).showing(own.clone()).resuming();
        assert!(!resumes(&gate, &client) && resumes(&gate, &client));
        let reloaded = gate.reload(&auth("$dir/others.crt"));
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        let refused = client.try_connect(gate.at("secure")).and_then(|mut client| {
            client.client.send(Request::get("/").bytes());
            client.client.try_response_to("GET")
        });
        assert!(refused.is_err(), "{version:?}");
        assert_eq!(gate.reload(&auth("[$dir/clients.crt, $dir/others.crt]")).code, Some(0));
        assert!(!resumes(&gate, &client), "a full handshake");
        assert_eq!(gate.reload(&auth("$dir/clients.crt")).code, Some(0));
    }
}
