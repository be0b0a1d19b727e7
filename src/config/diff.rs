//! What differs between two configurations, in the words of the configuration. Pure. Called by
//! `weirgate diff` and by a reload, with what [`Comparable`](super::Comparable) has made.

mod items;
mod order;
mod render;

use crate::config::comparable::FILE;
use crate::config::secret::{DIGEST, HIDDEN};
use render::Defaults;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt;

/// One difference. As text one line, as JSON an object with `path`, `change` and what belongs to it.
///
/// A path is the keys from the top, with a dot before each: `upstreams.api.balance`. Items of a list,
/// and keys that are more than letters, digits, `_` and `-`, stand in brackets:
/// `routes[/api].filters[headers].request.set`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub path: String,
    #[serde(flatten)]
    pub what: What,
}

/// What has changed. No value holds a secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum What {
    /// It was not there before.
    Added(Presence),
    /// It is no longer there.
    Removed(Presence),
    /// It is something else now.
    Changed { from: Value, to: Value },
    /// A secret is another one. `shown`: what stands in its place.
    Secret { shown: String },
    /// A file of the same name has other contents.
    Contents { file: String },
    /// Its place among others has changed, where that means something.
    Order { now: Side, of: String },
}

/// Something that is in one of the configurations only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Presence {
    pub value: Value,
    /// Without what it would have by default; this is shown as text.
    #[serde(skip)]
    pub brief: Value,
    /// It is an item of the list that the path names, not what the path names.
    #[serde(rename = "item", skip_serializing_if = "std::ops::Not::not")]
    pub of_list: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Before,
    After,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.what {
            What::Added(presence) => write!(f, "+ {path}{}", render::presence(presence)),
            What::Removed(presence) => write!(f, "- {path}{}", render::presence(presence)),
            What::Changed { from, to } => {
                write!(f, "{path}: {} -> {}", render::flow(from), render::flow(to))
            }
            What::Secret { shown } => write!(f, "{path}: changed ({shown})"),
            What::Contents { file } => write!(f, "{path}: the contents of {file} have changed"),
            What::Order { now: Side::Before, of } => write!(f, "{path}: now before {of}"),
            What::Order { now: Side::After, of } => write!(f, "{path}: now after {of}"),
        }
    }
}

/// What is different in `new`, in the order of its keys; what is gone follows what stands beside it.
/// Both are [`Comparable`](super::Comparable)s as trees.
pub fn diff(old: &Value, new: &Value) -> Vec<Change> {
    let mut walk = Walk::default();
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        walk.maps(&Place::default(), old, new);
    }
    walk.changes
}

/// Where in the configuration the walk is.
#[derive(Debug, Clone, Default)]
struct Place {
    path: String,
    /// The keys of the path, with `*` for items and for the names of tables: `upstreams.*.servers`.
    shape: String,
}

impl Place {
    fn key(&self, key: &str) -> Place {
        // the names in these tables are the users' own
        let free = matches!(self.shape.as_str(), "upstreams" | "filters");
        Place { path: join(&self.path, key), shape: join(&self.shape, if free { "*" } else { key }) }
    }

    /// An item of this list; those with a name of their own read like the values of a table.
    fn item(&self, identity: &str) -> Place {
        let path =
            if self.has_names() { join(&self.path, identity) } else { format!("{}[{identity}]", self.path) };
        Place { path, shape: join(&self.shape, "*") }
    }

    /// A list whose items have names.
    fn has_names(&self) -> bool {
        matches!(self.shape.as_str(), "routes" | "listeners")
    }

    /// Whether the order of this list means something, besides that of routes.
    fn is_ordered(&self) -> bool {
        let key = self.shape.rsplit('.').next().unwrap_or_default();
        let setting_of_filter = self.shape.starts_with("filters.*.*.") || self.shape.contains(".filters.*.");
        match key {
            "filters" | "certificates" | "ciphers" | "keys" | "error_pages" | "groups" => true,
            "allow" | "deny" => false,
            // what lists mean to filters is theirs to know
            _ => setting_of_filter || self.shape == "filters.*",
        }
    }
}

/// `path.key`, or `path[key]` for a key with signs in it.
fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (path.is_empty(), plain || key == "*") {
        (true, _) => key.to_string(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[{key}]"),
    }
}

#[derive(Default)]
struct Walk {
    changes: Vec<Change>,
    defaults: Defaults,
}

impl Walk {
    fn push(&mut self, place: &Place, what: What) {
        self.changes.push(Change { path: place.path.clone(), what });
    }

