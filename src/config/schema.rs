//! The JSON Schema of the configuration, for editors, and the resolved configuration as YAML.
//! Both come from the same types as the parser. `conf/schema.json` is this, committed.

use crate::config::check::Checked;
use crate::config::file::File;
use crate::config::secret::{MASK, is_key_material, is_secret_key};
use crate::filter::Catalogue;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema, with every filter of the catalogue, as indented JSON.
pub fn schema_text(catalogue: &Catalogue) -> String {
    let mut text = serde_json::to_string_pretty(&schema(catalogue)).unwrap_or_default();
    text.push('\n');
    text
}

fn schema(catalogue: &Catalogue) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    // the filters first, so that what they refer to is among the definitions
    let filters: Vec<Value> = catalogue
        .entries()
        .map(|entry| single_key(entry.key, entry.schema(&mut generator).to_value()))
        .chain([single_key(
            "use",
            json!({ "type": "string", "description": "The name of a chain under `filters`." }),
        )])
        .collect();
    let mut root = generator.root_schema_for::<File>().to_value();
    if let Some(raw) = root.pointer_mut("/$defs/Filter") {
        *raw = json!({ "description": "One filter: its key and settings.", "anyOf": filters });
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("title".into(), json!("weirgate configuration"));
        add_definitions(root, generator.definitions());
    }
    root
}

fn add_definitions(root: &mut Map<String, Value>, more: &Map<String, Value>) {
    if let Some(Value::Object(defs)) = root.get_mut("$defs") {
        for (name, schema) in more {
            defs.entry(name.clone()).or_insert_with(|| schema.clone());
        }
    }
}

fn single_key(key: &str, schema: Value) -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": { key: schema } })
}

/// The configuration with all defaults, secrets hidden, as YAML.
pub fn print(checked: &Checked) -> String {
    serde_yaml::to_string(&resolved(checked)).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
}

/// The configuration with all defaults, secrets hidden. By way of JSON, in which an enum is a map of one key, as
/// it is written in the file; YAML proper would write tags.
pub fn resolved(checked: &Checked) -> Value {
    let mut value = serde_json::to_value(&checked.file).unwrap_or_default();
    let secrets: Vec<_> = checked.report.concealed().filter(|(_, shown)| names_secret(shown)).collect();
    hide(&mut value, false, &secrets);
    value
}

/// Whether the variable in `${VAR}` is named like a secret.
pub(super) fn names_secret(shown: &str) -> bool {
    let name = shown.trim_start_matches("${").split([':', '}']).next().unwrap_or_default();
    is_secret_key(name)
}

/// Masks what stands under the key of a secret, key material, and values of variables named like secrets.
fn hide(value: &mut Value, secret: bool, variables: &[(&str, &str)]) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) if secret => *value = MASK.into(),
        Value::Number(_) => {}
        Value::String(text) if secret || is_key_material(text) => MASK.clone_into(text),
        Value::String(text) => {
            for (hidden, shown) in variables.iter().filter(|(hidden, _)| !hidden.is_empty()) {
                *text = text.replace(hidden, shown);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, secret, variables)),
        Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| hide(value, secret || is_secret_key(key), variables));
        }
    }
}
