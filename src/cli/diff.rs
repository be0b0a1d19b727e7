//! `weirgate diff`: what would change. 0 nothing, 1 something, 64 one of the files has mistakes.

use super::{DIFFERENT, Format, OK, USAGE, err, out, running};
use crate::Gate;
use crate::config::{self, Change};
use crate::run::control::{self, Wish};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(super) struct Diff {
    /// The configuration that is to be used.
    #[arg(short = 'c', long = "config", value_name = "NEW")]
    new: PathBuf,
    /// The configuration it is held against; that of the running process without it.
    #[arg(value_name = "OLD")]
    old: Option<PathBuf>,
    /// The socket of the running process, whatever the file says.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How changes are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn diff(arguments: &Diff) -> u8 {
    // the mistakes of both are shown
    let old = match &arguments.old {
        Some(old) => comparable(old).ok_or(USAGE),
        None => in_use(arguments),
    };
    let (old, new) = match (old, comparable(&arguments.new)) {
        (Ok(old), Some(new)) => (old, new),
        (Err(code), _) => return code,
        (Ok(_), None) => return USAGE,
    };
    show(&config::diff(&old, &new), arguments.format)
}

/// What the running process uses; or the code to exit with, and why is shown.
fn in_use(arguments: &Diff) -> Result<Value, u8> {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        None => running::socket_of(&arguments.new).ok_or(USAGE)?,
    };
    control::ask(&socket, Wish::Configuration).map_err(|why| {
        err(&format!("weirgate: {}; or name the other file: weirgate diff -c NEW OLD", why.trim_end()));
        USAGE
    })
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
    Some(config::Comparable::of(&checked).to_value())
}
