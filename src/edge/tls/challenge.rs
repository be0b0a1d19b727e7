//! Handshakes in which an authority looks whether a name is ours (RFC 8737): under no policy of the plan, and for
//! nothing else.

use crate::acme::{self, challenge::ALPN};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Answers while there is something to answer.
pub struct Challenges {
    all: Arc<acme::Challenges>,
    config: Arc<ServerConfig>,
}

impl Challenges {
    pub fn new(all: &Arc<acme::Challenges>) -> Result<Challenges, String> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Posted(all.clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // nobody comes back
        config.send_tls13_tickets = 0;
        Ok(Challenges { all: all.clone(), config: Arc::new(config) })
    }

    /// How to answer a hello that offers the protocol of challenges and no other, for a name that has one.
    pub fn answer(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if !self.all.any() || !hello.alpn()?.eq([ALPN]) {
            return None;
        }
        self.all.certificate(hello.server_name()?).map(|_| self.config.clone())
    }
}

/// The certificates of challenges, by the names they are for.
#[derive(Debug)]
struct Posted(Arc<acme::Challenges>);

impl ResolvesServerCert for Posted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certificate(hello.server_name()?)
    }
}
