//! A value that remembers where it was written.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::handover::{LOCATED, here};
use crate::config::report::Span;

/// A value with its place in the configuration. Reads, prints and compares as the value alone, so that a
/// route that merely moved down a line is the same route.
#[derive(Clone, Copy, Default)]
pub struct Located<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Located<T> {
    pub fn new(value: T, span: Span) -> Located<T> {
        Located { value, span }
    }

    pub fn into_inner(self) -> T {
        self.value
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), span: self.span }
    }

    /// The place with a borrowed value.
    pub fn as_ref(&self) -> Located<&T> {
        Located { value: &self.value, span: self.span }
    }
}

impl<T> From<T> for Located<T> {
    /// A value that was not written anywhere.
    fn from(value: T) -> Located<T> {
        Located { value, span: Span::default() }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Located<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Located<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Located<T> {}

impl<T: Hash> Hash for Located<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: Serialize> Serialize for Located<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Located<T>, D::Error> {
        deserializer.deserialize_newtype_struct(LOCATED, LocatedVisitor(PhantomData))
    }
}

struct LocatedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
    type Value = Located<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Located<T>, D::Error> {
        let span = here();
        Ok(Located { value: T::deserialize(inner)?, span })
    }

    // serde's value deserializers (`StrDeserializer` and its kin) know no newtypes and hand over the bare
    // scalar, as a visitor for "one or a list of" does
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::StrDeserializer::new(text))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::U64Deserializer::new(number))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::I64Deserializer::new(number))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::F64Deserializer::new(number))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::BoolDeserializer::new(value))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Located<T>, A::Error> {
        self.visit_newtype_struct(serde::de::value::MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Located<T>, A::Error> {
        self.visit_newtype_struct(serde::de::value::SeqAccessDeserializer::new(seq))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Located<T>, E> {
        self.visit_newtype_struct(serde::de::value::UnitDeserializer::new())
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Located<T>, E> {
        Err(E::invalid_type(serde::de::Unexpected::Unit, &self))
    }
}
