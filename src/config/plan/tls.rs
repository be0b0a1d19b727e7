//! TLS of a listener, resolved: its files are read, and each name has the certificates and the policy that are
//! for it. `edge` opens connections by it, `http` holds the host of each request against it.

use super::{Ordered, Passthrough};
use crate::config::file::{self, Cipher, TlsVersion, UnknownNames};
use crate::config::words::HostPattern;
use ahash::AHashMap;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// TLS termination. Made by [`Tls::new`].
#[derive(Debug, Clone)]
pub struct Tls {
    /// The first is the default. None where all names are passed on or refused.
    pub certificates: Vec<Certificate>,
    /// The terms on which connections are opened, each once. The first is that of unknown names.
    pub policies: Vec<TlsPolicy>,
    pub settings: TlsSettings,
    names: Names,
}

/// What is the same for all names.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// The preferred ones first; empty: all.
    pub ciphers: Vec<Cipher>,
    pub unknown_names: UnknownNames,
    /// `None`: no session is resumed.
    pub tickets: Option<Tickets>,
    /// What is not opened here.
    pub passthrough: Passthrough,
}

impl Default for TlsSettings {
    fn default() -> Self {
        let tickets = Tickets { keys: Vec::new(), lifetime: file::Tickets::default().lifetime.0 };
        TlsSettings {
            ciphers: Vec::new(),
            unknown_names: UnknownNames::Default,
            tickets: Some(tickets),
            passthrough: Passthrough::default(),
        }
    }
}

/// What lets clients resume sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Tickets {
    /// The first makes tickets, all open them. Empty: random ones of the process.
    pub keys: Vec<TicketKey>,
    /// Whole seconds.
    pub lifetime: Duration,
}

/// A secret that the keys of tickets are derived from.
#[derive(Clone, PartialEq)]
pub struct TicketKey(Arc<[u8]>);

impl TicketKey {
    /// `secret` holds 32 random bytes at least.
    pub fn new(secret: &[u8]) -> TicketKey {
        TicketKey(secret.into())
    }

    /// `None` when the system has no randomness.
    pub fn random() -> Option<TicketKey> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).ok()?;
        Some(TicketKey::new(&secret))
    }

    pub fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKey")
    }
}

/// The terms on which a connection is opened, by the name that the client asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsPolicy {
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    pub client_auth: Option<Arc<ClientAuth>>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        TlsPolicy { min_version: TlsVersion::V1_2, max_version: TlsVersion::V1_3, client_auth: None }
    }
}

/// Which certificates clients have to show.
#[derive(Clone, PartialEq)]
pub struct ClientAuth {
    /// Those of authorities (DER), at least one.
    pub ca: Vec<CertificateDer<'static>>,
    pub crl: Vec<CertificateRevocationListDer<'static>>,
    pub required: bool,
}

impl std::fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ca, crl) = (self.ca.len(), self.crl.len());
        write!(f, "ClientAuth {{ ca: {ca}, crl: {crl}, required: {} }}", self.required)
    }
}

impl ClientAuth {
    /// What looks at the certificates of clients.
    ///
    /// # Errors
    /// An authority or a list of revoked certificates that cannot be used.
    pub fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        for authority in &self.ca {
            roots.add(authority.clone()).map_err(|e| e.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(self.crl.iter().cloned())
            .enforce_revocation_expiration();
        if !self.required {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|e| e.to_string())
    }
}

/// A certificate that is shown to clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    pub source: CertificateSource,
    /// The names it serves, lower case, `*.` wildcards included.
    pub names: Vec<HostPattern>,
    /// The index of its policy in [`Tls::policies`].
    pub policy: usize,
}

impl Certificate {
    /// What it was read from, if it was.
    pub fn files(&self) -> Option<&CertificateFiles> {
        match &self.source {
            CertificateSource::Files(files) => Some(files),
            CertificateSource::Ordered(_) => None,
        }
    }

