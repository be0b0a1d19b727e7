//! The cookies of a request: read by `http::route` for conditions and wherever a key is taken from
//! a cookie; put in order for servers by `http::forward` and `http::sticky`.

pub use crate::pairs::cookies as values;
use http::{HeaderValue, header};
use pingora_http::RequestHeader;

/// Joins the `Cookie` headers that HTTP/2 splits; HTTP/1 has one (RFC 9113 §8.2.3).
pub fn join(head: &mut RequestHeader) {
    if head.headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = head.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // pieces of header values make a header value
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        head.insert_header(header::COOKIE, joined).ok();
    }
}

/// Takes the cookie `name` out, however often it is there; the others stay byte for byte.
pub fn remove(head: &mut RequestHeader, name: &str) {
    if values(&head.headers, name).next().is_none() {
        return;
    }
    let left: Vec<_> = head
        .headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| without(value.as_bytes(), name))
        .collect();
    head.remove_header(&header::COOKIE);
    for value in left {
        // pieces of header values make a header value, and there are no more of them than before
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            head.append_header(header::COOKIE, value).ok();
        }
    }
}

/// `None` when nothing is left.
fn without(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let named = |piece: &[u8]| {
        piece.iter().position(|b| *b == b'=').and_then(|at| piece.get(..at)).map(<[u8]>::trim_ascii)
            == Some(name.as_bytes())
    };
    let left: Vec<&[u8]> = value.split(|b| *b == b';').filter(|piece| !named(piece)).collect();
    let left = left.join(&b';');
    // what followed a cookie that is gone began with the space after it
    let left = if value.starts_with(b" ") { &left[..] } else { left.trim_ascii_start() };
    (!left.trim_ascii().is_empty()).then(|| left.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn head(cookies: &[&str]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for cookie in cookies {
            head.append_header(header::COOKIE, *cookie).unwrap();
        }
        head
    }

    fn cookies(head: &RequestHeader) -> Vec<&str> {
        head.headers.get_all(header::COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn one_cookie_is_removed_and_the_others_stay() {
        for (before, after) in [
            (&["w=1"][..], &[][..]),
            (&["a=1; w=1; b=2"], &["a=1; b=2"]),
            (&["w=1; a=1"], &["a=1"]),
            (&["a=1; w=1"], &["a=1"]),
            (&["w=1; w=2;w=3; a=1 ;b=\"x y\""], &["a=1 ;b=\"x y\""]),
            (&["a=1", "w=1", "b=2; w=2"], &["a=1", "b=2"]),
            (&["a=w=1; ww=1; W=1; w"], &["a=w=1; ww=1; W=1; w"]),
            (&["a=1;;  b=2; "], &["a=1;;  b=2; "]),
            (&[], &[]),
        ] {
            let mut head = head(before);
            remove(&mut head, "w");
            assert_eq!(cookies(&head), after, "{before:?}");
        }
    }

    #[test]
    fn split_cookies_are_joined() {
        for (before, after) in
            [(&["a=1", "b=2", "c=3"][..], &["a=1; b=2; c=3"][..]), (&["a=1"], &["a=1"]), (&[], &[])]
        {
            let mut head = head(before);
            join(&mut head);
            assert_eq!(cookies(&head), after, "{before:?}");
        }
    }

    fn all(cookies: &[&str], name: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        values(&headers, name).map(|v| String::from_utf8(v.to_vec()).unwrap()).collect()
    }

    #[test]
    fn cookies_are_found_in_all_headers() {
        let cookies = ["a=1; b=2;c=x=y", "a=3", "q=\"quoted\"; empty=; nothing; =nameless"];
        assert_eq!(all(&cookies, "a"), ["1", "3"]);
        assert_eq!(all(&cookies, "b"), ["2"]);
        assert_eq!(all(&cookies, "c"), ["x=y"]);
        assert_eq!(all(&cookies, "q"), ["\"quoted\""]);
        assert_eq!(all(&cookies, "empty"), [""]);
        for absent in ["A", "nothing", "x", "b2"] {
            assert!(all(&cookies, absent).is_empty(), "{absent}");
        }
        assert!(all(&[], "a").is_empty());
    }
}
