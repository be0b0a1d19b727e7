//! The promise: a certificate is ordered where the configuration says so, shown as soon as there is one, and renewed
//! before it ends, through every trouble that an authority can make; nobody who is connected notices.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "harness/acme_server.rs"]
mod acme_server;
// the rest of it is for tests/discovery.rs
#[allow(dead_code)]
#[path = "harness/dns_server.rs"]
mod dns_server;
mod harness;

use acme_server::{AcmeServer, Rules, Trouble};
use dns_server::DnsServer;
use harness::{
    Authority, Checked, ClientTls, Gate, Program, Request, ServerAddress, eventually, free_address,
    need_program, own_loopback,
};
use serde_json::json;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const CONFIG: &str = "
server: { threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }
acme:
  test:
    directory: $directory
    ca: $dir/ca.crt
    contact: [admin@example.com]
    accept_terms: true
    storage: $storage
    challenge: http-01
    retry: { first: 300ms, max: 1s }
listeners:
  - { name: web, address: $web, redirect_https: true, filters: [{ ip: { deny: [127.0.0.0/8] } }] }
  - name: secure
    address: $secure
    tls: { certificates: [{ acme: test, names: [a.example.com] }] }
routes: [{ path: /, respond: { status: 200, body: ok } }]
";

const ONE: &str = "names: [a.example.com]";
const BOTH: &str = "names: [b.example.com, A.example.com]";

/// A gate that orders from this authority, and is where the names are.
#[track_caller]
fn gate(authority: &AcmeServer, storage: &TempDir, config: &str) -> Gate {
    let gate = Gate::with(&[])
        .set("directory", &authority.directory())
        .set("storage", &storage.path().display().to_string())
        .file("ca.crt", authority.authority().pem())
        .env("EAB", "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA")
        .start(config);
    authority.validates_at(gate.at("web"), gate.at("secure"));
    gate
}

fn storage() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn serves(authority: &AcmeServer, gate: &Gate, name: &str) -> bool {
    authority.authority().client(name).try_connect(gate.at("secure")).is_ok()
}

#[track_caller]
fn until_served(authority: &AcmeServer, gate: &Gate, name: &str) {
    eventually(&format!("a certificate for {name}"), || serves(authority, gate, name));
}

/// The certificate that is shown for this name.
#[track_caller]
fn shown(authority: &AcmeServer, gate: &Gate, name: &str) -> Vec<u8> {
    let agreed = authority.authority().client(name).connect(gate.at("secure")).agreed;
    agreed.certificate.expect("a certificate")
}

fn status(gate: &Gate) -> serde_json::Value {
    let mut said = serde_json::Value::Null;
    eventually("an answer to `weirgate status`", || {
        let Checked { stdout, .. } = gate.command(&["status", "--format", "json"]);
        said = serde_json::from_str(&stdout).unwrap_or_default();
        said.is_object()
    });
    said["acme"].clone()
}

/// Every file below, with the bits of its mode.
fn modes(dir: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        found.push((path.display().to_string(), meta.permissions().mode() & 0o777));
        if meta.is_dir() {
            found.extend(modes(&path));
        }
    }
    found
}

/// A certificate that is about to end.
fn ends_soon(number: usize, params: &mut rcgen::CertificateParams) {
    if number == 0 {
        let day = Duration::from_secs(86_400);
        params.not_before = (SystemTime::now() - day * 80).into();
        params.not_after = (SystemTime::now() + day * 10).into();
    }
}

#[test]
fn obtained_by_http_01_past_redirects_and_filters() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let gate = gate(&authority, &storage, CONFIG);
    until_served(&authority, &gate, "a.example.com");
    let mut client = authority.authority().client("a.example.com").connect(gate.at("secure"));
    assert_eq!(client.ask(&Request::get("/").host("a.example.com")).text(), "ok");
    assert_eq!(authority.challenged(), ["http-01 a.example.com"]);
    assert_eq!(authority.accounts(), [json!(["mailto:admin@example.com"])]);
    // no token is pending any more: it is a request like any other
    let other = gate.ask(&Request::get("/.well-known/acme-challenge/token").host("a.example.com"));
    assert_eq!(other.status, 403, "the filter of the listener");
    for (path, mode) in modes(storage.path()) {
        let private = if Path::new(&path).is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, private, "{path}");
    }
    let log = gate.stderr();
    for said in ["account \"https://", "certificate for a.example.com: ordered", "obtained in ", ", expires "]
    {
        assert!(log.contains(said), "{said}");
    }
    let standing = &status(&gate)[0];
    assert_eq!((&standing["acme"], &standing["names"][0]), (&"test".into(), &"a.example.com".into()));
    assert!(standing["expires"].is_string() && standing["next"].is_string(), "{standing}");
    let said = gate.command(&["status"]).stdout;
    assert!(said.contains("acme      a.example.com (test): expires "), "{said}");
}

