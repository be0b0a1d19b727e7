//! The chunked coding of a request body (RFC 9112 §7.1), checked as it passes and watched for its
//! end. Pure; called by `conn`. The parser behind it takes an empty size for zero, and any bytes
//! in an extension: differences that smuggling is made of.

use super::head::{TOKEN, VALUE, is};

/// Bytes of all extensions together, and of all trailers together.
const MAX_EXTRA: usize = 8 * 1024;
/// 15 hexadecimal digits cannot overflow.
const MAX_DIGITS: u8 = 15;

/// Follows a chunked body over any number of reads.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the current chunk, or what is left of them.
    left: u64,
    digits: u8,
    extra: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Whitespace after the size, which must lead to an extension.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a trailer line, or of the empty line at the end.
    Line,
    Name,
    Value,
    ValueLf,
    EndLf,
    Done,
}

impl Chunked {
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// How many of `bytes` belong to the body; fewer than all only at its end.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        loop {
            at += self.skip(bytes.get(at..).unwrap_or_default())?;
            match self.data(bytes.len() - at) {
                0 => return Ok(at),
                here => at += here,
            }
        }
    }

    /// How many of `bytes` come before data or the end.
    pub fn skip(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at)
            && !matches!(self.state, State::Data | State::Done)
        {
            self.state = self.step(byte)?;
            at += 1;
        }
        Ok(at)
    }

    /// How many of the next `len` bytes are data.
    pub fn data(&mut self, len: usize) -> usize {
        if self.state != State::Data {
            return 0;
        }
        let here = u64::try_from(len).unwrap_or(u64::MAX).min(self.left);
        self.left -= here;
        if self.left == 0 {
            self.state = State::DataCr;
        }
        here as usize
    }

    fn step(&mut self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err("chunk size too large");
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left * 16 + u64::from(digit);
                Ok(State::Size)
            }
            (State::Size, b'\r') if self.digits > 0 => Ok(State::SizeLf),
            (State::Size, b';') if self.digits > 0 => Ok(State::Extension),
            (State::Size, b' ' | b'\t') if self.digits > 0 => Ok(State::Space),
            (State::Space, b' ' | b'\t') => self.count(State::Space),
            (State::Space, b';') => Ok(State::Extension),
            (State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b) if is(b, VALUE) => self.count(State::Extension),
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::Line),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                Ok(State::Size)
            }
            (State::Line, b'\r') => Ok(State::EndLf),
            (State::Line | State::Name, b) if is(b, TOKEN) => self.count(State::Name),
            (State::Name, b':') => self.count(State::Value),
            (State::Value, b'\r') => Ok(State::ValueLf),
            (State::Value, b) if is(b, VALUE) => self.count(State::Value),
            (State::ValueLf, b'\n') => Ok(State::Line),
            (State::EndLf, b'\n') => Ok(State::Done),
            _ => Err("malformed chunked body"),
        }
    }

    fn count(&mut self, state: State) -> Result<State, &'static str> {
        self.extra += 1;
        if self.extra > MAX_EXTRA {
            return Err("extensions or trailers of a chunked body too large");
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the body, read in pieces of `size` bytes; `None` when it does not end.
    fn end_of(body: &[u8], size: usize) -> Result<Option<usize>, &'static str> {
        let mut chunked = Chunked::default();
        let mut taken = 0;
        for piece in body.chunks(size) {
            taken += chunked.feed(piece)?;
            if chunked.done() {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_end_is_found_however_the_body_is_cut() {
        let bodies: [(&[u8], usize); 5] = [
            (b"0\r\n\r\nGET / HTTP/1.1\r\n", 5),
            (b"5\r\nhello\r\n0\r\n\r\n", 15),
            (b"A;x=\"y\"\r\n0123456789\r\n00\r\n\r\nX", 27),
            (b"1 ; a\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nnext", 29),
            (b"3\r\n\r\n0\r\n0\r\n\r\n", 13),
        ];
        for (body, end) in bodies {
            for size in 1..=body.len() {
                assert_eq!(end_of(body, size), Ok(Some(end)), "{} by {size}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let bad: [&[u8]; 16] = [
            b"\r\n\r\n",
            b";x\r\n",
            b" 5\r\n",
            b"5\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n",
            b"0x5\r\n",
            b"-1\r\n",
            b"5;a\nb\r\n",
            b"5;\0\r\n",
            b"1000000000000000\r\n",
            b"0\r\n\n",
            b"0\r\n x: y\r\n\r\n",
            b"0\r\nx : y\r\n\r\n",
            b"0\r\nx: y\n\r\n",
        ];
        for body in bad {
            for size in [1, 3, 64] {
                assert!(end_of(body, size).is_err(), "{}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let mut chunked = Chunked::default();
        let mut piece = b"1;".to_vec();
        piece.resize(1000, b'x');
        piece.extend_from_slice(b"\r\nx\r\n");
        assert!((0..9).any(|_| chunked.feed(&piece).is_err()));
        let mut chunked = Chunked::default();
        assert_eq!(chunked.feed(b"0\r\n"), Ok(3));
        assert!((0..1000).any(|_| chunked.feed(b"Name: value\r\n").is_err()));
    }
}
