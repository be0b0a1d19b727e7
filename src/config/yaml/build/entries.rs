//! The entries of a mapping while it is read.

use crate::config::report::Span;
use crate::config::yaml::Entry;
use ahash::AHashMap;
use std::sync::Arc;

/// A mapping with more keys than this has an index of them.
const FEW_KEYS: usize = 16;

/// The entries of a mapping, and where each key is.
#[derive(Default)]
pub(super) struct Entries {
    pub all: Vec<Entry>,
    /// Of all keys, as soon as there are many.
    index: AHashMap<Arc<str>, Span>,
}

impl Entries {
    /// Where this key is written.
    pub fn find(&self, name: &str) -> Option<Span> {
        if self.all.len() > FEW_KEYS {
            return self.index.get(name).copied();
        }
        self.all.iter().find(|entry| &*entry.key.name == name).map(|entry| entry.key.span)
    }

    pub fn push(&mut self, entry: Entry) {
        self.all.push(entry);
        if self.all.len() > FEW_KEYS {
            let known = self.index.len();
            let new = self.all.iter().skip(known);
            self.index.extend(new.map(|entry| (entry.key.name.clone(), entry.key.span)));
        }
    }
}