#[test]
fn obtained_by_tls_alpn_01_whatever_the_terms_for_clients() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let config = CONFIG
        .replace("http-01", "tls-alpn-01")
        .replace("tls: {", "tls: { min_version: \"1.3\", client_auth: { ca: $dir/ca.crt },");
    let gate = gate(&authority, &storage, &config);
    eventually("a certificate", || authority.issued() == 1);
    assert_eq!(authority.challenged(), ["tls-alpn-01 a.example.com"]);
    eventually("the certificate to be shown", || gate.stderr().contains("obtained in "));
    let foreign = ClientTls::trusting_anyone("a.example.com").alpn(&["acme-tls/1"]);
    assert!(foreign.try_connect(gate.at("secure")).is_err(), "no challenge is pending any more");
}

#[test]
fn one_certificate_for_several_names_past_small_trouble() {
    let (authority, storage) = (AcmeServer::start(), storage());
    authority.next(&[Trouble::BadNonce, Trouble::BadNonce, Trouble::Processing(2)]);
    let gate = gate(&authority, &storage, &CONFIG.replace(ONE, BOTH));
    until_served(&authority, &gate, "b.example.com");
    assert_eq!(shown(&authority, &gate, "a.example.com"), shown(&authority, &gate, "b.example.com"));
    assert!(authority.is_past_trouble());
    assert_eq!((authority.orders().len(), authority.issued()), (1, 1), "no order has failed");
    assert_eq!(authority.orders()[0].names, ["a.example.com", "b.example.com"]);
}

#[test]
fn orders_that_fail_are_tried_again_and_said() {
    let (authority, storage) = (AcmeServer::start(), storage());
    authority.next(&[Trouble::BadGateway, Trouble::RateLimited(1), Trouble::InvalidAuthorization]);
    let config = format!("admin: {{ address: $admin }}{CONFIG}");
    let gate = gate(&authority, &storage, &config);
    eventually("a failure", || !status(&gate)[0]["last_error"].is_null());
    assert!(!serves(&authority, &gate, "a.example.com"), "there is nothing to show");
    until_served(&authority, &gate, "a.example.com");
    assert!(authority.is_past_trouble());
    let log = gate.stderr();
    for said in ["502 Bad Gateway", "too many orders", "a.example.com is somebody else's"] {
        assert!(log.contains(said), "{said}");
    }
    assert_eq!(log.matches("failed, to be tried again ").count(), 3);
    assert_eq!(authority.accounts().len(), 1, "one account for all of them");
    eventually("no trouble", || status(&gate)[0]["last_error"].is_null());
    assert_eq!(status(&gate)[0]["failures"], 0);
    let orders = |result: &str| format!("weirgate_acme_orders_total{{acme=\"test\",result=\"{result}\"}}");
    gate.measures(&orders("failed"), 3.0);
    gate.measures(&orders("ok"), 1.0);
    let page = gate.metrics();
    let expiry =
        "weirgate_certificate_expiry_timestamp_seconds{listener=\"secure\",certificate=\"a.example.com\"}";
    assert!(page.get(expiry) > page.get("process_start_time_seconds"), "{}", page.text);
}

