//! A configuration in the form in which two are compared: what it means, with every default, with
//! digests in place of what must not be seen or is too long to be held: secrets, and the contents
//! of the files it names. Made by whoever loads a configuration; [`diff`](super::diff()) reads it.
//!
//! It is kept as text, and made and compared route by route and group by group: as a tree, a
//! configuration of many routes takes twenty times as much memory as the routes themselves.

mod brief;
mod pieces;
mod plain;

use crate::config::check::{Checked, FileDigests};
use crate::config::diff::{Change, diff};
use crate::config::plan::{self, Plan};
use crate::config::schema::names_secret;
use crate::config::secret::{self, DIGEST, HIDDEN, MASK, is_key_material, is_secret_key};
use pieces::{BEFORE_NAME, Section};
use plain::Plain;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The key under which a file's path stands, beside the digest of its contents.
pub(super) const FILE: &str = "$file";

/// The resolved configuration, as `check --print` shows it, but
///
/// - a hidden value is `{"$hidden": shown, "$digest": hex}`,
/// - a file that was read is `{"$file": path, "$digest": hex}`,
/// - listeners and routes without a name have the one they go by.
///
/// It holds no secret, and may be sent to another process of the same user; do not publish it.
#[derive(Debug, Clone)]
pub struct Comparable {
    /// JSON on one line. Of routes, what is not as in every route.
    text: String,
    routes: Section,
    upstreams: Section,
}

impl Comparable {
    /// Of a configuration without mistakes.
    pub fn of(checked: &Checked) -> Comparable {
        Comparable::new(checked, checked.plan.as_ref())
    }

    /// As [`Comparable::of`], when the plan is somewhere else by now.
    pub fn new(checked: &Checked, plan: Option<&Plan>) -> Comparable {
        Comparable::empty(0).filled(checked, plan)
    }

    /// As [`Comparable::new`], with as much room at once as `before` would need.
    pub fn after(before: &Comparable, checked: &Checked, plan: Option<&Plan>) -> Comparable {
        // a little more, so that a few more routes do not move all of it
        Comparable::empty(before.text.len() + before.text.len() / 16).filled(checked, plan)
    }

    fn empty(room: usize) -> Comparable {
        let text = String::with_capacity(room);
        Comparable { text, routes: Section::default(), upstreams: Section::default() }
    }

    fn filled(mut self, checked: &Checked, plan: Option<&Plan>) -> Comparable {
        let variables: Vec<_> = checked.report.concealed().filter(|(_, shown)| names_secret(shown)).collect();
        let hiding = Hiding { variables, files: &checked.files };
        let rest = secret::as_compared(|| serde_json::to_value(&checked.file));
        let Ok(Value::Object(rest)) = rest else { return self };
        self.text.push('{');
        for (number, (key, mut value)) in rest.into_iter().enumerate() {
            self.text.push_str(if number > 0 { "," } else { "" });
            self.push_json(&key);
            self.text.push(':');
            match key.as_str() {
                "routes" => self.push_routes(checked, plan, &hiding),
                "upstreams" => self.push_upstreams(checked, &hiding),
                _ => {
                    hiding.hide(&mut value, is_secret_key(&key));
                    if let (Some(plan), "listeners") = (plan, key.as_str()) {
                        fill_in(&mut value, &plan.listeners);
                    }
                    self.push_json(&value);
                }
            }
        }
        self.text.push('}');
        self.text.shrink_to_fit();
        self
    }

    /// JSON, the same for the same configuration, whatever its spelling. Routes have in it what they say, and no defaults.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// As a tree, which is large.
    pub fn to_value(&self) -> Value {
        tree(&self.text)
    }

    /// What is different in `new`, as [`diff`](super::diff()) tells it.
    pub fn changes(&self, new: &Comparable) -> Vec<Change> {
        let (routes_before, routes) = pieces::differing_routes(self, new);
        let (groups_before, groups) = pieces::differing_groups(self, new);
        diff(&self.only(&routes_before, &groups_before), &new.only(&routes, &groups))
    }

    fn push_routes(&mut self, checked: &Checked, plan: Option<&Plan>, hiding: &Hiding<'_>) {
        let (mut plain, usual) = (hiding.plain(), brief::usual());
        let mut names = plan.map(|plan| plan.routes.iter()).into_iter().flatten();
        self.text.push('[');
        let begin = self.text.len();
        self.routes.reserve(checked.file.routes.len());
        for route in &checked.file.routes {
            let name = names.next().map(|route| route.name.as_str());
            let from = self.next_piece(begin);
            let name = match plain.json(route) {
                Some(json) => {
                    self.push_plain(json, route.name.as_ref().map(|name| name.value.as_str()), name)
                }
                None => {
                    let mut hidden = hiding.hidden(&**route);
                    brief::shorten(&mut hidden, &usual);
                    self.push_hidden(hidden, name)
                }
            };
            let name = pieces::name_of_route(&self.text, from, &name);
            self.routes.push(name, from..self.text.len());
        }
        self.routes.whole = begin..self.text.len();
        self.text.push(']');
    }

