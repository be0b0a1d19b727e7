//! Names that a listener passes on unopened: `tls.passthrough`, resolved.

use crate::config::words::HostPattern;
use ahash::AHashMap;
use std::sync::Arc;

/// Which group gets the connections for which name, TLS and all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passthrough {
    exact: AHashMap<String, Arc<str>>,
    /// By what follows the first label.
    wildcard: AHashMap<String, Arc<str>>,
    /// That of all names which nothing else is for, and of clients that name none.
    others: Option<Arc<str>>,
    /// In the order of the file.
    all: Vec<(Option<HostPattern>, Arc<str>)>,
}

impl Passthrough {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// `None`: all names that nothing else is for.
    pub fn insert(&mut self, name: Option<&HostPattern>, group: &str) {
        let group: Arc<str> = group.into();
        self.all.push((name.cloned(), group.clone()));
        match name {
            Some(HostPattern::Exact(name)) => drop(self.exact.insert(name.clone(), group)),
            Some(HostPattern::Below(name)) => drop(self.wildcard.insert(name.clone(), group)),
            None => self.others = Some(group),
        }
    }

    /// As they are written, each name with its group.
    pub fn names(&self) -> impl Iterator<Item = (String, &Arc<str>)> {
        let shown = |name: &Option<HostPattern>| name.as_ref().map_or("*".to_owned(), HostPattern::to_string);
        self.all.iter().map(move |(name, group)| (shown(name), group))
    }

    /// The group of exactly this name.
    pub fn exact(&self, name: &str) -> Option<&Arc<str>> {
        self.exact.get(name)
    }

    /// The group of the wildcard above this name, which stands for one label (RFC 6125 §6.4.3), or that of all others.
    pub fn wide(&self, name: Option<&str>) -> Option<&Arc<str>> {
        let above = name.and_then(|name| name.split_once('.')).map(|(_, above)| above);
        above.and_then(|above| self.wildcard.get(above)).or(self.others.as_ref())
    }
}
