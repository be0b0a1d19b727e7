//! What serde can object to, kept as kinds instead of sentences, with the path to the place.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// An error on its way from the offending node up to the root.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    /// From the node up: the innermost step first.
    steps: Vec<Step>,
}

/// One step from a collection to what is in it, by index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// To the key of a mapping's entry.
    Key(usize),
    /// To the value of a mapping's entry.
    Value(usize),
    /// To an item of a sequence.
    Item(usize),
}

#[derive(Debug, PartialEq)]
pub enum Kind {
    UnknownField {
        key: String,
        known: &'static [&'static str],
    },
    UnknownVariant {
        word: String,
        known: &'static [&'static str],
    },
    WrongType {
        found: String,
        expected: String,
    },
    InvalidValue {
        found: String,
        expected: String,
    },
    InvalidLength {
        found: usize,
        expected: String,
    },
    MissingField(&'static str),
    DuplicateField(&'static str),
    /// Several choices are written where one is to be made.
    SeveralVariants,
    /// A choice that takes no settings was given some.
    NoSettings(String),
    /// The words of a hand-written `Deserialize`: a message, perhaps with a hint after a line break.
    Custom(String),
    /// What was needed here has been pruned.
    Consequence,
}

impl Error {
    pub fn new(kind: Kind) -> Error {
        Error(Box::new(Inner { kind, steps: Vec::new() }))
    }

    /// Adds the step that led to where the error comes from.
    pub fn under(mut self, step: Step) -> Error {
        self.0.steps.push(step);
        self
    }

    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// From the root to the offending node.
    pub fn path(&self) -> Vec<Step> {
        self.0.steps.iter().rev().copied().collect()
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error::new(Kind::Custom(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::new(Kind::WrongType { found: found_words(found), expected: expected_words(expected) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Error {
        Error::new(Kind::InvalidValue { found: found_words(found), expected: expected_words(expected) })
    }

    fn invalid_length(found: usize, expected: &dyn Expected) -> Error {
        Error::new(Kind::InvalidLength { found, expected: expected_words(expected) })
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Error {
        Error::new(Kind::UnknownVariant { word: word.to_owned(), known })
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Error {
        Error::new(Kind::UnknownField { key: key.to_owned(), known })
    }

    fn missing_field(field: &'static str) -> Error {
        Error::new(Kind::MissingField(field))
    }

    fn duplicate_field(field: &'static str) -> Error {
        Error::new(Kind::DuplicateField(field))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// What was found, in the words of someone who writes YAML.
fn found_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Char(c) => format!("the text \"{c}\""),
        Unexpected::Str(text) => format!("the text \"{text}\""),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Option => "an optional value".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// What was expected: serde's own phrases are put into words, those of our visitors are kept.
fn expected_words(expected: &dyn Expected) -> String {
    let words = expected.to_string();
    let said = match words.as_str() {
        "a boolean" => "true or false",
        "a string" | "a borrowed string" | "string" | "path string" => "text",
        "a character" => "one character",
        "a sequence" => "a list",
        "a map" => "a mapping",
        "unit" | "option" => "no value",
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" | "usize" => "a number, 0 or more",
        "a nonzero u8" => "a number from 1 to 255",
        "a nonzero u16" => "a number from 1 to 65535",
        "a nonzero u32" => "a number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a number, 1 or more",
        "i8" => "a number from -128 to 127",
        "i16" => "a number from -32768 to 32767",
        "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "variant identifier" | "variant of enum" => "the name of a choice",
        "field identifier" => "the name of a key",
        _ if words.starts_with("struct ") || words.starts_with("struct variant ") => "a mapping of keys",
        _ if words.starts_with("enum ") => "the name of a choice, or a mapping with one choice",
        _ if words.starts_with("tuple ") || words.starts_with("unit struct ") => "a list",
        _ => return words,
    };
    said.to_owned()
}
