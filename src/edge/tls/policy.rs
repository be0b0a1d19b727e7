//! A policy of the plan as a configuration of rustls: versions, cipher suites, key exchange, client certificates,
//! resumption.

use crate::config::file::{Cipher, TlsVersion};
use crate::config::plan::{TlsPolicy, TlsSettings};
use crate::edge::tls::certificates::Certificates;
use crate::edge::tls::tickets::{RandomSecrets, Tickets};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use std::sync::Arc;

/// No early data (0-RTT) is taken, as it can be replayed: rustls takes none unless told to.
pub fn server_config(
    policy: &TlsPolicy,
    settings: &TlsSettings,
    certificates: Arc<Certificates>,
    secrets: &Arc<RandomSecrets>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider(&settings.ciphers)))
        .with_protocol_versions(&versions(policy))
        .map_err(|e| e.to_string())?;
    let builder = match &policy.client_auth {
        Some(auth) => builder.with_client_cert_verifier(auth.verifier()?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.ignore_client_order = true;
    match &settings.tickets {
        Some(tickets) => config.ticketer = Tickets::build(policy, &tickets.keys, tickets.lifetime, secrets)?,
        None => {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
    }
    Ok(config)
}

fn versions(policy: &TlsPolicy) -> Vec<&'static SupportedProtocolVersion> {
    match (policy.min_version, policy.max_version) {
        (TlsVersion::V1_2, TlsVersion::V1_2) => vec![&TLS12],
        (TlsVersion::V1_2, TlsVersion::V1_3) => vec![&TLS13, &TLS12],
        (TlsVersion::V1_3, TlsVersion::V1_2 | TlsVersion::V1_3) => vec![&TLS13],
    }
}

/// With X25519MLKEM768 among the groups: who fears the computers of the future offers it first, and the client's
/// order decides.
fn provider(ciphers: &[Cipher]) -> CryptoProvider {
    let known = aws_lc_rs::default_provider();
    let of_version = |version: &SupportedProtocolVersion| -> Vec<SupportedCipherSuite> {
        let of_it = |suite: &&SupportedCipherSuite| suite.version().version == version.version;
        let named = ciphers.iter().filter_map(|cipher| {
            known.cipher_suites.iter().filter(of_it).find(|suite| suite.suite() == cipher.suite())
        });
        let named: Vec<_> = named.copied().collect();
        if !named.is_empty() {
            return named;
        }
        let mut all: Vec<_> = known.cipher_suites.iter().filter(of_it).copied().collect();
        all.sort_by_key(|suite| preference(suite.suite().as_str().unwrap_or_default()));
        all
    };
    let cipher_suites = [of_version(&TLS13), of_version(&TLS12)].concat();
    CryptoProvider { cipher_suites, ..known }
}

/// As Mozilla has it for servers: AES with 128 bits is as safe as the rest of the connection and the cheapest;
/// ChaCha20 is for clients that have no AES.
fn preference(suite: &str) -> usize {
    ["AES_128_GCM", "AES_256_GCM"].iter().position(|name| suite.contains(name)).unwrap_or(2)
}
