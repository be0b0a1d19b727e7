//! `tls` of a listener: which certificates are shown, what is spoken, and whose certificates are asked for.

use crate::config::decode::Located;
use crate::config::file::{OneOrMany, OrOff, Passthrough};
use crate::units::Time;
use rustls::CipherSuite;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// TLS termination.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificates; the name in the client's SNI picks, and the first is the default.
    pub certificates: Vec<Located<Certificate>>,
    /// The oldest TLS version accepted.
    pub min_version: TlsVersion,
    /// The newest TLS version spoken.
    pub max_version: TlsVersion,
    /// The cipher suites, the preferred ones first, by their IANA or OpenSSL names. A version of which none is
    /// named keeps all of its own. Without it all that are known here, AES-128-GCM first.
    pub ciphers: Vec<Cipher>,
    /// Clients are asked for a certificate.
    pub client_auth: Option<Located<ClientAuth>>,
    /// What is done with clients that ask for a name which no certificate serves, or for none.
    pub unknown_names: UnknownNames,
    /// Session tickets, by which clients resume sessions; `off`: there are none.
    pub tickets: OrOff<Tickets>,
    /// Connections that reach a group unopened, by the name in the client's hello: `www.example.com`, `*.example.com` for
    /// one label, or `*` for all that nothing else is for; each with its group. Or a list, where the protocols that clients
    /// offer decide, too.
    pub passthrough: Passthrough,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            certificates: Vec::new(),
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            ciphers: Vec::new(),
            client_auth: None,
            unknown_names: UnknownNames::Default,
            tickets: OrOff::On(Tickets::default()),
            passthrough: Passthrough::default(),
        }
    }
}

/// A certificate chain and its private key, as PEM files; or a certificate that is ordered from an authority.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The chain: the server's certificate first, then the intermediates.
    #[serde(default)]
    pub cert: Option<Located<PathBuf>>,
    /// The private key (PKCS#8, PKCS#1 or SEC1), not encrypted.
    #[serde(default)]
    pub key: Option<Located<PathBuf>>,
    /// The authority under `acme` that it is ordered from, instead of `cert` and `key`.
    #[serde(default)]
    pub acme: Option<Located<String>>,
    /// The names that this certificate serves, `*.` wildcards included; those in the certificate without it.
    /// One that is ordered needs them.
    #[serde(default)]
    pub names: Vec<Located<String>>,
    /// The oldest TLS version accepted for these names; that of the listener without it.
    #[serde(default)]
    pub min_version: Option<TlsVersion>,
    /// The newest TLS version spoken for these names; that of the listener without it.
    #[serde(default)]
    pub max_version: Option<TlsVersion>,
    /// What the authority says of the certificate (an OCSP response, DER), to be shown with it.
    #[serde(default)]
    pub ocsp: Option<Located<PathBuf>>,
    /// Clients that ask for these names are asked for a certificate, or are not (`off`); as on the listener
    /// without it.
    #[serde(default)]
    pub client_auth: Option<OrOff<Located<ClientAuth>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// What is done with a client that asks for a name which no certificate serves, or for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNames {
    /// It is shown the first certificate.
    Default,
    /// The handshake is refused (alert `unrecognized_name`).
    Refuse,
}

/// Session tickets.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tickets {
    /// Files with secrets, the same for all replicas: the first of all makes tickets, each opens those it has made. A
    /// file is 48 or 80 random bytes, or lines of base64 with at least 32 bytes each. Without files, random
    /// secrets of the process, a new one every 12 hours.
    pub keys: OneOrMany<Located<PathBuf>>,
    /// How long a ticket is good for, at most 7 days.
    pub lifetime: Time,
}

impl Default for Tickets {
    fn default() -> Self {
        Tickets { keys: OneOrMany::default(), lifetime: Time::secs(12 * 60 * 60) }
    }
}

/// Which certificates clients have to show.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// PEM files with the authorities whose certificates are believed.
    pub ca: OneOrMany<Located<PathBuf>>,
    /// PEM files with lists of revoked certificates (CRL). Where there are any, every certificate of a chain needs
    /// one from its issuer.
    #[serde(default)]
    pub crl: OneOrMany<Located<PathBuf>>,
    /// Whether there is no connection without a certificate.
    #[serde(default)]
    pub mode: ClientAuthMode,
}

/// Whether clients need a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthMode {
    /// No connection without one.
    #[default]
    Required,
    /// A client may show one; if it does, it has to be a good one.
    Optional,
}

macro_rules! ciphers {
    ($($variant:ident $iana:literal $openssl:literal,)*) => {
        /// A cipher suite, by the name that IANA has given it or the one that OpenSSL has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
        #[expect(non_camel_case_types, reason = "they are known by these names")]
        pub enum Cipher {
            $(#[serde(rename = $iana, alias = $openssl)] $variant,)*
        }

        impl Cipher {
            /// As rustls knows it.
            pub fn suite(self) -> CipherSuite {
                match self { $(Cipher::$variant => CipherSuite::$variant,)* }
            }

            /// IANA's name; empty for a suite that is none of these.
            pub fn name_of(suite: CipherSuite) -> &'static str {
                match suite {
                    $(CipherSuite::$variant => $iana,)*
                    _ => "",
                }
            }
        }

        impl JsonSchema for Cipher {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                "Cipher".into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut names = vec![$($iana, $openssl),*];
                names.dedup();
                schemars::json_schema!({ "type": "string", "enum": names })
            }
        }
    };
}

ciphers! {
    TLS13_AES_256_GCM_SHA384 "TLS_AES_256_GCM_SHA384" "TLS_AES_256_GCM_SHA384",
    TLS13_AES_128_GCM_SHA256 "TLS_AES_128_GCM_SHA256" "TLS_AES_128_GCM_SHA256",
    TLS13_CHACHA20_POLY1305_SHA256 "TLS_CHACHA20_POLY1305_SHA256" "TLS_CHACHA20_POLY1305_SHA256",
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" "ECDHE-ECDSA-AES256-GCM-SHA384",
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" "ECDHE-ECDSA-AES128-GCM-SHA256",
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" "ECDHE-ECDSA-CHACHA20-POLY1305",
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" "ECDHE-RSA-AES256-GCM-SHA384",
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" "ECDHE-RSA-AES128-GCM-SHA256",
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" "ECDHE-RSA-CHACHA20-POLY1305",
}
