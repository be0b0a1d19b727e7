//! Which item of one list is which of another: by what it is called, not by where it stands.

use crate::config::comparable::FILE;
use crate::config::secret::HIDDEN;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};

/// What two lists have in common and what not, as positions in them.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// In the order of the new list.
    pub kept: Vec<Pair>,
    pub added: Vec<usize>,
    pub removed: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub old: usize,
    pub new: usize,
    /// What it is called; `#2` behind the second of that name.
    pub label: String,
}

/// Items that are equal belong together; then, of one name, the first to the first.
pub(super) fn pair(old: &[Value], new: &[Value]) -> Pairs {
    let mut left: HashMap<String, VecDeque<usize>> = HashMap::with_capacity(old.len());
    for (at, item) in old.iter().enumerate() {
        left.entry(identity(item)).or_default().push_back(at);
    }
    let names: Vec<String> = new.iter().map(identity).collect();
    let mut partner: Vec<Option<usize>> = vec![None; new.len()];
    for ((name, item), partner) in names.iter().zip(new).zip(&mut partner) {
        if let Some(same) = left.get_mut(name)
            && let Some(at) = same.iter().position(|at| old.get(*at) == Some(item))
        {
            *partner = same.remove(at);
        }
    }
    let mut pairs = Pairs::default();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (at, (name, partner)) in names.iter().zip(partner).enumerate() {
        let times = seen.entry(name).or_default();
        *times += 1;
        match partner.or_else(|| left.get_mut(name)?.pop_front()) {
            Some(old) => pairs.kept.push(Pair { old, new: at, label: label(name, *times) }),
            None => pairs.added.push(at),
        }
    }
    pairs.removed = left.into_values().flatten().collect();
    pairs.removed.sort_unstable();
    pairs
}

fn label(name: &str, times: usize) -> String {
    if times > 1 { format!("{name} #{times}") } else { name.to_string() }
}

/// What an item is called: its name, its address, what else tells it from its neighbours.
pub(super) fn identity(item: &Value) -> String {
    match item {
        Value::String(text) => text.clone(),
        Value::Object(map) => of_map(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => item.to_string(),
    }
}

fn of_map(map: &Map<String, Value>) -> String {
    if let Some(Value::String(shown)) = map.get(HIDDEN).or_else(|| map.get(FILE)) {
        return shown.clone();
    }
    for key in ["name", "address", "upstream", "cert"] {
        match map.get(key) {
            Some(Value::String(name)) => return name.clone(),
            Some(Value::Object(file)) => return of_map(file),
            _ => {}
        }
    }
    if let Some(Value::Array(statuses)) = map.get("status") {
        return statuses.iter().map(identity).collect::<Vec<_>>().join(", ");
    }
    // one choice of several, as a filter or a source of servers
    match map.iter().next() {
        Some((key, inner)) if map.len() == 1 => match inner {
            Value::String(name) => format!("{key} {name}"),
            Value::Object(inner) => match inner.get("name").or_else(|| inner.get("path")) {
                Some(Value::String(name)) => format!("{key} {name}"),
                _ => key.clone(),
            },
            _ => key.clone(),
        },
        _ => Value::Object(map.clone()).to_string(),
    }
}
