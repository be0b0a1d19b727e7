//! Headers that a line of the access log shows. Made by [`super::access_log`] from the configuration, used by
//! [`super::json`] and [`super::line`].

use super::combined::push;
use super::entry::Entry;
use super::redact::{REDACTED, Redact};
use crate::config::file::{Escape, LoggedHeaders};
use crate::config::words::FieldName;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

/// A header that is shown.
#[derive(Debug)]
pub(super) struct Shown {
    name: HeaderName,
    /// Only that it was there.
    hidden: bool,
    redact: Arc<Redact>,
}

impl Shown {
    pub(super) fn new(name: HeaderName, redact: &Arc<Redact>) -> Self {
        Shown { hidden: redact.hides_header(&name), redact: redact.clone(), name }
    }

    /// Appends its value, several joined as they may be (RFC 9110 §5.3); whether there was one.
    pub(super) fn push(&self, out: &mut Vec<u8>, map: Option<&HeaderMap>, escape: Escape) -> bool {
        let mut values = map.into_iter().flat_map(|map| map.get_all(&self.name)).peekable();
        if values.peek().is_none() {
            return false;
        }
        if self.hidden {
            out.extend_from_slice(REDACTED);
            return true;
        }
        while let Some(value) = values.next() {
            let value = value.as_bytes();
            if !self.redact.pieces(value, |piece| push(out, piece, escape)) {
                push(out, value, escape);
            }
            if values.peek().is_some() {
                out.extend_from_slice(b", ");
            }
        }
        true
    }
}

/// Those of a JSON line.
#[derive(Debug)]
pub(super) struct Headers {
    request: Box<[Member]>,
    response: Box<[Member]>,
}

/// A header and its key: `"x-tenant":"`.
#[derive(Debug)]
struct Member {
    key: Box<[u8]>,
    shown: Shown,
}

impl Headers {
    /// `None` when there are none.
    pub(super) fn new(plan: &LoggedHeaders, redact: &Arc<Redact>) -> Option<Self> {
        let member = |name: &FieldName| Member {
            // a token: nothing in it needs an escape
            key: format!("\"{name}\":\"").into_bytes().into(),
            shown: Shown::new(name.0.clone(), redact),
        };
        let all = |names: &[FieldName]| names.iter().map(member).collect();
        (!plan.is_empty()).then(|| Headers { request: all(&plan.request), response: all(&plan.response) })
    }

    /// Appends the members of the line that hold them.
    pub(super) fn push(&self, out: &mut Vec<u8>, entry: &Entry<'_>) {
        object(out, b",\"request_headers\":{", &self.request, entry.request_headers);
        object(out, b",\"response_headers\":{", &self.response, entry.response_headers);
    }
}

/// Nothing when none of them is there.
fn object(out: &mut Vec<u8>, opening: &[u8], members: &[Member], map: Option<&HeaderMap>) {
    let mut before = opening;
    for member in members {
        let begun = out.len();
        out.extend_from_slice(before);
        out.extend_from_slice(&member.key);
        if member.shown.push(out, map, Escape::Json) {
            out.push(b'"');
            before = b",";
        } else {
            out.truncate(begun);
        }
    }
    if before.len() == 1 {
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;
    use http::HeaderValue;

    #[test]
    fn headers_are_objects_of_text() {
        let names = |names: &[&'static str]| {
            names.iter().map(|name| FieldName(HeaderName::from_static(name))).collect::<Vec<_>>()
        };
        let redact =
            Redact::new(&file::Redact { query: vec!["token".to_owned().into()], ..file::Redact::default() });
        let plan = LoggedHeaders {
            request: names(&["x-none", "x-tenant", "authorization", "accept"]),
            response: names(&["location", "set-cookie"]),
        };
        let headers = Headers::new(&plan, &Arc::new(redact)).expect("some");
        let mut request = HeaderMap::new();
        let mut response = HeaderMap::new();
        let entry = Entry { request_headers: Some(&request), ..Entry::default() };
        let mut out = Vec::new();
        headers.push(&mut out, &entry);
        assert_eq!(out, b"", "what is not there has no place");

        for (name, value) in [
            ("x-tenant", &b"a\"b\xff\t"[..]),
            ("authorization", b"Basic YWxhZGRpbjpvcGVuc2VzYW1l"),
            ("accept", b"text/html"),
            ("accept", b"*/*"),
        ] {
            request.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        response.append("location", HeaderValue::from_static("https://y/?token=s3cret&a"));
        response.append("set-cookie", HeaderValue::from_static("session=s3cret"));
        let entry =
            Entry { request_headers: Some(&request), response_headers: Some(&response), ..Entry::default() };
        headers.push(&mut out, &entry);
        let line = format!("{{{}}}", std::str::from_utf8(&out[1..]).unwrap());
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let expected = serde_json::json!({
            "request_headers": {
                "x-tenant": "a\"b\u{fffd}\t", "authorization": "[redacted]", "accept": "text/html, */*",
            },
            "response_headers": { "location": "https://y/?token=[redacted]&a", "set-cookie": "[redacted]" },
        });
        assert_eq!(line, expected);
        assert!(Headers::new(&LoggedHeaders::default(), &Arc::default()).is_none());
    }
}
