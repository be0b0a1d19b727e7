//! The API for programs: an OpenAPI document (3.1, whose schemas are those of JSON Schema), made from the table of
//! routes and the types of answers. `conf/openapi.json` is this, committed.

use super::guard::Access;
use super::routes::{Call, ROUTES, Route};
use super::view;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// All of it.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.for_serialize().into_generator();
    let refused = generator.subschema_for::<view::Refused>().to_value();
    let mut paths = Map::new();
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/v1/") || route.call == Call::Metrics) {
        let operation = operation(route, &mut generator, &refused);
        if let Value::Object(methods) = paths.entry(route.path).or_insert_with(|| json!({})) {
            methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "weirgate admin API",
            "version": "1",
            "description": "See docs/admin.md: who is answered, and what changes last.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": generator.take_definitions(true),
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator, refused: &Value) -> Value {
    let content = match (route.answer, route.call) {
        (Some(shape), _) => json!({ "application/json": { "schema": shape(generator).to_value() } }),
        (None, Call::OpenApi) => json!({ "application/json": { "schema": { "type": "object" } } }),
        (None, _) => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    let mut operation = json!({
        "operationId": format!("{:?}", route.call),
        "summary": route.about,
        "parameters": parameters(route),
        "responses": {
            "200": { "description": "Done.", "content": content },
            "default": {
                "description": "Why not, in words.",
                "content": { "application/json": { "schema": refused } },
            },
        },
    });
    if let Value::Object(map) = &mut operation {
        if let Some(body) = body(route.call) {
            map.insert("requestBody".into(), body);
        }
        if matches!(route.access, Access::Read | Access::Write) {
            map.insert("security".into(), json!([{ "token": [] }, {}]));
        }
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        |name: &str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let mut parameters: Vec<Value> = names.map(in_path).collect();
    if route.call == Call::Failures {
        let number = json!({ "type": "integer", "minimum": 0 });
        parameters.push(json!({ "name": "after", "in": "query", "required": false, "schema": number }));
    }
    parameters
}

fn body(call: Call) -> Option<Value> {
    match call {
        Call::Check | Call::Diff => {
            let text = json!({ "schema": { "type": "string", "description": "A configuration, as its file has it." } });
            Some(json!({ "required": true, "content": { "application/yaml": text } }))
        }
        Call::Weight => {
            let weight = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
            let schema =
                json!({ "type": "object", "required": ["weight"], "properties": { "weight": weight } });
            Some(json!({ "required": true, "content": { "application/json": { "schema": schema } } }))
        }
        Call::Page
        | Call::Icon
        | Call::Script
        | Call::Style
        | Call::OpenApi
        | Call::Live
        | Call::Ready
        | Call::Metrics => None,
        Call::Overview | Call::Config | Call::Listeners | Call::Routes | Call::Upstreams | Call::Upstream => {
            None
        }
        Call::Certificates | Call::Failures | Call::Reload => None,
        Call::Drain | Call::Undrain | Call::Eject | Call::Restore => None,
    }
}
