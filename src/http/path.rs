//! The path of a request in the one spelling that routes and filters judge, and the spelling that
//! is forwarded. Pure. Called by `http::proxy` for each request and by `config::check` for the
//! paths of routes.
//!
//! # What counts as the same path
//!
//! A path is matched in its normal form, so that no spelling of `/admin` avoids the route and the
//! filters of `/admin`:
//!
//! | in the request | for matching |
//! |---|---|
//! | `%61` and other escapes of characters a path may hold as they are | the character |
//! | `%c3`, `é`, `"` and other escapes and bytes | the escape in upper case: `%C3` |
//! | `/./`, `/x/../`, `%2e`, `%2E%2e` | resolved (RFC 3986 §5.2.4); `..` above the root stays at the root |
//! | `//` | `/` |
//! | `%2F`, `%5C`, `\` | `/` |
//! | `/admin;x=y/users` (path parameters, RFC 3986 §3.3) | `/admin/users` |
//!
//! Letters keep their case: `/Admin` is another path. A `%25` stays as it is, so nothing is decoded
//! twice.
//!
//! # What is forwarded
//!
//! The path as the client wrote it, when only escapes and parameters differ from the normal form:
//! those every server reads alike, or may read as it likes without changing which resource was
//! judged. A path with dot segments, doubled slashes, backslashes, or escaped slashes and
//! backslashes is forwarded with these resolved, because servers disagree about them: the server
//! sees the path that was judged. Everything else in it (parameters, escapes of reserved
//! characters) is left as written. The query is never touched.
//!
//! # What is refused (400)
//!
//! See [`BadPath`].

use crate::pairs::hex;
use std::borrow::Cow;
use std::fmt;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPath {
    /// It does not start with `/` (and is not the `*` of `OPTIONS *`, RFC 9112 §3.2.4).
    NotAbsolute,
    /// A `%` without two hexadecimal digits (RFC 3986 §2.1).
    Escape,
    /// A NUL, escaped or not: many servers end the path there.
    Nul,
    /// A raw control character.
    Control,
    /// A `?` or `#`: the caller splits these off, and a raw `#` has no place in a request.
    NotAPath,
    /// `..;x`, `.;x` or an empty segment with parameters amid the path: some servers drop the
    /// parameters first and then climb, others do not.
    Parameters,
}

impl BadPath {
    /// A few words for the access log.
    pub fn reason(self) -> &'static str {
        match self {
            BadPath::NotAbsolute => "path does not start with a slash",
            BadPath::Escape => "malformed percent escape in path",
            BadPath::Nul => "NUL in path",
            BadPath::Control => "control character in path",
            BadPath::NotAPath => "query or fragment in path",
            BadPath::Parameters => "ambiguous path parameters",
        }
    }
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BadPath {}

/// The normal form of a path (without query), for matching. Borrowed when the path is in it
/// already, which costs one look at each byte. The result is ASCII, and normalising it again
/// changes nothing.
///
/// # Errors
/// Paths that servers would read in different ways; to be answered with 400.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, str>, BadPath> {
    if (is_normal(path) || path == b"*")
        && let Ok(text) = std::str::from_utf8(path)
    {
        return Ok(Cow::Borrowed(text));
    }
    rewrite(path, Reading::Match).map(|r| Cow::Owned(r.path))
}

/// The normal form of a path written in a route.
///
/// # Errors
/// As [`normalise`]; and [`BadPath::Parameters`] for a path with `;`, which could never match
/// because parameters are taken off before matching.
pub fn configured(path: &str) -> Result<String, BadPath> {
    let normal = match normalise(path.as_bytes())? {
        // there is no semicolon in a normal path
        Cow::Borrowed(normal) => return Ok(normal.to_owned()),
        Cow::Owned(normal) => normal,
    };
    let semicolon = |w: &[u8]| w.eq_ignore_ascii_case(b"%3b");
    if path.contains(';') || path.as_bytes().windows(3).any(semicolon) {
        return Err(BadPath::Parameters);
    }
    Ok(normal)
}

/// Which spelling of a path is sent to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// As the client wrote it.
    Original,
    /// This one, with what is ambiguous resolved. ASCII; its normal form is that of the original.
    Rewritten(String),
}

/// What to forward of a path that [`normalise`] turned into `normal`. See the head of this module.
pub fn forwarded(path: &[u8], normal: &str) -> Forward {
    if path == normal.as_bytes() {
        return Forward::Original;
    }
    match rewrite(path, Reading::Forward) {
        Ok(Rewritten { restructured: false, .. }) => Forward::Original,
        Ok(Rewritten { path, restructured: true }) => Forward::Rewritten(path),
        // not for a path that was normalised; what was judged is what may be sent
        Err(_) => Forward::Rewritten(normal.to_string()),
    }
}

