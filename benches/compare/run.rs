//! The conductor: starts the origin and the proxies, loads them in turn, collects what they used.
//! Called by `main`; the tables are made by `report`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::args::Options;
use crate::common::machine::Cores;
use crate::common::origin;
use crate::common::process::{self, Cpu, Running, Stop};
use crate::common::programs::free_addresses;
use crate::load::Outcome;
use crate::probe;
use crate::proxies::{Kind, Proxy, Site};
use crate::report::{Measured, Report, Table};
use crate::workloads::Workload;

/// One proxy under one load for one round.
#[derive(Clone, Debug)]
pub struct Round {
    pub cpu: Cpu,
    pub outcome: Outcome,
}

impl Round {
    /// Microseconds of CPU per request.
    pub fn user(&self) -> f64 {
        per_request(self.cpu.user, self.outcome.requests)
    }

    pub fn system(&self) -> f64 {
        per_request(self.cpu.system, self.outcome.requests)
    }

    pub fn total(&self) -> f64 {
        self.user() + self.system()
    }

    pub fn per_second(&self) -> f64 {
        self.outcome.requests as f64 / self.outcome.elapsed.as_secs_f64()
    }
}

fn per_request(time: Duration, requests: u64) -> f64 {
    time.as_secs_f64() * 1e6 / requests as f64
}

pub fn all(options: &Options) -> Result<()> {
    let stage = Stage::set_up()?;
    let mut kinds = Vec::new();
    for &kind in options.kinds() {
        match kind.missing() {
            Some(why) => println!("{} skipped: {why}", kind.name()),
            None => kinds.push(kind),
        }
    }
    let mut report = Report::new(options, &kinds, &stage.cores);
    print!("{}", report.head());
    let mut failed = Vec::new();
    for &workload in options.workloads() {
        if let Some(why) = workload.load().program().and_then(|program| process::find(program).err()) {
            println!("{} skipped: {why}", workload.name());
            continue;
        }
        let table = stage.measure(workload, &kinds, options, &mut failed)?;
        print!("{table}");
        report.add(table);
    }
    print!("{}", report.targets());
    if options.save {
        println!("saved as {}", report.save(options)?.display());
    }
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}

/// What all workloads share.
struct Stage {
    dir: tempfile::TempDir,
    cores: (Cores, Cores),
    origin: SocketAddr,
    _origin: Running,
    cert: PathBuf,
    key: PathBuf,
    pair: PathBuf,
}

impl Stage {
    fn set_up() -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("weirgate-compare-").tempdir()?;
        let cores = Cores::allowed()?.split();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let [origin] = free_addresses()?;
        Ok(Stage {
            cert: write("cert.pem", &cert)?,
            key: write("key.pem", &key)?,
            pair: write("pair.pem", &format!("{cert}{key}"))?,
            _origin: start_origin(origin, &cores.1)?,
            origin,
            cores,
            dir,
        })
    }

    fn site(&self, workload: Workload, kind: Kind) -> Result<Site> {
        let [plain, secure] = free_addresses()?;
        Ok(Site {
            dir: self.dir.path().join(workload.name()).join(kind.name()),
            plain,
            secure,
            origin: self.origin,
            cert: self.cert.clone(),
            key: self.key.clone(),
            pair: self.pair.clone(),
        })
    }

    /// All proxies run at once, idle but for the one under load, so that the rounds can go A B C D A B C D and
    /// whatever disturbs the machine disturbs all of them alike.
    fn measure(
        &self,
        workload: Workload,
        kinds: &[Kind],
        options: &Options,
        failed: &mut Vec<String>,
    ) -> Result<Table> {
        let mut proxies = Vec::new();
        for &kind in kinds {
            match Proxy::start(kind, self.site(workload, kind)?, options, &self.cores.0) {
                Ok(proxy) => proxies.push((proxy, Vec::new())),
                Err(error) => {
                    println!("{}: {} left out: {error:#}", workload.name(), kind.name());
                    failed.push(format!("{} under {}", kind.name(), workload.name()));
                }
            }
        }
        for (proxy, _) in &mut proxies {
            self.round(proxy, workload, 1).with_context(|| format!("{}: warming up", proxy.kind.name()))?;
        }
        for number in 1..=options.rounds() {
            for (proxy, rounds) in &mut proxies {
                let round = self.round(proxy, workload, options.seconds());
                let round = round.with_context(|| format!("{} in round {number}", proxy.kind.name()))?;
                rounds.push(round);
            }
        }
        let mut measured = Vec::new();
        for (proxy, rounds) in proxies {
            let resident = process::resident(&proxy.pids()?)?;
            note_missing_lines(&proxy, &rounds)?;
            measured.push(Measured { kind: proxy.kind, rounds, resident });
        }
        Ok(Table { workload, measured })
    }

    fn round(&self, proxy: &mut Proxy, workload: Workload, seconds: u32) -> Result<Round> {
        proxy.check_listeners()?;
        let pids = proxy.pids()?;
        let before = Cpu::of(&pids)?;
        let outcome = workload.load().run(&proxy.site, seconds, &self.cores.1, self.dir.path())?;
        let cpu = Cpu::of(&pids)?.since(before);
        if outcome.requests == 0 {
            bail!("no request was answered");
        }
        Ok(Round { cpu, outcome })
    }
}

/// Work left out looks like speed: a production proxy must have logged what it answered.
fn note_missing_lines(proxy: &Proxy, rounds: &[Round]) -> Result<()> {
    if proxy.kind.is_production() {
        let answered: u64 = rounds.iter().map(|round| round.outcome.requests).sum();
        let logged = probe::logged(proxy.kind, &proxy.site, answered)?;
        if logged < answered {
            println!("{} logged only {logged} of {answered} requests", proxy.kind.name());
        }
    }
    Ok(())
}

fn start_origin(address: SocketAddr, cores: &Cores) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["origin", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = Running::start(command, cores, Stop::Kill)?;
    origin::wait_for(&mut running, address)?;
    Ok(running)
}
