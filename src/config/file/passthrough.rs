//! `passthrough` of a listener's `tls`: a map of names, or a list with more conditions.

use crate::config::decode::Located;
use crate::config::file::Table;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Connections that reach a group unopened, by what the client's hello asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passthrough(pub Vec<Unopened>);

/// Which connections, and where they go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unopened {
    /// `www.example.com`, `*.example.com` for one label, or `*`, which it is without it, for all that nothing else is for.
    #[serde(default)]
    pub names: Vec<Located<String>>,
    /// Only clients that offer one of these protocols (ALPN); all without it.
    #[serde(default)]
    pub alpn: Vec<Located<String>>,
    /// The group that they are passed on to.
    pub upstream: Located<String>,
}

impl Passthrough {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each name with its group, where there is no more to it.
    fn pairs(&self) -> Option<Vec<(&str, &str)>> {
        let pairs = self.0.iter().map(|entry| match (entry.names.as_slice(), entry.alpn.as_slice()) {
            ([name], []) => Some((name.value.as_str(), entry.upstream.value.as_str())),
            _ => None,
        });
        pairs.collect()
    }
}

impl<'de> Deserialize<'de> for Passthrough {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Passthrough;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to upstreams, or a list")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, upstream)) = map.next_entry()? {
                    entries.push(Unopened { names: vec![name], alpn: Vec::new(), upstream });
                }
                Ok(Passthrough(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    entries.push(entry);
                }
                Ok(Passthrough(entries))
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for Passthrough {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.pairs() {
            Some(pairs) => s.collect_map(pairs),
            None => self.0.serialize(s),
        }
    }
}

impl JsonSchema for Passthrough {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Passthrough".into()
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let (names, entry) = (g.subschema_for::<Table<String>>(), g.subschema_for::<Unopened>());
        schemars::json_schema!({ "anyOf": [names, { "type": "array", "items": entry }] })
    }
}
