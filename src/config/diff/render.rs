//! Values as they are shown: without digests, in the flow style of YAML, short.

use super::Presence;
use crate::config::comparable::FILE;
use crate::config::file::{Listener, Route, Upstream};
use crate::config::secret::HIDDEN;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What is shown of one value as text; the JSON has all of it.
const LONGEST: usize = 200;

/// ` item`, `: value`, or nothing where there is nothing more to say.
pub(super) fn presence(presence: &Presence) -> String {
    match (&presence.brief, presence.of_list) {
        (Value::Object(map), _) if map.is_empty() => String::new(),
        (brief, true) => format!(" {}", flow(brief)),
        (brief, false) => format!(": {}", flow(brief)),
    }
}

/// The value as it may be shown and written to a log.
pub(super) fn shown(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get(HIDDEN).or_else(|| map.get(FILE)) {
            Some(instead) => instead.clone(),
            None => map.iter().map(|(key, value)| (key.clone(), shown(value))).collect(),
        },
        Value::Array(items) => items.iter().map(shown).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// On one line, as one could write it in the file.
pub(super) fn flow(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    if let Some((cut, _)) = out.char_indices().nth(LONGEST) {
        out.truncate(cut);
        out.push('…');
    }
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("none"),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(word) => text(word, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push_str("{ ");
            for (at, (key, item)) in map.iter().filter(|(_, item)| !item.is_null()).enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                text(key, out);
                out.push_str(": ");
                write(item, out);
            }
            out.push_str(" }");
        }
    }
}

/// Quoted where YAML would read it as something else.
fn text(word: &str, out: &mut String) {
    let plain = |c: char| c.is_alphanumeric() || "/._-*:$@%+=~".contains(c) || c == ' ';
    let sound = !word.is_empty()
        && word.chars().all(plain)
        && !word.contains(": ")
        && !word.starts_with([' ', '-', '*', ':', '@', '%', '~'])
        && !word.ends_with([' ', ':']);
    let hidden = word.starts_with("${") || word.chars().all(|c| c == '*') && !word.is_empty();
    match sound || hidden {
        true => out.push_str(word),
        false => out.push_str(&Value::String(word.to_string()).to_string()),
    }
}

/// What things are by default, made when first needed.
#[derive(Default)]
pub(super) struct Defaults {
    known: HashMap<&'static str, Value>,
}

impl Defaults {
    /// The value without what it would have by default at this place, and without what is empty.
    pub(super) fn left_out(&mut self, shape: &str, value: &Value) -> Value {
        let mut brief = less(&shown(value), self.of(shape));
        if shape.ends_with(".servers.*") {
            return server(brief);
        }
        if let (true, Some(Value::Array(servers))) = (shape == "upstreams.*", brief.get_mut("servers")) {
            let usual = self.of("upstreams.*.servers.*");
            servers.iter_mut().for_each(|one| *one = server(less(one, usual)));
        }
        brief
    }

    fn of(&mut self, shape: &str) -> &Value {
        let (shape, make): (&'static str, fn() -> Value) = match shape {
            "listeners.*" => ("listeners.*", || of(&Listener::default())),
            "routes.*" => ("routes.*", || of(&Route::default())),
            "upstreams.*" => ("upstreams.*", || of(&Upstream::default())),
            _ if shape.ends_with(".servers.*") => ("servers.*", || json!({ "weight": 1, "priority": 0 })),
            _ => ("", || Value::Null),
        };
        self.known.entry(shape).or_insert_with(make)
    }
}

/// Mostly it is only its address.
fn server(value: Value) -> Value {
    match value {
        Value::Object(mut map) if map.len() == 1 => map.remove("address").unwrap_or(Value::Object(map)),
        value => value,
    }
}

fn of<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// `value` without what is the same in `other`, and without what is empty.
fn less(value: &Value, other: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut left = Map::new();
            for (key, value) in map {
                let usual = other.get(key).unwrap_or(&Value::Null);
                if value == usual {
                    continue;
                }
                let value = less(value, usual);
                let empty = match &value {
                    Value::Null => true,
                    Value::Object(map) => map.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
                };
                if !empty {
                    left.insert(key.clone(), value);
                }
            }
            Value::Object(left)
        }
        Value::Array(items) => items.iter().map(|item| less(item, &Value::Null)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
