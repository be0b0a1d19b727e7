//! The cookies of a request: one that is taken out is gone, and the others are as they were. Each line is a `Cookie` header.

use http::{HeaderValue, header};
use pingora_http::RequestHeader;
use weirgate::http::cookie::{join, remove, values};

const GONE: &str = "gate";

pub fn run(data: &[u8]) {
    let mut head = RequestHeader::build("GET", b"/", None).expect("a head");
    for line in data.split(|b| *b == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            head.append_header(header::COOKIE, value).expect("few headers");
        }
    }
    let before = pairs(&head);
    for (name, value) in &before {
        if let Ok(name) = std::str::from_utf8(name) {
            assert!(values(&head.headers, name).any(|found| found == *value), "{name} is not found");
        }
    }
    let mut joined = head.clone();
    join(&mut joined);
    assert!(joined.headers.get_all(header::COOKIE).iter().count() <= 1, "not joined");
    assert_eq!(pairs(&joined), before, "joined");
    remove(&mut head, GONE);
    assert_eq!(values(&head.headers, GONE).count(), 0, "still there");
    let left: Vec<_> = before.into_iter().filter(|(name, _)| name != GONE.as_bytes()).collect();
    assert_eq!(pairs(&head), left, "another is gone, too");
}

/// Names and values in the order sent.
fn pairs(head: &RequestHeader) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = head.headers.get_all(header::COOKIE).iter();
    let pieces = all.flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let pair = |piece: &[u8]| {
        let at = piece.iter().position(|b| *b == b'=')?;
        Some((piece[..at].trim_ascii().to_vec(), piece[at + 1..].trim_ascii().to_vec()))
    };
    pieces.filter_map(pair).collect()
}
