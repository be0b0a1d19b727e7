//! Health checks, resolved: one question, its words compiled, its files read.

use super::{Pattern, UpstreamTls};
use crate::config::file::{GrpcCheck, InitialHealth, SendProxy};
use crate::config::words::{HostName, StatusRange};
use crate::units::Size;
use std::num::NonZeroU16;
use std::time::Duration;

/// How the servers of a group are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    pub question: Question,
    pub tls: Option<UpstreamTls>,
    /// `None`: the server's own.
    pub port: Option<NonZeroU16>,
    pub interval: Duration,
    pub unhealthy_interval: Duration,
    pub timeout: Duration,
    pub healthy_after: NonZeroU16,
    pub unhealthy_after: NonZeroU16,
    pub initial: InitialHealth,
    /// Of the group: its servers wait for a header, in checks too.
    pub send_proxy: Option<SendProxy>,
}

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    Tcp,
    Http(HttpCheck),
    Grpc(GrpcCheck),
    Udp(UdpCheck),
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

/// A datagram, and what its answer must be like; `None`: any will do.
#[derive(Debug, Clone, PartialEq)]
pub struct UdpCheck {
    pub send: Vec<u8>,
    pub expect: Option<UdpAnswer>,
}

/// What the answer to a datagram must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum UdpAnswer {
    /// Not empty.
    Contains(Vec<u8>),
    Regex(Pattern),
}
