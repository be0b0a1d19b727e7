//! What is wrong with a server, in plain words. Called by health checks and by `http::forward`.

use crate::units::Time;
use pingora_core::{Error, ErrorType};
use std::error::Error as _;
use std::io;
use std::time::Duration;

/// An answer that came but is not the expected one; the context of the error says what is wrong.
pub const UNEXPECTED: ErrorType = ErrorType::Custom("UnexpectedAnswer");

/// A server that was to speak HTTP/2 does not; the context of the error says so.
pub const NO_H2: ErrorType = ErrorType::Custom("NoHttp2");

pub fn no_answer(timeout: Duration) -> String {
    format!("no answer within {}", Time(timeout))
}

pub fn no_handshake(timeout: Duration) -> String {
    format!("TLS: no handshake within {}", Time(timeout))
}

/// The reason of a failed check or try. `timeout` is what it was allowed.
pub fn words(error: &Error, timeout: Duration) -> String {
    let root = root(error);
    match root.etype() {
        etype if *etype == UNEXPECTED || *etype == NO_H2 => {
            root.context.as_ref().map_or("", |c| c.as_str()).to_string()
        }
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectNoRoute => "no route to the server".into(),
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => no_answer(timeout),
        ErrorType::ConnectionClosed => "connection closed before the answer was complete".into(),
        ErrorType::ReadError | ErrorType::WriteError => match os_error(root) {
            Some(kind) => kind.to_string(),
            None => "connection lost".into(),
        },
        ErrorType::TLSHandshakeFailure => handshake(root.context.as_ref().map_or("", |c| c.as_str())),
        ErrorType::HTTPStatus(status) => format!("status {status}"),
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::InvalidH2 => {
            "the answer is not valid HTTP".into()
        }
        ErrorType::H2Error | ErrorType::H2Downgrade | ErrorType::HandshakeError => h2(root),
        other => match os_error(root) {
            Some(kind) => kind.to_string(),
            None => other.as_str().to_string(),
        },
    }
}

/// Why a handshake failed, in rustls's words where there are no plainer ones.
pub fn tls(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => tls_error(&error.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => tls_error("handshake eof"),
        None => format!("TLS: {}", error.kind()),
    }
}

/// The same where Pingora has made a text of it: `... cause: WHY, SNI: NAME`.
fn handshake(context: &str) -> String {
    let why = context.rsplit_once(", SNI: ").map_or(context, |(why, _)| why);
    let why = why.rsplit_once("cause: ").map_or(why, |(_, why)| why);
    tls_error(why)
}

fn tls_error(why: &str) -> String {
    const PLAIN: [(&str, &str); 6] = [
        ("received corrupt message", "the server does not speak it on this port"),
        ("UnknownIssuer", "the certificate is from an authority that is not trusted"),
        ("handshake eof", "connection closed during the handshake"),
        ("NoApplicationProtocol", "the server does not speak the protocol that is wanted (ALPN)"),
        ("CertificateRequired", "the server wants a certificate of ours (`cert` and `key`)"),
        ("UnknownCA", "the server does not trust our certificate"),
    ];
    match PLAIN.iter().find(|(word, _)| why.contains(word)) {
        Some((_, plain)) => format!("TLS: {plain}"),
        None => format!("TLS: {why}"),
    }
}

fn h2(error: &Error) -> String {
    match h2_cause(error).and_then(h2::Error::reason) {
        Some(reason) => format!("HTTP/2: {reason}"),
        None => match os_error(error) {
            Some(kind) => kind.to_string(),
            None => "HTTP/2: connection lost".into(),
        },
    }
}

/// What HTTP/2 says, if it was that.
pub fn h2_cause(error: &Error) -> Option<&h2::Error> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        cause = error.source();
    }
    None
}

/// The innermost of Pingora's errors.
fn root(error: &Error) -> &Error {
    let mut root = error;
    while let Some(cause) = root.cause.as_ref().and_then(|cause| cause.downcast_ref::<Box<Error>>()) {
        root = cause;
    }
    root
}

/// What the operating system called it, if it came from there.
fn os_error(error: &Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}
