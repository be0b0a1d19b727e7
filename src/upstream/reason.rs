//! What is wrong with a server, in plain words. Called by health checks and by `http::forward`.

use crate::units::Time;
use pingora_core::{Error, ErrorType};
use std::error::Error as _;
use std::io;
use std::time::Duration;

/// An answer that came but is not the expected one; the context of the error says what is wrong.
pub const UNEXPECTED: ErrorType = ErrorType::Custom("UnexpectedAnswer");

pub fn no_answer(timeout: Duration) -> String {
    format!("no answer within {}", Time(timeout))
}

/// The reason of a failed check or try. `timeout` is what it was allowed.
pub fn words(error: &Error, timeout: Duration) -> String {
    let root = root(error);
    match root.etype() {
        etype if *etype == UNEXPECTED => root.context.as_ref().map_or("", |c| c.as_str()).to_string(),
        ErrorType::ConnectRefused => "connection refused".into(),
        ErrorType::ConnectNoRoute => "no route to the server".into(),
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => no_answer(timeout),
        ErrorType::ConnectionClosed => "connection closed before the answer was complete".into(),
        ErrorType::ReadError | ErrorType::WriteError => match os_error(root) {
            Some(kind) => kind.to_string(),
            None => "connection lost".into(),
        },
        ErrorType::HTTPStatus(status) => format!("status {status}"),
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error => "the answer is not valid HTTP".into(),
        other => match os_error(root) {
            Some(kind) => kind.to_string(),
            None => other.as_str().to_string(),
        },
    }
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
