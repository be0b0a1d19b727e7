//! `weirgate diff`: what would change. 0 nothing, 1 something, 64 one of the files has mistakes.

use super::{DIFFERENT, Format, OK, USAGE, err, out};
use crate::Gate;
use crate::config::{self, Change};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(super) struct Diff {
    /// The configuration that is to be used.
    #[arg(short = 'c', long = "config", value_name = "NEW")]
    new: PathBuf,
    /// The configuration it is held against.
    #[arg(value_name = "OLD")]
    old: Option<PathBuf>,
    /// How changes are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn diff(arguments: &Diff) -> u8 {
    let Some(old) = &arguments.old else {
        err(
            "weirgate: which configuration is it compared with? Name the other file:\n  weirgate diff -c NEW OLD",
        );
        return USAGE;
    };
    // the mistakes of both are shown
    let (old, new) = (comparable(old), comparable(&arguments.new));
    let (Some(old), Some(new)) = (old, new) else { return USAGE };
    show(&config::diff(&old, &new), arguments.format)
}

/// Shows them; the code to exit with.
fn show(changes: &[Change], format: Format) -> u8 {
    match format {
        Format::Text => changes.iter().for_each(|change| {
            out(&format!("{change}\n"));
        }),
        Format::Json => {
            out(&format!("{:#}\n", serde_json::json!({ "same": changes.is_empty(), "changes": changes })));
        }
    }
    if changes.is_empty() { OK } else { DIFFERENT }
}

/// `None` when the file has mistakes, which are shown then.
fn comparable(file: &Path) -> Option<Value> {
    let checked = Gate::from_file(file).check();
    if checked.report.has_errors() {
        err(checked.report.render_text(&checked.sources).trim_end());
        return None;
    }
    Some(config::comparable(&checked))
}
