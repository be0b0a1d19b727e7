//! The access log as a template says, with what is known of a request in the places of its placeholders. Compiled by
//! [`super::access_log`] when a log is opened. What each stands for is in docs/access_log.md.

use super::combined::{push, request_line};
use super::entry::Entry;
use super::headers::Shown;
use super::redact::{REDACTED, Redact};
use super::stamp::Stamp;
use super::text::{push_ip, push_millis, push_number, push_padded};
use crate::config::file::{Escape, LogTemplate};
use crate::pairs;
use crate::template::{Fact, Field, Part};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A template, ready to be filled in.
#[derive(Debug)]
pub(super) struct Line {
    parts: Box<[Piece]>,
    escape: Escape,
}

#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    Fact(Fact),
    Header(Shown),
    ResponseHeader(Shown),
    Cookie {
        name: String,
        hidden: bool,
    },
    /// What is kept back is so in the entry already.
    Query(String),
}

impl Line {
    pub(super) fn new(template: &LogTemplate, redact: &Arc<Redact>) -> Self {
        let piece = |part: &Part<Field>| match part {
            Part::Text(text) => Piece::Text(text.as_bytes().into()),
            Part::Value(Field::Fact(fact)) => Piece::Fact(*fact),
            Part::Value(Field::Header(name)) => Piece::Header(Shown::new(name.clone(), redact)),
            Part::Value(Field::ResponseHeader(name)) => {
                Piece::ResponseHeader(Shown::new(name.clone(), redact))
            }
            Part::Value(Field::Cookie(name)) => {
                Piece::Cookie { name: name.clone(), hidden: redact.hides_cookie(name) }
            }
            Part::Value(Field::Query(name)) => Piece::Query(name.clone()),
        };
        Line { parts: template.template.parts().iter().map(piece).collect(), escape: template.escape }
    }

    /// Appends one line with its newline.
    pub(super) fn push(&self, out: &mut Vec<u8>, stamp: &mut Stamp, now: SystemTime, entry: &Entry<'_>) {
        let mut pen = Pen { out, escape: self.escape };
        for piece in &self.parts {
            match piece {
                Piece::Text(text) => pen.out.extend_from_slice(text),
                Piece::Fact(fact) => pen.fact(*fact, entry, (&mut *stamp, now)),
                Piece::Header(shown) => pen.header(shown, entry.request_headers),
                Piece::ResponseHeader(shown) => pen.header(shown, entry.response_headers),
                Piece::Cookie { name, hidden } => {
                    let value = entry.request_headers.and_then(|map| pairs::cookies(map, name).next());
                    pen.text(value.map(|value| if *hidden { REDACTED } else { value }));
                }
                Piece::Query(name) => pen.text(query(entry).and_then(|query| parameter(query, name))),
            }
        }
        out.push(b'\n');
    }
}

/// Writes values of each kind, or what stands for one that is missing.
struct Pen<'o> {
    out: &'o mut Vec<u8>,
    escape: Escape,
}

impl Pen<'_> {
    fn fact(&mut self, fact: Fact, entry: &Entry<'_>, (stamp, now): (&mut Stamp, SystemTime)) {
        match fact {
            Fact::Time => stamp.rfc3339(now, self.out),
            Fact::TimeCommon => stamp.combined(now, self.out),
            Fact::TimeUnix => self.unix(now),
            Fact::Listener => self.name(Some(entry.listener)),
            Fact::Route => self.name(entry.route),
            Fact::Upstream => self.name(entry.upstream),
            Fact::Server => self.name(entry.server),
            Fact::Attempts => self.number(Some(entry.attempts.into())),
            Fact::Client | Fact::ClientIp => self.address(entry.client),
            Fact::Proxy => self.address(entry.proxy),
            Fact::Request => request_line(self.out, entry, self.escape),
            Fact::Method => self.name(entry.method),
            Fact::Scheme => self.name(entry.scheme),
            Fact::Host => self.text(entry.host),
            Fact::Path => self.text(entry.path.map(|target| split(target).0)),
            Fact::Query => self.text(entry.path.map(|target| split(target).1)),
            Fact::Uri => self.text(entry.path),
            Fact::Protocol => self.name(entry.protocol),
            Fact::Status => push_padded(self.out, entry.status.into(), 3),
            Fact::GrpcStatus => self.number(entry.grpc_status.map(u64::from)),
            Fact::RequestBytes => self.number(Some(entry.request_bytes)),
            Fact::ResponseBytes => self.number(Some(entry.response_bytes)),
            Fact::RequestDatagrams => self.number(entry.datagrams.map(|(from, _)| from)),
            Fact::ResponseDatagrams => self.number(entry.datagrams.map(|(_, to)| to)),
            Fact::DurationMs => self.millis(Some(entry.duration)),
            Fact::QueueMs => self.millis(entry.queued),
            Fact::UpstreamConnectMs => self.millis(entry.upstream_connect),
            Fact::UpstreamResponseMs => self.millis(entry.upstream_response),
            Fact::RequestId => self.text(entry.request_id),
            Fact::TraceId => self.text(entry.trace_id),
            Fact::Tls => self.name(entry.tls),
            Fact::TlsCipher => self.name(entry.tls_cipher),
            Fact::Sni => self.name(entry.sni),
            Fact::ClientCertSubject => self.name(entry.client_cert_subject),
            Fact::ClientCertFingerprint => self.name(entry.client_cert_fingerprint),
            Fact::UserAgent => self.text(entry.user_agent),
            Fact::Referer => self.text(entry.referer),
            Fact::Ended => self.name(entry.ended),
            Fact::Error => self.name(entry.error),
        }
    }

    fn name(&mut self, value: Option<&str>) {
        self.text(value.map(str::as_bytes));
    }

    fn text(&mut self, value: Option<&[u8]>) {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => push(self.out, value, self.escape),
            None => self.missing(),
        }
    }

    fn header(&mut self, shown: &Shown, map: Option<&http::HeaderMap>) {
        if !shown.push(self.out, map, self.escape) {
            self.missing();
        }
    }

    fn number(&mut self, value: Option<u64>) {
        match value {
            Some(value) => push_number(self.out, value),
            None => self.missing(),
        }
    }

    fn millis(&mut self, value: Option<Duration>) {
        match value {
            Some(value) => push_millis(self.out, value),
            None => self.missing(),
        }
    }

    fn address(&mut self, value: Option<IpAddr>) {
        match value {
            Some(value) => push_ip(self.out, value),
            None => self.missing(),
        }
    }

    /// Seconds since 1970 with three decimals.
    fn unix(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        push_number(self.out, since.as_secs());
        self.out.push(b'.');
        push_padded(self.out, since.subsec_millis().into(), 3);
    }

    fn missing(&mut self) {
        match self.escape {
            Escape::Hex => self.out.push(b'-'),
            Escape::Json => {}
        }
    }
}

