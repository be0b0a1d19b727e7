//! `cargo bench --bench effect`: what the choice of a server does to response times. Three servers, one of them slow
//! by 20 ms, behind weirgate, nginx and HAProxy with each of their algorithms. Called by `make bench`;
//! `benches/README.md` says how to read it.
//!
//! The file is one program with two faces: without a subcommand it is the conductor and the load,
//! `effect origins` the three servers.

#![allow(clippy::print_stderr)]

mod args;
mod chart;
#[path = "../common/mod.rs"]
mod common;
mod contenders;
mod load;
mod origins;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ended = match args.face {
        Some(args::Face::Origins { servers }) => origins::run(&servers),
        None if !args.bench => {
            common::skipped("effect");
            Ok(())
        }
        None => run::all(&args.options),
    };
    common::concluded("effect", ended)
}
