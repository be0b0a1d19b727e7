//! Of a listener: its connections, their handshakes and the requests on them.

use super::cells::Cells;
use super::kept::{Kept, Part};
use super::labels::{CODES, HandshakeFailure, NotAdmitted, Protocol, TlsVersion, code};

/// Of a listener.
#[derive(Debug)]
pub struct Listener(Cells);

pub(super) const REQUESTS: usize = 0;
pub(super) const ACCEPTED: usize = REQUESTS + Protocol::WORDS.len() * CODES.len();
pub(super) const REFUSED: usize = ACCEPTED + 1;
pub(super) const HANDSHAKES: usize = REFUSED + NotAdmitted::WORDS.len();
pub(super) const FAILED: usize = HANDSHAKES + TlsVersion::WORDS.len() * RESUMED.len();
const PLACES: usize = FAILED + HandshakeFailure::WORDS.len();

/// Whether a session was resumed.
pub(super) const RESUMED: &[&str] = &["false", "true"];

impl Default for Listener {
    fn default() -> Self {
        Listener(Cells::new(PLACES))
    }
}

impl Kept for Listener {
    const KIND: &'static str = "listener";

    fn parts() -> Vec<Part> {
        vec![
            Part::pairs("requests", REQUESTS, Protocol::WORDS, CODES),
            Part::one("accepted", ACCEPTED),
            Part::each("refused", REFUSED, NotAdmitted::WORDS),
            Part::pairs("handshakes", HANDSHAKES, TlsVersion::WORDS, RESUMED),
            Part::each("handshakes_failed", FAILED, HandshakeFailure::WORDS),
        ]
    }

    fn cells(&self) -> &Cells {
        &self.0
    }
}

impl Listener {
    /// A connection was accepted. It may be refused yet.
    pub fn accepted(&self) {
        self.0.add(ACCEPTED, 1);
    }

    /// A connection was closed at once.
    pub fn refused(&self, why: NotAdmitted) {
        self.0.add(REFUSED + why.place(), 1);
    }

    pub fn handshake(&self, version: TlsVersion, resumed: bool) {
        self.0.add(HANDSHAKES + version.place() * RESUMED.len() + usize::from(resumed), 1);
    }

    pub fn handshake_failed(&self, why: HandshakeFailure) {
        self.0.add(FAILED + why.place(), 1);
    }

    /// A request ended, with this status or without an answer (0).
    pub fn request(&self, protocol: Protocol, status: u16) {
        self.0.add(REQUESTS + protocol.place() * CODES.len() + code(status), 1);
    }
}
