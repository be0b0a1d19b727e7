//! The tables: medians over the rounds, their spread, and ratios of rounds that ran side by side.
//! Called by `run`. Written as Markdown, so that what is printed is what is saved.

use std::fmt::{self, Display};
use std::path::PathBuf;

use anyhow::Result;

use crate::args::Options;
use crate::chart;
use crate::common::machine::{self, Cores};
use crate::common::programs::{save, version};
use crate::common::table::{self, median};
use crate::common::{repository, results_dir};
use crate::kinds::{Dress, Kind, Who};
use crate::load::Outcome;
use crate::load::paced::Latency;
use crate::run::Round;
use crate::workloads::Workload;
use crate::{others, targets};

/// All rounds of one proxy under one workload.
pub struct Measured {
    pub kind: Kind,
    pub rounds: Vec<Round>,
    /// Bytes, after the last round.
    pub resident: u64,
    /// At the fixed rate.
    pub passes: Vec<Latency>,
    /// For each request.
    pub syscalls: Option<f64>,
}

impl Measured {
    /// Microseconds of CPU per request.
    pub fn total(&self) -> f64 {
        self.median(Round::total)
    }

    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn spread(&self) -> (f64, f64) {
        let totals = self.rounds.iter().map(Round::total);
        totals.fold((f64::INFINITY, 0.0), |(low, high), total| (total.min(low), total.max(high)))
    }

    fn peak(&self) -> f64 {
        self.rounds.iter().map(Round::per_second).fold(0.0, f64::max)
    }

    fn sum(&self, value: impl Fn(&Outcome) -> u64) -> u64 {
        self.rounds.iter().map(|round| value(&round.outcome)).sum()
    }

    /// Milliseconds.
    fn latency(&self, value: impl Fn(&Latency) -> f64) -> String {
        format!("{:.2}", median(self.passes.iter().map(value).collect()))
    }
}

/// One workload's results.
pub struct Table {
    pub workload: Workload,
    /// Requests per second of the load by the clock.
    pub rate: u32,
    pub measured: Vec<Measured>,
}

impl Table {
    pub fn find(&self, kind: Kind) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.kind == kind)
    }

    /// CPU per request of `kind` against `base`: the median over rounds that ran one after the other, which
    /// stays put when the whole machine gets slower for a while.
    pub fn ratio(&self, kind: Kind, base: Kind) -> Option<f64> {
        let pairs = self.find(kind)?.rounds.iter().zip(&self.find(base)?.rounds);
        Some(median(pairs.map(|(ours, theirs)| ours.total() / theirs.total()).collect()))
    }

    /// The same for the best round of each: disturbance only ever adds, so on a busy machine this is nearer the
    /// truth, if there were enough rounds for both to be left alone once.
    pub fn best_ratio(&self, kind: Kind, base: Kind) -> Option<f64> {
        Some(self.find(kind)?.spread().0 / self.find(base)?.spread().0)
    }
}

const COLUMNS: [&str; 16] = [
    "proxy",
    "CPU µs/req",
    "min–max",
    "user",
    "system",
    "/ Pingora",
    "/ nginx",
    "/ HAProxy",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "peak req/s",
    "calls/req",
    "RSS MB",
    "requests",
    "errors",
];

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 16]> = self.measured.iter().map(|measured| self.row(measured)).collect();
        let (title, rate) = (self.workload.title(), self.rate);
        let table = table::markdown(COLUMNS, &rows, 1);
        write!(f, "\n### {title}\n\nLatencies at {rate} requests per second.\n\n{table}")
    }
}

