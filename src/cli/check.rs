//! `weirgate check`: every problem in a configuration, or what it means.

use super::{ConfigFile, Format, OK, USAGE, err, out};
use crate::Gate;
use crate::config::{self, Checked};

pub(super) fn check(config: &ConfigFile, format: Format, print: bool) -> u8 {
    let checked = Gate::from_file(&config.file).check();
    let failed = checked.report.has_errors();
    match format {
        Format::Text => text(config, &checked, print),
        Format::Json => json(&checked, print),
    };
    if failed { USAGE } else { OK }
}

/// Problems to standard error; the resolved configuration, or that all is well, to standard output.
fn text(config: &ConfigFile, checked: &Checked, print: bool) {
    if !checked.report.is_empty() {
        err(checked.report.render_text(&checked.sources).trim_end());
    }
    if checked.report.has_errors() {
        return;
    }
    if print {
        out(&config::print(checked));
    } else {
        out(&format!("{}: ok\n", config.file.display()));
    }
}

fn json(checked: &Checked, print: bool) {
    let mut value = checked.report.render_json(&checked.sources);
    if print && !checked.report.has_errors() {
        let resolved = config::resolved(checked);
        value = serde_json::json!({ "problems": value, "resolved": resolved });
    }
    out(&format!("{value:#}\n"));
}