/// Characters that a segment may hold as they are: `pchar` of RFC 3986 §3.3.
const fn is_pchar(b: u8) -> bool {
    is_unreserved(b)
        || matches!(
            b,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
}

/// RFC 3986 §2.3.
const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// What a byte of a normal path may mean.
#[derive(Clone, Copy)]
enum Class {
    Plain,
    Slash,
    Percent,
    /// Never in a normal path.
    Other,
}

static CLASS: [Class; 256] = {
    let mut table = [Class::Other; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = match b as u8 {
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b';' => Class::Other,
            byte if is_pchar(byte) => Class::Plain,
            _ => Class::Other,
        };
        b += 1;
    }
    table
};

fn is_normal(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = match CLASS[usize::from(*byte)] {
            Class::Plain => tail,
            Class::Slash => match tail {
                [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => {
                    return false;
                }
                _ => tail,
            },
            Class::Percent => match tail {
                [high, low, after @ ..] if is_normal_escape(*high, *low) => after,
                _ => return false,
            },
            Class::Other => return false,
        };
    }
    true
}

/// Upper case, of a byte that stays escaped.
fn is_normal_escape(high: u8, low: u8) -> bool {
    let upper = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    upper(high)
        && upper(low)
        && hex(high, low).is_some_and(|byte| !is_pchar(byte) && !matches!(byte, 0 | b'/' | b'\\'))
}

/// What a path is rewritten for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Escapes of all characters that need none are decoded, parameters dropped.
    Match,
    /// Only unreserved characters are decoded (RFC 3986 §6.2.2.2): the rest could mean something else.
    Forward,
}

struct Rewritten {
    path: String,
    /// More than the spelling of characters has changed.
    restructured: bool,
}

enum Token {
    Slash,
    /// Something that some servers take for a slash.
    SlashAlike,
    Raw(u8),
    Escaped(u8),
}

/// The first token of a path and what follows it; `None` at the end.
fn token(rest: &[u8]) -> Result<Option<(Token, &[u8])>, BadPath> {
    Ok(Some(match rest {
        [] => return Ok(None),
        [b'/', rest @ ..] => (Token::Slash, rest),
        [b'\\', rest @ ..] => (Token::SlashAlike, rest),
        [b'%', high, low, rest @ ..] => match hex(*high, *low) {
            None => return Err(BadPath::Escape),
            Some(0) => return Err(BadPath::Nul),
            Some(b'/' | b'\\') => (Token::SlashAlike, rest),
            Some(byte) => (Token::Escaped(byte), rest),
        },
        [b'%', ..] => return Err(BadPath::Escape),
        [b'?' | b'#', ..] => return Err(BadPath::NotAPath),
        [0, ..] => return Err(BadPath::Nul),
        [byte, ..] if byte.is_ascii_control() => return Err(BadPath::Control),
        [byte, rest @ ..] => (Token::Raw(*byte), rest),
    }))
}

fn rewrite(path: &[u8], reading: Reading) -> Result<Rewritten, BadPath> {
    let [b'/', rest @ ..] = path else { return Err(BadPath::NotAbsolute) };
    let mut rest = rest;
    let mut out = Segments::new(path.len());
    while let Some((token, after)) = token(rest)? {
        rest = after;
        match token {
            Token::Slash => out.end(false)?,
            Token::SlashAlike => {
                out.restructured = true;
                out.end(false)?;
            }
            Token::Raw(b';') if reading == Reading::Match => out.parameters = true,
            Token::Escaped(b';') if reading == Reading::Match => out.parameters = true,
            Token::Raw(byte) if is_pchar(byte) => out.push(byte),
            Token::Escaped(byte) if is_unreserved(byte) => out.push(byte),
            Token::Escaped(byte) if reading == Reading::Match && is_pchar(byte) => out.push(byte),
            Token::Raw(byte) => {
                // a space would end the target on a request line
                out.restructured |= byte == b' ';
                out.push_escaped(byte);
            }
            Token::Escaped(byte) => out.push_escaped(byte),
        }
    }
    out.end(true)?;
    Ok(Rewritten { path: out.text, restructured: out.restructured })
}

/// A path as it is put together, segment by segment.
struct Segments {
    /// Starts with a slash.
    text: String,
    /// Where the current segment starts: behind a slash.
    start: usize,
    /// The current segment has parameters; they are not copied.
    parameters: bool,
    restructured: bool,
}

impl Segments {
    fn new(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('/');
        Segments { text, start: 1, parameters: false, restructured: false }
    }

    /// `byte` is ASCII.
    fn push(&mut self, byte: u8) {
        if !self.parameters {
            self.text.push(char::from(byte));
        }
    }

    fn push_escaped(&mut self, byte: u8) {
        const DIGITS: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
        if !self.parameters {
            self.text.push('%');
            self.text.push(DIGITS[usize::from(byte >> 4)]);
            self.text.push(DIGITS[usize::from(byte & 15)]);
        }
    }

    /// The current segment is complete; `last` when no slash follows it.
    fn end(&mut self, last: bool) -> Result<(), BadPath> {
        let parameters = std::mem::take(&mut self.parameters);
        match self.text.get(self.start..).unwrap_or_default() {
            "" if parameters && !last => return Err(BadPath::Parameters),
            "" => self.restructured |= !last,
            "." | ".." if parameters => return Err(BadPath::Parameters),
            "." => {
                self.text.truncate(self.start);
                self.restructured = true;
            }
            ".." => {
                self.leave();
                self.restructured = true;
            }
            _ if last => {}
            _ => {
                self.text.push('/');
                self.start = self.text.len();
            }
        }
        Ok(())
    }

    /// Drops the current segment and the one before it.
    fn leave(&mut self) {
        self.text.truncate(self.start.saturating_sub(1));
        let parent = self.text.rfind('/').unwrap_or(0);
        self.text.truncate(parent);
        self.text.push('/');
        self.start = self.text.len();
    }
}

#[cfg(test)]
mod tests;
