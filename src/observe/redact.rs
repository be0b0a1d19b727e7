//! What no line of the access log shows. Made by [`super::access_log`] from the configuration, asked by those who write
//! lines.

use super::entry::Entry;
use crate::config::file;
use crate::pairs::Decoded;
use http::{HeaderName, header};
use std::ops::Range;

/// What stands for it.
pub(super) const REDACTED: &[u8] = b"[redacted]";

/// They say who somebody is to those who read them.
const ALWAYS: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];

/// What is to be kept back.
#[derive(Debug, Default)]
pub(super) struct Redact {
    headers: Box<[HeaderName]>,
    cookies: Box<[Box<str>]>,
    /// In lower case, as far as it is ASCII: one too many is better kept back than one too few.
    query: Box<[Box<str>]>,
    /// Something of it can be in an [`Entry`].
    in_entries: bool,
}

impl Redact {
    pub(super) fn new(plan: &file::Redact) -> Self {
        let headers: Box<[_]> = plan.headers.iter().map(|name| name.0.clone()).collect();
        let query: Box<[_]> = plan.query.iter().map(|name| name.to_ascii_lowercase().into()).collect();
        let of_entries = [header::HOST, header::USER_AGENT, header::REFERER];
        let in_entries = !query.is_empty() || headers.iter().any(|name| of_entries.contains(name));
        let cookies = plan.cookies.iter().map(|name| name.as_str().into()).collect();
        Redact { headers, cookies, query, in_entries }
    }

    pub(super) fn hides_header(&self, name: &HeaderName) -> bool {
        ALWAYS.contains(name) || self.headers.contains(name)
    }

    pub(super) fn hides_cookie(&self, name: &str) -> bool {
        self.cookies.iter().any(|hidden| **hidden == *name)
    }

    /// Whether entries are to be looked at by [`Redact::entry`] at all.
    pub(super) fn looks_at_entries(&self) -> bool {
        self.in_entries
    }

    /// The entry as it may be shown; `room` holds what is spelt anew.
    pub(super) fn entry<'a>(&self, entry: &Entry<'a>, room: &'a mut Vec<u8>) -> Entry<'a> {
        room.clear();
        let method = self.spell(entry.method.map(str::as_bytes), room);
        let [host, user_agent, referer] = [
            (header::HOST, entry.host),
            (header::USER_AGENT, entry.user_agent),
            (header::REFERER, entry.referer),
        ]
        .map(|(name, value)| match self.headers.contains(&name) {
            true => value.map(|_| append(room, REDACTED)),
            false => self.spell(value, room),
        });
        let path = self.spell(entry.path, room);
        let room: &'a [u8] = room;
        let pick = |found: Option<Range<usize>>, value| found.map_or(value, |range| room.get(range));
        Entry {
            // of a head that was no request it may hold anything
            method: pick(method, entry.method.map(str::as_bytes)).and_then(|m| std::str::from_utf8(m).ok()),
            host: pick(host, entry.host),
            user_agent: pick(user_agent, entry.user_agent),
            referer: pick(referer, entry.referer),
            path: pick(path, entry.path),
            ..*entry
        }
    }

    /// Where in `out` the text is without what is kept back; `None` when there is nothing of that in it.
    fn spell(&self, text: Option<&[u8]>, out: &mut Vec<u8>) -> Option<Range<usize>> {
        let from = out.len();
        self.pieces(text?, |piece| out.extend_from_slice(piece)).then_some(from..out.len())
    }

    /// Gives the pieces of a text in which parameters are kept back, if there are any: `/x?a=1&token=[redacted]`. False
    /// when there are none, and nothing was given.
    ///
    /// Names are looked for behind `?`, `&`, `;` and `#`, as they are and decoded, in large and small letters; a value
    /// ends at `&` or `#`. What stands encoded within another value is not looked into.
    pub(super) fn pieces(&self, text: &[u8], mut give: impl FnMut(&[u8])) -> bool {
        let Some(first) = memchr::memchr2(b'?', b'#', text).filter(|_| !self.query.is_empty()) else {
            return false;
        };
        let (mut at, mut given) = (first + 1, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let name_ends = rest.iter().position(|b| matches!(b, b'=' | b'?' | b'&' | b';' | b'#'));
            let Some((name, [mark, value @ ..])) = name_ends.and_then(|end| rest.split_at_checked(end))
            else {
                break;
            };
            at += name.len() + 1;
            if *mark != b'=' || !self.hides_parameter(name) {
                continue;
            }
            give(text.get(given..at).unwrap_or_default());
            give(REDACTED);
            at += memchr::memchr2(b'&', b'#', value).unwrap_or(value.len());
            given = at;
            at += 1;
        }
        if given > 0 {
            give(text.get(given..).unwrap_or_default());
        }
        given > 0
    }

    fn hides_parameter(&self, name: &[u8]) -> bool {
        // the longest spelling of a byte has three
        let may_be = |hidden: &str| (hidden.len()..=3 * hidden.len()).contains(&name.len());
        let same = |hidden: &str| Decoded(name).map(|b| b.to_ascii_lowercase()).eq(hidden.bytes());
        self.query.iter().any(|hidden| may_be(hidden) && same(hidden))
    }
}

