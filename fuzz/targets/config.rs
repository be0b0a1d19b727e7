//! Any text is a configuration or is refused with a report: nothing panics, and what is accepted can
//! be shown, compared and routed by.

use serde_json::{Value, json};
use weirgate::config::check::check_document;
use weirgate::config::file::Route;
use weirgate::config::load::load_str;
use weirgate::config::report::Report;
use weirgate::config::{Comparable, diff, print};
use weirgate::filter::Catalogue;
use weirgate::http::route::{Router, precedence};

/// What was written has no defaults of routes; whatever else is missing in it is not taken out.
fn without_defaults(value: &Value, written: &str) -> String {
    let (mut value, usual) = (value.clone(), json!(Route::default()));
    let written: Value = serde_json::from_str(written).expect("it is JSON");
    let routes = value["routes"].as_array_mut().expect("a list");
    for (place, route) in routes.iter_mut().enumerate() {
        let (route, said) = (route.as_object_mut().expect("a map"), &written["routes"][place]);
        route.retain(|key, value| said.get(key).is_some() || usual.get(key) != Some(value));
    }
    value.to_string()
}

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // no text from here may make us read what lies about on this machine
    if text.contains("include") || text.contains("/dev") || text.contains("/proc") {
        return;
    }
    let mut report = Report::new();
    let variable = |name: &str| (name == "SET").then(|| "a value of the environment".to_string());
    let document = load_str("fuzz.yaml", text, &variable, &mut report);
    let checked = check_document(document, &Catalogue::standard(), report);
    let shown = checked.report.render_text(&checked.sources);
    let problems = checked.report.render_json(&checked.sources);
    assert_eq!(shown.is_empty(), checked.report.is_empty(), "{shown}");
    assert_eq!(checked.plan.is_none(), checked.report.has_errors(), "{shown}");
    assert!(problems["diagnostics"].is_array());
    let Some(plan) = &checked.plan else { return };
    let comparable = Comparable::of(&checked);
    let value = comparable.to_value();
    assert_eq!(without_defaults(&value, comparable.text()), comparable.text(), "it is not what was written");
    assert!(diff(&value, &value).is_empty(), "a configuration differs from itself");
    assert!(comparable.changes(&comparable).is_empty(), "not even piece by piece");
    assert!(!print(&checked).is_empty());
    let router = Router::build(&plan.routes);
    let rows = precedence(&plan.routes);
    assert!(rows.len() >= plan.routes.len());
    assert!(rows.iter().all(|(_, at)| router.route(*at).is_some()));
}