    /// How it is ordered, if it is.
    pub fn ordered(&self) -> Option<&Arc<Ordered>> {
        match &self.source {
            CertificateSource::Ordered(ordered) => Some(ordered),
            CertificateSource::Files(_) => None,
        }
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum CertificateSource {
    /// The operator has brought it.
    Files(CertificateFiles),
    /// It is ordered from an authority, and renewed.
    Ordered(Arc<Ordered>),
}

/// A certificate chain and key that were read, parsed and found to belong together.
#[derive(Clone, PartialEq)]
pub struct CertificateFiles {
    /// Where it came from, for messages.
    pub cert_file: PathBuf,
    /// DER, the server's own first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKey,
    /// Shown with it.
    pub ocsp: Option<Ocsp>,
    /// Its last second, since 1970.
    pub not_after: i64,
}

/// What an authority says of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Ocsp {
    /// DER.
    pub response: Arc<[u8]>,
    /// Its last second, since 1970, if it says so.
    pub until: Option<i64>,
}

impl std::fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateFiles").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}

/// A private key (DER), shared because it cannot be copied by accident.
#[derive(Clone)]
pub struct PrivateKey(pub Arc<PrivateKeyDer<'static>>);

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.secret_der() == other.0.secret_der()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        // the names follow from the certificates
        let Tls { certificates, policies, settings, names: _ } = self;
        (certificates, policies, settings) == (&other.certificates, &other.policies, &other.settings)
    }
}

impl Tls {
    /// `certificates` in the order of the file, each with the policy for its names.
    pub fn new(certificates: Vec<(Certificate, TlsPolicy)>, settings: TlsSettings) -> Tls {
        let mut policies: Vec<TlsPolicy> = Vec::new();
        let mut all = Vec::with_capacity(certificates.len());
        for (certificate, policy) in certificates {
            let known = policies.iter().position(|known| *known == policy);
            let index = known.unwrap_or(policies.len());
            if known.is_none() {
                policies.push(policy);
            }
            all.push(Certificate { policy: index, ..certificate });
        }
        let names = Names::new(&all);
        Tls { certificates: all, policies, settings, names }
    }

    /// The certificates for this name (lower case), as indexes, in the order of the file: those for exactly this
    /// name, else those for the wildcard above it. Empty for a name that none serves.
    pub fn serving(&self, name: &str) -> &[usize] {
        self.names.find(name)
    }

    /// The group that connections of clients that ask for this name (lower case) and offer these protocols reach unopened.
    /// What is for the protocols decides, then the exact name, then a certificate for it, then the wildcard above it, then
    /// all others.
    pub fn passes(&self, name: Option<&str>, alpn: &[Box<[u8]>]) -> Option<&Arc<str>> {
        let passthrough = &self.settings.passthrough;
        if passthrough.is_empty() {
            return None;
        }
        let shown = || name.is_some_and(|name| !self.serving(name).is_empty());
        let exact = || name.and_then(|name| passthrough.exact(name));
        let wide = || if shown() { None } else { passthrough.wide(name) };
        passthrough.by_protocol(name, alpn).or_else(exact).or_else(wide)
    }

    /// The policy for connections that are opened for this name, as an index; `None` when they are refused, or not opened
    /// here.
    pub fn policy(&self, name: Option<&str>) -> Option<usize> {
        if self.passes(name, &[]).is_some() {
            return None;
        }
        match name.and_then(|name| self.serving(name).first()) {
            Some(certificate) => self.certificates.get(*certificate).map(|certificate| certificate.policy),
            None => match self.settings.unknown_names {
                UnknownNames::Default => Some(0),
                UnknownNames::Refuse => None,
            },
        }
    }

    /// Whether requests for some name would be on other terms than those for another, so that a connection for the
    /// one is not for the other.
    pub fn tells_names_apart(&self) -> bool {
        let settings = &self.settings;
        self.policies.len() > 1
            || settings.unknown_names == UnknownNames::Refuse
            || !settings.passthrough.is_empty()
    }

