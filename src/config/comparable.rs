//! A configuration in the form in which two are compared: what it means, with every default, with
//! digests in place of what must not be seen or is too long to be held: secrets, and the contents
//! of the files it names. Made by whoever loads a configuration; [`diff`](super::diff()) reads it.

use crate::config::check::{Checked, FileDigests};
use crate::config::plan::Plan;
use crate::config::schema::names_secret;
use crate::config::secret::{self, DIGEST, HIDDEN, MASK, is_key_material, is_secret_key};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The key under which a file's path stands, beside the digest of its contents.
pub(super) const FILE: &str = "$file";

/// What [`diff`](super::diff()) compares: the resolved configuration, as `check --print` shows it, but
///
/// - a hidden value is `{"$hidden": shown, "$digest": hex}`,
/// - a file that was read is `{"$file": path, "$digest": hex}`,
/// - listeners and routes without a name have the one they go by.
///
/// It holds no secret, and may be sent to another process of the same user; do not publish it.
pub fn comparable(checked: &Checked) -> Value {
    let file = secret::with_digests(|| serde_json::to_value(&checked.file));
    let mut value = file.unwrap_or_default();
    let variables: Vec<_> = checked.report.concealed().filter(|(_, shown)| names_secret(shown)).collect();
    let hidden = Hiding { variables, files: &checked.files };
    hidden.hide(&mut value, false);
    if let Some(plan) = &checked.plan {
        fill_in(&mut value, plan);
    }
    value
}

struct Hiding<'a> {
    /// Values of variables named like secrets, and what is shown in their place.
    variables: Vec<(&'a str, &'a str)>,
    files: &'a FileDigests,
}

impl Hiding<'_> {
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
fn fill_in(value: &mut Value, plan: &Plan) {
    let listeners = plan.listeners.iter().map(|listener| listener.name.as_str());
    name(value.get_mut("listeners"), listeners);
    name(value.get_mut("routes"), plan.routes.iter().map(|route| route.name.as_str()));
    let Some(Value::Array(shown)) = value.get_mut("listeners") else { return };
    for (shown, listener) in shown.iter_mut().zip(&plan.listeners) {
        if let (Some(redirect), Some(Value::Object(shown))) =
            (&listener.redirect_https, shown.get_mut("redirect_https"))
        {
            shown.insert("port".into(), redirect.port.into());
            shown.insert("status".into(), redirect.status.into());
        }
    }
}

fn name<'a>(list: Option<&mut Value>, names: impl Iterator<Item = &'a str>) {
    let Some(Value::Array(items)) = list else { return };
    for (item, name) in items.iter_mut().zip(names) {
        if let Value::Object(map) = item
            && map.get("name").is_none_or(Value::is_null)
        {
            named(map, name);
        }
    }
}

/// The name stands first, where it is written.
fn named(map: &mut Map<String, Value>, name: &str) {
    map.shift_remove("name");
    map.shift_insert(0, "name".into(), name.into());
}
