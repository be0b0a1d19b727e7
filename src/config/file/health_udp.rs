//! `health_check: { udp: ... }`: what is sent to a server, and what its answer must be like.

use crate::config::decode::Located;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A datagram that a healthy server answers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdpCheck {
    /// What is sent: a text, or `{ hex: "0a 0b" }`.
    pub send: Located<Payload>,
    /// What the answer must contain, written as `send` is, or `{ regex: ... }` that it must match; without it any answer will do.
    #[serde(default)]
    pub expect: Option<Expected>,
}

/// The bytes of a datagram: a text, or `{ hex: "0a 0b" }` in which blanks do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Text(String),
    Hex(Vec<u8>),
}

/// What an answer must be like.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    Contains(Payload),
    /// Matches anywhere unless anchored with `^` and `$`.
    Regex(Located<String>),
}

impl Payload {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Hex(bytes) => bytes,
        }
    }
}

/// # Errors
/// What is wrong with it, and the fix.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Option<Vec<u8>> = text.chars().filter(|c| !c.is_whitespace()).map(digit).collect();
    let byte = |pair: &[u8]| pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    let pairs = digits.filter(|digits| digits.len().is_multiple_of(2));
    pairs
        .map(|digits| digits.chunks(2).map(byte).collect())
        .ok_or_else(|| format!("`{text}` is not hexadecimal\nwrite two digits for each byte, such as 0a 1b"))
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            hex: String,
        }
        let parse = |map: Map| parse_hex(&map.hex).map(Payload::Hex);
        d.deserialize_any(TextOr { expecting: "a text, or a map with hex", text: Payload::Text, parse })
    }
}

impl<'de> Deserialize<'de> for Expected {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Map {
            #[serde(default)]
            hex: Option<String>,
            #[serde(default)]
            regex: Option<Located<String>>,
        }
        let parse = |map: Map| match (map.hex, map.regex) {
            (Some(hex), None) => parse_hex(&hex).map(|bytes| Expected::Contains(Payload::Hex(bytes))),
            (None, Some(regex)) => Ok(Expected::Regex(regex)),
            (Some(_), Some(_)) => Err("it has both hex and regex\nkeep one".into()),
            (None, None) => Err("it is empty\nwrite a text, or a map with hex or regex".into()),
        };
        let text = |text| Expected::Contains(Payload::Text(text));
        d.deserialize_any(TextOr { expecting: "a text, or a map with hex or regex", text, parse })
    }
}

/// Takes a text, or a map that is parsed further.
struct TextOr<V, M> {
    expecting: &'static str,
    text: fn(String) -> V,
    parse: fn(M) -> Result<V, String>,
}

impl<'de, V, M: Deserialize<'de>> Visitor<'de> for TextOr<V, M> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E>(self, v: &str) -> Result<V, E> {
        Ok((self.text)(v.to_string()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<V, E> {
        Ok((self.text)(v.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V, A::Error> {
        (self.parse)(M::deserialize(MapAccessDeserializer::new(map))?).map_err(A::Error::custom)
    }
}

fn write_map<S: Serializer>(s: S, key: &str, value: &str) -> Result<S::Ok, S::Error> {
    let mut map = s.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Payload::Text(text) => s.serialize_str(text),
            Payload::Hex(bytes) => write_map(s, "hex", &hex_of(bytes)),
        }
    }
}

impl Serialize for Expected {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Expected::Contains(payload) => payload.serialize(s),
            Expected::Regex(regex) => write_map(s, "regex", &regex.value),
        }
    }
}

impl JsonSchema for Payload {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Payload".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": ["string", "number"], "description": "The bytes of this text." },
                { "type": "object", "additionalProperties": false, "required": ["hex"],
                  "properties": {
                    "hex": { "type": "string", "description": "Two digits for each byte; blanks do not count." } } }
            ]
        })
    }
}

impl JsonSchema for Expected {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expected".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let contains = generator.subschema_for::<Payload>();
        schemars::json_schema!({
            "anyOf": [
                contains,
                { "type": "object", "additionalProperties": false, "required": ["regex"],
                  "properties": {
                    "regex": { "type": "string", "description": "Matches anywhere unless anchored with ^ and $." } } }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_with_and_without_blanks() {
        assert_eq!(parse_hex("00 fF\n1a"), Ok(vec![0x00, 0xff, 0x1a]));
        assert_eq!(parse_hex(&hex_of(&[0, 7, 255])), Ok(vec![0, 7, 255]));
        for text in ["0", "0g", "abc"] {
            assert!(parse_hex(text).is_err(), "{text}");
        }
    }
}
