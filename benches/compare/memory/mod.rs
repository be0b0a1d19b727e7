//! `compare memory`: what one of thousands costs in weirgate, nginx and HAProxy. Of connections that have had a request
//! and wait for the next (`connections`), and of routes and servers of a configuration (`configured`). Called by `main`.

mod configured;
mod connections;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::common::machine::{processor, today};
use crate::common::many::Size;
use crate::common::process::{self, Running};
use crate::common::programs::{self, Program};
use crate::common::{results_dir, table};
use crate::proxies::Site;
use crate::stage::{Key, Stage};
use connections::Spoken;

/// What a proxy is given to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// Descriptors beside those of the connections.
const SPARE: u64 = 512;
/// Of those that have ten thousand routes.
const GROUPS: usize = 10;

#[derive(Args, Debug)]
pub struct Options {
    /// How many of each kind.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=25_000))]
    count: u32,
    /// Only these kinds.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/memory-DATE.md.
    #[arg(long)]
    save: bool,
}

/// What there are thousands of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Plaintext,
    Tls,
    H2,
    Route,
    Server,
    CheckedServer,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Plaintext, Kind::Tls, Kind::H2, Kind::Route, Kind::Server, Kind::CheckedServer];

    fn title(self) -> &'static str {
        match self {
            Kind::Plaintext => "connection, HTTP/1.1",
            Kind::Tls => "connection, HTTP/1.1 over TLS 1.3",
            Kind::H2 => "connection, HTTP/2 over TLS 1.3",
            Kind::Route => "route",
            Kind::Server => "server of a group",
            Kind::CheckedServer => "server with a TCP health check",
        }
    }

    /// Kilobytes for one of weirgate's, at the most.
    fn target(self) -> Option<f64> {
        match self {
            Kind::Plaintext => Some(8.0),
            Kind::Tls => Some(25.0),
            Kind::H2 => Some(40.0),
            Kind::Route | Kind::Server | Kind::CheckedServer => None,
        }
    }

    /// Bytes for each.
    fn measure(self, subject: &Subject<'_>) -> Result<f64> {
        let server = Size::of(1, 1);
        match self {
            Kind::Plaintext => connections::each(subject, Spoken::Plaintext),
            Kind::Tls => connections::each(subject, Spoken::Tls),
            Kind::H2 => connections::each(subject, Spoken::H2),
            Kind::Route => configured::each(subject, |routes| Size::of(routes, GROUPS)),
            Kind::Server => configured::each(subject, |servers| Size { servers, ..server }),
            Kind::CheckedServer => {
                configured::each(subject, |servers| Size { servers, checks: true, ..server })
            }
        }
    }
}

pub fn all(options: &Options) -> Result<()> {
    process::raise_limit(u64::from(options.count) + SPARE)?;
    let stage = Stage::set_up()?;
    let wanted = |kind: &Kind| options.only.is_empty() || options.only.contains(kind);
    let mut rows = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        for program in Program::ALL {
            let subject = Subject { stage: &stage, program, options };
            match program.missing().map_or_else(|| kind.measure(&subject), Err) {
                Ok(bytes) => rows.push(row(kind, program, bytes)),
                Err(why) => println!("{}, {} skipped: {why:#}", kind.title(), program.name()),
            }
        }
    }
    let text = format!(
        "# Memory of a connection, a route and a server, {}\n\n{}; {} of each kind; resident memory\n\n{}",
        today(),
        processor(),
        options.count,
        table::markdown(["of each", "program", "KB", "target"], &rows, 2)
    );
    print!("{text}");
    if options.save {
        let path = results_dir().join(format!("memory-{}.md", today()));
        println!("saved as {}", programs::save(path, &text)?.display());
    }
    Ok(())
}

/// Also says at once what was found.
fn row(kind: Kind, program: Program, bytes: f64) -> [String; 4] {
    let kilobytes = format!("{:.2}", bytes / 1024.0);
    println!("{}, {}: {kilobytes} KB", kind.title(), program.name());
    let target = match program {
        Program::Weirgate => kind.target(),
        Program::Nginx | Program::Haproxy => None,
    };
    let target = target.map(|target| format!("{target:.0}")).unwrap_or_default();
    [kind.title().to_owned(), program.name().to_owned(), kilobytes, target]
}

/// A program of which something is measured.
struct Subject<'a> {
    stage: &'a Stage,
    program: Program,
    options: &'a Options,
}

/// A process that answers: each measurement has its own, so that no memory is reused.
struct Started {
    site: Site,
    running: Running,
}

impl Subject<'_> {
    /// With this configuration, in a folder of this name.
    fn start(
        &self,
        name: &str,
        conf: impl FnOnce(&Site) -> Result<String>,
        answers: impl Fn(&Site) -> Result<()>,
    ) -> Result<Started> {
        let site = self.stage.site(&format!("{}-{name}", self.program.name()), Key::P256)?;
        std::fs::create_dir_all(&site.dir)?;
        let weirgate = self.options.weirgate.as_deref();
        let command = self.program.command(&conf(&site)?, &site.dir, weirgate)?;
        let running = programs::launch(command, &site.dir, &self.stage.cores.0, || answers(&site))?;
        Ok(Started { site, running })
    }
}

impl Started {
    /// Bytes of memory when it has come to rest. What its processes share is counted once.
    fn at_rest(&self) -> Result<u64> {
        std::thread::sleep(REST);
        process::proportional(&self.running.pids()?)
    }
}
