//! The entries of a mapping while it is read.

use crate::config::report::Span;
use crate::config::yaml::Entry;
use ahash::AHashMap;
use std::sync::Arc;

/// A mapping with more keys than this has an index of them.
const FEW_KEYS: usize = 16;

/// The entries of a mapping, and where each key is.
pub(super) struct Entries {
    pub all: Vec<Entry>,
    /// Of all keys, as soon as there are many.
    index: Option<Box<AHashMap<Arc<str>, Span>>>,
}

impl Entries {
    /// None yet; there is room for them.
    pub fn within(room: Vec<Entry>) -> Entries {
        Entries { all: room, index: None }
    }

    /// Where this key is written.
    pub fn find(&self, name: &str) -> Option<Span> {
        if let Some(index) = &self.index {
            return index.get(name).copied();
        }
        self.all.iter().find(|entry| &*entry.key.name == name).map(|entry| entry.key.span)
    }

    pub fn push(&mut self, entry: Entry) {
        self.all.push(entry);
        if self.all.len() > FEW_KEYS {
            let index = self.index.get_or_insert_default();
            let new = self.all.iter().skip(index.len());
            index.extend(new.map(|entry| (entry.key.name.clone(), entry.key.span)));
        }
    }
}
