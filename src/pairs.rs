//! `NAME=VALUE`: cookies and the parameters of queries, byte by byte. Used by `http` and the access log.

use http::{HeaderMap, header};

/// The values of the cookie `name`, in the order sent, without copying.
///
/// Reads `cookie-string` of RFC 6265 §4.2.1 over all `Cookie` headers (HTTP/2 splits them, RFC 9113
/// §8.2.3). Names are case-sensitive; double quotes are part of the value, as user agents treat
/// them (§5.2); a piece without `=` is no cookie.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pieces = headers.get_all(header::COOKIE).into_iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    pieces.filter_map(move |piece| {
        let at = piece.iter().position(|b| *b == b'=')?;
        let (key, value) = piece.split_at_checked(at)?;
        (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The bytes of a text that is encoded as HTML forms are: `%XX`, and `+` for a space. A `%` without two hexadecimal
/// digits stands for itself.
pub struct Decoded<'a>(pub &'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match self.0 {
            [] => return None,
            [b'+', rest @ ..] => (b' ', rest),
            [b'%', high, low, after @ ..] => match hex(*high, *low) {
                Some(byte) => (byte, after),
                None => (b'%', self.0.get(1..)?),
            },
            [byte, rest @ ..] => (*byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

/// The byte of two hexadecimal digits.
pub fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}
