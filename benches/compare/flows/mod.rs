//! `compare flows`: connections that are passed on whole, by weirgate, nginx (stream) and HAProxy (TCP mode, with and
//! without splice): processor time for a small round trip, a gigabyte, a connection and one whose ClientHello decides, and
//! the memory of one that waits. Called by `main`; the proxies are measured in turn, as for the other comparisons.

pub mod echo;
pub mod load;
mod proxies;
mod report;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::common::client::PATIENCE;
use crate::common::machine::Cores;
use crate::common::origin;
use crate::common::process::{self, Cpu, Running, Stop};
use crate::common::programs::{self, free_addresses};
use load::{Load, Outcome};
use proxies::{Kind, Site};
use report::Table;

/// What a proxy is given to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// Descriptors beside those of the connections.
const SPARE: u64 = 512;

#[derive(Args, Debug)]
pub struct Options {
    /// How many times each proxy is measured under each load, in turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Seconds of load per proxy and round.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Only these loads.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Load>,
    /// Only these proxies.
    #[arg(long, value_enum, value_delimiter = ',')]
    proxies: Vec<Kind>,
    /// Connections that wait, for the memory of each; 0: it is not measured.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(0..=9500))]
    idle: u32,
    /// nginx's module for streams, where it is not in a usual place.
    #[arg(long, value_name = "FILE")]
    nginx_stream: Option<PathBuf>,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/flows-DATE.md.
    #[arg(long)]
    save: bool,
}

/// One proxy under one load for one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    pub cpu: Cpu,
    pub outcome: Outcome,
}

/// A proxy that answers.
struct Proxy {
    kind: Kind,
    site: Site,
    running: Running,
}

pub fn all(options: &Options) -> Result<()> {
    process::raise_limit(2 * u64::from(options.idle) + SPARE)?;
    let cores = Cores::allowed()?.split();
    let dir = tempfile::Builder::new().prefix("weirgate-flows-").tempdir()?;
    let [echo] = free_addresses()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["flow-echo", &echo.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Running::start(command, &cores.1, Stop::Kill)?;
    origin::wait_for(&mut server, echo)?;
    let mut proxies = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|k| options.proxies.is_empty() || options.proxies.contains(k)) {
        match kind.missing(options.nginx_stream.as_deref()) {
            Some(why) => println!("{} skipped: {why}", kind.name()),
            None => proxies.push(start(kind, echo, dir.path().join(kind.name()), options, &cores.0)?),
        }
    }
    let mut text = report::head(options.rounds, options.seconds, &cores);
    print!("{text}");
    for load in Load::ALL.into_iter().filter(|l| options.only.is_empty() || options.only.contains(l)) {
        let table = measure(load, &mut proxies, options, (&cores.1, dir.path()))?.to_string();
        print!("{table}");
        text.push_str(&table);
    }
    drop(proxies);
    if options.idle > 0 {
        let table = idle(echo, dir.path(), options, &cores.0)?;
        print!("{table}");
        text.push_str(&table);
    }
    if options.save {
        println!("saved as {}", report::save(&text)?.display());
    }
    Ok(())
}

fn start(kind: Kind, echo: SocketAddr, dir: PathBuf, options: &Options, cores: &Cores) -> Result<Proxy> {
    let [plain, closed] = free_addresses()?;
    let site = Site { dir, plain, closed, echo, nginx_stream: options.nginx_stream.clone() };
    let command = kind.program().command(&kind.conf(&site)?, &site.dir, options.weirgate.as_deref())?;
    let answers = || wait(plain).map(drop);
    let running =
        programs::launch(command, &site.dir, cores, answers).with_context(|| kind.name().to_owned())?;
    process::check_only_listener(plain.port(), &running.pids()?)?;
    Ok(Proxy { kind, site, running })
}

/// All of them in turn, so that whatever disturbs the machine disturbs all of them alike.
fn measure(
    load: Load,
    proxies: &mut [Proxy],
    options: &Options,
    (cores, dir): (&Cores, &std::path::Path),
) -> Result<Table> {
    let mut rounds: Vec<(Kind, Vec<Round>)> = proxies.iter().map(|proxy| (proxy.kind, Vec::new())).collect();
    for number in 0..=options.rounds {
        for (proxy, (_, rounds)) in proxies.iter_mut().zip(&mut rounds) {
            proxy.running.check_alive()?;
            let pids = proxy.running.pids()?;
            let before = Cpu::of(&pids)?;
            // the first is to warm up
            let seconds = if number == 0 { 1 } else { options.seconds };
            let target = if load == Load::Passthrough { proxy.site.closed } else { proxy.site.plain };
            let outcome =
                load.run(target, seconds, cores, dir).with_context(|| proxy.kind.name().to_owned())?;
            let cpu = Cpu::of(&pids)?.since(before);
            if number > 0 {
                rounds.push(Round { cpu, outcome });
            }
        }
    }
    Ok(Table { load, rounds })
}

/// The memory of connections that have had a round trip and wait for the next; each program in a process of its own.
fn idle(echo: SocketAddr, dir: &std::path::Path, options: &Options, cores: &Cores) -> Result<String> {
    let mut figures = Vec::new();
    for kind in [Kind::Weirgate, Kind::Nginx, Kind::Haproxy] {
        if !options.proxies.is_empty() && !options.proxies.contains(&kind)
            || kind.missing(options.nginx_stream.as_deref()).is_some()
        {
            continue;
        }
        let proxy = start(kind, echo, dir.join(format!("idle-{}", kind.name())), options, cores)?;
        let hold = |count: u32| (0..count).map(|_| wait(proxy.site.plain)).collect::<Result<Vec<_>>>();
        // what the first ones make a process allocate for good is not theirs
        drop(hold(100)?);
        std::thread::sleep(REST);
        let before = process::resident(&proxy.running.pids()?)?;
        let held = hold(options.idle)?;
        std::thread::sleep(REST);
        let after = process::resident(&proxy.running.pids()?)?;
        drop(held);
        let kilobytes = after.saturating_sub(before) as f64 / f64::from(options.idle) / 1024.0;
        figures.push((kind, kilobytes));
    }
    Ok(report::idle(options.idle, &figures))
}

/// A connection that has had a round trip.
fn wait(target: SocketAddr) -> Result<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&[&echo::ECHO[..], b"x"].concat())?;
    socket.read_exact(&mut [0]).context("no echo")?;
    Ok(socket)
}
