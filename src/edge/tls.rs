//! TLS termination: the rustls configuration of a listener, the choice of its certificate, and the
//! handshake. `config::check` builds the configuration to find errors, `edge::open` to use it.

use crate::config::file::TlsVersion;
use crate::config::plan;
use crate::config::words::HostPattern;
use crate::edge::transport::Transport;
use crate::http::TlsFacts;
use ahash::AHashMap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig, SignatureScheme, version};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The configuration of a listener that speaks HTTP/1.1 (`h1`), HTTP/2 (`h2`) or both.
pub fn server_config(tls: &plan::Tls, h1: bool, h2: bool) -> Result<Arc<ServerConfig>, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::V1_2 => &[&version::TLS12, &version::TLS13],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates::build(&tls.certificates)?));
    let names: [(bool, &[u8]); 2] = [(h2, b"h2"), (h1, b"http/1.1")];
    config.alpn_protocols = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_vec()).collect();
    // stateless resumption: no memory per client, and it works whichever worker it comes back to
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| e.to_string())?;
    Ok(Arc::new(config))
}

/// The certificates of a listener by the names they serve.
#[derive(Debug)]
struct Certificates {
    /// In the order of the file; the first is the default.
    all: Vec<Arc<CertifiedKey>>,
    exact: AHashMap<String, Vec<usize>>,
    /// By what follows the first label.
    wildcard: AHashMap<String, Vec<usize>>,
}

impl Certificates {
    fn build(certificates: &[plan::Certificate]) -> Result<Certificates, String> {
        let mut found = Certificates { all: Vec::new(), exact: AHashMap::new(), wildcard: AHashMap::new() };
        for (index, certificate) in certificates.iter().enumerate() {
            let explain = |e: rustls::Error| format!("{}: {e}", certificate.cert_file.display());
            let key = aws_lc_rs::sign::any_supported_type(&certificate.key.0).map_err(explain)?;
            let certified = CertifiedKey::new(certificate.chain.clone(), key);
            match certified.keys_match() {
                // Unknown: the key type does not tell its public half
                Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
                Err(e) => return Err(explain(e)),
            }
            found.all.push(Arc::new(certified));
            for name in &certificate.names {
                let (map, name) = match name {
                    HostPattern::Exact(name) => (&mut found.exact, name),
                    HostPattern::Below(name) => (&mut found.wildcard, name),
                };
                map.entry(name.clone()).or_default().push(index);
            }
        }
        if found.all.is_empty() {
            return Err("TLS needs at least one certificate".to_string());
        }
        Ok(found)
    }

    /// Exact name, then wildcard, then the default. Of several for one name (an RSA and an ECDSA
    /// one) the first that the client can verify.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let indexes =
            name.and_then(|name| self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1)));
        let candidates = || indexes.into_iter().flatten().filter_map(|index| self.all.get(*index));
        candidates()
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
            .or_else(|| candidates().next())
            .or_else(|| self.all.first())
            .cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has made the name lower case
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// A finished handshake.
pub struct Accepted {
    pub io: Transport,
    pub facts: TlsFacts,
    /// HTTP/2 was agreed on by ALPN.
    pub h2: bool,
}

/// The handshake, which has to end within `limit`.
pub async fn accept(tls: &TlsAcceptor, tcp: TcpStream, limit: Duration) -> Result<Accepted, String> {
    let stream = tokio::time::timeout(limit, tls.accept(tcp))
        .await
        .map_err(|_| format!("not complete after {limit:?}"))?
        .map_err(|e| e.to_string())?;
    let session = stream.get_ref().1;
    let facts = TlsFacts {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session.negotiated_cipher_suite().and_then(|s| s.suite().as_str()).unwrap_or_default(),
        sni: session.server_name().map(str::to_string),
    };
    let h2 = session.alpn_protocol() == Some(b"h2");
    Ok(Accepted { io: Transport::Tls(Box::new(stream)), facts, h2 })
}
