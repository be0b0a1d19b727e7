//! The head of a request as Pingora has it, from bytes that have been judged. Pure; called by `http1`.

use crate::edge::head::{Head, position, trim};
use crate::http::Reject;
use bytes::Bytes;
use http::{HeaderValue, Method, Version};
use pingora_http::RequestHeader;

/// A head in which nothing is unsound any more.
pub struct Parsed {
    pub head: RequestHeader,
    /// The client wants the connection to be kept (RFC 9112 §9.3).
    pub keep: bool,
}

/// The head of which `raw` is all bytes. Names are in lower case (see decision 010), values are parts of `raw`.
///
/// # Errors
/// What the judge of heads lets through and the URI of the `http` crate does not: 400.
pub fn parse(raw: &Bytes, judged: &Head) -> Result<Parsed, Reject> {
    const MALFORMED: Reject = Reject::BadRequest("malformed request line");
    let mut lines = Lines { raw, at: 0 };
    let (from, to) = lines.next().ok_or(MALFORMED)?;
    let line = raw.get(from..to).unwrap_or_default();
    let (method, rest) = cut(line, b' ').ok_or(MALFORMED)?;
    let (target, version) = cut(rest, b' ').ok_or(MALFORMED)?;
    let method = Method::from_bytes(method).map_err(|_| MALFORMED)?;
    let mut head = RequestHeader::build_no_case(method, target, Some(judged.headers))
        .map_err(|_| Reject::BadRequest("malformed request target"))?;
    let http_11 = version == b"HTTP/1.1";
    head.set_version(if http_11 { Version::HTTP_11 } else { Version::HTTP_10 });
    let mut wish = None;
    for (from, to) in lines {
        let line = raw.get(from..to).unwrap_or_default();
        let Some((name, value)) = cut(line, b':') else { continue };
        let value = trim(value);
        if name.len() == 10 && name.eq_ignore_ascii_case(b"connection") {
            wish = heard(wish, value);
        }
        let (name, value) = (raw.slice_ref(name), raw.slice_ref(value));
        HeaderValue::from_maybe_shared(value)
            .ok()
            .and_then(|value| head.append_header(name, value).ok())
            .ok_or(Reject::BadRequest("malformed header"))?;
    }
    Ok(Parsed { head, keep: wish.unwrap_or(http_11) })
}

/// What a `Connection` header says of keeping it, after another has said `wish`: `close` is stronger.
fn heard(wish: Option<bool>, value: &[u8]) -> Option<bool> {
    value.split(|byte| *byte == b',').map(trim).fold(wish, |wish, token| match token {
        _ if token.eq_ignore_ascii_case(b"close") => Some(false),
        _ if token.eq_ignore_ascii_case(b"keep-alive") => wish.or(Some(true)),
        _ => wish,
    })
}

fn cut(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (left, right) = line.split_at_checked(position(line, at)?)?;
    Some((left, right.get(1..).unwrap_or_default()))
}

/// The lines up to the empty one, without their line ends: where each begins and ends.
struct Lines<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let from = self.at;
        // each ends in CR LF
        let to = from + position(self.raw.get(from..)?, b'\n')?.checked_sub(1)?;
        self.at = to + 2;
        (from < to).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::head::{HeadLimits, Scanner};

    const LIMITS: HeadLimits = HeadLimits { bytes: 8192, headers: 100, uri_bytes: 4096 };

    fn parsed(head: &str) -> Result<Parsed, Reject> {
        let judged = Scanner::default().advance(head.as_bytes(), &LIMITS)?.expect("a whole head");
        parse(&Bytes::copy_from_slice(head.as_bytes()), &judged)
    }

    #[test]
    fn everything_is_where_it_belongs() {
        let parsed = parsed("PURGE /a?b=%20 HTTP/1.1\r\nhOST: a:80\r\nX-A:\r\nX-a: \t1, 2 \r\nÀ: no\r\n\r\n");
        assert_eq!(parsed.err(), Some(Reject::BadRequest("malformed header name")));
        let Parsed { head, keep } =
            self::parsed("PURGE /a?b=%20 HTTP/1.1\r\nhOST: a:80\r\nX-A:\r\nX-a: \t1, \u{e0} \r\n\r\n")
                .unwrap();
        assert_eq!((head.method.as_str(), head.raw_path()), ("PURGE", &b"/a?b=%20"[..]));
        assert_eq!((head.version, keep), (Version::HTTP_11, true));
        assert_eq!(head.headers["host"], "a:80");
        let all: Vec<&[u8]> = head.headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(all, [&b""[..], "1, \u{e0}".as_bytes()]);
        let mut wire = Vec::new();
        head.header_to_h1_wire(&mut wire);
        let wire = String::from_utf8(wire).unwrap();
        for line in ["Host: a:80\r\n", "x-a: \r\n", "x-a: 1, \u{e0}\r\n"] {
            assert!(wire.contains(line), "{wire:?}");
        }
    }

    #[test]
    fn the_client_says_whether_the_connection_is_kept() {
        for (version, connection, keep) in [
            ("1.1", "", true),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close ,y\r\n", false),
            ("1.1", "Connection: upgrade\r\nConnection: close\r\n", false),
            ("1.0", "Connection: close\r\nConnection: keep-alive\r\n", false),
            ("1.0", "Connection: keep-alive, close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.1", "X-Connection: close\r\n", true),
        ] {
            let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            assert_eq!(parsed(&head).unwrap().keep, keep, "{head:?}");
        }
    }

    #[test]
    fn every_form_of_a_target_arrives() {
        for (target, path) in [
            ("/", "/"),
            ("/a//b/../c?d#", "-"),
            ("/\"{}|^`\\", "?"),
            ("http://a/b?c", "/b"),
            ("http://a", "/"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            match parsed(&head) {
                Ok(parsed) if path != "?" => {
                    assert_eq!(parsed.head.uri.path(), path);
                    assert_eq!(parsed.head.raw_path(), target.as_bytes());
                }
                Ok(parsed) => assert_eq!(parsed.head.raw_path(), target.as_bytes()),
                Err(why) => {
                    assert_ne!(path.as_bytes()[0], b'/', "{target}: {why:?}");
                    assert_eq!(why, Reject::BadRequest("malformed request target"));
                }
            }
        }
        let options = parsed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(options.head.raw_path(), b"*");
    }
}
