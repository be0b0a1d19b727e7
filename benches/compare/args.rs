//! The command line of the benchmark, as typed. Read by `main`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::chaos;
use crate::flows;
use crate::kinds::Kind;
use crate::memory;
use crate::soak;
use crate::workloads::Workload;

#[derive(Parser)]
#[command(
    name = "compare",
    about = "CPU per request of weirgate, minimal Pingora, nginx, HAProxy, Envoy and Caddy"
)]
pub struct Args {
    /// Given by `cargo bench`; without it (as under `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub face: Option<Face>,
}

#[derive(ClapArgs, Debug)]
pub struct Options {
    /// Fewer workloads, shorter and fewer rounds: a look, not a result.
    #[arg(long)]
    pub quick: bool,
    /// Only these workloads.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Workload>,
    /// Only these proxies, whatever the workload: weirgate, nginx-log, haproxy-production and so on.
    #[arg(long, value_parser = Kind::parse, value_delimiter = ',')]
    pub proxies: Vec<Kind>,
    /// How many times each proxy is measured per workload, in turn [default: 6, with --quick 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub rounds: Option<u32>,
    /// Seconds of load per proxy and round [default: 2, quick 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: Option<u32>,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    pub weirgate: Option<PathBuf>,
    /// Also write the tables to benches/results/DATE-MACHINE.md.
    #[arg(long)]
    pub save: bool,
    /// The machine's name in the file of --save [default: made from the processor's name].
    #[arg(long)]
    pub machine: Option<String>,
}

impl Options {
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 6 })
    }

    pub fn seconds(&self) -> u32 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 2 })
    }

    pub fn workloads(&self) -> &[Workload] {
        match (self.only.as_slice(), self.quick) {
            ([], false) => Workload::ALL,
            ([], true) => Workload::QUICK,
            (only, _) => only,
        }
    }

    /// Who is measured under this workload, if there is such a program.
    pub fn kinds(&self, workload: Workload) -> Vec<Kind> {
        let wanted = |kind: &Kind| match self.proxies.as_slice() {
            [] => workload.dresses().contains(&kind.dress),
            proxies => proxies.contains(kind),
        };
        Kind::ALL.into_iter().filter(wanted).collect()
    }

    /// How often, for a second each, each proxy is loaded at the fixed rate.
    pub fn passes(&self) -> u32 {
        if self.quick { 1 } else { 3 }
    }

    /// All that there is, as long as it should.
    pub fn is_whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.proxies.is_empty()
    }
}

/// Another conductor, and what both start this same executable as.
#[derive(Subcommand)]
pub enum Face {
    /// What clients notice when one of three servers fails.
    Chaos(chaos::Options),
    /// The memory of an idle connection, a route and a server.
    Memory(memory::Options),
    /// Whether memory, descriptors or threads grow at the full rate.
    Soak(soak::Options),
    /// Connections that are passed on whole.
    Flows(flows::Options),
    /// The server behind those.
    #[command(hide = true)]
    FlowEcho { address: SocketAddr },
    /// What goes through them.
    #[command(hide = true)]
    FlowLoad(flows::load::Settings),
    /// One of the servers that fail.
    #[command(hide = true)]
    ChaosServer { folder: PathBuf },
    /// The server behind every proxy.
    #[command(hide = true)]
    Origin { address: SocketAddr },
    /// The smallest proxy Pingora makes.
    #[command(hide = true)]
    MinimalPingora(MinimalSettings),
    /// One new TLS connection and one request after another.
    #[command(hide = true)]
    Handshakes(HandshakeSettings),
}

#[derive(ClapArgs)]
pub struct MinimalSettings {
    #[arg(long)]
    pub plain: SocketAddr,
    #[arg(long)]
    pub secure: SocketAddr,
    #[arg(long)]
    pub h2c: SocketAddr,
    #[arg(long)]
    pub origin: SocketAddr,
    #[arg(long)]
    pub cert: PathBuf,
    #[arg(long)]
    pub key: PathBuf,
}

#[derive(ClapArgs)]
pub struct HandshakeSettings {
    #[arg(long)]
    pub target: SocketAddr,
    /// The certificate the proxy must show.
    #[arg(long)]
    pub cert: PathBuf,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub concurrency: u32,
    /// Come back with the session of the connection before.
    #[arg(long)]
    pub resume: bool,
}
