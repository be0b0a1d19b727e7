//! The command line of the benchmark, as typed. Read by `main`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::contenders::{self, Contender};
use crate::load::Load;
use crate::origins::Server;

#[derive(Parser)]
#[command(name = "effect", about = "Response times with one slow server, by balancing algorithm")]
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
    /// Fewer rounds: a look, not a result.
    #[arg(long)]
    pub quick: bool,
    /// Only contenders whose name contains one of these: `nginx`, `least_time`.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// How many times each contender is measured under each load, in turn [default: 5, with --quick 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: Option<u32>,
    /// Seconds of load per contender and round.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Only these loads.
    #[arg(long, value_enum, value_delimiter = ',')]
    load: Vec<Kind>,
    /// Requests per second of the load that comes by the clock.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Clients of the loads that wait for answers.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: u32,
    /// Milliseconds for which clients pause after an answer, on the average.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pause: u64,
    /// How much longer than the others the slow server takes, in milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    slow: u64,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    pub weirgate: Option<PathBuf>,
    /// Also write benches/results/effect-DATE.md and docs/images/balancing.svg.
    #[arg(long)]
    pub save: bool,
}

impl Options {
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 })
    }

    pub fn loads(&self) -> Vec<Load> {
        let pause = Duration::from_millis(self.pause);
        let load = |kind: &Kind| match kind {
            Kind::Clock => Load::Clock { rate: self.rate },
            Kind::Clients => Load::Clients { clients: self.clients, pause },
            Kind::Flood => Load::Clients { clients: self.clients, pause: Duration::ZERO },
        };
        let kinds = if self.load.is_empty() { Kind::value_variants() } else { &self.load };
        kinds.iter().map(load).collect()
    }

    pub fn slow(&self) -> Duration {
        Duration::from_millis(self.slow)
    }

    pub fn contenders(&self) -> Vec<Contender> {
        let wanted = |contender: &Contender| {
            self.only.is_empty() || self.only.iter().any(|part| contender.name().contains(part.as_str()))
        };
        contenders::ALL.iter().copied().filter(wanted).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Requests at a fixed rate, whatever becomes of those before.
    Clock,
    /// Clients that pause between requests.
    Clients,
    /// Clients that do not.
    Flood,
}

/// What the conductor starts this same executable as.
#[derive(Subcommand)]
pub enum Face {
    /// The servers behind every proxy.
    #[command(hide = true)]
    Origins { servers: Vec<Server> },
}
