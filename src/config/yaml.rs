//! A YAML document as a tree in which every key and value knows its place.
//!
//! [`load`](super::load) has it built from text; [`decode`](super::decode) reads it into types. Scalars keep
//! their text and are given a type when it is asked for, by the rules of the YAML 1.2 core schema: `yes`, `no`
//! and `0777` are not what YAML 1.1 made of them.

mod build;

use std::sync::Arc;

use crate::config::report::Span;

pub use build::parse;

/// A value and its place. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub data: Data,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug)]
pub enum Data {
    Scalar(Arc<Scalar>),
    Sequence(Arc<Vec<Node>>),
    Mapping(Arc<Vec<Entry>>),
    /// A value that had a problem, which has been reported; decoding passes over it.
    Pruned,
}

/// One `key: value` of a mapping; mappings keep their order.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Key,
    pub value: Node,
}

/// A key and its place.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: Arc<str>,
    pub span: Span,
}

/// A scalar's text and what decides its type.
#[derive(Clone, Debug)]
pub struct Scalar {
    pub text: String,
    /// Written without quotes, so that it may be a number, a boolean or nothing.
    pub plain: bool,
    /// When `${VAR}` in it was expanded.
    pub expanded: Option<Box<Expanded>>,
}

/// What the text of a [`Scalar`] was before, and what came into it.
#[derive(Clone, Debug)]
pub struct Expanded {
    /// The text as it stands in the file.
    pub raw: String,
    /// The values from the environment that are part of the text, each with what is shown for it.
    pub values: Vec<(String, String)>,
}

/// The type of a scalar under the YAML 1.2 core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
}

impl Node {
    /// Text without a place, as code makes it.
    pub fn text(text: impl Into<String>) -> Node {
        Node::scalar(text.into(), false)
    }

    pub(crate) fn scalar(text: String, plain: bool) -> Node {
        Node { span: Span::default(), data: Data::Scalar(Arc::new(Scalar::new(text, plain))) }
    }

    pub fn null(span: Span) -> Node {
        Node { span, ..Node::scalar(String::new(), true) }
    }

    pub fn mapping(span: Span, entries: Vec<Entry>) -> Node {
        Node { span, data: Data::Mapping(Arc::new(entries)) }
    }

    pub fn sequence(span: Span, items: Vec<Node>) -> Node {
        Node { span, data: Data::Sequence(Arc::new(items)) }
    }

    pub fn is_pruned(&self) -> bool {
        matches!(self.data, Data::Pruned)
    }

    pub fn is_null(&self) -> bool {
        self.as_scalar().is_some_and(|scalar| scalar.kind() == Kind::Null)
    }

    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.data {
            Data::Scalar(scalar) => Some(scalar),
            Data::Sequence(_) | Data::Mapping(_) | Data::Pruned => None,
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.data {
            Data::Mapping(entries) => entries,
            Data::Scalar(_) | Data::Sequence(_) | Data::Pruned => &[],
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.data {
            Data::Sequence(items) => items,
            Data::Scalar(_) | Data::Mapping(_) | Data::Pruned => &[],
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its value.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key.name == key)
    }

    /// Calls `visit` for each scalar at or below this node.
    pub fn each_scalar<'a>(&'a self, visit: &mut dyn FnMut(&'a Scalar)) {
        match &self.data {
            Data::Scalar(scalar) => visit(scalar),
            Data::Sequence(items) => items.iter().for_each(|item| item.each_scalar(visit)),
            Data::Mapping(entries) => entries.iter().for_each(|entry| entry.value.each_scalar(visit)),
            Data::Pruned => {}
        }
    }
}

/// Equal when the data is: places, quotes and pruned parts do not count beyond what they mean.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        match (&self.data, &other.data) {
            (Data::Scalar(a), Data::Scalar(b)) => a.kind() == b.kind(),
            (Data::Sequence(a), Data::Sequence(b)) => a == b,
            (Data::Mapping(a), Data::Mapping(b)) => {
                let pairs = |e: &Arc<Vec<Entry>>| e.len();
                pairs(a) == pairs(b)
                    && a.iter().zip(b.iter()).all(|(x, y)| x.key.name == y.key.name && x.value == y.value)
            }
            (Data::Pruned, Data::Pruned) => true,
            (Data::Scalar(_) | Data::Sequence(_) | Data::Mapping(_) | Data::Pruned, _) => false,
        }
    }
}

impl Scalar {
    pub fn new(text: String, plain: bool) -> Scalar {
        Scalar { text, plain, expanded: None }
    }

    /// The text as it stands in the file, when `${VAR}` in it was expanded.
    pub fn raw(&self) -> Option<&str> {
        self.expanded.as_ref().map(|expanded| expanded.raw.as_str())
    }

    /// The scalar's type: quoted text is text, plain text what the core schema says (YAML 1.2.2 §10.3.2).
    pub fn kind(&self) -> Kind<'_> {
        if self.plain { resolve(&self.text) } else { Kind::Text(&self.text) }
    }

    /// The type the text would have if it were plain. A quoted `"${N}"` counts as a number where one is
    /// needed, because inside `{ }` it cannot be written without quotes.
    pub fn kind_when_expanded(&self) -> Kind<'_> {
        if self.expanded.is_some() { resolve(&self.text) } else { self.kind() }
    }
}

fn resolve(text: &str) -> Kind<'_> {
    // what is not text begins with one of these
    let first = text.bytes().next().unwrap_or(b'~');
    if !matches!(first, b'0'..=b'9' | b'+' | b'-' | b'.' | b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F') {
        return Kind::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or(Kind::Text(text))
}

fn integer(text: &str) -> Option<Kind<'_>> {
    let radix = |digits: &str, radix| {
        // from_str_radix takes a sign, the core schema does not
        let plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten().map(Kind::Unsigned)
    };
    if let Some(hex) = text.strip_prefix("0x") {
        return radix(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return radix(octal, 8);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // a number beyond 64 bits falls through to a float, as JSON readers do
    if text.starts_with('-') {
        text.parse().ok().map(Kind::Signed)
    } else {
        digits.parse().ok().map(Kind::Unsigned)
    }
}

fn float(text: &str) -> Option<Kind<'_>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let well_formed = number(whole)
        && number(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|e| !e.is_empty() && number(e));
    well_formed.then(|| text.parse().ok()).flatten().map(Kind::Float)
}

#[cfg(test)]
mod tests;
