//! The ids of traces and spans, and what is known of a trace wherever a request goes. Plain values.

use std::fmt;

/// Digits as the headers have them: in lower case.
const DIGITS: &[u8; 16] = b"0123456789abcdef";

macro_rules! id {
    ($(#[$about:meta])* $name:ident, $bytes:literal) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Hexadecimal digits in lower case; not all of them are 0.
            pub(super) fn parse(digits: &[u8]) -> Option<Self> {
                let mut bytes = [0; $bytes];
                read_hex(digits, &mut bytes)?;
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            pub fn bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// As text.
            pub fn digits(&self) -> [u8; 2 * $bytes] {
                let mut text = [0; 2 * $bytes];
                for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(self.0) {
                    *pair = hex(byte);
                }
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// The id of a trace: 16 bytes, not all of them 0.
    TraceId,
    16
);
id!(
    /// The id of a span: 8 bytes, not all of them 0.
    SpanId,
    8
);

impl TraceId {
    /// Another one.
    pub(super) fn random() -> TraceId {
        TraceId(fastrand::u128(1..).to_be_bytes())
    }

    /// The 56 bits that are random (W3C Trace Context, level 2 §3.2.2.3).
    pub(super) fn randomness(&self) -> u64 {
        u128::from_be_bytes(self.0) as u64 & ((1 << 56) - 1)
    }
}

impl SpanId {
    /// Another one.
    pub(super) fn random() -> SpanId {
        SpanId(fastrand::u64(1..).to_be_bytes())
    }
}

/// What is told of a trace beside its ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    pub sampled: bool,
    /// Whoever began the trace has said that its id is random.
    pub random: bool,
    /// Zipkin's: sampled, and everything there is to know.
    pub debug: bool,
}

/// What a request has brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The trace, and the span in it that this request belongs to.
    pub parent: Option<(TraceId, SpanId)>,
    /// What was decided, if it was.
    pub sampled: Option<bool>,
    pub random: bool,
    pub debug: bool,
    /// `tracestate`, well-formed.
    pub state: Option<Box<str>>,
}

/// As two digits.
pub(super) fn hex(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|half| DIGITS.get(usize::from(half)).copied().unwrap_or(b'0'))
}

/// Exactly as many bytes, in lower-case digits.
pub(super) fn read_hex(digits: &[u8], bytes: &mut [u8]) -> Option<()> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for ([high, low], byte) in pairs.iter().zip(bytes) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(())
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(TraceId::parse(text.as_bytes()).unwrap().to_string(), text);
        let id = SpanId::random();
        assert_eq!(SpanId::parse(&id.digits()), Some(id));
        for bad in
            ["", "4bf9", "4BF92f3577b34da6", "0000000000000000", "00f067aa0ba902bg", "00f067aa0ba902b70"]
        {
            assert_eq!(SpanId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_randomness_is_the_last_seven_bytes() {
        let id = TraceId::parse(b"ffffffffffffffffff00000000000001").unwrap();
        assert_eq!(id.randomness(), 1);
        assert_eq!(TraceId::parse(b"0000000000000000ffffffffffffffff").unwrap().randomness(), (1 << 56) - 1);
    }
}
