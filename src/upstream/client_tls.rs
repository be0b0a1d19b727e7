//! TLS to servers on connections that we open ourselves: those of health checks and those of flows. Requests go over
//! Pingora's, which [`transport`](super::transport) describes.

use super::reason::{self, UNEXPECTED};
use super::registry::Registry;
use crate::config::plan::{Trust, UpstreamTls};
use crate::link::Link;
use pingora_core::{Error, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How TLS is spoken to the servers of a group.
pub struct ClientTls {
    connector: TlsConnector,
    plan: UpstreamTls,
}

impl ClientTls {
    /// `alpn` is what is spoken above TLS.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn build(
        tls: &UpstreamTls,
        alpn: &[&[u8]],
        resumption: Resumption,
        registry: &Registry,
    ) -> Result<ClientTls, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &tls.trust {
            Trust::System => builder.with_root_certificates(registry.roots()?),
            Trust::These(authorities) => {
                let mut store = RootCertStore::empty();
                for authority in authorities {
                    store.add(authority.clone()).map_err(|error| error.to_string())?;
                }
                builder.with_root_certificates(store)
            }
            Trust::Anyone => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(BelieveAnyone::new(provider)))
            }
        };
        let mut config = match &tls.client {
            Some(client) => builder
                .with_client_auth_cert(client.chain.clone(), client.key.0.clone_key())
                .map_err(|error| format!("its client certificate cannot be used: {error}"))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = resumption;
        Ok(ClientTls { connector: TlsConnector::from(Arc::new(config)), plan: tls.clone() })
    }

    /// The handshake with a server at this address, which may have a name of its `own`.
    ///
    /// # Errors
    /// What TLS says, in words for the operator.
    pub async fn over(&self, link: Link, own: Option<&str>, ip: IpAddr) -> Result<TlsStream<Link>> {
        let name = self.plan.name(own, ip).into_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            Error::explain(UNEXPECTED, "TLS: the server has no name that a certificate can have")
        })?;
        self.connector
            .connect(name, link)
            .await
            .map_err(|error| Error::explain(UNEXPECTED, reason::tls(&error)))
    }
}

/// Takes any certificate: `verify: false`. The handshake is still held against it.
#[derive(Debug)]
pub(crate) struct BelieveAnyone(Arc<CryptoProvider>);

impl BelieveAnyone {
    pub(crate) fn new(provider: Arc<CryptoProvider>) -> BelieveAnyone {
        BelieveAnyone(provider)
    }
}

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