impl Table {
    fn row(&self, measured: &Measured) -> [String; 16] {
        let kind = measured.kind;
        let ratio = |base: Kind| match self.ratio(kind, base) {
            Some(ratio) if base != kind => format!("{ratio:.2}"),
            _ => "–".to_owned(),
        };
        let peer = |who| Kind { who, ..kind };
        let (low, high) = measured.spread();
        let failed: u64 = measured.passes.iter().map(|pass| pass.errors).sum();
        [
            kind.name(),
            format!("{:.2}", measured.total()),
            format!("{low:.2}–{high:.2}"),
            format!("{:.2}", measured.median(Round::user)),
            format!("{:.2}", measured.median(Round::system)),
            ratio(peer(Who::MinimalPingora).wearing(Dress::Bare)),
            ratio(peer(Who::Nginx)),
            ratio(peer(Who::Haproxy)),
            measured.latency(|pass| pass.p50),
            measured.latency(|pass| pass.p99),
            measured.latency(|pass| pass.p999),
            format!("{:.0}", measured.peak()),
            measured.syscalls.map_or_else(|| "–".to_owned(), |calls| format!("{calls:.1}")),
            format!("{:.1}", measured.resident as f64 / 1024.0 / 1024.0),
            measured.sum(|outcome| outcome.requests).to_string(),
            (measured.sum(|outcome| outcome.errors) + failed).to_string(),
        ]
    }
}

/// Everything one run found out.
pub struct Report {
    head: String,
    tables: Vec<Table>,
}

impl Report {
    pub fn new(options: &Options, kinds: &[Kind], cores: &(Cores, Cores)) -> Report {
        let (proxy, load) = cores;
        let together = if proxy == load { " (ONE core for all: the figures are worth little)" } else { "" };
        let head = format!(
            "# CPU per request, {date}\n\n{processor}, {count} cores, Linux {kernel}. Proxy on core {proxy} with \
             one worker, origin and load on {load}{together}. {rounds} rounds of {seconds} s at the full rate, proxies \
             in turn; medians. Then {passes} of 1 s by the clock for the latencies.\n{versions}",
            date = machine::today(),
            processor = machine::processor(),
            count = Cores::allowed().map(|cores| cores.count()).unwrap_or(0),
            kernel = machine::kernel(),
            rounds = options.rounds(),
            seconds = options.seconds(),
            passes = options.passes(),
            versions = versions(kinds),
        );
        Report { head, tables: Vec::new() }
    }

    pub fn head(&self) -> &str {
        &self.head
    }

    pub fn add(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// What we aim at and where we are; printed, never asserted.
    pub fn targets(&self) -> String {
        targets::text(&self.tables)
    }

    /// The tables, and the picture of all of them when all were measured; the files that were written.
    pub fn save(&self, options: &Options) -> Result<Vec<PathBuf>> {
        let name = format!("{}x {}", Cores::allowed()?.count(), machine::processor());
        let name = machine::slug(options.machine.as_deref().unwrap_or(&name));
        let path = results_dir().join(format!("{}-{name}.md", machine::today()));
        let tables: String = self.tables.iter().map(Table::to_string).collect();
        let mut written = vec![save(path, &format!("{}{tables}{}", self.head, self.targets()))?];
        if options.is_whole() {
            let path = repository().join("docs/images/compare.svg");
            written.push(save(path, &chart::svg(&self.tables))?);
        }
        Ok(written)
    }
}

/// Of the other programs and the load generators, a line each.
fn versions(kinds: &[Kind]) -> String {
    let has = |who: Who| kinds.iter().any(|kind| kind.who == who);
    let of = |who: Who| match who {
        Who::MinimalPingora | Who::Weirgate => None,
        Who::Nginx | Who::Haproxy => version(who.name()),
        Who::Envoy => Some(format!("Envoy {}", others::version(&others::envoy().ok()?, "--version")?)),
        Who::Caddy => Some(format!("Caddy {}", others::version(&others::caddy().ok()?, "version")?)),
    };
    let proxies = [Who::Nginx, Who::Haproxy, Who::Envoy, Who::Caddy].into_iter().filter(|who| has(*who));
    let lines = proxies.filter_map(of).chain(["wrk", "h2load"].into_iter().filter_map(version));
    lines.map(|line| format!("- {line}\n")).collect()
}
