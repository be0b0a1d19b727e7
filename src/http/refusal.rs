//! Why the gate answers a request itself, and what the edge says when a head is not fit to be served.

use super::Connection;
use http::StatusCode;
use std::time::{Duration, Instant};

/// A request the gate answers itself with a short reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// The request breaks the protocol; the reason is for the log.
    BadRequest(&'static str),
    Forbidden,
    /// No route matches.
    NotFound,
    MethodNotAllowed,
    /// The client took too long to send its head or body.
    RequestTimeout,
    BodyTooLarge,
    UriTooLong,
    /// The head is too large or has too many headers.
    HeadersTooLarge,
    Internal,
    NotImplemented,
    /// No server could be reached, or one broke off its answer.
    BadGateway,
    /// No server of the group is up.
    Unavailable,
    /// The group is full, and so is the queue in front of it.
    QueueFull,
    /// The group is full, and no turn came in time.
    QueuedTooLong,
    /// The breaker of the group is open, for so long as far as is known.
    CircuitOpen {
        left: Duration,
    },
    /// A server took too long.
    GatewayTimeout(Phase),
    VersionNotSupported,
    /// The host has other terms of TLS than the name that the connection was opened for.
    Misdirected,
    /// A filter said so; the reason is for the log.
    Filter(StatusCode, &'static str),
}

/// What took a server too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `timeouts.connect`
    Connect,
    /// `timeouts.tls`
    Tls,
    /// `timeouts.first_byte`
    FirstByte,
    /// `timeouts.response`
    Silence,
    /// `timeouts.try`
    Try,
    /// `timeouts.request`
    Request,
    /// `grpc-timeout`, which the client of a call has sent
    Deadline,
}

impl Phase {
    /// What the access log says.
    pub fn reason(self) -> &'static str {
        match self {
            Phase::Connect => "connect timed out",
            Phase::Tls => "tls timed out",
            Phase::FirstByte => "first byte timed out",
            Phase::Silence => "response timed out",
            Phase::Try => "try timed out",
            Phase::Request => "request timed out",
            Phase::Deadline => "deadline exceeded",
        }
    }
}

impl Reject {
    pub fn status(self) -> StatusCode {
        match self {
            Reject::BadRequest(_) => StatusCode::BAD_REQUEST,
            Reject::Forbidden => StatusCode::FORBIDDEN,
            Reject::NotFound => StatusCode::NOT_FOUND,
            Reject::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Reject::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Reject::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reject::UriTooLong => StatusCode::URI_TOO_LONG,
            Reject::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reject::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Reject::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Reject::BadGateway => StatusCode::BAD_GATEWAY,
            Reject::Unavailable | Reject::QueueFull | Reject::QueuedTooLong | Reject::CircuitOpen { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Reject::GatewayTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Reject::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Reject::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Reject::Filter(status, _) => status,
        }
    }

    /// What the access log says.
    pub fn reason(self) -> &'static str {
        match self {
            Reject::BadRequest(reason) | Reject::Filter(_, reason) => reason,
            Reject::Forbidden => "forbidden",
            Reject::NotFound => "no route",
            Reject::MethodNotAllowed => "method not allowed",
            Reject::RequestTimeout => "client too slow",
            Reject::BodyTooLarge => "body too large",
            Reject::UriTooLong => "request target too long",
            Reject::HeadersTooLarge => "head too large",
            Reject::Internal => "internal error",
            Reject::NotImplemented => "not implemented",
            Reject::BadGateway => "no server answered",
            Reject::Unavailable => "no healthy server",
            Reject::QueueFull => "queue full",
            Reject::QueuedTooLong => "queued too long",
            Reject::CircuitOpen { .. } => "circuit open",
            Reject::GatewayTimeout(phase) => phase.reason(),
            Reject::VersionNotSupported => "protocol version",
            Reject::Misdirected => "misdirected",
        }
    }

    /// Whether what the client sends next could be misread, or is not wanted.
    pub fn closes(self) -> bool {
        match self {
            Reject::BadRequest(_)
            | Reject::RequestTimeout
            | Reject::BodyTooLarge
            | Reject::UriTooLong
            | Reject::HeadersTooLarge
            | Reject::VersionNotSupported
            | Reject::Internal => true,
            Reject::Forbidden
            | Reject::NotFound
            | Reject::MethodNotAllowed
            | Reject::NotImplemented
            | Reject::BadGateway
            | Reject::Unavailable
            | Reject::QueueFull
            | Reject::QueuedTooLong
            | Reject::CircuitOpen { .. }
            | Reject::GatewayTimeout(_)
            | Reject::Misdirected
            | Reject::Filter(..) => false,
        }
    }
}

/// A head that the edge will not pass on.
pub struct Refusal<'a> {
    pub reject: Reject,
    pub connection: &'a Connection,
    /// The bytes of the head read so far, whatever they are.
    pub head: &'a [u8],
    /// When its first byte came.
    pub started: Instant,
}

/// Turns a refusal into the bytes of a whole HTTP/1.1 response and a line in the access log.
pub trait HeadRefuser: Send + Sync {
    fn refuse(&self, refusal: Refusal<'_>) -> Vec<u8>;
}
