//! `cargo bench --bench reload`: how long a reload takes with many routes, from the signal to the first answer of the new
//! configuration; what requests notice of it; and what it leaves in memory. weirgate, nginx and HAProxy with the same
//! routes. Called by `make bench`; `benches/README.md` says how to read it.
//!
//! The file is one program with two faces: without a subcommand it is the conductor and the load, `reload origin` the
//! server behind all.

mod args;
#[path = "../common/mod.rs"]
mod common;
mod load;
mod origin;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ended = match args.face {
        Some(args::Face::Origin { address }) => origin::run(address),
        None if !args.bench => {
            common::skipped("reload");
            Ok(())
        }
        None => run::all(&args.options),
    };
    common::concluded("reload", ended)
}
