//! Which certificate a client is shown: the one place where certificates are looked up. Asked by rustls within
//! every full handshake.

use crate::config::plan;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The certificates of a listener, ready for use.
#[derive(Debug)]
pub struct Certificates {
    plan: Arc<plan::Tls>,
    /// In the order of the plan.
    all: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    pub fn build(plan: &Arc<plan::Tls>) -> Result<Certificates, String> {
        let all: Vec<_> = plan.certificates.iter().map(certified).collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err("TLS needs at least one certificate".to_string());
        }
        Ok(Certificates { plan: plan.clone(), all })
    }

    /// Those for exactly this name, else those for the wildcard above it, else the first of all. Of several for one
    /// name (an ECDSA and an RSA one) the first whose signature the client can verify.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let serving = name.map(|name| self.plan.serving(name)).unwrap_or_default();
        let candidates = || serving.iter().filter_map(|index| self.all.get(*index));
        candidates()
            .find(|certified| certified.key.choose_scheme(schemes).is_some())
            .or_else(|| candidates().next())
            .or_else(|| self.all.first())
            .cloned()
    }
}

fn certified(certificate: &plan::Certificate) -> Result<Arc<CertifiedKey>, String> {
    let explain = |e: rustls::Error| format!("{}: {e}", certificate.cert_file.display());
    let key = aws_lc_rs::sign::any_supported_type(&certificate.key.0).map_err(explain)?;
    let mut certified = CertifiedKey::new(certificate.chain.clone(), key);
    match certified.keys_match() {
        // Unknown: the key type does not tell its public half
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(e) => return Err(explain(e)),
    }
    certified.ocsp = certificate.ocsp.as_deref().map(<[u8]>::to_vec);
    Ok(Arc::new(certified))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls has made the name lower case, and left out schemes that fit none of the client's cipher suites
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
