//! Lists, mappings and the keys of mappings, as serde walks through them.

use super::{Choice, NodeDeserializer, Result};
use crate::config::decode::error::{Error, Step};
use crate::config::decode::handover::Here;
use crate::config::yaml::{Entry, Key, Kind as Type, Node, Scalar};
use serde::de::{self, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// The items of a list.
pub struct Items<'a> {
    pub items: &'a [Node],
    pub next: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Error;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !node.is_pruned() {
                let value = seed.deserialize(NodeDeserializer::new(node));
                return value.map(Some).map_err(|error| error.under(Step::Item(index)));
            }
        }
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.next))
    }
}

/// The entries of a mapping; `next` is the one whose key comes next.
pub struct Entries<'a> {
    pub entries: &'a [Entry],
    pub next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        while let Some(entry) = self.entries.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !entry.value.is_pruned() {
                let key = seed.deserialize(KeyDeserializer { key: &entry.key });
                return key.map(Some).map_err(|error| error.under(Step::Key(index)));
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        let index = self.next.saturating_sub(1);
        let Some(entry) = self.entries.get(index) else {
            return Err(Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer::new(&entry.value)).map_err(|error| error.under(Step::Value(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len().saturating_sub(self.next))
    }
}

/// Reads a key: text, or a number where the map's keys are numbers.
struct KeyDeserializer<'a> {
    key: &'a Key,
}

impl KeyDeserializer<'_> {
    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let scalar = Scalar::new(self.key.name.to_string(), true);
        match scalar.kind() {
            Type::Unsigned(number) => visitor.visit_u64(number),
            Type::Signed(number) => visitor.visit_i64(number),
            Type::Null | Type::Bool(_) | Type::Float(_) | Type::Text(_) => self.deserialize_any(visitor),
        }
    }
}

macro_rules! key_numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.number(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for KeyDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let _here = Here::is(self.key.span);
        visitor.visit_str(&self.key.name)
    }

    key_numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        let _here = Here::is(self.key.span);
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_enum(Choice { word: &self.key.name, at: None, settings: None })
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier ignored_any
    }
}
