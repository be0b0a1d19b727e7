//! Which values are never shown: called by the report (source lines), by [`Raw`](super::decode::Raw) and by
//! whoever prints a resolved configuration.

use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// What is printed in place of a secret.
pub const MASK: &str = "****";

/// A secret of the configuration: it can be compared and used, but neither printed nor logged.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// For what it is a secret for.
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        serialize_hidden(&self.0, MASK, s)
    }
}

/// The key under which a comparable configuration has what is shown of a hidden value.
pub(crate) const HIDDEN: &str = "$hidden";
/// And that under which it has the digest, which tells whether two are the same.
pub(crate) const DIGEST: &str = "$digest";

thread_local! {
    static COMPARABLE: Cell<bool> = const { Cell::new(false) };
}

/// What is serialised within `work` has a digest beside every hidden value, and a file is without its longest
/// lists, which are taken piece by piece. For [`Comparable`](super::Comparable) only: a digest tells nothing about a
/// good secret, but lets a weak one be guessed.
pub(super) fn as_compared<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPARABLE.set(self.0);
        }
    }
    let _restore = Restore(COMPARABLE.replace(true));
    work()
}

/// Serialises a list that is taken piece by piece for comparisons.
pub(super) fn serialize_in_pieces<T: Serialize, S: Serializer>(list: &T, s: S) -> Result<S::Ok, S::Error> {
    if COMPARABLE.get() { s.serialize_unit() } else { list.serialize(s) }
}

/// Serialises `shown` in place of `value`.
pub(super) fn serialize_hidden<S: Serializer>(value: &str, shown: &str, s: S) -> Result<S::Ok, S::Error> {
    if !COMPARABLE.get() {
        return s.serialize_str(shown);
    }
    let mut map = s.serialize_map(Some(2))?;
    map.serialize_entry(HIDDEN, shown)?;
    map.serialize_entry(DIGEST, &digest(value.as_bytes()))?;
    map.end()
}

/// What tells whether two hidden values are the same: 128 bits of SHA-256, as hexadecimal digits.
pub(super) fn digest(value: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value);
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What keys of secrets end with, in any case, with `-` for `_` or as they are.
const WORDS: [&str; 10] = [
    "secret",
    "secrets",
    "password",
    "passwd",
    "token",
    "tokens",
    "api_key",
    "hmac_key",
    "private_key",
    "authorization",
];

/// What key material is known by, besides its beginning.
const KEY_MATERIAL: &str = "PRIVATE KEY";

/// A pattern of which something is in every JSON text in which [`is_secret_key`] is true of a key, or [`is_key_material`] of a
/// value, and in some others.
pub(super) fn signs() -> String {
    let words = WORDS.map(|word| word.replace('_', "[-_]")).join("|");
    format!("(?i-u:{words}|{KEY_MATERIAL})")
}

/// Whether a key of this name holds a secret: `secret`, `password`, `token` and their kin, also as the last
/// word of a longer name (`client_secret`, `X-Api-Key`).
pub fn is_secret_key(key: &str) -> bool {
    // asked for every key of every configuration, so that it allocates nothing
    let sign = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    let is_last = |word: &&str| {
        let Some((rest, last)) =
            key.len().checked_sub(word.len()).and_then(|at| key.as_bytes().split_at_checked(at))
        else {
            return false;
        };
        last.iter().map(sign).eq(word.bytes()) && rest.last().is_none_or(|before| sign(before) == b'_')
    };
    WORDS.iter().any(is_last)
}

/// Whether a value is key material whatever its key is called.
pub fn is_key_material(value: &str) -> bool {
    value.contains("-----BEGIN") && value.contains(KEY_MATERIAL)
}