#[test]
fn bound_to_an_external_account_with_a_profile() {
    let storage = storage();
    let external = Some(("kid-1".to_owned(), b"secret-key-of-the-account".to_vec()));
    let authority = AcmeServer::with(Rules { external_account: external, renewal: None });
    let unbound = gate(&authority, &storage, CONFIG);
    eventually("a refusal", || unbound.stderr().contains("externalAccountRequired"));
    drop(unbound);
    let bound = CONFIG.replace(
        "accept_terms",
        "external_account: { key_id: kid-1, hmac_key: \"${EAB}\" }\n    profile: shortlived\n    accept_terms",
    );
    let gate = gate(&authority, &storage, &bound);
    until_served(&authority, &gate, "a.example.com");
    assert_eq!(authority.orders()[0].profile.as_deref(), Some("shortlived"));
    let printed = gate.command(&["check", "--print"]).text();
    assert!(printed.contains("hmac_key") && !printed.contains("c2VjcmV0"), "{printed}");
}

#[test]
fn a_restart_shows_what_is_stored_and_orders_nothing() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let first = gate(&authority, &storage, CONFIG);
    until_served(&authority, &first, "a.example.com");
    let before = shown(&authority, &first, "a.example.com");
    drop(first);
    let second = gate(&authority, &storage, CONFIG);
    assert_eq!(shown(&authority, &second, "a.example.com"), before, "from the first connection on");
    eventually("that it is said", || {
        second.stderr().contains("certificate for a.example.com: stored, expires ")
    });
    assert_eq!(authority.orders().len(), 1);
}

#[test]
fn renewed_before_it_ends_and_nobody_notices() {
    let (authority, storage) = (AcmeServer::start(), storage());
    authority.issues(ends_soon);
    let first = gate(&authority, &storage, CONFIG);
    until_served(&authority, &first, "a.example.com");
    let before = shown(&authority, &first, "a.example.com");
    drop(first);
    authority.next(&[Trouble::InvalidAuthorization]);
    let second = gate(&authority, &storage, CONFIG);
    let mut client = authority.authority().client("a.example.com").connect(second.at("secure"));
    assert_eq!(client.agreed.certificate.as_ref(), Some(&before), "shown while it is renewed");
    eventually("another certificate", || shown(&authority, &second, "a.example.com") != before);
    assert_eq!(client.ask(&Request::get("/").host("a.example.com")).text(), "ok");
    let log = second.stderr();
    assert!(log.contains("renewal ordered, as it expires "), "{log}");
    assert!(log.contains("; the one that is shown expires "), "{log}");
    assert_eq!(authority.accounts().len(), 1);
}

#[test]
fn renewed_when_the_authority_asks_for_it() {
    let (start, end) = ("2024-01-01T00:00:00Z".to_owned(), "2024-01-02T00:00:00Z".to_owned());
    let authority = AcmeServer::with(Rules { external_account: None, renewal: Some((start, end)) });
    let storage = storage();
    let first = gate(&authority, &storage, CONFIG);
    until_served(&authority, &first, "a.example.com");
    drop(first);
    let second = gate(&authority, &storage, CONFIG);
    eventually("a renewal", || authority.issued() == 2);
    let orders = authority.orders();
    assert_eq!(orders[0].replaces, None);
    assert!(orders[1].replaces.as_ref().is_some_and(|known| known.contains('.')), "{orders:?}");
    assert!(second.stderr().contains("the authority asks for it to be renewed 2024-01-01T"));
}

#[test]
fn a_reload_orders_for_other_names_while_the_old_ones_are_served() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let mut gate = gate(&authority, &storage, CONFIG);
    until_served(&authority, &gate, "a.example.com");
    let before = shown(&authority, &gate, "a.example.com");
    let mut client = authority.authority().client("a.example.com").connect(gate.at("secure"));

    // nothing that concerns certificates
    assert_eq!(gate.reload(&CONFIG.replace("body: ok", "body: other")).code, Some(0));
    assert_eq!(client.ask(&Request::get("/").host("a.example.com")).text(), "other");
    assert_eq!(authority.orders().len(), 1);

    // the authority has forgotten us, and we have another address
    authority.forget_accounts();
    authority.next(&[Trouble::InvalidAuthorization]);
    let more = CONFIG.replace(ONE, BOTH).replace("admin@", "other@");
    assert_eq!(gate.reload(&more).code, Some(0));
    assert_eq!(shown(&authority, &gate, "a.example.com"), before);
    until_served(&authority, &gate, "b.example.com");
    assert_ne!(shown(&authority, &gate, "a.example.com"), before);
    assert!(authority.is_past_trouble(), "the first order has failed");
    assert_eq!(authority.accounts(), [json!(["mailto:other@example.com"])]);
    assert_eq!(client.ask(&Request::get("/").host("a.example.com")).text(), "ok", "on the same connection");
    assert_eq!(status(&gate).as_array().map(Vec::len), Some(1));
}

