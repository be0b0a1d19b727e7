//! `acme`: the authorities that certificates are ordered from.

use crate::config::decode::Located;
use crate::config::secret::Secret;
use crate::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The directory of Let's Encrypt, whose certificates every browser accepts.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// An authority that certificates are ordered from and renewed by, over ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// The URL of the authority's directory; that of Let's Encrypt without it.
    pub directory: Located<String>,
    /// A PEM file with the authorities that have signed the certificate of the directory's own server; those that
    /// the system trusts without it.
    pub ca: Option<Located<PathBuf>>,
    /// Whom the authority may write to: addresses of mail.
    pub contact: Vec<Located<String>>,
    /// That you have read the authority's terms of service and agree to them. Required.
    pub accept_terms: bool,
    /// The directory that accounts, keys and certificates are kept in. Required: what is lost with it is ordered anew.
    pub storage: Option<Located<PathBuf>>,
    /// How the authority sees that a name is ours: `http-01` asks on port 80, `tls-alpn-01` on port 443.
    pub challenge: AcmeChallenge,
    /// The account that you have with the authority already, where it asks for one.
    pub external_account: Option<Located<ExternalAccount>>,
    /// The profile of certificates to ask for, where the authority has several.
    pub profile: Option<Located<String>>,
    /// How long before its end a certificate is renewed; a third of its lifetime without it. An authority that says
    /// itself when (RFC 9773) is heeded before this.
    pub renew_before: Option<Located<Time>>,
    /// How long to wait after an order that failed.
    pub retry: AcmeRetry,
}

impl Default for Acme {
    fn default() -> Self {
        Acme {
            directory: Located::from(LETS_ENCRYPT.to_string()),
            ca: None,
            contact: Vec::new(),
            accept_terms: false,
            storage: None,
            challenge: AcmeChallenge::default(),
            external_account: None,
            profile: None,
            renew_before: None,
            retry: AcmeRetry::default(),
        }
    }
}

/// How the authority sees that a name is ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AcmeChallenge {
    /// It asks for a file on port 80 (RFC 8555 §8.3).
    #[default]
    #[serde(rename = "http-01")]
    Http01,
    /// It opens TLS on port 443 in a way of its own (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

/// External account binding (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccount {
    /// The key identifier that the authority has given you.
    pub key_id: Located<String>,
    /// The key that belongs to it, in base64url.
    pub hmac_key: Located<Secret>,
}

/// How long to wait after an order that failed: `first`, then three times as long after each further one, to `max`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeRetry {
    /// After the first failure.
    pub first: Located<Time>,
    /// The longest wait.
    pub max: Located<Time>,
}

impl Default for AcmeRetry {
    fn default() -> Self {
        AcmeRetry { first: Located::from(Time::secs(60)), max: Located::from(Time::secs(6 * 3600)) }
    }
}
