//! Reading the cookies of a request. Pure. Called by `http::route` for conditions, and wherever a
//! key is taken from a cookie.

use http::{HeaderMap, header};

/// The values of the cookie `name`, in the order sent, without copying.
///
/// Reads `cookie-string` of RFC 6265 §4.2.1 over all `Cookie` headers (HTTP/2 splits them, RFC 9113
/// §8.2.3). Names are case-sensitive; double quotes are part of the value, as user agents treat
/// them (§5.2); a piece without `=` is no cookie.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pieces = headers.get_all(header::COOKIE).into_iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    pieces.filter_map(move |piece| {
        let at = piece.iter().position(|b| *b == b'=')?;
        let (key, value) = piece.split_at_checked(at)?;
        (key.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

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
