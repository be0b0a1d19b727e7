//! What a TLS connection to a server costs before and within its handshake: with the configuration that Pingora keeps for
//! the authorities of the system, where sessions are resumed, and with the one it makes for every connection of a group
//! that names `ca`, or `cert` and `key`. See docs/decisions/021-tls-to-upstreams.md.
//!
//! The two ends speak in memory and on one core; the server's part of a handshake is in the time as well.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, version};
use std::hint::black_box;
use std::sync::Arc;

struct Papers {
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn papers() -> Papers {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["api.internal".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    Papers {
        authority: issuer.der().clone(),
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
    }
}

/// As `pingora_core::connectors::tls::rustls::connect` does it.
fn made_anew(papers: &Papers, certified: bool) -> ClientConfig {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from(papers.authority.to_vec())).expect("an authority");
    let builder = ClientConfig::builder_with_protocol_versions(&[&version::TLS12, &version::TLS13])
        .with_root_certificates(Arc::new(store));
    let mut config = match certified {
        true => {
            let chain = papers.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
            let key = PrivateKeyDer::try_from(papers.key.secret_der().to_vec()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
        false => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// As it does for the authorities of the system.
fn copied(kept: &Arc<ClientConfig>) -> ClientConfig {
    let mut config = ClientConfig::clone(kept);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// One handshake, and the tickets after it.
fn shake_hands(client: ClientConfig, server: &Arc<ServerConfig>) {
    let name = ServerName::try_from("api.internal").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
    let mut server = ServerConnection::new(server.clone()).expect("a server");
    let mut wire = Vec::with_capacity(8192);
    for _ in 0..8 {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written");
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            server.read_tls(&mut left).expect("read");
            server.process_new_packets().expect("a client's hand");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("written");
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            client.read_tls(&mut left).expect("read");
            client.process_new_packets().expect("a server's hand");
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            return;
        }
    }
    unreachable!("the handshake goes on and on");
}

fn benches(c: &mut Criterion) {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let papers = papers();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(papers.chain.clone(), papers.key.clone_key())
        .expect("a server");
    let server = Arc::new(server);
    let kept = Arc::new(made_anew(&papers, false));

    let mut group = c.benchmark_group("configuration of one connection");
    group.bench_function("kept, copied", |b| b.iter(|| black_box(copied(&kept))));
    group.bench_function("with ca", |b| b.iter(|| black_box(made_anew(&papers, false))));
    group.bench_function("with ca, cert and key", |b| b.iter(|| black_box(made_anew(&papers, true))));
    group.finish();

    let mut group = c.benchmark_group("connection, both ends");
    group.bench_function("kept: resumed", |b| b.iter(|| shake_hands(copied(&kept), &server)));
    group.bench_function("with ca: in full", |b| b.iter(|| shake_hands(made_anew(&papers, false), &server)));
    group.bench_function("with ca, cert and key: in full", |b| {
        b.iter(|| shake_hands(made_anew(&papers, true), &server));
    });
    group.finish();
}

criterion_group!(upstream_tls, benches);
criterion_main!(upstream_tls);
