//! A part of the configuration that is read later, by whoever knows its type: the settings of a filter.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::handover::{RAW, leave, take};
use crate::config::report::Span;
use crate::config::secret::{MASK, is_key_material, is_secret_key, serialize_hidden};
use crate::config::yaml::{Data, Entry, Key, Kind, Node, Scalar};

/// An undecoded node, read with [`decode_raw`](super::decode_raw). Compares by its data, prints with its
/// secrets masked and its variables unexpanded.
#[derive(Clone, PartialEq)]
pub struct Raw {
    node: Node,
}

impl Raw {
    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn span(&self) -> Span {
        self.node.span
    }

    /// The only key of a mapping with one key, its place and its value: `headers` in `- headers: { ... }`.
    pub fn as_single_key_map(&self) -> Option<(&str, Span, Raw)> {
        match self.node.entries() {
            [entry] => Some((&entry.key.name, entry.key.span, Raw::from(entry.value.clone()))),
            _ => None,
        }
    }

    /// The text of a scalar: `compress` in `- compress`.
    pub fn as_text(&self) -> Option<&str> {
        self.node.as_scalar().map(|scalar| scalar.text.as_str())
    }
}

impl From<Node> for Raw {
    fn from(node: Node) -> Raw {
        Raw { node }
    }
}

impl Default for Raw {
    /// Nothing, as after a key without a value.
    fn default() -> Raw {
        Raw { node: Node::null(Span::default()) }
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::to_string(self) {
            Ok(json) => f.write_str(&json),
            Err(_) => f.write_str("Raw"),
        }
    }
}

impl JsonSchema for Raw {
    // a definition of its own, which `config::schema` fills with the filters of the catalogue
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { node: &self.node, secret: false }.serialize(serializer)
    }
}

/// A node as it may be shown; `secret` below a key that names a secret.
struct Shown<'a> {
    node: &'a Node,
    secret: bool,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.node.data {
            Data::Scalar(scalar) => self.scalar(scalar, serializer),
            Data::Sequence(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for node in items.iter() {
                    seq.serialize_element(&Shown { node, secret: self.secret })?;
                }
                seq.end()
            }
            Data::Mapping(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries.iter() {
                    let secret = self.secret || is_secret_key(&entry.key.name);
                    map.serialize_entry(&*entry.key.name, &Shown { node: &entry.value, secret })?;
                }
                map.end()
            }
            Data::Pruned => serializer.serialize_unit(),
        }
    }
}

impl Shown<'_> {
    fn scalar<S: Serializer>(&self, scalar: &Scalar, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(raw) = scalar.raw() {
            return serialize_hidden(&scalar.text, raw, serializer);
        }
        match scalar.kind() {
            Kind::Null => serializer.serialize_unit(),
            _ if self.secret || is_key_material(&scalar.text) => {
                serialize_hidden(&scalar.text, MASK, serializer)
            }
            Kind::Bool(value) => serializer.serialize_bool(value),
            Kind::Unsigned(number) => serializer.serialize_u64(number),
            Kind::Signed(number) => serializer.serialize_i64(number),
            Kind::Float(number) => serializer.serialize_f64(number),
            Kind::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_newtype_struct(RAW, RawVisitor)
    }
}

/// Leaves `node` for the visitor of [`Raw`] and calls it.
pub fn hand_over<'de, V, D>(node: &Node, visitor: V, deserializer: D) -> Result<V::Value, D::Error>
where
    V: Visitor<'de>,
    D: Deserializer<'de>,
{
    leave(node);
    visitor.visit_newtype_struct(deserializer)
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Raw, D::Error> {
        match take() {
            Some(node) => Ok(Raw { node }),
            None => inner.deserialize_any(self), // another format's deserializer
        }
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::default())
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Raw, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Node::text(text).into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Node::scalar(value.to_string(), true).into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Node::scalar(number.to_string(), true).into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Node::scalar(number.to_string(), true).into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Node::scalar(format!("{number:?}"), true).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Raw>()? {
            items.push(item.node);
        }
        Ok(Node::sequence(Span::default(), items).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Raw>()? {
            let key = Key { name: name.into(), span: Span::default() };
            entries.push(Entry { key, value: value.node });
        }
        Ok(Node::mapping(Span::default(), entries).into())
    }
}
