//! Certificates made for the test, and a TLS client that chooses its protocols.

use super::http_client::{Client, Wire};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
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

    /// The key that the others are signed with, as PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What signs.
    pub fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.issuer
    }

    /// As `issue`, after the certificate's parameters have been adjusted.
    pub fn issue_with(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        self.issue_for(&KeyPair::generate().expect("a key"), names, adjust)
    }

    /// As `issue`, for an RSA key of 2048 bits.
    pub fn issue_rsa(&self, names: &[&str]) -> (String, String) {
        self.issue_rsa_with(names, |_| {})
    }

    /// As `issue_rsa`, after the certificate's parameters have been adjusted.
    pub fn issue_rsa_with(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        self.issue_for(&KeyPair::from_pem(include_str!("rsa.key")).expect("an RSA key"), names, adjust)
    }

    fn issue_for(
        &self,
        key: &KeyPair,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, names[0].as_str());
        adjust(&mut params);
        let cert = params.signed_by(key, &self.issuer).expect("a certificate");
        (cert.pem(), key.serialize_pem())
    }

    /// A list with these serial numbers of revoked certificates, as PEM, valid until `next_update`.
    pub fn revoke(&self, serials: &[u64], next_update: (i32, u8, u8)) -> String {
        let (year, month, day) = next_update;
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(year, month, day),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a list of revoked certificates")
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
        ClientTls::new(Some(roots), name)
    }
}

/// How a client opens TLS.
#[derive(Clone)]
pub struct ClientTls {
    roots: Option<RootCertStore>,
    name: String,
    alpn: Vec<Vec<u8>>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
    own: Option<(String, String)>,
    kept: Option<Arc<ClientConfig>>,
}

impl ClientTls {
    fn new(roots: Option<RootCertStore>, name: &str) -> Self {
        Self {
            roots,
            name: name.to_owned(),
            alpn: Vec::new(),
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: rustls::crypto::aws_lc_rs::default_provider(),
            own: None,
            kept: None,
        }
    }

    /// A client that trusts this authority (PEM).
    pub fn trusting(authority: &str, name: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("a root");
        Self::new(Some(roots), name)
    }

    /// A client that takes any certificate: for servers whose certificate the test did not make.
    pub fn trusting_anyone(name: &str) -> Self {
        Self::new(None, name)
    }

    /// It has this certificate and key (PEM) to show.
    pub fn showing(mut self, own: (String, String)) -> Self {
        self.own = Some(own);
        self
    }

    /// It knows only these cipher suites, which are named as in IANA's registry.
    pub fn ciphers(mut self, names: &[&str]) -> Self {
        self.provider.cipher_suites.retain(|suite| {
            let name = suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_");
            names.contains(&name.as_str())
        });
        assert_eq!(self.provider.cipher_suites.len(), names.len(), "{names:?}");
        self
    }

    /// It knows only this group for the key exchange.
    pub fn group(mut self, group: NamedGroup) -> Self {
        self.provider.kx_groups.retain(|known| known.name() == group);
        self
    }

    /// From now on it remembers sessions and resumes them, whatever name they were opened for.
    pub fn resuming(mut self) -> Self {
        let mut config = ClientConfig::clone(&self.config());
        config.resumption = rustls::client::Resumption::store(Arc::new(danger::OneForAll::default()));
        self.kept = Some(Arc::new(config));
        self
    }

    /// The same client asking for another name.
    pub fn asking_for(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
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
        if let Some(kept) = &self.kept {
            return kept.clone();
        }
        let provider = Arc::new(self.provider.clone());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions)
            .expect("TLS versions");
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(danger::Anyone(provider))),
        };
        let mut config = match &self.own {
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
                builder.with_client_auth_cert(chain.expect("PEM"), key.expect("PEM")).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_early_data = true;
        Arc::new(config)
    }

    pub(super) fn server(&self) -> ServerName<'static> {
        ServerName::try_from(self.name.clone()).expect("a server name")
    }

    /// A handshake that has not begun.
    pub fn session(&self) -> ClientConnection {
        ClientConnection::new(self.config(), self.server()).expect("a session")
    }

    /// What such a client sends first.
    pub fn hello(&self) -> Vec<u8> {
        let mut hello = Vec::new();
        self.session().write_tls(&mut hello).expect("a hello");
        hello
    }

    /// Connects and completes the handshake.
    pub fn try_connect(&self, address: SocketAddr) -> io::Result<TlsClient> {
        self.over(TcpStream::connect(address)?)
    }

    /// Completes the handshake on a connection that is open.
    pub fn over(&self, mut socket: TcpStream) -> io::Result<TlsClient> {
        let mut session = self.session();
        let early_data = session.early_data().is_some();
        socket.set_read_timeout(Some(super::PATIENCE))?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let agreed = Agreed {
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            version: session.protocol_version(),
            cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
            group: session.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            early_data,
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
    /// As rustls names it.
    pub cipher: Option<&'static str>,
    pub group: Option<NamedGroup>,
    /// A session was resumed.
    pub resumed: bool,
    /// The gate offers to take, or took, data before the handshake is over (0-RTT).
    pub early_data: bool,
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
    fn socket(&self) -> socket2::SockRef<'_> {
        socket2::SockRef::from(&self.sock)
    }
}

mod danger {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::client::{
        ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
    };
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, NamedGroup, SignatureScheme};
    use std::sync::Arc;

    /// Sessions of one name are tried with every other.
    #[derive(Debug)]
    pub struct OneForAll(ClientSessionMemoryCache);

    impl Default for OneForAll {
        fn default() -> Self {
            Self(ClientSessionMemoryCache::new(64))
        }
    }

    fn same() -> ServerName<'static> {
        ServerName::try_from("same.example").expect("a name")
    }

    impl ClientSessionStore for OneForAll {
        fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
            self.0.set_kx_hint(same(), group);
        }

        fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
            self.0.kx_hint(&same())
        }

        fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
            self.0.set_tls12_session(same(), value);
        }

        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            self.0.tls12_session(&same())
        }

        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.0.remove_tls12_session(&same());
        }

        fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
            self.0.insert_tls13_ticket(same(), value);
        }

        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            self.0.take_tls13_ticket(&same())
        }
    }

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
