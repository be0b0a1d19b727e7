//! Certificates made for the test, and a TLS client that chooses its protocols.

use super::http_client::{Client, Wire};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

/// A certificate authority that only the test trusts.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "weirgate tests");
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    /// A certificate for these names and its key, both as PEM.
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_with(names, |_| {})
    }

    /// The certificate that the others are signed with, as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// As `issue`, after the certificate's parameters have been adjusted.
    pub fn issue_with(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        adjust(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    }

    /// Writes `NAME.crt` and `NAME.key` for these DNS names into `dir`.
    pub fn issue_into(&self, dir: &Path, file: &str, names: &[&str]) {
        let (cert, key) = self.issue(names);
        std::fs::write(dir.join(format!("{file}.crt")), cert).expect("write a certificate");
        std::fs::write(dir.join(format!("{file}.key")), key).expect("write a key");
    }

    /// A client that trusts this authority and asks for `name`.
    pub fn client(&self, name: &str) -> ClientTls {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        ClientTls {
            roots: Some(roots),
            name: name.to_owned(),
            alpn: Vec::new(),
            versions: rustls::ALL_VERSIONS.to_vec(),
        }
    }
}

/// How a client opens TLS.
#[derive(Clone)]
pub struct ClientTls {
    roots: Option<RootCertStore>,
    name: String,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl ClientTls {
    /// A client that takes any certificate: for servers whose certificate the test did not make.
    pub fn trusting_anyone(name: &str) -> Self {
        Self { roots: None, name: name.to_owned(), alpn: Vec::new(), versions: rustls::ALL_VERSIONS.to_vec() }
    }

    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    pub fn server_name(&self) -> &str {
        &self.name
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .expect("TLS versions");
        let mut config = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(danger::Anyone(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    pub(super) fn server(&self) -> ServerName<'static> {
        ServerName::try_from(self.name.clone()).expect("a server name")
    }

    /// Connects and completes the handshake.
    pub fn try_connect(&self, address: SocketAddr) -> io::Result<TlsClient> {
        let mut session = ClientConnection::new(self.config(), self.server()).map_err(io::Error::other)?;
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(super::PATIENCE))?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let agreed = Agreed {
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version: session.protocol_version(),
            certificate: session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|cert| cert.to_vec()),
        };
        Ok(TlsClient { client: Client::over(Box::new(StreamOwned::new(session, socket))), agreed })
    }

    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> TlsClient {
        self.try_connect(address).unwrap_or_else(|error| panic!("TLS to {address} as {}: {error}", self.name))
    }
}

/// A client over TLS and what the two sides agreed on.
pub struct TlsClient {
    pub client: Client,
    pub agreed: Agreed,
}

pub struct Agreed {
    pub alpn: Option<String>,
    pub version: Option<ProtocolVersion>,
    /// The server's own certificate as DER.
    pub certificate: Option<Vec<u8>>,
}

impl std::ops::Deref for TlsClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for TlsClient {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Wire for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

mod danger {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};
    use std::sync::Arc;

    /// Believes every certificate.
    #[derive(Debug)]
    pub struct Anyone(pub Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
