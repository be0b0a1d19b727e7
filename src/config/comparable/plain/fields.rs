//! A structure as JSON, field by field: serde_json writes the values. Called by `plain`.

use crate::config::secret;
use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeStruct, Serializer};
use serde_json::Error;

/// The text of a structure, and where its fields are in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    json: Vec<u8>,
    /// Where each field ends. It begins where the one before ends, with what stands before its key.
    ends: Vec<usize>,
}

impl Fields {
    /// Takes the place of what was there; `None` for anything but a structure that has fields. The brace at the end of it is
    /// not there.
    pub fn take(&mut self, part: &impl Serialize) -> Option<()> {
        self.json.clear();
        self.ends.clear();
        secret::as_compared(|| part.serialize(&mut *self)).ok()
    }

    /// Each field with its key, and with what stands before it: a brace or a comma.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.json.as_slice();
        let mut begin = 0;
        self.ends.iter().map_while(move |end| {
            let (field, behind) = rest.split_at_checked(end - std::mem::replace(&mut begin, *end))?;
            rest = behind;
            Some(field)
        })
    }
}

impl SerializeStruct for &mut Fields {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        debug_assert_eq!(serde_json::to_string(key).ok(), Some(format!("\"{key}\"")), "a key is a word");
        self.json.extend_from_slice(if self.ends.is_empty() { b"{\"" } else { b",\"" });
        self.json.extend_from_slice(key.as_bytes());
        self.json.extend_from_slice(b"\":");
        value.serialize(&mut serde_json::Serializer::new(&mut self.json))?;
        self.ends.push(self.json.len());
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        (!self.ends.is_empty()).then_some(()).ok_or_else(no_structure)
    }
}

fn no_structure() -> Error {
    Error::custom("not a structure")
}

/// What is no structure has no fields.
macro_rules! refuse {
    ($($name:ident($($argument:ty),*) -> $done:ty;)*) => {
        $(fn $name(self, $(_: $argument),*) -> Result<$done, Error> {
            Err(no_structure())
        })*
    };
}

impl<'a> Serializer for &'a mut Fields {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStruct = &'a mut Fields;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Error> {
        Err(no_structure())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Error> {
        Err(no_structure())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        Err(no_structure())
    }

    refuse! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[derive(Serialize)]
    struct Pair {
        first: Option<u8>,
        #[serde(rename = "a word")]
        second: Value,
    }

    #[test]
    fn a_structure_is_written_as_serde_json_writes_it() {
        let mut fields = Fields::default();
        for first in [None, Some(1)] {
            let pair = Pair { first, second: json!({ "\"": ["é", 1.5, null] }) };
            assert_eq!(fields.take(&pair), Some(()));
            let whole: Vec<&[u8]> = fields.iter().chain([&b"}"[..]]).collect();
            assert_eq!(whole.concat(), serde_json::to_vec(&pair).unwrap());
            let second: &[u8] = "\"a word\":{\"\\\"\":[\"é\",1.5,null]}".as_bytes();
            assert_eq!(fields.iter().count(), 2);
            assert!(fields.iter().last().is_some_and(|field| field.ends_with(second)));
        }
    }

    #[test]
    fn what_has_no_fields_is_not_taken() {
        #[derive(Serialize)]
        struct Nothing {}
        let mut fields = Fields::default();
        for part in [json!(1), json!("text"), json!([1]), json!({ "key": 1 }), Value::Null] {
            assert_eq!(fields.take(&part), None, "{part}");
        }
        assert_eq!(fields.take(&Nothing {}), None);
        let wrapped = Pair { first: None, second: Value::Null };
        assert_eq!(fields.take(&Some(wrapped)), None);
    }
}
