//! The head of an HTTP/1 request: what is taken for sound has one meaning to a reader that knows nothing of ours.

use weirgate::config::file::ListenerLimits;
use weirgate::edge::judge_head;

pub fn run(data: &[u8]) {
    if judge_head(data, &ListenerLimits::default()).is_err() {
        return;
    }
    // one empty line before the request line is forgiven
    let head = data.strip_prefix(b"\r\n").unwrap_or(data);
    let end = head.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    let mut lines = Vec::new();
    let mut rest = &head[..end];
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    assert!(lines.iter().all(|line| !line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))), "{}", shown(data));
    let words: Vec<_> = lines[0].split(|b| *b == b' ').collect();
    assert_eq!(words.len(), 3, "{}", shown(data));
    assert!(words[1].iter().all(u8::is_ascii_graphic) && !words[1].contains(&b'#'), "{}", shown(data));
    assert!(!matches!(words[0], b"CONNECT" | b"TRACE"), "{}", shown(data));
    let named = |name: &str| values(&lines[1..], name);
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two framings: {}", shown(data));
    assert!(lengths.iter().all(|v| !v.is_empty() && v.iter().all(u8::is_ascii_digit)), "{}", shown(data));
    assert!(codings.iter().all(|v| v.eq_ignore_ascii_case(b"chunked")), "{}", shown(data));
    let hosts = named("host");
    assert!(hosts.len() == 1 || hosts.is_empty() && words[2] == b"HTTP/1.0", "{}", shown(data));
}

/// The values of the headers of this name, each of which has to be beyond doubt.
fn values<'a>(lines: &[&'a [u8]], wanted: &str) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').expect("a colon in every header");
        let name = &line[..colon];
        assert!(!name.is_empty() && !name.iter().any(|b| b.is_ascii_whitespace() || !b.is_ascii_graphic()));
        if name.eq_ignore_ascii_case(wanted.as_bytes()) {
            found.push(line[colon + 1..].trim_ascii());
        }
    }
    found
}

fn shown(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}
