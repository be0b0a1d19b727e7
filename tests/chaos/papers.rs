//! Certificates for servers that speak TLS, made on the spot.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that the servers have in common.
pub const NAME: &str = "app.internal";

/// An authority, and what it has issued for [`NAME`]; all of it PEM.
pub struct Papers {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Papers {
    /// # Errors
    /// There is no randomness.
    pub fn issue() -> io::Result<Papers> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "chaos");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).map_err(io::Error::other)?;
        // one with the name of its issuer looks self-signed to OpenSSL
        params.distinguished_name.push(DnType::CommonName, NAME);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &authority).map_err(io::Error::other)?;
        Ok(Papers { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// How a server with this certificate and key speaks TLS.
///
/// # Errors
/// They are not PEM, or do not belong together.
pub fn config(certificate: &str, key: &str) -> io::Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(io::Error::other)?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
