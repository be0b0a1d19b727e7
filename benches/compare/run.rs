//! The conductor: starts the proxies, loads them in turn, collects what they used. Called by `main`; the tables are made
//! by `report`, what is said about them by `targets`.

use anyhow::{Context as _, Result, bail};

use crate::args::Options;
use crate::common::process::{self, Cpu};
use crate::kinds::{Kind, Who};
use crate::load::paced::{self, Latency};
use crate::load::{Load, Outcome};
use crate::probe;
use crate::proxies::Proxy;
use crate::report::{Measured, Report, Table};
use crate::stage::Stage;
use crate::syscalls;
use crate::workloads::Workload;

/// Open files that the load of the most connections needs, with room to spare.
const OPEN_FILES: u64 = 4_096;
/// A load at the fixed rate, in seconds.
const PASS: u32 = 1;
/// From so many connections on a round is twice as long, as each begins with connecting them.
const MANY: u32 = 1_000;

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

fn per_request(time: std::time::Duration, requests: u64) -> f64 {
    time.as_secs_f64() * 1e6 / requests as f64
}

pub fn all(options: &Options) -> Result<()> {
    process::raise_limit(OPEN_FILES)?;
    let stage = Stage::set_up()?;
    let mut conductor = Conductor { stage, options, missing: Vec::new(), strace: true, failed: Vec::new() };
    conductor.find_programs();
    let mut report = Report::new(options, &conductor.present(), &conductor.stage.cores);
    print!("{}", report.head());
    for &workload in options.workloads() {
        if let Some(why) = workload.load().program().and_then(|program| process::find(program).err()) {
            println!("{} skipped: {why}", workload.name());
            continue;
        }
        let table = conductor.measure(workload)?;
        print!("{table}");
        report.add(table);
    }
    print!("{}", report.targets());
    if options.save {
        report.save(options)?.into_iter().for_each(|path| println!("saved as {}", path.display()));
    }
    match conductor.failed.as_slice() {
        [] => Ok(()),
        failed => bail!("not measured: {}", failed.join(", ")),
    }
}

struct Conductor<'a> {
    stage: Stage,
    options: &'a Options,
    /// Programs that are not installed.
    missing: Vec<Who>,
    /// System calls can be counted.
    strace: bool,
    failed: Vec<String>,
}

/// One of the proxies of a workload, and what is known of it so far.
struct Subject {
    proxy: Proxy,
    rounds: Vec<Round>,
    passes: Vec<Latency>,
}

