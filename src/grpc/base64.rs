//! The base64 of gRPC-Web's text: a body is one or more texts of it, each with its padding, one after the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Reads text that comes in pieces.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder {
    /// What is not a group of four yet.
    begun: [u8; 4],
    length: usize,
}

impl Decoder {
    /// What this piece brings; `end` with the last one. `None`: it is not base64.
    pub fn decode(&mut self, piece: &[u8], end: bool) -> Option<Bytes> {
        let mut text = Vec::with_capacity(self.length + piece.len());
        text.extend_from_slice(self.begun.get(..self.length)?);
        text.extend_from_slice(piece);
        let whole = text.len() - text.len() % 4;
        let (groups, rest) = text.split_at_checked(whole)?;
        self.length = rest.len();
        self.begun.get_mut(..rest.len())?.copy_from_slice(rest);
        if end && self.length > 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(whole / 4 * 3);
        let mut groups = groups;
        while !groups.is_empty() {
            // padding ends a text, and another may follow
            let padded =
                groups.iter().position(|byte| *byte == b'=').map_or(groups.len(), |at| at / 4 * 4 + 4);
            let (one, others) = groups.split_at_checked(padded)?;
            STANDARD.decode_vec(one, &mut bytes).ok()?;
            groups = others;
        }
        Some(bytes.into())
    }
}

/// A text of its own.
pub fn encode(bytes: &[u8]) -> Bytes {
    STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_anywhere_is_read_whole() {
        let text = [encode(b"one"), encode(b"a"), encode(b""), encode(b"four bytes")].concat();
        for size in 1..=text.len() {
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for piece in text.chunks(size) {
                read.extend_from_slice(&decoder.decode(piece, false).unwrap());
            }
            assert!(decoder.decode(b"", true).unwrap().is_empty());
            assert_eq!(read, b"oneafour bytes", "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["AAA", "AA=A", "====", "A===", "A A=", "AAA-", "\u{e9}\u{e9}"] {
            assert_eq!(Decoder::default().decode(text.as_bytes(), true), None, "{text}");
        }
    }
}