    /// A route with the name it goes by, where it has none of its own; what comes back is that name in JSON.
    fn push_hidden(&mut self, mut route: Value, goes_by: Option<&str>) -> String {
        if let (Value::Object(map), Some(name)) = (&mut route, goes_by) {
            named_if_not(map, name);
        }
        self.push_json(&route);
        route.get("name").map(Value::to_string).unwrap_or_default()
    }

    /// The same for one that has nothing to hide.
    fn push_plain(&mut self, route: &str, given: Option<&str>, goes_by: Option<&str>) -> String {
        let name = serde_json::to_string(&given.or(goes_by)).unwrap_or_default();
        let unnamed = route.strip_prefix(BEFORE_NAME).and_then(|rest| rest.strip_prefix("null"));
        match unnamed {
            Some(rest) => self.text.extend([BEFORE_NAME, &name, rest]),
            None => self.text.push_str(route),
        }
        name
    }

    fn push_upstreams(&mut self, checked: &Checked, hiding: &Hiding<'_>) {
        self.text.push('{');
        let begin = self.text.len();
        for (name, group) in checked.file.upstreams.iter() {
            let value = hiding.hidden(group);
            let from = self.next_piece(begin);
            self.push_json(&name.value);
            let named = from..self.text.len();
            self.text.push(':');
            self.push_json(&value);
            self.upstreams.push(named, from..self.text.len());
        }
        self.upstreams.whole = begin..self.text.len();
        self.text.push('}');
    }

    /// Where the next one of a list that begins here is to begin.
    fn next_piece(&mut self, begin: usize) -> usize {
        if self.text.len() > begin {
            self.text.push(',');
        }
        self.text.len()
    }

    fn push_json(&mut self, value: &(impl Serialize + ?Sized)) {
        // text and trees of our own can be written
        self.text.push_str(&serde_json::to_string(value).unwrap_or_default());
    }
}

/// What was written by ourselves, with what was left out.
fn tree(text: &str) -> Value {
    let mut tree = serde_json::from_str(text).unwrap_or_default();
    brief::complete(&mut tree);
    tree
}

struct Hiding<'a> {
    /// Values of variables named like secrets, and what is shown in their place.
    variables: Vec<(&'a str, &'a str)>,
    files: &'a FileDigests,
}

impl Hiding<'_> {
    /// Who writes what has nothing of it.
    fn plain(&self) -> Plain {
        Plain::hiding(self.variables.iter().map(|(real, _)| *real), self.files)
    }

    /// One route or group.
    fn hidden(&self, part: &impl Serialize) -> Value {
        let mut value = secret::as_compared(|| serde_json::to_value(part)).unwrap_or_default();
        self.hide(&mut value, false);
        value
    }

    /// `secret`: it stands below a key that names one.
    fn hide(&self, value: &mut Value, secret: bool) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) if secret => *value = hidden(MASK, &number.to_string()),
            Value::Number(_) => {}
            Value::String(text) if secret || is_key_material(text) => *value = hidden(MASK, text),
            Value::String(text) => {
                if let Some(digest) = self.files.get(Path::new(text.as_str())) {
                    *value = json!({ FILE: text, DIGEST: digest });
                    return;
                }
                let mut shown = text.clone();
                for (real, instead) in self.variables.iter().filter(|(real, _)| !real.is_empty()) {
                    shown = shown.replace(real, instead);
                }
                if shown != *text {
                    *value = hidden(&shown, text);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.hide(item, secret)),
            // done already
            Value::Object(map) if map.contains_key(HIDDEN) => {}
            Value::Object(map) => {
                map.iter_mut().for_each(|(key, value)| self.hide(value, secret || is_secret_key(key)));
            }
        }
    }
}

fn hidden(shown: &str, value: &str) -> Value {
    json!({ HIDDEN: shown, DIGEST: secret::digest(value.as_bytes()) })
}

/// Names that were not given, and the port of redirects to https, follow from other settings.
fn fill_in(shown: &mut Value, listeners: &[std::sync::Arc<plan::Listener>]) {
    let Value::Array(shown) = shown else { return };
    for (shown, listener) in shown.iter_mut().zip(listeners) {
        let Value::Object(shown) = shown else { continue };
        named_if_not(shown, &listener.name);
        if let (Some(redirect), Some(Value::Object(shown))) =
            (&listener.redirect_https, shown.get_mut("redirect_https"))
        {
            shown.insert("port".into(), redirect.port.into());
            shown.insert("status".into(), redirect.status.into());
        }
    }
}

/// The name stands first, where it is written.
fn named_if_not(map: &mut Map<String, Value>, name: &str) {
    if map.get("name").is_none_or(Value::is_null) {
        map.shift_remove("name");
        map.shift_insert(0, "name".into(), name.into());
    }
}

#[cfg(test)]
mod tests;
