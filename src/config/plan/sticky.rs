//! How the clients of a group stay with their servers.

use crate::config::file::{SameSite, Secure};
use crate::config::secret::Secret;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub enum Sticky {
    Cookie(StickyCookie),
    Learn(Learn),
}

/// A cookie of the gate's own.
#[derive(Debug, Clone, PartialEq)]
pub struct StickyCookie {
    /// A token (RFC 9110 §5.6.2).
    pub name: String,
    pub secret: Secret,
    pub previous_secret: Option<Secret>,
    /// At least a second. `None`: until the browser is closed.
    pub ttl: Option<Duration>,
    pub path: String,
    pub domain: Option<String>,
    pub same_site: SameSite,
    pub secure: Secure,
    pub http_only: bool,
}

/// A value that servers set.
#[derive(Debug, Clone, PartialEq)]
pub struct Learn {
    pub from: LearnFrom,
    /// Since the last use.
    pub ttl: Duration,
    pub entries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LearnFrom {
    Cookie(String),
    Header(http::HeaderName),
}