impl Conductor<'_> {
    /// Each that is not installed is skipped with one line.
    fn find_programs(&mut self) {
        let mut wanted: Vec<Who> = Vec::new();
        for kind in self.options.workloads().iter().flat_map(|workload| self.options.kinds(*workload)) {
            if !wanted.contains(&kind.who) {
                wanted.push(kind.who);
            }
        }
        for who in wanted {
            if let Some(why) = who.missing() {
                println!("{} skipped: {why}", who.name());
                self.missing.push(who);
            }
        }
        if let Err(why) = process::find("strace") {
            println!("system calls are not counted: {why}");
            self.strace = false;
        }
    }

    fn kinds(&self, workload: Workload) -> Vec<Kind> {
        let kinds = self.options.kinds(workload).into_iter();
        kinds.filter(|kind| !self.missing.contains(&kind.who)).collect()
    }

    /// Who takes part in any of the workloads.
    fn present(&self) -> Vec<Kind> {
        let all: Vec<Kind> =
            self.options.workloads().iter().flat_map(|workload| self.kinds(*workload)).collect();
        Kind::ALL.into_iter().filter(|kind| all.contains(kind)).collect()
    }

    /// All proxies run at once, idle but for the one under load, so that the rounds can go A B C D A B C D and
    /// whatever disturbs the machine disturbs all of them alike. What is timed comes first, at the full rate; then what
    /// is asked by the clock; then what strace slows down.
    fn measure(&mut self, workload: Workload) -> Result<Table> {
        let load = workload.load();
        let mut subjects = self.start(workload)?;
        for subject in &mut subjects {
            self.round(subject, load, 1).with_context(|| format!("{}: warming up", subject.name()))?;
        }
        let seconds = self.options.seconds() * if load.connections < MANY { 1 } else { 2 };
        for number in 1..=self.options.rounds() {
            for subject in &mut subjects {
                let round = self.round(subject, load, seconds);
                let round = round.with_context(|| format!("{} in round {number}", subject.name()))?;
                subject.rounds.push(round);
            }
        }
        let resident = subjects.iter().map(|subject| process::resident(&subject.proxy.pids()?));
        let resident = resident.collect::<Result<Vec<_>>>()?;
        subjects.iter().try_for_each(note_missing_lines)?;
        let rate = self.pace(&mut subjects, load)?;
        let mut measured = Vec::new();
        for (subject, resident) in subjects.into_iter().zip(resident) {
            let syscalls = self.count_calls(&subject, load);
            let Subject { proxy, rounds, passes } = subject;
            measured.push(Measured { kind: proxy.kind, rounds, resident, passes, syscalls });
        }
        // hundreds of megabytes of logs
        std::fs::remove_dir_all(self.stage.dir().join(workload.name())).ok();
        Ok(Table { workload, rate, measured })
    }

    fn start(&mut self, workload: Workload) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        for kind in self.kinds(workload) {
            let site = self.stage.site(&format!("{}/{}", workload.name(), kind.name()), workload.key())?;
            match Proxy::start(kind, site, self.options.weirgate.as_deref(), &self.stage.cores.0) {
                Ok(proxy) => subjects.push(Subject { proxy, rounds: Vec::new(), passes: Vec::new() }),
                Err(error) => {
                    println!("{}: {} left out: {error:#}", workload.name(), kind.name());
                    self.failed.push(format!("{} under {}", kind.name(), workload.name()));
                }
            }
        }
        if subjects.is_empty() {
            bail!("{}: nobody to measure", workload.name());
        }
        Ok(subjects)
    }

    fn round(&self, subject: &mut Subject, load: Load, seconds: u32) -> Result<Round> {
        let proxy = &mut subject.proxy;
        proxy.check_listeners()?;
        let pids = proxy.pids()?;
        let before = Cpu::of(&pids)?;
        let outcome = load.run(&proxy.site, seconds, &self.stage.cores.1, self.stage.dir())?;
        let cpu = Cpu::of(&pids)?.since(before);
        if outcome.requests == 0 {
            bail!("no request was answered");
        }
        Ok(Round { cpu, outcome })
    }

    /// Loads all at one rate, in turn, and returns it.
    fn pace(&self, subjects: &mut [Subject], load: Load) -> Result<u32> {
        let slowest = subjects.iter().map(Subject::peak).fold(f64::INFINITY, f64::min);
        let cores = &self.stage.cores.1;
        let rate = paced::rate(slowest, cores);
        for number in 1..=self.options.passes() {
            for subject in &mut *subjects {
                let latency = paced::run(load, &subject.proxy.site, rate, PASS, number.into(), cores);
                subject.passes.push(latency.with_context(|| format!("{} at a fixed rate", subject.name()))?);
            }
        }
        Ok(rate)
    }

    /// `None` where strace is not there, or may not look.
    fn count_calls(&mut self, subject: &Subject, load: Load) -> Option<f64> {
        if !self.strace {
            return None;
        }
        match syscalls::per_request(&subject.proxy, load, &self.stage.cores.1, self.stage.dir()) {
            Ok(calls) => Some(calls),
            Err(error) => {
                println!("{}: system calls are not counted: {error:#}", subject.name());
                None
            }
        }
    }
}

impl Subject {
    fn name(&self) -> String {
        self.proxy.kind.name()
    }

    fn peak(&self) -> f64 {
        self.rounds.iter().map(Round::per_second).fold(0.0, f64::max)
    }
}

/// Work left out looks like speed: a proxy that records must have logged what it answered.
fn note_missing_lines(subject: &Subject) -> Result<()> {
    let kind = subject.proxy.kind;
    if kind.dress.records() {
        let answered: u64 = subject.rounds.iter().map(|round| round.outcome.requests).sum();
        let logged = probe::logged(kind, &subject.proxy.site, answered)?;
        if logged < answered {
            println!("{} logged only {logged} of {answered} requests", kind.name());
        }
    }
    Ok(())
}
