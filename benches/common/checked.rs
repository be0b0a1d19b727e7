//! A configuration in text becomes a plan, as the program makes it. Used by the micro benchmarks that take what
//! they measure from one.

use weirgate::Gate;
use weirgate::config::plan::Plan;

/// It has no mistake.
pub fn plan(yaml: &str) -> Plan {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weirgate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let checked = Gate::from_file(&file).check();
    match checked.plan {
        Some(plan) => plan,
        None => unreachable!("{}", checked.report.render_text(&checked.sources)),
    }
}
