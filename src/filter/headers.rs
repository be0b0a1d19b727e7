//! `headers`: set, add and remove headers of requests and responses.

use super::{Exchange, Filter, FilterSettings, Phases};
use crate::config::file::Table;
use crate::template::Template;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora_http::{RequestHeader, ResponseHeader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Set, add and remove headers. `remove` is done first, then `set`, then `add`. Values may hold
/// the placeholders `{client_ip}`, `{host}`, `{method}`, `{path}`, `{query}`, `{request_id}`, `{scheme}`, `{uri}`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// Of the request, on its way to the server.
    pub request: Changes,
    /// Of the response, on its way to the client.
    pub response: Changes,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// Replaces all headers of this name.
    pub set: Table<Template>,
    /// Adds a header beside those there are.
    pub add: Table<Template>,
    /// Removes all headers of this name.
    pub remove: Vec<String>,
}

/// The behaviour of [`Headers`].
pub struct HeadersFilter {
    request: Compiled,
    response: Compiled,
}

#[derive(Default)]
struct Compiled {
    remove: Vec<HeaderName>,
    set: Vec<(Bytes, Value)>,
    add: Vec<(Bytes, Value)>,
}

enum Value {
    Fixed(HeaderValue),
    Template(Template),
}

impl FilterSettings for Headers {
    const KEY: &'static str = "headers";
    type Filter = HeadersFilter;

    fn build(&self) -> Result<HeadersFilter, String> {
        Ok(HeadersFilter { request: self.request.compile(true)?, response: self.response.compile(false)? })
    }
}

impl Changes {
    fn compile(&self, request: bool) -> Result<Compiled, String> {
        let pairs = |table: &Table<Template>| -> Result<Vec<_>, String> {
            table.iter().map(|(name, value)| compile_pair(&name.value, value, request)).collect()
        };
        let remove = self.remove.iter().map(|name| header_name(name, request)).collect::<Result<_, _>>()?;
        Ok(Compiled { remove, set: pairs(&self.set)?, add: pairs(&self.add)? })
    }
}

fn compile_pair(name: &str, value: &Template, request: bool) -> Result<(Bytes, Value), String> {
    header_name(name, request)?;
    let compiled = match value.as_text() {
        Some(text) => Value::Fixed(
            HeaderValue::from_str(text)
                .map_err(|_| format!("the value of header `{name}` has a line break or control character"))?,
        ),
        None => Value::Template(value.clone()),
    };
    Ok((Bytes::copy_from_slice(name.as_bytes()), compiled))
}

/// Refuses names that are not tokens, and headers that decide where a message ends: changing
/// those would let two readers disagree on it (RFC 9112 §11.2).
fn header_name(name: &str, request: bool) -> Result<HeaderName, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` is not the name of a header\nuse letters, digits and hyphens"))?;
    match parsed.as_str() {
        "connection" | "content-length" | "keep-alive" | "te" | "trailer" | "transfer-encoding"
        | "upgrade" | "proxy-connection" => Err(format!(
            "`{name}` belongs to the connection and cannot be changed\nremove it: the gate writes it where it is needed"
        )),
        "host" if request => {
            Err("`Host` is chosen by the upstream\nwrite `host: preserve`, `host: server` or a name there"
                .into())
        }
        _ => Ok(parsed),
    }
}

impl Value {
    /// `None` when a placeholder brought a byte that no header may hold.
    fn render(&self, ex: &Exchange<'_>) -> Option<HeaderValue> {
        match self {
            Value::Fixed(value) => Some(value.clone()),
            Value::Template(template) => {
                HeaderValue::from_str(&template.render(|placeholder, out| ex.fill(placeholder, out))).ok()
            }
        }
    }
}

/// The two kinds of head, changed alike.
trait Head {
    fn remove(&mut self, name: &HeaderName);
    fn set(&mut self, name: Bytes, value: HeaderValue) -> pingora_core::Result<()>;
    fn add(&mut self, name: Bytes, value: HeaderValue) -> pingora_core::Result<()>;
}

macro_rules! head {
    ($type:ty) => {
        impl Head for $type {
            fn remove(&mut self, name: &HeaderName) {
                self.remove_header(name);
            }
            fn set(&mut self, name: Bytes, value: HeaderValue) -> pingora_core::Result<()> {
                self.insert_header(name, value)
            }
            fn add(&mut self, name: Bytes, value: HeaderValue) -> pingora_core::Result<()> {
                self.append_header(name, value).map(drop)
            }
        }
    };
}
head!(RequestHeader);
head!(ResponseHeader);

impl Compiled {
    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    fn apply(&self, ex: &Exchange<'_>, head: &mut impl Head) {
        for name in &self.remove {
            head.remove(name);
        }
        for (name, value) in &self.set {
            if let Some(value) = value.render(ex) {
                // the name is a valid token: only a head with 32,768 headers refuses it
                head.set(name.clone(), value).ok();
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.render(ex) {
                head.add(name.clone(), value).ok();
            }
        }
    }
}

impl Filter for HeadersFilter {
    fn phases(&self) -> Phases {
        let request = if self.request.is_empty() { Phases::NONE } else { Phases::UPSTREAM_REQUEST };
        let response = if self.response.is_empty() { Phases::NONE } else { Phases::RESPONSE };
        request.and(response)
    }

    fn upstream_request(&self, ex: &mut Exchange<'_>, head: &mut RequestHeader) {
        self.request.apply(ex, head);
    }

    fn response(&self, ex: &mut Exchange<'_>, head: &mut ResponseHeader) {
        self.response.apply(ex, head);
    }
}
