//! Certificates that are ordered from an authority, resolved: the authority, and the names of each.

use super::Trust;
use crate::config::file::AcmeChallenge;
use crate::config::secret::Secret;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An authority that speaks ACME (RFC 8555), and what it is told about us.
#[derive(Debug, Clone, PartialEq)]
pub struct Authority {
    /// As the configuration calls it.
    pub name: String,
    /// The URL of its directory (RFC 8555 §7.1.1): https.
    pub directory: String,
    /// Whose certificate the authority's own server has to show.
    pub trust: Trust,
    /// URLs: `mailto:admin@example.com`.
    pub contact: Vec<String>,
    pub external_account: Option<ExternalAccount>,
    pub challenge: AcmeChallenge,
    /// The certificate profile to ask for.
    pub profile: Option<String>,
    /// Absolute: the directory that accounts and certificates are kept in.
    pub storage: PathBuf,
    /// How long before its end a certificate is renewed; `None`: a third of its lifetime.
    pub renew_before: Option<Duration>,
    /// The wait after the first failure, and the longest.
    pub retry: (Duration, Duration),
}

/// An account that the operator has with the authority already (RFC 8555 §7.3.4).
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalAccount {
    pub key_id: String,
    /// Decoded.
    pub hmac_key: HmacKey,
}

/// The key of an external account.
#[derive(Clone, PartialEq, Eq)]
pub struct HmacKey(pub Vec<u8>);

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // as every secret is shown
        std::fmt::Debug::fmt(&Secret::new(""), f)
    }
}

/// A certificate to be ordered, and renewed for as long as a listener shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ordered {
    pub authority: Arc<Authority>,
    /// Lower case, in order and each once: at least one, none a wildcard.
    pub names: Vec<String>,
}
