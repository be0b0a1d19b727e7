//! Reading the parameters of a query: `a=1&b=two+words`. Pure. Called by `http::route` for
//! conditions, and wherever a key is taken from the query.

use crate::pairs::Decoded;
use std::borrow::Cow;

/// The values of the parameter `name`, decoded as HTML forms encode them (`%XX`, `+` for a space).
/// A parameter without `=` has the value `""`; a `%` without two hexadecimal digits stands for
/// itself. What is not UTF-8 then is replaced by U+FFFD. Copies only values that are encoded.
pub fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    query.split('&').filter(|pair| !pair.is_empty()).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name || is_encoded(key) && Decoded(key.as_bytes()).eq(name.bytes())).then(|| decode(value))
    })
}

fn is_encoded(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'%' | b'+'))
}

fn decode(value: &str) -> Cow<'_, str> {
    if !is_encoded(value) {
        return Cow::Borrowed(value);
    }
    let bytes: Vec<u8> = Decoded(value.as_bytes()).collect();
    let text =
        String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(query: &str, name: &str) -> Vec<String> {
        values(query, name).map(Cow::into_owned).collect()
    }

    #[test]
    fn values_are_decoded() {
        let query = "a=1&b=two+words&a=%32&empty=&flag&c%61t=x&&=nameless&eq=a=b&p=%2B";
        assert_eq!(all(query, "a"), ["1", "2"]);
        assert_eq!(all(query, "b"), ["two words"]);
        assert_eq!(all(query, "empty"), [""]);
        assert_eq!(all(query, "flag"), [""]);
        assert_eq!(all(query, "cat"), ["x"]);
        assert_eq!(all(query, ""), ["nameless"]);
        assert_eq!(all(query, "eq"), ["a=b"]);
        assert_eq!(all(query, "p"), ["+"]);
        assert!(all(query, "A").is_empty());
        assert!(all("", "a").is_empty());
    }

    #[test]
    fn malformed_escapes_stand_for_themselves() {
        assert_eq!(all("a=100%&a=%zz&a=%4", "a"), ["100%", "%zz", "%4"]);
        assert_eq!(all("a=%ff", "a"), ["\u{fffd}"]);
    }

    #[test]
    fn plain_values_are_borrowed() {
        assert!(matches!(values("a=plain", "a").next(), Some(Cow::Borrowed("plain"))));
    }
}
