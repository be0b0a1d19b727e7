//! Connections that a listener passes on unopened: `tls.passthrough`, resolved.

use crate::config::words::HostPattern;
use ahash::AHashMap;
use std::sync::Arc;

/// Which group gets which connections, TLS and all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passthrough {
    exact: AHashMap<String, Groups>,
    /// By what follows the first label.
    wildcard: AHashMap<String, Groups>,
    /// Those of all names which nothing else is for, and of clients that name none.
    others: Groups,
    /// In the order of the file.
    all: Vec<Unopened>,
}

/// Some connections, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unopened {
    /// `None`: all names that nothing else is for.
    pub name: Option<HostPattern>,
    /// Only those of clients that offer one of these protocols, if there are any.
    pub alpn: Arc<[Box<str>]>,
    pub group: Arc<str>,
}

impl Unopened {
    /// The name as it is written.
    pub fn shown(&self) -> String {
        self.name.as_ref().map_or("*".to_owned(), HostPattern::to_string)
    }
}

/// The groups for a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Groups {
    /// In the order of the file.
    by_protocol: Vec<(Box<str>, Arc<str>)>,
    whatever: Option<Arc<str>>,
}

impl Passthrough {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn insert(&mut self, unopened: Unopened) {
        let groups = match &unopened.name {
            Some(HostPattern::Exact(name)) => self.exact.entry(name.clone()).or_default(),
            Some(HostPattern::Below(name)) => self.wildcard.entry(name.clone()).or_default(),
            None => &mut self.others,
        };
        let group = || unopened.group.clone();
        if unopened.alpn.is_empty() {
            groups.whatever = Some(group());
        }
        groups.by_protocol.extend(unopened.alpn.iter().map(|protocol| (protocol.clone(), group())));
        self.all.push(unopened);
    }

    /// As they are written.
    pub fn all(&self) -> &[Unopened] {
        &self.all
    }

    /// The group for clients that offer these protocols and ask for this name: by the exact name, the wildcard above it,
    /// or all others. Of several, the first that is written.
    pub fn by_protocol(&self, name: Option<&str>, alpn: &[Box<[u8]>]) -> Option<&Arc<str>> {
        if alpn.is_empty() {
            return None;
        }
        let exact = name.and_then(|name| self.exact.get(name));
        let groups = [exact, self.above(name), Some(&self.others)].into_iter().flatten();
        let offered = |protocol: &str| alpn.iter().any(|offered| **offered == *protocol.as_bytes());
        let mut all = groups.flat_map(|groups| &groups.by_protocol);
        all.find(|(protocol, _)| offered(protocol)).map(|(_, group)| group)
    }

    /// The group of exactly this name, whatever is offered.
    pub fn exact(&self, name: &str) -> Option<&Arc<str>> {
        self.exact.get(name)?.whatever.as_ref()
    }

    /// The group of the wildcard above this name, or that of all others, whatever is offered.
    pub fn wide(&self, name: Option<&str>) -> Option<&Arc<str>> {
        let above = self.above(name).and_then(|groups| groups.whatever.as_ref());
        above.or(self.others.whatever.as_ref())
    }

    /// A wildcard stands for one label (RFC 6125 §6.4.3).
    fn above(&self, name: Option<&str>) -> Option<&Groups> {
        let (_, above) = name?.split_once('.')?;
        self.wildcard.get(above)
    }
}