#[test]
fn two_processes_order_one_certificate() {
    let (authority, storage) = (AcmeServer::start(), storage());
    authority.next(&[Trouble::Processing(3)]);
    let first = gate(&authority, &storage, CONFIG);
    eventually("an order", || authority.orders().len() == 1);
    let second = Gate::with(&[])
        .set("directory", &authority.directory())
        .set("storage", &storage.path().display().to_string())
        .file("ca.crt", authority.authority().pem())
        .start(CONFIG);
    until_served(&authority, &first, "a.example.com");
    until_served(&authority, &second, "a.example.com");
    assert_eq!((authority.orders().len(), authority.issued()), (1, 1));
    assert_eq!(shown(&authority, &first, "a.example.com"), shown(&authority, &second, "a.example.com"));
    eventually("that it is said", || second.stderr().contains("obtained by another process"));
}

#[test]
fn an_upgrade_takes_over_what_is_stored() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let gate = gate(&authority, &storage, CONFIG);
    until_served(&authority, &gate, "a.example.com");
    let before = shown(&authority, &gate, "a.example.com");
    gate.upgrade();
    assert_eq!(shown(&authority, &gate, "a.example.com"), before);
    assert!(status(&gate)[0]["expires"].is_string());
    assert_eq!(authority.orders().len(), 1);
}

#[test]
fn an_upgrade_in_the_middle_of_an_order_orders_anew() {
    let (authority, storage) = (AcmeServer::start(), storage());
    // longer than the old process has
    authority.next(&[Trouble::Processing(1000)]);
    let gate = gate(&authority, &storage, CONFIG);
    eventually("the authority to be at it", || authority.issued() == 1);
    gate.upgrade();
    until_served(&authority, &gate, "a.example.com");
    assert_eq!((authority.orders().len(), authority.accounts().len()), (2, 1));
}

#[test]
fn other_names_are_served_before_there_is_a_certificate() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let trouble = [Trouble::BadGateway; 60];
    authority.next(&trouble);
    let config = CONFIG.replace("certificates: [", "certificates: [{ cert: $dir/b.crt, key: $dir/b.key }, ");
    let builder = Gate::with(&[])
        .set("directory", &authority.directory())
        .set("storage", &storage.path().display().to_string())
        .file("ca.crt", authority.authority().pem());
    authority.authority().issue_into(builder.dir(), "b", &["b.example.com"]);
    let gate = builder.start(&config);
    authority.validates_at(gate.at("web"), gate.at("secure"));
    assert!(serves(&authority, &gate, "b.example.com"));
    let anyone = |name: &str| ClientTls::trusting_anyone(name).try_connect(gate.at("secure"));
    assert!(anyone("a.example.com").is_err(), "nothing is shown instead");
    assert!(anyone("c.example.com").is_ok(), "the default");
    eventually("one order to have failed and none to be under way", || {
        gate.command(&["status"]).stdout.contains("acme      a.example.com (test): none yet, next order ")
    });
}

#[test]
fn storage_that_cannot_be_written_is_said_and_nothing_is_ordered() {
    let (authority, storage) = (AcmeServer::start(), storage());
    let gate = gate(&authority, &storage, &CONFIG.replace("$storage", "$dir/late"));
    // in the way of the directory that is to be made
    drop(gate);
    let blocked = Gate::with(&[])
        .set("directory", &authority.directory())
        .file("ca.crt", authority.authority().pem())
        .file("late", "a file");
    let checked = blocked.check(&CONFIG.replace("$storage", "$dir/late"), &[]);
    assert_eq!(checked.code, Some(64));
    assert!(checked.text().contains("is not a directory"), "{checked:?}");
}

/// Let's Encrypt's own server for tests, which keeps closer to the letter than to what clients are used to.
struct Pebble {
    directory: String,
    roots: SocketAddr,
    /// Where the gate has to listen.
    plaintext: SocketAddr,
    tls: SocketAddr,
    /// Signs the certificate of the directory's server.
    authority: Authority,
    _server: Program,
    _dns: DnsServer,
    dir: TempDir,
}

