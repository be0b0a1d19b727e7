//! A WebSocket, as far as its end concerns us: the frames that pass to the client are measured, not
//! read, so that a close frame of our own can follow the last one when the connection is cut.
//! Owned by the `conn` of a client that asked for the upgrade, or by the `http2::websocket` of one that could not.

/// A close frame with status 1001, "going away" (RFC 6455 §5.5.1 and §7.4.1).
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

const CLOSE: u8 = 0x8;
/// The longest head of a frame: two bytes, eight of length, four of mask.
const LONGEST: usize = 14;

/// Where in the stream to the client we are.
#[derive(Debug)]
pub struct Tunnel(State);

#[derive(Debug)]
enum State {
    /// In the head of a response: as much of its first line as has the status, and its last bytes.
    Head { line: [u8; 12], have: usize, last: u32 },
    /// In the head of a frame, or between two.
    Frame { head: [u8; LONGEST], have: usize },
    /// So much of a payload is still to come.
    Payload(u64),
    /// The server has closed, or did not switch protocols.
    Over,
}

const HEAD: State = State::Head { line: [0; 12], have: 0, last: 0 };
const FRAME: State = State::Frame { head: [0; LONGEST], have: 0 };

impl Tunnel {
    /// For a request with this head; `None` unless it asks for a WebSocket.
    pub fn asked_for(head: &[u8]) -> Option<Tunnel> {
        let is_upgrade = |line: &&[u8]| {
            line.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade:"))
                && line.get(8..).unwrap_or_default().trim_ascii().eq_ignore_ascii_case(b"websocket")
        };
        head.split(|byte| *byte == b'\n').any(|line| is_upgrade(&line)).then_some(Tunnel(HEAD))
    }

    /// For one that has been switched to already.
    pub fn begun() -> Tunnel {
        Tunnel(FRAME)
    }

    /// These bytes pass to the client.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            bytes = match &mut self.0 {
                State::Over => return,
                State::Payload(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    if *left == 0 {
                        self.0 = FRAME;
                    }
                    bytes.get(here..).unwrap_or_default()
                }
                State::Head { .. } => {
                    self.head(*first);
                    rest
                }
                State::Frame { .. } => {
                    self.frame(*first);
                    rest
                }
            };
        }
    }

    /// A frame may follow.
    pub fn between_frames(&self) -> bool {
        matches!(self.0, State::Frame { have: 0, .. })
    }

    fn head(&mut self, byte: u8) {
        let State::Head { line, have, last } = &mut self.0 else { return };
        if let Some(place) = line.get_mut(*have) {
            *place = byte;
            *have += 1;
        }
        *last = *last << 8 | u32::from(byte);
        if last.to_be_bytes() == *b"\r\n\r\n" {
            self.0 = match &line[9..] {
                b"101" => FRAME,
                [b'1', ..] => HEAD,
                _ => State::Over,
            };
        }
    }

    /// RFC 6455 §5.2.
    fn frame(&mut self, byte: u8) {
        let State::Frame { head, have } = &mut self.0 else { return };
        if let Some(place) = head.get_mut(*have) {
            *place = byte;
            *have += 1;
        }
        let length = match head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if head[1] & 0x80 == 0 { 0 } else { 4 };
        if *have < 2 || *have < 2 + length + mask {
            return;
        }
        let payload = match length {
            0 => u64::from(head[1] & 0x7f),
            n => head[2..2 + n].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.0 = match (head[0] & 0xf, payload) {
            (CLOSE, _) => State::Over,
            (_, 0) => FRAME,
            (_, n) => State::Payload(n),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn tunnel() -> Tunnel {
        Tunnel::asked_for(b"GET / HTTP/1.1\r\nHost: a\r\nuPGRADE: WebSocket \r\n\r\n").unwrap()
    }

    #[test]
    fn only_a_websocket_is_measured() {
        assert!(Tunnel::asked_for(b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n").is_none());
        assert!(Tunnel::asked_for(b"GET / HTTP/1.1\r\nX-Upgrade: websocket\r\n\r\n").is_none());
        let mut declined = tunnel();
        declined.pass(b"HTTP/1.1 200 OK\r\n\r\n");
        assert!(!declined.between_frames());
        let mut early = tunnel();
        early.pass(b"HTTP/1.1 103 Early Hints\r\n\r\n");
        assert!(!early.between_frames());
        early.pass(SWITCHING);
        assert!(early.between_frames());
    }

    /// Frames of every kind of length, in pieces of every size: a frame may follow exactly where one ends.
    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        let mut stream = SWITCHING.to_vec();
        let mut ends = vec![stream.len()];
        for (head, payload) in [
            (vec![0x81, 0], 0),
            (vec![0x81, 125], 125),
            (vec![0x82, 126, 0, 200], 200),
            (vec![0x01, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65536),
            (vec![0x89, 0x83, 1, 2, 3, 4], 3),
        ] {
            stream.extend(head);
            // looks like frames, and is not
            stream.extend(std::iter::repeat_n(0x88, payload));
            ends.push(stream.len());
        }
        for size in [1, 2, 3, 7, 100, 4096, stream.len()] {
            let (mut tunnel, mut at) = (tunnel(), 0);
            for piece in stream.chunks(size) {
                tunnel.pass(piece);
                at += piece.len();
                assert_eq!(tunnel.between_frames(), ends.contains(&at), "pieces of {size}, after {at}");
            }
        }
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut tunnel = tunnel();
        tunnel.pass(SWITCHING);
        tunnel.pass(&GOING_AWAY);
        assert!(!tunnel.between_frames());
    }
}