    /// Whether connections that were opened by `self` may go on where `new` is at work: no name has other terms.
    pub fn same_terms(&self, new: &Tls) -> bool {
        let terms =
            |tls: &Tls| (tls.policies.clone(), tls.settings.ciphers.clone(), tls.settings.unknown_names);
        let names = |tls: &Tls| -> Vec<_> {
            tls.certificates
                .iter()
                .map(|certificate| (certificate.names.clone(), certificate.policy))
                .collect()
        };
        terms(self) == terms(new) && (!self.tells_names_apart() || names(self) == names(new))
    }
}

/// Which certificates serve which name.
#[derive(Debug, Clone, Default)]
struct Names {
    exact: AHashMap<String, Vec<usize>>,
    /// By what follows the first label.
    wildcard: AHashMap<String, Vec<usize>>,
}

impl Names {
    fn new(certificates: &[Certificate]) -> Names {
        let mut names = Names::default();
        for (index, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                let (map, name) = match name {
                    HostPattern::Exact(name) => (&mut names.exact, name),
                    HostPattern::Below(name) => (&mut names.wildcard, name),
                };
                map.entry(name.clone()).or_default().push(index);
            }
        }
        names
    }

    /// RFC 6125 §6.4.3: a wildcard stands for one label.
    fn find(&self, name: &str) -> &[usize] {
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wildcard).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Unopened;

    fn certificate(names: &[&str]) -> Certificate {
        let key = PrivateKey(Arc::new(PrivateKeyDer::Pkcs8(Vec::new().into())));
        let (cert_file, chain) = (PathBuf::new(), Vec::new());
        let files = CertificateFiles { cert_file, chain, key, ocsp: None, not_after: 0 };
        Certificate {
            source: CertificateSource::Files(files),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            policy: 0,
        }
    }

    fn strict() -> TlsPolicy {
        TlsPolicy { min_version: TlsVersion::V1_3, ..TlsPolicy::default() }
    }

    #[test]
    fn names_find_their_certificates_and_policies() {
        let certificates = vec![
            (certificate(&["a.example", "both.example"]), TlsPolicy::default()),
            (certificate(&["*.b.example", "both.example"]), TlsPolicy::default()),
            (certificate(&["c.b.example"]), strict()),
        ];
        let tls = Tls::new(certificates.clone(), TlsSettings::default());
        assert_eq!(tls.policies, [TlsPolicy::default(), strict()]);
        for (name, serving, policy) in [
            ("a.example", &[0][..], 0),
            ("both.example", &[0, 1], 0),
            ("x.b.example", &[1], 0),
            ("c.b.example", &[2], 1),
            ("x.y.b.example", &[], 0),
            ("b.example", &[], 0),
            ("", &[], 0),
        ] {
            assert_eq!((tls.serving(name), tls.policy(Some(name))), (serving, Some(policy)), "{name}");
        }
        assert_eq!(tls.policy(None), Some(0));
        let refuse = TlsSettings { unknown_names: UnknownNames::Refuse, ..TlsSettings::default() };
        let refusing = Tls::new(certificates, refuse);
        assert_eq!((refusing.policy(None), refusing.policy(Some("other"))), (None, None));
        assert_eq!(refusing.policy(Some("c.b.example")), Some(1));
    }

    #[test]
    fn connections_go_on_while_no_name_has_other_terms() {
        let tls = |certificates: &[(Certificate, TlsPolicy)]| {
            Tls::new(certificates.to_vec(), TlsSettings::default())
        };
        let (a, b) = (certificate(&["a.example"]), certificate(&["b.example"]));
        let easy = TlsPolicy::default;
        let one = tls(&[(a.clone(), easy())]);
        let two = tls(&[(a.clone(), easy()), (b.clone(), easy())]);
        assert!(one.same_terms(&two) && two.same_terms(&one), "another certificate");
        let apart = tls(&[(a.clone(), easy()), (b.clone(), strict())]);
        assert!(!two.same_terms(&apart) && !apart.same_terms(&two));
        let mut renewed = b.clone();
        if let CertificateSource::Files(files) = &mut renewed.source {
            files.chain.push(CertificateDer::from(vec![1]));
        }
        assert!(apart.same_terms(&tls(&[(a.clone(), easy()), (renewed, strict())])), "a renewed certificate");
        let swapped = tls(&[(b, easy()), (a, strict())]);
        assert!(!apart.same_terms(&swapped), "the same policies for other names");
    }

    fn unopened(name: Option<&str>, alpn: &[&str], group: &str) -> Unopened {
        let alpn = alpn.iter().map(|protocol| (*protocol).into()).collect();
        Unopened { name: name.map(|name| name.parse().unwrap()), alpn, group: group.into() }
    }

    #[test]
    fn what_is_offered_comes_before_names_and_certificates() {
        let mut passthrough = Passthrough::default();
        for (name, alpn, group) in [
            (None, &["acme-tls/1"][..], "acme"),
            (Some("*.a.example"), &["xmpp-client", "xmpp-server"], "chat"),
            (Some("one.a.example"), &["h2"], "one"),
            (Some("one.a.example"), &["h3", "xmpp-client"], "other"),
            (Some("raw.example"), &[], "raw"),
        ] {
            passthrough.insert(unopened(name, alpn, group));
        }
        let shown = vec![(certificate(&["one.a.example"]), TlsPolicy::default())];
        let tls = Tls::new(shown, TlsSettings { passthrough, ..TlsSettings::default() });
        for (name, alpn, group) in [
            (Some("one.a.example"), "http/1.1", None),
            (Some("one.a.example"), "xmpp-client h2", Some("one")),
            (Some("one.a.example"), "http/1.1 xmpp-client", Some("other")),
            (Some("one.a.example"), "xmpp-server", Some("chat")),
            (Some("two.a.example"), "http/1.1 xmpp-server", Some("chat")),
            (Some("two.a.example"), "h2", None),
            (Some("two.a.example"), "XMPP-client", None),
            (Some("raw.example"), "h2", Some("raw")),
            (Some("raw.example"), "acme-tls/1", Some("acme")),
            (None, "acme-tls/1", Some("acme")),
            (None, "", None),
        ] {
            let offered: Vec<Box<[u8]>> = alpn.split_whitespace().map(|one| one.as_bytes().into()).collect();
            assert_eq!(tls.passes(name, &offered).map(|group| &**group), group, "{name:?} {alpn}");
        }
        assert!(tls.policy(Some("one.a.example")).is_some(), "for some it is opened here");
    }

    #[test]
    fn a_name_stays_closed_by_the_most_specific_word_for_it() {
        let mut passthrough = Passthrough::default();
        for (name, group) in [("raw.example", "raw"), ("*.b.example", "below"), ("one.a.example", "one")] {
            passthrough.insert(unopened(Some(name), &[], group));
        }
        let certificates = |passthrough: &Passthrough| {
            let shown =
                ["*.a.example", "c.b.example"].map(|name| (certificate(&[name]), TlsPolicy::default()));
            let settings = TlsSettings { passthrough: passthrough.clone(), ..TlsSettings::default() };
            Tls::new(shown.into(), settings)
        };
        let tls = certificates(&passthrough);
        for (name, group) in [
            (Some("raw.example"), Some("raw")),
            (Some("x.b.example"), Some("below")),
            (Some("c.b.example"), None),
            (Some("one.a.example"), Some("one")),
            (Some("two.a.example"), None),
            (Some("x.y.b.example"), None),
            (Some("other.example"), None),
            (None, None),
        ] {
            assert_eq!(tls.passes(name, &[]).map(|group| &**group), group, "{name:?}");
            assert_eq!(tls.policy(name).is_none(), group.is_some(), "{name:?} has no terms here");
        }
        assert!(tls.tells_names_apart());
        passthrough.insert(unopened(None, &[], "rest"));
        let tls = certificates(&passthrough);
        for (name, group) in
            [(Some("other.example"), Some("rest")), (None, Some("rest")), (Some("two.a.example"), None)]
        {
            assert_eq!(tls.passes(name, &[]).map(|group| &**group), group, "{name:?}");
        }
    }
}
