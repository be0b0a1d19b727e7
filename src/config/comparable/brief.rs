//! Routes without what they do not say: of the text of a route, six in seven bytes would be defaults. Called by
//! `comparable`.

use crate::config::file::Route;
use crate::config::secret;
use serde_json::{Map, Value};

/// What is always said: routes are told apart by it.
const NAME: &str = "name";

/// A route that says nothing.
pub(super) fn usual() -> Map<String, Value> {
    match secret::as_compared(|| serde_json::to_value(Route::default())) {
        Ok(Value::Object(usual)) => usual,
        // a structure can be written
        Ok(_) | Err(_) => Map::new(),
    }
}

/// Takes out what is as in `usual`.
pub(super) fn shorten(route: &mut Value, usual: &Map<String, Value>) {
    if let Value::Object(route) = route {
        route.retain(|key, value| key == NAME || usual.get(key) != Some(value));
    }
}

/// Puts back what was taken out of the routes of a configuration, at its place.
pub(super) fn complete(configuration: &mut Value) {
    let Some(Value::Array(routes)) = configuration.get_mut("routes") else { return };
    let usual = usual();
    for route in routes {
        let Value::Object(said) = route else { continue };
        let mut whole = Map::with_capacity(usual.len());
        for (key, value) in &usual {
            whole.insert(key.clone(), said.swap_remove(key).unwrap_or_else(|| value.clone()));
        }
        whole.append(said);
        *said = whole;
    }
}