/// A request target before its `?`, and from there on.
fn split(target: &[u8]) -> (&[u8], &[u8]) {
    target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()))
}

/// Without its `?`.
fn query<'a>(entry: &Entry<'a>) -> Option<&'a [u8]> {
    split(entry.path?).1.get(1..)
}

/// The first value of a parameter, as it was sent.
fn parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at_checked(at)?;
        (pairs::Decoded(key).eq(name.bytes())).then(|| value.get(1..).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::super::combined::tests::{full, moment};
    use super::*;
    use crate::config::file;
    use http::{HeaderMap, HeaderValue};

    fn line(template: &str, escape: Escape, entry: &Entry<'_>) -> String {
        let plan = file::Redact { cookies: vec!["session".to_owned().into()], ..file::Redact::default() };
        let template = LogTemplate { template: template.parse().expect(template), escape };
        let line = Line::new(&template, &Arc::new(Redact::new(&plan)));
        let mut out = Vec::new();
        line.push(&mut out, &mut Stamp::default(), moment(), entry);
        String::from_utf8(out).unwrap()
    }

    fn plain(template: &str, entry: &Entry<'_>) -> String {
        line(template, Escape::Hex, entry)
    }

    #[test]
    fn the_combined_format_can_be_written_as_a_template() {
        let template = "{client} - - [{time_common}] \"{request}\" {status} {response_bytes} \"{referer}\" \"{user_agent}\"";
        for entry in [full(), Entry::default(), Entry { ended: Some("cut"), listener: "a b", ..full() }] {
            let mut combined = Vec::new();
            super::super::combined::push_line(&mut combined, &mut Stamp::default(), moment(), &entry);
            assert_eq!(plain(template, &entry).as_bytes(), combined);
        }
    }

    #[test]
    fn every_kind_of_value_has_its_spelling() {
        let template = "{time} {time_unix} {scheme} {path} {query} {uri} {query.y} {duration_ms} {queue_ms} \
                        {upstream_connect_ms} {attempts} {grpc_status} {proxy} {client_cert_subject} {{{tls}}}";
        let expected = "2026-11-21T03:18:10.042Z 1795231090.042 https /api/x ?y=1 /api/x?y=1 1 12.345 0.100 0.250 2 14 \
                        192.0.2.1 CN=\\x5c\\x22one\\x5c\\x22 {TLSv1.3}\n";
        assert_eq!(plain(template, &full()), expected);
        let template =
            "{client} {query} {query.y} {request_datagrams} {queue_ms} {header.x} {cookie.x} {status}";
        let missing = Entry { listener: "web", ..Entry::default() };
        assert_eq!(plain(template, &missing), "- - - - - - - 000\n");
        assert_eq!(line(template, Escape::Json, &missing), "       000\n");
    }

    #[test]
    fn headers_and_cookies_are_found_and_credentials_are_not_shown() {
        let mut request = HeaderMap::new();
        for (name, value) in [
            ("x-tenant", &b"a \"b\" \x80"[..]),
            ("authorization", b"Bearer s3cret"),
            ("cookie", b"theme=dark; session=s3cret"),
        ] {
            request.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let entry = Entry { request_headers: Some(&request), ..full() };
        let template = "{header.X-Tenant} {header.authorization} {header.cookie} {cookie.theme} {cookie.session} {response_header.x}";
        assert_eq!(plain(template, &entry), "a \\x22b\\x22 \\x80 [redacted] [redacted] dark [redacted] -\n");
    }

    #[test]
    fn a_template_of_json_is_json_whatever_is_sent() {
        let template = "{{\"request\":\"{request}\",\"agent\":\"{user_agent}\",\"host\":\"{host}\"}}";
        for seed in 0..500 {
            let mut random = fastrand::Rng::with_seed(seed);
            let [path, agent, host] =
                [(); 3].map(|()| (0..random.usize(..30)).map(|_| random.u8(..)).collect::<Vec<u8>>());
            let entry = Entry {
                method: Some("GET"),
                path: Some(&path),
                user_agent: Some(&agent),
                host: Some(&host),
                ..Entry::default()
            };
            let text = line(template, Escape::Json, &entry);
            let value: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}: {text}"));
            assert_eq!(value["agent"], *String::from_utf8_lossy(&agent), "seed {seed}");
            let text = plain("{request} {user_agent}", &entry);
            assert!(text.is_ascii() && text.trim_end().bytes().all(|b| !b.is_ascii_control()), "{text}");
        }
    }
}
