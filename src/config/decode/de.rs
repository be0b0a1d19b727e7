//! A serde `Deserializer` over the tree.
//!
//! Differences from a plain YAML deserializer: a field of text takes a plain number or boolean as written; a
//! key without a value is an absent option, an empty list or an empty mapping, and an error for anything
//! else; a list is never taken for a struct; pruned values are passed over.

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};

use super::error::{Error, Kind, Step};
use super::handover::{Here, RAW};
use super::raw::hand_over;
use crate::config::report::Span;
use crate::config::yaml::{Data, Kind as Type, Node};

mod collections;

use collections::{Entries, Items};

type Result<T> = std::result::Result<T, Error>;

/// Reads one node.
#[derive(Clone, Copy)]
pub struct NodeDeserializer<'a> {
    node: &'a Node,
}

impl<'a> NodeDeserializer<'a> {
    pub fn new(node: &'a Node) -> NodeDeserializer<'a> {
        NodeDeserializer { node }
    }

    /// Gives a scalar to the visitor as the type it has.
    fn typed<'de, V: Visitor<'de>>(self, kind: Type<'_>, visitor: V) -> Result<V::Value> {
        let _here = Here::is(self.node.span);
        match kind {
            Type::Null => visitor.visit_unit(),
            Type::Bool(value) => visitor.visit_bool(value),
            Type::Unsigned(number) => visitor.visit_u64(number),
            Type::Signed(number) => visitor.visit_i64(number),
            Type::Float(number) => visitor.visit_f64(number),
            Type::Text(text) => visitor.visit_str(text),
        }
    }

    /// A number or boolean is wanted: an expanded variable counts even in quotes.
    fn literal<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.node.as_scalar() {
            Some(scalar) => self.typed(scalar.kind_when_expanded(), visitor),
            None => self.deserialize_any(visitor),
        }
    }

    /// Text is wanted: any scalar but nothing at all is taken as written.
    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.node.as_scalar() {
            Some(scalar) if scalar.kind() != Type::Null => self.typed(Type::Text(&scalar.text), visitor),
            Some(_) | None => self.deserialize_any(visitor),
        }
    }

    fn list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let items = if self.node.is_null() { &[][..] } else { self.node.items() };
        let mut access = Items { items, next: 0 };
        let value = visitor.visit_seq(&mut access)?;
        let left =
            items.get(access.next..).unwrap_or_default().iter().filter(|item| !item.is_pruned()).count();
        if left > 0 {
            return Err(Error::invalid_length(items.len(), &"fewer items"));
        }
        Ok(value)
    }

    fn table<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let _here = Here::is(self.node.span);
        visitor.visit_map(Entries { entries: self.node.entries(), next: 0 })
    }
}

macro_rules! literals {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.literal(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match &self.node.data {
            Data::Scalar(scalar) => self.typed(scalar.kind(), visitor),
            Data::Sequence(_) => self.list(visitor),
            Data::Mapping(_) => self.table(visitor),
            Data::Pruned => Err(Error::new(Kind::Consequence)),
        }
    }

    literals! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match &self.node.data {
            Data::Mapping(entries) if entries.is_empty() => visitor.visit_unit(),
            Data::Scalar(_) | Data::Sequence(_) | Data::Mapping(_) | Data::Pruned => {
                self.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value> {
        let _here = Here::is(self.node.span);
        if name == RAW {
            return hand_over(self.node, visitor, self);
        }
        // Located finds its place left by Here; any other newtype is its content
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.node.is_null() { self.list(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.node.is_null() { self.table(visitor) } else { self.deserialize_any(visitor) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match &self.node.data {
            // serde would fill the fields from a list, in the order in which they happen to be declared
            Data::Sequence(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            Data::Scalar(_) | Data::Mapping(_) | Data::Pruned => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let _here = Here::is(self.node.span);
        match &self.node.data {
            Data::Scalar(scalar) if scalar.kind() != Type::Null => {
                visitor.visit_enum(Choice { word: &scalar.text, at: None, settings: None })
            }
            Data::Mapping(entries) => {
                let mut live = entries.iter().enumerate().filter(|(_, entry)| !entry.value.is_pruned());
                match (live.next(), live.next()) {
                    (Some((at, entry)), None) => visitor.visit_enum(Choice {
                        word: &entry.key.name,
                        at: Some(at),
                        settings: Some(&entry.value),
                    }),
                    (Some(_), Some((second, _))) => {
                        Err(Error::new(Kind::SeveralVariants).under(Step::Key(second)))
                    }
                    (None, _) if !entries.is_empty() => Err(Error::new(Kind::Consequence)),
                    (None, _) => Err(Error::invalid_type(Unexpected::Other("an empty mapping"), &visitor)),
                }
            }
            Data::Scalar(_) => Err(Error::invalid_type(Unexpected::Unit, &visitor)),
            Data::Sequence(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            Data::Pruned => Err(Error::new(Kind::Consequence)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_unit()
    }
}

/// One choice of an enum: a word, or a mapping from one word to its settings.
struct Choice<'a> {
    word: &'a str,
    /// The index of the word in its mapping.
    at: Option<usize>,
    settings: Option<&'a Node>,
}

impl<'a> Choice<'a> {
    fn locate(&self, error: Error, step: fn(usize) -> Step) -> Error {
        match self.at {
            Some(index) => error.under(step(index)),
            None => error,
        }
    }

    /// Reads the settings; a bare word has none, as a key without a value.
    fn settings<T>(&self, read: impl FnOnce(NodeDeserializer<'_>) -> Result<T>) -> Result<T> {
        let nothing = Node::null(Span::default());
        let node = self.settings.unwrap_or(&nothing);
        read(NodeDeserializer { node }).map_err(|error| self.locate(error, Step::Value))
    }
}

impl<'de> de::EnumAccess<'de> for Choice<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let word: StrDeserializer<'_, Error> = self.word.into_deserializer();
        match seed.deserialize(word) {
            Ok(variant) => Ok((variant, self)),
            Err(error) => Err(self.locate(error, Step::Key)),
        }
    }
}

impl<'de> de::VariantAccess<'de> for Choice<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        match self.settings {
            None => Ok(()),
            Some(node) if node.is_null() => Ok(()),
            Some(Node { data: Data::Mapping(entries), .. }) if entries.is_empty() => Ok(()),
            Some(_) => Err(self.locate(Error::new(Kind::NoSettings(self.word.to_owned())), Step::Value)),
        }
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        self.settings(|node| seed.deserialize(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.settings(|node| node.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.settings(|node| node.deserialize_struct("", fields, visitor))
    }
}