/// Replaces the values of secret keys in one line of YAML, keeping the line's length where it can so that a
/// caret still points to its place. A value that is only `${VAR}` is not a secret: the name is shown.
pub fn mask_line(line: &str) -> Cow<'_, str> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    for (colon, _) in line.match_indices(':') {
        if colon < copied || !is_secret_key(key_before(line, colon)) {
            continue;
        }
        let (start, end) = value_after(line, colon + 1);
        let value = line.get(start..end).unwrap_or_default();
        if value.is_empty() || value.trim_matches(['"', '\'']).starts_with("${") || is_block_header(value) {
            continue;
        }
        let masked = out.get_or_insert_with(String::new);
        masked.push_str(line.get(copied..start).unwrap_or_default());
        masked.extend(std::iter::repeat_n('*', value.chars().count().max(4)));
        copied = end;
    }
    match out {
        Some(mut masked) => {
            masked.push_str(line.get(copied..).unwrap_or_default());
            Cow::Owned(masked)
        }
        None => Cow::Borrowed(line),
    }
}

/// The key that ends right before `colon`, without quotes.
fn key_before(line: &str, colon: usize) -> &str {
    let before = line.get(..colon).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
    let start = before.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).map_or(0, |at| {
        let width = before.get(at..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8);
        at + width
    });
    before.get(start..).unwrap_or_default()
}

/// `|`, `>-` and the like: the text follows on other lines.
fn is_block_header(value: &str) -> bool {
    value.starts_with(['|', '>']) && value.len() <= 3
}

/// Where the value after a colon begins and ends. Brackets nest; a quoted value ends at its quote; a plain
/// one ends at a comma or bracket only inside a flow mapping, which is assumed when a `{` stands before.
fn value_after(line: &str, from: usize) -> (usize, usize) {
    let rest = line.get(from..).unwrap_or_default();
    let start = from + (rest.len() - rest.trim_start().len());
    let value = line.get(start..).unwrap_or_default();
    let in_flow = line.get(..from).is_some_and(|before| before.contains('{'));
    let length = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted_length(value, quote),
        Some('[' | '{') => value.len(),
        Some(_) if in_flow => value.find([',', '}']).unwrap_or(value.len()),
        Some(_) => value.len(),
        None => 0,
    };
    let trimmed = value.get(..length).unwrap_or_default().trim_end().len();
    (start, start + trimmed)
}

/// The length of a quoted scalar with its quotes; an unclosed one runs to the end of the line.
pub(crate) fn quoted_length(value: &str, quote: char) -> usize {
    let mut chars = value.char_indices().skip(1).peekable(); // past the opening quote
    while let Some((at, c)) = chars.next() {
        let escapes = (c == '\\' && quote == '"')
            || (c == '\'' && quote == c && chars.peek().is_some_and(|(_, n)| *n == c));
        if c == quote && !escapes {
            return at + c.len_utf8();
        }
        if escapes {
            chars.next();
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_keys_by_their_last_word() {
        let signs = regex::Regex::new(&signs()).unwrap();
        for key in
            ["secret", "password", "token", "client_secret", "X-Api-Key", "Authorization", "bearer-token"]
        {
            assert!(is_secret_key(key), "{key}");
            let json = serde_json::to_string(&serde_json::json!({ key: 1 })).unwrap();
            assert!(signs.is_match(&json), "{json}");
        }
        for key in ["key", "cert", "tokenizer", "secretary", "header", "name"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn a_line_keeps_everything_but_the_secret() {
        for (line, masked) in [
            ("  secret: hunter22  ", "  secret: ********  "),
            ("a: { name: x, secret: \"a,b}c\", ttl: 1h }", "a: { name: x, secret: *******, ttl: 1h }"),
            ("{ password: abc, b: 1 }", "{ password: ****, b: 1 }"),
            ("secret: ${STICKY}", "secret: ${STICKY}"),
            ("\"secret\": 'x''y' # z", "\"secret\": ****** # z"),
            ("token: [a, b]", "token: ******"),
            ("name: secret", "name: secret"),
            ("secret: |", "secret: |"),
            ("secret: \"unclosed", "secret: *********"),
        ] {
            assert_eq!(mask_line(line), masked, "{line}");
        }
    }
}
