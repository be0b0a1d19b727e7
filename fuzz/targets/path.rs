//! Path normalisation against one that is written down from its documentation: bytes become segments,
//! segments become a path.

use weirgate::http::path::{Forward, forwarded, normalise};

pub fn run(data: &[u8]) {
    let normal = normalise(data);
    let expected = naive(data);
    assert_eq!(normal.as_deref().ok(), expected.as_deref(), "{}", shown(data));
    let Ok(normal) = normal else { return };
    assert!(normal.is_ascii(), "{}", shown(data));
    assert_eq!(normalise(normal.as_bytes()).as_deref(), Ok(&*normal), "once more: {}", shown(data));
    if let Forward::Rewritten(sent) = forwarded(data, &normal) {
        assert_eq!(normalise(sent.as_bytes()).as_deref(), Ok(&*normal), "{} sent as {sent}", shown(data));
        let again = forwarded(sent.as_bytes(), &normal);
        assert_eq!(again, Forward::Original, "{} sent as {sent}", shown(data));
    }
}

fn shown(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// A byte of a path, or what separates segments.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Slash,
    Byte(u8),
}

/// `None` when the path is to be refused.
fn naive(path: &[u8]) -> Option<String> {
    if path == b"*" {
        return Some("*".to_string());
    }
    if path.first() != Some(&b'/') || path.iter().any(|b| matches!(b, b'?' | b'#') || b.is_ascii_control()) {
        return None;
    }
    let signs = signs(&path[1..])?;
    let segments: Vec<&[Sign]> = signs.split(|sign| *sign == Sign::Slash).collect();
    let mut kept: Vec<String> = Vec::new();
    let mut open = true; // ends in a slash
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        let end = segment.iter().position(|sign| *sign == Sign::Byte(b';'));
        let name: String = segment[..end.unwrap_or(segment.len())].iter().map(|sign| spelt(*sign)).collect();
        let parameters = end.is_some();
        open = true;
        match name.as_str() {
            "" if parameters && !last => return None,
            "." | ".." if parameters => return None,
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(name);
                open = !last;
            }
        }
    }
    let mut out = String::from("/");
    out.push_str(&kept.join("/"));
    if open && !kept.is_empty() {
        out.push('/');
    }
    Some(out)
}

/// With escapes decoded; `None` where one is malformed or hides a NUL.
fn signs(mut rest: &[u8]) -> Option<Vec<Sign>> {
    let mut signs = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        let mut byte = *first;
        rest = tail;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            byte = u8::from_str_radix(digits, 16).ok()?;
            rest = &rest[2..];
            if byte == 0 {
                return None;
            }
        }
        signs.push(if matches!(byte, b'/' | b'\\') { Sign::Slash } else { Sign::Byte(byte) });
    }
    Some(signs)
}

/// The characters of RFC 3986 §3.3 as they are, all others escaped.
fn spelt(sign: Sign) -> String {
    match sign {
        Sign::Byte(byte) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte) => {
            char::from(byte).to_string()
        }
        Sign::Byte(byte) => format!("%{byte:02X}"),
        Sign::Slash => String::new(),
    }
}