impl Pebble {
    /// Accounts have to be bound to `kid-1` if `bound` says so. Every fifth nonce is refused.
    fn start(bound: bool) -> Self {
        let (dir, authority, dns) = (storage(), Authority::new(), DnsServer::start("dns"));
        let (own, gate) = (own_loopback(), own_loopback());
        let (address, roots) = (free_address(own), free_address(own));
        let (plaintext, tls) = (free_address(gate), free_address(gate));
        for name in ["a.example.com", "b.example.com"] {
            dns.addresses(name, 60, &[gate.into()]);
        }
        authority.issue_into(dir.path(), "pebble", &[&own.to_string()]);
        let file = |name: &str| dir.path().join(name);
        let config = json!({ "pebble": {
            "listenAddress": address, "managementListenAddress": roots,
            "certificate": file("pebble.crt"), "privateKey": file("pebble.key"),
            "httpPort": plaintext.port(), "tlsPort": tls.port(), "ocspResponderURL": "",
            "externalAccountBindingRequired": bound,
            "externalAccountMACKeys": { "kid-1": "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA" },
        } });
        std::fs::write(file("pebble.json"), config.to_string()).expect("write");
        let said = std::fs::File::create(file("pebble.log")).expect("a log");
        let mut command = Command::new("pebble");
        command.arg("-strict").arg("-config").arg(file("pebble.json"));
        command.args(["-dnsserver", &dns.address().to_string()]);
        command
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20")
            // which of pebble 2.4 may wait for itself
            .env("PEBBLE_AUTHZREUSE", "0");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("the log")).stderr(said);
        let server = Program::start(&mut command);
        eventually("pebble to listen", || {
            TcpStream::connect(address).is_ok() && TcpStream::connect(roots).is_ok()
        });
        let directory = format!("https://{address}/dir");
        Self { directory, roots, plaintext, tls, authority, _server: server, _dns: dns, dir }
    }

    /// A gate at the addresses where the names are.
    fn gate(&self, config: &str) -> Gate {
        Gate::with(&[])
            .set("directory", &self.directory)
            .set("storage", &self.dir.path().join("storage").display().to_string())
            .set("web", &self.plaintext.to_string())
            .set("secure", &self.tls.to_string())
            .file("ca.crt", self.authority.pem())
            .env("EAB", "c2VjcmV0LWtleS1vZi10aGUtYWNjb3VudA")
            .start(config)
    }

    /// The certificate of the authority that signs what is ordered, as PEM.
    fn root(&self) -> String {
        ClientTls::trusting_anyone("pebble").connect(self.roots).get("/roots/0").text()
    }

    #[track_caller]
    fn until_served(&self, gate: &Gate, name: &str) {
        let client = ClientTls::trusting(&self.root(), name);
        let log = || std::fs::read_to_string(self.dir.path().join("pebble.log")).unwrap_or_default();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while client.try_connect(self.tls).is_err() {
            assert!(
                std::time::Instant::now() < deadline,
                "no certificate for {name}:\n{}\n{}",
                gate.stderr(),
                log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(client.connect(self.tls).ask(&Request::get("/").host(name)).text(), "ok");
    }
}

#[test]
fn pebble_issues_by_http_01() {
    if !need_program("pebble") {
        return;
    }
    let pebble = Pebble::start(false);
    let gate = pebble.gate(&CONFIG.replace(ONE, BOTH));
    pebble.until_served(&gate, "a.example.com");
    pebble.until_served(&gate, "b.example.com");
}

#[test]
fn pebble_issues_by_tls_alpn_01_to_a_bound_account() {
    if !need_program("pebble") {
        return;
    }
    let pebble = Pebble::start(true);
    let external = "external_account: { key_id: kid-1, hmac_key: \"${EAB}\" }\n    accept_terms";
    let config =
        CONFIG.replace(ONE, BOTH).replace("http-01", "tls-alpn-01").replace("accept_terms", external);
    let gate = pebble.gate(&config);
    pebble.until_served(&gate, "a.example.com");
    pebble.until_served(&gate, "b.example.com");
}
