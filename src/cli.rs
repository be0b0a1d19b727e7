//! The command line: `run`, `check`, `explain`, `routes`, `diff`, `reload`, `status`, `top`, `upgrade`,
//! `schema`. Each command is a function from arguments to an
//! exit code: 0 ok, 1 the gate could not run or the answer is no, 64 wrong usage or configuration
//! (sysexits `EX_USAGE`).

mod check;
mod diff;
mod explain;
mod routes;
mod running;
mod top;

use crate::config;
use crate::filter::Catalogue;
use crate::memory;
use crate::{Error, Gate};
use clap::{Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
/// As `diff` says it.
pub const DIFFERENT: u8 = 1;
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
    /// Tell what would be done with a request, and why; or what a code such as E014 means. Nothing is
    /// sent. Exits with 0 when a route matches, 1 when none does, 64 when the configuration has mistakes.
    Explain(explain::Explain),
    /// Show the routes in the order in which they are tried.
    Routes(routes::Routes),
    /// Show what differs from another configuration. Exits with 0 when nothing does, 1 when something
    /// does, 64 when one of them has mistakes.
    Diff(diff::Diff),
    /// Have the running process read its configuration again, and show what has changed, or why it was refused.
    Reload(running::Running),
    /// Show which configuration the running process uses, since when, and what was refused last.
    Status(running::Running),
    /// Show what the running process does, as it happens: routes, upstreams and servers with their rates, errors and times,
    /// why a server is not used, and what fails. Servers are drained and weighed by keys.
    Top(top::Top),
    /// Have the running process replaced by the program as it is on disk now, without losing a connection.
    Upgrade(running::Running),
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
            Command::Check { config, format, print } => check::check(&config, format, print),
            Command::Explain(arguments) => explain::explain(arguments),
            Command::Routes(arguments) => routes::routes(&arguments),
            Command::Diff(arguments) => diff::diff(&arguments),
            Command::Reload(running) => running::reload(&running),
            Command::Status(running) => running::status(&running),
            Command::Top(arguments) => top::top(&arguments),
            Command::Upgrade(running) => running::upgrade(&running),
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
    memory::in_small_pages();
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

/// A closed pipe on the other end is no error of ours.
fn out(text: &str) -> u8 {
    std::io::stdout().write_all(text.as_bytes()).ok();
    OK
}

fn err(text: &str) {
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.write_all(b"\n")).ok();
}
