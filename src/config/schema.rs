//! The JSON Schema of the configuration, for editors, and the resolved configuration as YAML.
//! Both come from the same types as the parser. `conf/schema.json` is this, committed.

use crate::config::file::File;
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
pub fn print(file: &File) -> String {
    serde_yaml::to_string(file).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
}
