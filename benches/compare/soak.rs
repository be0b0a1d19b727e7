//! `compare soak`: minutes at the full rate, of one kind of work after the other, and what the proxy holds at the start,
//! each half minute and at the end: memory, descriptors, threads. Called by `main`.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::common::machine::{processor, today};
use crate::common::programs::save;
use crate::common::{process, results_dir, table};
use crate::kinds::Kind;
use crate::probe;
use crate::proxies::Proxy;
use crate::stage::{Key, Stage};
use crate::workloads::Workload;

/// In turn, until a half minute is over. Each leaves none of its connections behind.
const WORK: [Workload; 6] = [
    Workload::SmallH1,
    Workload::SmallTlsH1,
    Workload::SmallTlsH2,
    Workload::Handshakes,
    Workload::LargeH1,
    Workload::Upload100k,
];
/// Between two looks.
const STEP: Duration = Duration::from_secs(30);
/// What clients' connections need to be gone before a look.
const REST: Duration = Duration::from_secs(1);
const OPEN_FILES: u64 = 4_096;

#[derive(Args, Debug)]
pub struct Options {
    /// How long there is load.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u32).range(6..=3600))]
    seconds: u32,
    /// Of which proxy: weirgate, weirgate-log, nginx-production and so on.
    #[arg(long, default_value = "weirgate-production", value_parser = Kind::parse)]
    proxy: Kind,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/soak-DATE.md.
    #[arg(long)]
    save: bool,
}

/// What all processes of a proxy hold.
struct Look {
    at: Duration,
    /// Answered since the look before, and not answered.
    requests: u64,
    errors: u64,
    resident: u64,
    descriptors: usize,
    threads: usize,
}

pub fn all(options: &Options) -> Result<()> {
    process::raise_limit(OPEN_FILES)?;
    if let Some(why) = options.proxy.who.missing() {
        bail!("{why}");
    }
    let stage = Stage::set_up()?;
    let site = stage.site(&options.proxy.name(), Key::P256)?;
    let mut proxy = Proxy::start(options.proxy, site, options.weirgate.as_deref(), &stage.cores.0)?;
    let looks = soak(&stage, &mut proxy, options)?;
    let text = text(options, &looks);
    print!("{text}");
    if options.save {
        let path = results_dir().join(format!("soak-{}.md", today()));
        println!("saved as {}", save(path, &text)?.display());
    }
    Ok(())
}

fn soak(stage: &Stage, proxy: &mut Proxy, options: &Options) -> Result<Vec<Look>> {
    let end = Duration::from_secs(options.seconds.into());
    // what the first of each kind makes a process allocate for good is not growth
    load(stage, proxy, Duration::from_secs(WORK.len() as u64))?;
    let started = Instant::now();
    let mut looks = vec![look(proxy, Duration::ZERO, (0, 0))?];
    while started.elapsed() < end {
        let left = end.saturating_sub(started.elapsed());
        let answered = load(stage, proxy, STEP.min(left))?;
        let look = look(proxy, started.elapsed(), answered)?;
        println!("after {:.0} s: {:.1} MB", look.at.as_secs_f64(), megabytes(look.resident));
        looks.push(look);
    }
    Ok(looks)
}

/// Each kind of work for its part of `time`, at least a second; requests and errors.
fn load(stage: &Stage, proxy: &mut Proxy, time: Duration) -> Result<(u64, u64)> {
    let seconds = u32::try_from(time.as_secs() / WORK.len() as u64)?.max(1);
    let (mut requests, mut errors) = (0, 0);
    for work in WORK {
        proxy.check_listeners()?;
        let outcome = work.load().run(&proxy.site, seconds, &stage.cores.1, stage.dir());
        let outcome = outcome.with_context(|| work.name())?;
        requests += outcome.requests;
        errors += outcome.errors;
    }
    // gigabytes otherwise
    if proxy.kind.dress.records() {
        let log =
            fs::OpenOptions::new().write(true).open(proxy.site.dir.join(probe::log_name(proxy.kind.who)))?;
        log.set_len(0)?;
    }
    std::thread::sleep(REST);
    Ok((requests, errors))
}

fn look(proxy: &Proxy, at: Duration, (requests, errors): (u64, u64)) -> Result<Look> {
    let pids = proxy.pids()?;
    let entries = |folder: &str| -> Result<usize> {
        let count = |pid: &u32| Ok(fs::read_dir(format!("/proc/{pid}/{folder}"))?.count());
        pids.iter().map(count).sum()
    };
    let (descriptors, threads) = (entries("fd")?, entries("task")?);
    Ok(Look { at, requests, errors, resident: process::resident(&pids)?, descriptors, threads })
}

fn text(options: &Options, looks: &[Look]) -> String {
    let row = |look: &Look| {
        [
            format!("{:.0}", look.at.as_secs_f64()),
            look.requests.to_string(),
            look.errors.to_string(),
            format!("{:.1}", megabytes(look.resident)),
            look.descriptors.to_string(),
            look.threads.to_string(),
        ]
    };
    let rows: Vec<[String; 6]> = looks.iter().map(row).collect();
    let columns = ["after s", "requests", "errors", "RSS MB", "descriptors", "threads"];
    format!(
        "# {proxy} at the full rate, {date}\n\n{processor}; one worker. In turn: {work}. A look is taken when the \
         clients have gone; the first one comes after a second of each kind of work.\n\n{table}",
        proxy = options.proxy.name(),
        date = today(),
        processor = processor(),
        work = WORK.map(Workload::name).join(", "),
        table = table::markdown(columns, &rows, 0),
    )
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
