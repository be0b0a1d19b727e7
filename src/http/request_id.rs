//! The id of a request, `X-Request-Id`: taken from a trusted proxy, or made here. Pure but for the
//! clock and the dice. Called by `http::proxy` when a request head has arrived.

use crate::clock;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// `X-Request-Id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is accepted.
const LONGEST: usize = 128;

/// Every byte as two digits.
static HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The id of a request: of its own making, 32 hexadecimal digits, a UUID of version 7 (RFC 9562
/// §5.7) without dashes, so that ids sort by the millisecond they were made in. Or as a trusted
/// proxy gave it: 1 to 128 characters of `A-Z a-z 0-9 . _ -`. Made when it is first asked for.
pub struct RequestId(OnceLock<Id>);

enum Id {
    Made([u8; 32]),
    Given(Box<str>),
}

impl Id {
    /// 48 bits of milliseconds since 1970, the version, 12 random bits, the variant, 62 random bits.
    fn made(millis: u64, random: u128) -> Id {
        const RANDOM: u128 = 0xfff << 64 | ((1 << 62) - 1);
        let id = u128::from(millis) << 80 | 0x7 << 76 | 0b10 << 62 | random & RANDOM;
        let mut text = [0; 32];
        for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(id.to_be_bytes()) {
            *pair = HEX[usize::from(byte)];
        }
        Id::Made(text)
    }

    fn as_str(&self) -> &str {
        match self {
            Id::Made(text) => std::str::from_utf8(text).unwrap_or_default(),
            Id::Given(text) => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Id::Made(text) => text,
            Id::Given(text) => text.as_bytes(),
        }
    }
}

impl RequestId {
    /// The id in `headers` when the client is `trusted` and sent exactly one that is well-formed;
    /// otherwise a new one.
    pub fn of(headers: &HeaderMap, trusted: bool) -> Self {
        if !trusted {
            return Self::new();
        }
        let mut ids = headers.get_all(&X_REQUEST_ID).into_iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => id.to_str().ok().and_then(Self::given).unwrap_or_else(Self::new),
            _ => Self::new(),
        }
    }

    /// A new id.
    #[allow(clippy::new_without_default)] // no two are equal
    pub fn new() -> Self {
        RequestId(OnceLock::new())
    }

    fn id(&self) -> &Id {
        self.0.get_or_init(|| {
            let now = clock::coarse().duration_since(UNIX_EPOCH).unwrap_or_default();
            Id::made(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), fastrand::u128(..))
        })
    }

    fn given(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(word))
            .then(|| RequestId(OnceLock::from(Id::Given(text.into()))))
    }

    pub fn as_str(&self) -> &str {
        self.id().as_str()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.id().as_bytes()
    }

    /// As the value of a header.
    pub fn header(&self) -> HeaderValue {
        // letters, digits and three marks: always fit
        HeaderValue::from_bytes(self.as_bytes()).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(ids: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for id in ids {
            headers.append(&X_REQUEST_ID, HeaderValue::from_bytes(id).unwrap());
        }
        headers
    }

    #[test]
    fn the_layout_is_that_of_rfc_9562() {
        // the timestamp of the example in appendix A.6
        let id = Id::made(0x017F_22E2_79B0, u128::MAX);
        assert_eq!(id.as_str(), "017f22e279b07fffbfffffffffffffff");
        assert_eq!(Id::made(0x017F_22E2_79B0, 0).as_str(), "017f22e279b070008000000000000000");
    }

    #[test]
    fn new_ids_differ_and_later_ones_sort_behind() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| RequestId::new().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(Id::made(1, u128::MAX).as_str() < Id::made(2, 0).as_str());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let given = headers(&[b"abc-DEF_1.2"]);
        assert_eq!(RequestId::of(&given, true).as_str(), "abc-DEF_1.2");
        assert_ne!(RequestId::of(&given, false).as_str(), "abc-DEF_1.2");
    }

    #[test]
    fn what_is_malformed_is_replaced() {
        let long = [b'a'; LONGEST + 1];
        let given: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"a b"], &[b"a\"b"], &[b"\xff"], &[&long], &[b"one", b"two"]];
        for ids in given {
            let id = RequestId::of(&headers(ids), true);
            assert_eq!(id.as_str().len(), 32, "{ids:?}");
        }
        assert_eq!(RequestId::of(&headers(&[&long[..LONGEST]]), true).as_str().len(), LONGEST);
    }
}
