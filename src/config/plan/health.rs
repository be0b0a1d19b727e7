//! Health checks, resolved: one question, its words compiled, its files read.

use super::Pattern;
use crate::config::file::{GrpcCheck, InitialHealth};
use crate::config::words::{HostName, StatusRange};
use crate::units::Size;
use rustls_pki_types::CertificateDer;
use std::num::NonZeroU16;
use std::time::Duration;

/// How the servers of a group are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    pub question: Question,
    pub tls: Option<CheckTls>,
    /// `None`: the server's own.
    pub port: Option<NonZeroU16>,
    pub interval: Duration,
    pub unhealthy_interval: Duration,
    pub timeout: Duration,
    pub healthy_after: NonZeroU16,
    pub unhealthy_after: NonZeroU16,
    pub initial: InitialHealth,
}

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Tcp,
    Http(HttpCheck),
    Grpc(GrpcCheck),
}

#[derive(Debug, Clone, PartialEq)]
pub struct HttpCheck {
    pub method: http::Method,
    pub path: String,
    /// `None`: the server's address.
    pub host: Option<HostName>,
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    pub status: Vec<StatusRange>,
    pub body: Option<BodyMatch>,
    pub max_body_bytes: Size,
}

/// What the body of an answer must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum BodyMatch {
    /// Not empty.
    Contains(String),
    Regex(Pattern),
}

#[derive(Debug, Clone, PartialEq)]
pub struct CheckTls {
    /// A DNS name or an address, without port; `None`: the server's address.
    pub name: Option<String>,
    pub trust: Trust,
}

/// Whose certificates are believed.
#[derive(Clone, PartialEq)]
pub enum Trust {
    /// Of the authorities that the system trusts.
    System,
    /// Of these authorities (DER).
    These(Vec<CertificateDer<'static>>),
    Anyone,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trust::System => f.write_str("System"),
            Trust::These(authorities) => write!(f, "These({})", authorities.len()),
            Trust::Anyone => f.write_str("Anyone"),
        }
    }
}
