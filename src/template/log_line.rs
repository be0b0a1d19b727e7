//! The line of the access log as a text with placeholders: `{client} "{request}" {status} {duration_ms}`. Parsed when
//! the configuration is read, written by `observe`. What each placeholder stands for is in docs/access_log.md.

use super::{Part, parts, unknown};
use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

macro_rules! facts {
    ($($fact:ident $name:literal),+ $(,)?) => {
        /// What is known of every request, by one name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fact {
            $($fact),+
        }

        impl Fact {
            const NAMES: &[(&'static str, Fact)] = &[$(($name, Fact::$fact)),+];
        }
    };
}

facts! {
    Time "time",
    TimeCommon "time_common",
    TimeUnix "time_unix",
    Listener "listener",
    Route "route",
    Upstream "upstream",
    Server "server",
    Attempts "attempts",
    Client "client",
    ClientIp "client_ip",
    Proxy "proxy",
    Request "request",
    Method "method",
    Scheme "scheme",
    Host "host",
    Path "path",
    Query "query",
    Uri "uri",
    Protocol "protocol",
    Status "status",
    GrpcStatus "grpc_status",
    RequestBytes "request_bytes",
    ResponseBytes "response_bytes",
    RequestDatagrams "request_datagrams",
    ResponseDatagrams "response_datagrams",
    DurationMs "duration_ms",
    QueueMs "queue_ms",
    UpstreamConnectMs "upstream_connect_ms",
    UpstreamResponseMs "upstream_response_ms",
    RequestId "request_id",
    TraceId "trace_id",
    Tls "tls",
    TlsCipher "tls_cipher",
    Sni "sni",
    ClientCertSubject "client_cert_subject",
    ClientCertFingerprint "client_cert_fingerprint",
    UserAgent "user_agent",
    Referer "referer",
    Ended "ended",
    Error "error",
}

/// Placeholders that name one of many things, as they are listed.
const NAMED: [&str; 4] = ["header.NAME", "response_header.NAME", "cookie.NAME", "query.NAME"];

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    Fact(Fact),
    /// A header of the request.
    Header(HeaderName),
    /// A header of the response.
    ResponseHeader(HeaderName),
    /// A cookie that the client has brought.
    Cookie(String),
    /// A parameter of the query.
    Query(String),
}

impl FromStr for Field {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some((_, fact)) = Fact::NAMES.iter().find(|(n, _)| *n == name) {
            return Ok(Field::Fact(*fact));
        }
        let unknown = || unknown(name, Fact::NAMES.iter().map(|(n, _)| *n).chain(NAMED));
        let (kind, of) = name.split_once('.').ok_or_else(unknown)?;
        if of.is_empty() {
            return Err(format!(
                "`{{{name}}}` names nothing\nwrite the name behind the dot, as in {{{kind}.x}}"
            ));
        }
        let header = || {
            HeaderName::from_bytes(of.as_bytes())
                .map_err(|_| format!("`{of}` is not a header name\nwrite it as in {{header.x-tenant}}"))
        };
        match kind {
            "header" => header().map(Field::Header),
            "response_header" => header().map(Field::ResponseHeader),
            "cookie" => Ok(Field::Cookie(of.to_owned())),
            "query" => Ok(Field::Query(of.to_owned())),
            _ => Err(unknown()),
        }
    }
}

/// A line with placeholders. Compared and printed as it was written.
#[derive(Debug, Clone)]
pub struct LogLine {
    text: String,
    parts: Vec<Part<Field>>,
}

impl LogLine {
    pub fn parts(&self) -> &[Part<Field>] {
        &self.parts
    }
}

impl FromStr for LogLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // as a block of YAML ends
        let text = text.strip_suffix('\n').unwrap_or(text);
        if text.is_empty() {
            return Err(
                "the template is empty\nwrite placeholders, such as {client} {status} {uri}".to_owned()
            );
        }
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err("the template has a line break or another control character\nwrite one line; \
                        a long one may be folded with `>-`"
                .to_owned());
        }
        Ok(LogLine { text: text.to_owned(), parts: parts(text, str::parse)? })
    }
}

impl PartialEq for LogLine {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for LogLine {}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for LogLine {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for LogLine {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for LogLine {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "LogLine".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["{client} \"{request}\" {status} {duration_ms}"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        text.parse::<LogLine>().expect_err(text)
    }

    #[test]
    fn facts_and_named_things_are_told_apart() {
        let line: LogLine = "{client} {{{header.X-Tenant}}} {cookie.a.b}".parse().unwrap();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            line.parts(),
            [
                Part::Value(Field::Fact(Fact::Client)),
                text(" {"),
                Part::Value(Field::Header(HeaderName::from_static("x-tenant"))),
                text("} "),
                Part::Value(Field::Cookie("a.b".to_owned())),
            ]
        );
        assert_eq!(line.to_string(), "{client} {{{header.X-Tenant}}} {cookie.a.b}");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(mistake("{durations_ms}").contains("did you mean `{duration_ms}`"));
        assert!(mistake("{headers.x}").contains("did you mean `{header.NAME}`"));
        assert!(mistake("{header.}").contains("names nothing"));
        assert!(mistake("{header.a b}").contains("is not a header name"));
        assert!(mistake("{status").contains("no partner"));
        assert!(mistake("{status}\n{path}").contains("line break"));
        assert!(mistake("\n").contains("is empty"));
        assert!("{status}\n".parse::<LogLine>().is_ok(), "as a block of YAML ends");
    }

    #[test]
    fn every_placeholder_is_documented() {
        let guide = include_str!("../../docs/access_log.md");
        for name in Fact::NAMES.iter().map(|(name, _)| *name).chain(NAMED) {
            assert!(
                guide.contains(&format!("`{{{name}}}`")),
                "docs/access_log.md does not say what {{{name}}} is"
            );
        }
    }
}
