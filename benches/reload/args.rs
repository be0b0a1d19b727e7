//! The command line of the benchmark, as typed. Read by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::common::many::Size;
use crate::common::programs::Program;

/// From a few routes to many.
const SIZES: [Size; 4] =
    [Size::of(100, 10), Size::of(1000, 1000), Size::of(10_000, 10), Size::of(100_000, 10)];

#[derive(Parser)]
#[command(name = "reload", about = "Reloads of configurations with many routes")]
pub struct Args {
    /// Given by `cargo bench`; without it (as under `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    pub bench: bool,
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub face: Option<Face>,
}

#[derive(ClapArgs, Debug)]
pub struct Options {
    /// Reloads of each program with each size.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub runs: u32,
    /// Only sizes with so many routes.
    #[arg(long, value_delimiter = ',')]
    routes: Vec<usize>,
    /// Only these programs: `weirgate`, `nginx`, `haproxy`.
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// Requests per second, whatever becomes of those before.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub rate: u32,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    pub weirgate: Option<PathBuf>,
    /// Also write benches/results/reload-DATE.md.
    #[arg(long)]
    pub save: bool,
}

impl Options {
    pub fn sizes(&self) -> impl Iterator<Item = Size> {
        let wanted = |size: &Size| self.routes.is_empty() || self.routes.contains(&size.routes);
        SIZES.into_iter().filter(wanted)
    }

    pub fn programs(&self) -> impl Iterator<Item = Program> {
        let wanted = |program: &Program| {
            self.programs.is_empty() || self.programs.iter().any(|name| name == program.name())
        };
        Program::ALL.into_iter().filter(wanted)
    }
}

/// What the conductor starts this same executable as.
#[derive(Subcommand)]
pub enum Face {
    /// The server behind every proxy.
    #[command(hide = true)]
    Origin { address: SocketAddr },
}
