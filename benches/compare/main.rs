//! `cargo bench --bench compare`: the same work done by weirgate, by a minimal Pingora proxy, by nginx and HAProxy, and by
//! Envoy and Caddy where they are installed, side by side on one machine. Called by `make bench`; `benches/README.md` says how to read it.
//!
//! The file is one program with several faces, so that everything it measures with is built by the same profile:
//! without a subcommand it is the conductor, `compare origin` is the server behind the proxies,
//! `compare minimal-pingora` the yardstick, and `compare handshakes` the load of new TLS connections.
//! `compare chaos` is another conductor: what clients notice when a server fails, with `compare chaos-server` behind
//! the proxies. `compare memory` is the third: what an idle connection, a route and a server cost. `compare soak` is the
//! fourth: what grows while a proxy has all it can do. `compare flows` is the fifth: connections that are passed on
//! whole, with `compare flow-echo` and `compare flow-load` on both sides of the proxies.

#![allow(clippy::print_stderr)]

mod args;
#[path = "../../tests/chaos/mod.rs"]
mod cast;
mod chaos;
mod chart;
#[path = "../common/mod.rs"]
mod common;
mod configs;
mod flows;
mod kinds;
mod load;
mod memory;
mod minimal;
mod origin;
mod others;
mod probe;
mod proxies;
mod report;
mod run;
mod soak;
mod stage;
mod syscalls;
mod targets;
mod workloads;

use std::process::ExitCode;

use clap::Parser as _;

/// weirgate's allocator, here for the minimal Pingora proxy as such a program has it: the ratio should show our code, not
/// malloc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let ended = match args.face {
        Some(args::Face::Origin { address }) => origin::run(address),
        Some(args::Face::MinimalPingora(settings)) => minimal::run(settings),
        Some(args::Face::Handshakes(settings)) => load::handshakes::run(&settings),
        Some(args::Face::ChaosServer { folder }) => cast::run(&folder).map_err(Into::into),
        Some(args::Face::Chaos(options)) => chaos::all(&options),
        Some(args::Face::Memory(options)) => memory::all(&options),
        Some(args::Face::Soak(options)) => soak::all(&options),
        Some(args::Face::Flows(options)) => flows::all(&options),
        Some(args::Face::FlowEcho { address }) => flows::echo::run(address),
        Some(args::Face::FlowLoad(settings)) => flows::load::run(&settings),
        None if !args.bench => {
            common::skipped("compare");
            Ok(())
        }
        None => run::all(&args.options),
    };
    common::concluded("compare", ended)
}