    fn maps(&mut self, place: &Place, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (key, value) in new {
            self.values(&place.key(key), old.get(key).unwrap_or(&Value::Null), value);
        }
        for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
            self.values(&place.key(key), value, &Value::Null);
        }
    }

    fn values(&mut self, place: &Place, old: &Value, new: &Value) {
        if old == new {
            return;
        }
        match (old, new) {
            (Value::Null, new) => self.presence(place, new, What::Added),
            (old, Value::Null) => self.presence(place, old, What::Removed),
            (Value::Object(a), Value::Object(b)) if a.contains_key(DIGEST) || b.contains_key(DIGEST) => {
                self.digests(place, old, new);
            }
            (Value::Object(a), Value::Object(b)) if one_of_several(a, b) => self.changed(place, old, new),
            (Value::Object(a), Value::Object(b)) => self.maps(place, a, b),
            (Value::Array(a), Value::Array(b)) => self.lists(place, a, b),
            (old, new) => self.changed(place, old, new),
        }
    }

    fn changed(&mut self, place: &Place, old: &Value, new: &Value) {
        self.push(place, What::Changed { from: render::shown(old), to: render::shown(new) });
    }

    /// A table or list appears with all that it has: its parts are told one by one.
    fn presence(&mut self, place: &Place, value: &Value, what: fn(Presence) -> What) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.item(place, item, what)),
            Value::Object(map) if map.is_empty() => {}
            value => {
                let brief = self.defaults.left_out(&place.shape, value);
                self.push(place, what(Presence { value: render::shown(value), brief, of_list: false }));
            }
        }
    }

    /// An item that is in one of two lists.
    fn item(&mut self, list: &Place, item: &Value, what: fn(Presence) -> What) {
        let place = list.item(&items::identity(item));
        let mut brief = self.defaults.left_out(&place.shape, item);
        let of_list = !list.has_names();
        if let (false, Value::Object(brief)) = (of_list, &mut brief) {
            brief.shift_remove("name");
        }
        let presence = Presence { value: render::shown(item), brief, of_list };
        self.push(if of_list { list } else { &place }, what(presence));
    }

    /// Secrets and files, of which only digests are known.
    fn digests(&mut self, place: &Place, old: &Value, new: &Value) {
        let text = |value: &Value, key| Some(value.get(key)?.as_str()?.to_string());
        let same = old.get(DIGEST) == new.get(DIGEST);
        match (text(old, HIDDEN), text(new, HIDDEN), text(old, FILE), text(new, FILE)) {
            (Some(_), Some(_), _, _) if same => {} // only its spelling differs
            (Some(_), Some(shown), _, _) => self.push(place, What::Secret { shown }),
            (_, _, Some(before), Some(file)) if before == file => self.push(place, What::Contents { file }),
            _ => self.changed(place, old, new),
        }
    }

    fn lists(&mut self, place: &Place, old: &[Value], new: &[Value]) {
        let pairs = items::pair(old, new);
        for pair in &pairs.kept {
            if let (Some(before), Some(after)) = (old.get(pair.old), new.get(pair.new))
                && before != after
            {
                let (before, after) = inner(before, after);
                self.values(&place.item(&pair.label), before, after);
            }
        }
        let moved = match place.shape.as_str() {
            "routes" => order::routes(&pairs.kept, new),
            _ if place.is_ordered() => order::list(&pairs.kept),
            _ => Vec::new(),
        };
        for moved in moved {
            let of = place.item(&moved.of).path;
            self.push(&place.item(&moved.item), What::Order { now: moved.now, of });
        }
        pairs.added.iter().filter_map(|at| new.get(*at)).for_each(|item| self.item(place, item, What::Added));
        let removed = pairs.removed.iter().filter_map(|at| old.get(*at));
        removed.for_each(|item| self.item(place, item, What::Removed));
    }
}

/// Items that are one key with its settings, as filters are, are called by the key already.
fn inner<'a>(old: &'a Value, new: &'a Value) -> (&'a Value, &'a Value) {
    if let (Value::Object(a), Value::Object(b)) = (old, new)
        && a.len() == 1
        && b.len() == 1
        && let (Some((key, a @ Value::Object(_))), Some((other, b @ Value::Object(_)))) =
            (a.iter().next(), b.iter().next())
        && key == other
    {
        return (a, b);
    }
    (old, new)
}

/// Each has one key, and not the same: one choice instead of another, as under `balance`.
fn one_of_several(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == 1 && b.len() == 1 && a.keys().ne(b.keys())
}

#[cfg(test)]
mod tests;
