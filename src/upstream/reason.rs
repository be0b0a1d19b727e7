//! What is wrong with a server, in plain words. Called by health checks and by `http::forward`.

use crate::units::Time;
use pingora_core::{Error, ErrorType};
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

/// What the network says of a port at which nobody is (ICMP port unreachable).
pub const NO_DATAGRAMS: &str = "nobody takes datagrams at its port (ICMP)";

/// A connection that did not come about.
pub fn not_connected(error: io::Error) -> Box<Error> {
    let etype = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::AddrNotAvailable => ErrorType::BindError,
        _ => ErrorType::ConnectError,
    };
    Error::because(etype, "connecting", error)
}

/// Whether it can be the server's fault: not that we had no socket to spare.
pub fn is_servers(error: &Error) -> bool {
    !matches!(error.etype(), ErrorType::SocketError | ErrorType::BindError | ErrorType::InternalError)
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
            Some(kind) => system(kind),
            None => other.as_str().to_string(),
        },
    }
}

/// What the system says, as far as it is about a unix socket in its terms.
fn system(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "no permission to connect".into(),
        io::ErrorKind::WouldBlock => "too many connections wait there already".into(),
        kind => kind.to_string(),
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
    const PLAIN: [(&str, &str); 8] = [
        ("received corrupt message", "the server does not speak it on this port"),
        ("UnknownIssuer", "the certificate is from an authority that is not trusted"),
        // of the same name as one that is trusted
        ("BadSignature", "the certificate is from an authority that is not trusted"),
        // what `openssl req -x509` makes, unless told otherwise
        ("CaUsedAsEndEntity", "the certificate is that of an authority (CA:TRUE), not that of a server"),
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
    cause(error)
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
    cause(error).map(io::Error::kind)
}

/// The first error of this kind that is behind it: Pingora's errors do not name theirs as a source.
fn cause<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.root_cause());
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_an_error_is_told() {
        let lost =
            Error::because(ErrorType::ReadError, "reading", io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(words(&lost, Duration::ZERO), "broken pipe");
        assert_eq!(words(&lost.more_context("in a try"), Duration::ZERO), "broken pipe");
        let unknown = Error::explain(ErrorType::ReadError, "reading");
        assert_eq!(words(&unknown, Duration::ZERO), "connection lost");
        let gone = not_connected(io::ErrorKind::NotFound.into());
        assert_eq!(words(&gone, Duration::ZERO), "there is no such file");
        let refused = h2::Error::from(h2::Reason::REFUSED_STREAM);
        let refused = Error::because(ErrorType::H2Error, "while reading h2 header", refused);
        assert_eq!(
            words(&refused, Duration::ZERO),
            "HTTP/2: refused stream before processing any application logic"
        );
        let silent = Error::explain(ErrorType::ReadTimedout, "reading");
        assert_eq!(words(&silent, Duration::from_secs(2)), "no answer within 2s");
    }

    #[test]
    fn why_a_handshake_failed() {
        for (context, told) in [
            (
                "TLS connect() failed:  TLSHandshakeFailure context: tls connect error cause: invalid peer certificate: UnknownIssuer, SNI: api.internal",
                "TLS: the certificate is from an authority that is not trusted",
            ),
            (
                "TLS connect() failed:  TLSHandshakeFailure context: tls connect error cause: tls handshake eof, SNI: 127.0.0.1",
                "TLS: connection closed during the handshake",
            ),
            ("TLS connect() failed:  cause: something else, SNI: x", "TLS: something else"),
        ] {
            let error = Error::explain(ErrorType::TLSHandshakeFailure, context);
            assert_eq!(words(&error, Duration::ZERO), told);
        }
    }
}
