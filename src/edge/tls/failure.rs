//! Which kind of failure of a handshake an error is, for metrics: few, and none that a client could invent.

use crate::observe::metrics::HandshakeFailure;
use rustls::Error;
use std::io;

/// The kind of this error of a handshake.
pub fn kind(error: &io::Error) -> HandshakeFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => of_tls(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => HandshakeFailure::Closed,
            _ => HandshakeFailure::Other,
        },
    }
}

fn of_tls(error: &Error) -> HandshakeFailure {
    match error {
        Error::AlertReceived(_) => HandshakeFailure::Alert,
        Error::NoCertificatesPresented
        | Error::InvalidCertificate(_)
        | Error::InvalidCertRevocationList(_)
        | Error::UnsupportedNameType => HandshakeFailure::ClientCertificate,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeFailure::Incompatible,
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => HandshakeFailure::Malformed,
        _ => HandshakeFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, InvalidMessage, PeerIncompatible};

    #[test]
    fn kinds_of_failure() {
        use HandshakeFailure::{Alert, ClientCertificate, Closed, Incompatible, Malformed, Other};
        let of_tls = |error: Error| kind(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of_tls(Error::AlertReceived(rustls::AlertDescription::UnknownCA)), Alert);
        assert_eq!(of_tls(Error::InvalidCertificate(CertificateError::Expired)), ClientCertificate);
        assert_eq!(of_tls(Error::NoCertificatesPresented), ClientCertificate);
        assert_eq!(of_tls(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)), Incompatible);
        assert_eq!(of_tls(Error::InvalidMessage(InvalidMessage::InvalidContentType)), Malformed);
        assert_eq!(of_tls(Error::General("?".into())), Other);
        assert_eq!(kind(&io::ErrorKind::UnexpectedEof.into()), Closed);
        assert_eq!(kind(&io::Error::other("?")), Other);
    }
}
