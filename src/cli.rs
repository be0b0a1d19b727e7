//! The command line: `run`, `check`, `schema`. Each command is a function from arguments to an
//! exit code: 0 ok, 1 the gate could not run, 64 wrong usage or configuration (sysexits `EX_USAGE`).

use crate::config::{self, Checked};
use crate::filter::Catalogue;
use crate::{Error, Gate};
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 64;

/// A programmable edge proxy and load balancer: one binary, one YAML file.
#[derive(Parser)]
#[command(name = "weirgate", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve as the configuration says.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check the configuration and show every problem in it.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// How problems are shown.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Show the resolved configuration, with all defaults and without secrets.
        #[arg(long)]
        print: bool,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "conf/weirgate.yaml")]
    file: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Does what the arguments say; the first is the name of the program.
pub fn run(args: impl Iterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(args) {
        Ok(cli) => match cli.command {
            Command::Run { config } => serve(config),
            Command::Check { config, format, print } => check(&config, format, print),
            Command::Schema => out(&config::schema_text(&Catalogue::standard())),
        },
        Err(error) => {
            // help and version are asked for, the rest are mistakes
            let asked = !error.use_stderr();
            error.print().ok();
            if asked { OK } else { USAGE }
        }
    }
}

fn serve(config: ConfigFile) -> u8 {
    match Gate::from_file(config.file).run() {
        Ok(()) => OK,
        Err(error @ Error::Configuration(_)) => {
            err(&error.to_string());
            USAGE
        }
        Err(error @ Error::Start(_)) => {
            err(&format!("weirgate: {error}"));
            FAILED
        }
    }
}

fn check(config: &ConfigFile, format: Format, print: bool) -> u8 {
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

/// A closed pipe on the other end is no error of ours.
fn out(text: &str) -> u8 {
    std::io::stdout().write_all(text.as_bytes()).ok();
    OK
}

fn err(text: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n")).ok();
}
