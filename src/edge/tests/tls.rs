use super::setup::{Client, Gate, PATIENCE, listener, millis};
use crate::config::file::{ListenerLimits, UnknownNames};
use crate::config::plan::{self, PrivateKey, TlsPolicy, TlsSettings};
use crate::edge::tls::{Common, Termination};
use crate::upstream::client_tls::BelieveAnyone;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub fn certificate(names: &[&str]) -> plan::Certificate {
    let plain: Vec<String> = names.iter().map(|name| name.replace('*', "any")).collect();
    let made = rcgen::generate_simple_self_signed(plain).unwrap();
    let files = plan::CertificateFiles {
        cert_file: format!("{}.crt", names[0]).into(),
        chain: vec![made.cert.der().clone()],
        key: PrivateKey(Arc::new(made.signing_key.into())),
        ocsp: None,
        not_after: 0,
    };
    plan::Certificate {
        source: plan::CertificateSource::Files(files),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        policy: 0,
    }
}

/// Those that it was made of.
pub fn files(certificate: &plan::Certificate) -> &plan::CertificateFiles {
    certificate.files().unwrap()
}

fn terms(certificates: Vec<(plan::Certificate, TlsPolicy)>, unknown_names: UnknownNames) -> Arc<plan::Tls> {
    Arc::new(plan::Tls::new(certificates, TlsSettings { unknown_names, ..TlsSettings::default() }))
}

pub fn termination(certificates: Vec<plan::Certificate>) -> Arc<plan::Tls> {
    let easy = certificates.into_iter().map(|certificate| (certificate, TlsPolicy::default()));
    terms(easy.collect(), UnknownNames::Default)
}

pub fn secure(h1: bool, h2: bool) -> plan::Listener {
    let certificates = vec![certificate(&["one.example"]), certificate(&["*.two.example", "three.example"])];
    let tls = Some(termination(certificates));
    plan::Listener { name: "secure".to_string(), h1, h2, tls, ..listener() }
}

pub async fn connect(gate: &Gate, sni: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // the tests look at the certificate themselves
    let anyone = Arc::new(BelieveAnyone::new(provider.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(gate.address).await?;
    let name = ServerName::try_from(sni.to_string()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

#[tokio::test]
async fn https_works_and_its_facts_are_known() {
    let gate = Gate::start(secure(true, true));
    for alpn in [&["http/1.1"][..], &[], &["http/1.1", "h3"], &["http/1.0"]] {
        let mut client = Client(connect(&gate, "one.example", alpn).await.unwrap());
        for _ in 0..3 {
            let answer = client.get("/x").await;
            assert!(answer.contains("x-tls: TLSv1.3 TLS_AES_"), "{answer}");
            assert!(answer.contains(" one.example\r\n") && answer.ends_with("GET /x "), "{answer}");
        }
        assert!(client.get("/big").await.len() > 3_000_000);
    }
}

#[tokio::test]
async fn the_name_picks_the_certificate() {
    let listener = secure(true, false);
    let chains: Vec<_> =
        listener.tls.iter().flat_map(|tls| &tls.certificates).map(|c| files(c).chain[0].clone()).collect();
    let gate = Gate::start(listener);
    for (sni, which) in [
        ("one.example", 0),
        ("ONE.example", 0),
        ("a.two.example", 1),
        ("three.example", 1),
        ("two.example", 0),
        ("a.b.two.example", 0),
        ("unknown.example", 0),
        ("127.0.0.1", 0),
    ] {
        let stream = connect(&gate, sni, &[]).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, chains[which], "{sni}");
    }
}

#[tokio::test]
async fn protocols_that_are_not_offered_are_not_spoken() {
    let gate = Gate::start(secure(true, false));
    let error = connect(&gate, "one.example", &["h2"]).await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    // a request in the clear
    let answer = gate.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let limits = ListenerLimits { tls_handshake_timeout: millis(300), ..ListenerLimits::default() };
    let gate = Gate::start(plan::Listener { limits, ..secure(true, true) });
    assert_eq!(gate.exchange(b"").await, "");
    // a ClientHello that never gets on
    assert_eq!(gate.exchange(b"\x16\x03\x01\x02\x00\x01").await, "");
}

#[tokio::test]
async fn heads_are_refused_over_tls_too_and_shutdown_says_goodbye() {
    let gate = Gate::start(secure(true, true));
    let mut client = Client(connect(&gate, "one.example", &[]).await.unwrap());
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    // read_to_end fails on a connection that is cut without close_notify
    assert!(client.rest().await.starts_with("HTTP/1.1 400"));
    let mut client = Client(connect(&gate, "one.example", &[]).await.unwrap());
    assert!(client.get("/").await.starts_with("HTTP/1.1 200"));
    gate.edge.shut_down();
    assert_eq!(client.rest().await, "");
    tokio::time::timeout(PATIENCE, gate.worker).await.expect("drained").unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (mut wrong, other) = (certificate(&["one.example"]), certificate(&["one.example"]));
    let mixed = plan::CertificateFiles { key: files(&other).key.clone(), ..files(&wrong).clone() };
    wrong.source = plan::CertificateSource::Files(mixed);
    let built = Termination::build(&termination(vec![wrong]), (true, true), &Common::default());
    let error = built.err().unwrap();
    assert!(error.starts_with("one.example.crt: "), "{error}");
}
