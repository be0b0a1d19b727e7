//! Texts with placeholders: `/new{path}`. Parsed when the configuration is read, filled in per
//! request by `http::reply` and the filters. Those of the access log have more to tell: see [`LogLine`].
//!
//! `{name}` is a placeholder; `{{` and `}}` stand for the braces themselves.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

mod log_line;
pub use log_line::{Fact, Field, LogLine};

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// `http` or `https`, as the client connected (or a trusted proxy says it did).
    Scheme,
    /// The host asked for, without port.
    Host,
    /// The path as forwarded, without query.
    Path,
    /// The query with its `?`, or nothing.
    Query,
    /// Path and query.
    Uri,
    Method,
    ClientIp,
    RequestId,
}

const NAMES: &[(&str, Placeholder)] = &[
    ("scheme", Placeholder::Scheme),
    ("host", Placeholder::Host),
    ("path", Placeholder::Path),
    ("query", Placeholder::Query),
    ("uri", Placeholder::Uri),
    ("method", Placeholder::Method),
    ("client_ip", Placeholder::ClientIp),
    ("request_id", Placeholder::RequestId),
];

/// A piece of a text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<P> {
    Text(String),
    Value(P),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part<Placeholder>>,
}

impl Template {
    /// The text itself, when it has no placeholders.
    pub fn as_text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills the placeholders in; `value` writes what one stands for.
    pub fn render(&self, mut value: impl FnMut(Placeholder, &mut String)) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => value(*placeholder, &mut out),
            }
        }
        out
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        parts(s, placeholder).map(|parts| Template { parts })
    }
}

/// Takes a text apart; `value` knows what may stand between braces.
fn parts<P>(s: &str, value: impl Fn(&str) -> Result<P, String>) -> Result<Vec<Part<P>>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = s;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        text.push_str(before);
        if let Some(after) = brace.strip_prefix("{{") {
            text.push('{');
            rest = after;
        } else if let Some(after) = brace.strip_prefix("}}") {
            text.push('}');
            rest = after;
        } else if let Some((name, after)) = brace.strip_prefix('{').and_then(|b| b.split_once('}')) {
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Value(value(name)?));
            rest = after;
        } else {
            return Err(format!("a brace in `{s}` has no partner\nwrite {{{{ or }}}} for a brace itself"));
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

fn placeholder(name: &str) -> Result<Placeholder, String> {
    let found = NAMES.iter().find(|(n, _)| *n == name).map(|(_, found)| *found);
    found.ok_or_else(|| unknown(name, NAMES.iter().map(|(n, _)| *n)))
}

/// What is said of a placeholder that there is not.
fn unknown<'n>(name: &str, known: impl Iterator<Item = &'n str> + Clone) -> String {
    let listed: Vec<String> = known.clone().map(|n| format!("{{{n}}}")).collect();
    let nearest = known
        .map(|n| (strsim::jaro_winkler(n, name), n))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, n)| format!("; did you mean `{{{n}}}`?")).unwrap_or_default();
    format!(
        "unknown placeholder `{{{name}}}`{hint}\nknown are {}; write {{{{ for a brace itself",
        listed.join(", ")
    )
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Part::Value(value) => {
                    let name = NAMES.iter().find(|(_, v)| v == value).map_or("", |(n, _)| n);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl JsonSchema for Template {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_braces_escaped() {
        let t: Template = "{scheme}://x{path}?a={{b}}".parse().unwrap();
        let out = t.render(|p, out| match p {
            Placeholder::Scheme => out.push_str("https"),
            Placeholder::Path => out.push_str("/p"),
            other => panic!("{other:?}"),
        });
        assert_eq!(out, "https://x/p?a={b}");
        assert_eq!(t.to_string(), "{scheme}://x{path}?a={{b}}");
        assert_eq!("plain".parse::<Template>().unwrap().as_text(), Some("plain"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!("{pth}".parse::<Template>().unwrap_err().contains("did you mean `{path}`"));
        assert!("{path".parse::<Template>().unwrap_err().contains("no partner"));
        assert!("a}b".parse::<Template>().unwrap_err().contains("no partner"));
    }
}