fn append(out: &mut Vec<u8>, text: &[u8]) -> Range<usize> {
    let from = out.len();
    out.extend_from_slice(text);
    from..out.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::words::FieldName;

    fn redact(query: &[&str], headers: &[&'static str]) -> Redact {
        Redact::new(&file::Redact {
            headers: headers.iter().map(|name| FieldName(HeaderName::from_static(name))).collect(),
            query: query.iter().map(|name| (*name).to_owned().into()).collect(),
            cookies: vec!["session".to_owned().into()],
        })
    }

    fn spelt(redact: &Redact, text: &str) -> String {
        let mut out = Vec::new();
        match redact.pieces(text.as_bytes(), |piece| out.extend_from_slice(piece)) {
            true => String::from_utf8(out).unwrap(),
            false => {
                assert_eq!(out, b"");
                text.to_owned()
            }
        }
    }

    #[test]
    fn named_parameters_are_kept_back_wherever_they_stand() {
        let redact = redact(&["token", "API key", "SCHLÜSSEL"], &[]);
        for (sent, shown) in [
            ("/x?token=s3cret", "/x?token=[redacted]"),
            ("/x?a=1&token=s3cret&b=2", "/x?a=1&token=[redacted]&b=2"),
            ("/x?token=s3cret&token=again", "/x?token=[redacted]&token=[redacted]"),
            ("/x?a=1;token=s3;cret&b=2", "/x?a=1;token=[redacted]&b=2"),
            ("/x?%74oke%6E=s3cret", "/x?%74oke%6E=[redacted]"),
            ("/x?TOKEN=s3cret", "/x?TOKEN=[redacted]"),
            ("/x?api+key=s3cret&api%20KEY=s3cret", "/x?api+key=[redacted]&api%20KEY=[redacted]"),
            (
                "/x?SCHL%C3%9CSSEL=s3cret&schl%c3%9cssel=s3cret",
                "/x?SCHL%C3%9CSSEL=[redacted]&schl%c3%9cssel=[redacted]",
            ),
            ("https://y/#token=s3cret", "https://y/#token=[redacted]"),
            ("https://y/?a#token=s3cret", "https://y/?a#token=[redacted]"),
            ("/x?to=/y?token=s3cret", "/x?to=/y?token=[redacted]"),
            ("/x?token=s3=cret?;", "/x?token=[redacted]"),
            ("/x?token=", "/x?token=[redacted]"),
        ] {
            assert_eq!(spelt(&redact, sent), shown);
        }
    }

    #[test]
    fn all_else_stays_as_it_is() {
        let named = redact(&["token"], &[]);
        for text in
            ["", "/", "?", "/token=1", "/x?tokens=1&atoken=2&a=token", "/x?token", "/x?token&=1", "/x?%=1&&&"]
        {
            assert_eq!(spelt(&named, text), text);
        }
        assert_eq!(spelt(&redact(&[], &[]), "/x?token=1"), "/x?token=1");
    }

    #[test]
    fn no_text_makes_it_stumble_and_no_secret_comes_through() {
        let redact = redact(&["token"], &[]);
        for seed in 0..5000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut text: Vec<u8> =
                (0..random.usize(..40)).map(|_| *random.choice(b"?&;#=%to7ken/ \xff").unwrap()).collect();
            text.extend_from_slice(b"?token=S3CRET");
            text.extend((0..random.usize(..20)).map(|_| *random.choice(b"?;=%to7ken/ \xff").unwrap()));
            let mut out = Vec::new();
            assert!(redact.pieces(&text, |piece| out.extend_from_slice(piece)), "seed {seed}");
            assert!(memchr::memmem::find(&out, b"S3CRET").is_none(), "seed {seed}: {}", out.escape_ascii());
        }
    }

    #[test]
    fn an_entry_loses_what_it_must_not_show() {
        let redact = redact(&["token"], &["user-agent"]);
        assert!(redact.looks_at_entries());
        let entry = Entry {
            method: Some("GET /?token=1"),
            path: Some(b"/x?token=1"),
            referer: Some(b"https://y/?token=1&z"),
            user_agent: Some(b"curl"),
            host: Some(b"y"),
            status: 200,
            ..Entry::default()
        };
        let mut room = b"of the last one".to_vec();
        let shown = redact.entry(&entry, &mut room);
        assert_eq!(shown.method, Some("GET /?token=[redacted]"));
        assert_eq!(shown.path, Some(&b"/x?token=[redacted]"[..]));
        assert_eq!(shown.referer, Some(&b"https://y/?token=[redacted]&z"[..]));
        assert_eq!(shown.user_agent, Some(REDACTED));
        assert_eq!((shown.host, shown.status), (Some(&b"y"[..]), 200));
    }

    #[test]
    fn credentials_are_never_shown() {
        let redact = redact(&[], &["x-api-key"]);
        for name in ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"] {
            assert!(redact.hides_header(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!redact.hides_header(&header::ACCEPT) && !redact.looks_at_entries());
        assert!(redact.hides_cookie("session") && !redact.hides_cookie("Session"));
    }
}
