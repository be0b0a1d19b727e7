//! The tables: medians over the rounds, their spread, and ratios of rounds that ran side by side.
//! Called by `run`. Written as Markdown, so that what is printed is what is saved.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::args::Options;
use crate::common::machine::{self, Cores};
use crate::common::programs::{Program, save, version};
use crate::common::results_dir;
use crate::common::table::{self, median};
use crate::load::Outcome;
use crate::proxies::Kind;
use crate::run::Round;
use crate::workloads::Workload;

/// All rounds of one proxy under one workload.
pub struct Measured {
    pub kind: Kind,
    pub rounds: Vec<Round>,
    pub resident: u64,
}

impl Measured {
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    fn spread(&self) -> (f64, f64) {
        let totals = self.rounds.iter().map(Round::total);
        totals.fold((f64::INFINITY, 0.0), |(low, high), total| (total.min(low), total.max(high)))
    }

    fn sum(&self, value: impl Fn(&Outcome) -> u64) -> u64 {
        self.rounds.iter().map(|round| value(&round.outcome)).sum()
    }
}

/// One workload's results.
pub struct Table {
    pub workload: Workload,
    pub measured: Vec<Measured>,
}

impl Table {
    /// CPU per request of `kind` against `base`: the median over rounds that ran one after the other, which
    /// stays put when the whole machine gets slower for a while.
    fn ratio(&self, kind: Kind, base: Kind) -> Option<f64> {
        let find = |kind| self.measured.iter().find(|measured| measured.kind == kind);
        let pairs = find(kind)?.rounds.iter().zip(&find(base)?.rounds);
        Some(median(pairs.map(|(ours, theirs)| ours.total() / theirs.total()).collect()))
    }

    /// The same for the best round of each: disturbance only ever adds, so on a busy machine this is nearer the
    /// truth, if there were enough rounds for both to be left alone once.
    fn best_ratio(&self, kind: Kind, base: Kind) -> Option<f64> {
        let best = |kind| Some(self.measured.iter().find(|measured| measured.kind == kind)?.spread().0);
        Some(best(kind)? / best(base)?)
    }
}

const COLUMNS: [&str; 14] = [
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
    "req/s",
    "RSS MB",
    "requests",
    "errors",
];

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 14]> = self.measured.iter().map(|measured| self.row(measured)).collect();
        write!(f, "\n### {}\n\n{}", self.workload.title(), table::markdown(COLUMNS, &rows, 1))
    }
}

impl Table {
    fn row(&self, measured: &Measured) -> [String; 14] {
        let kind = measured.kind;
        let ratio = |base: Kind| match self.ratio(kind, base) {
            Some(ratio) if base != kind => format!("{ratio:.2}"),
            _ => "–".to_owned(),
        };
        let (nginx, haproxy) = kind.peers();
        let (low, high) = measured.spread();
        let ms = |time: fn(&Outcome) -> Duration| {
            format!("{:.2}", measured.median(|round| time(&round.outcome).as_secs_f64() * 1e3))
        };
        [
            kind.name(),
            format!("{:.2}", measured.median(Round::total)),
            format!("{low:.2}–{high:.2}"),
            format!("{:.2}", measured.median(Round::user)),
            format!("{:.2}", measured.median(Round::system)),
            ratio(Kind::MinimalPingora),
            ratio(nginx),
            ratio(haproxy),
            ms(|outcome| outcome.p50),
            ms(|outcome| outcome.p99),
            format!("{:.0}", measured.median(Round::per_second)),
            format!("{:.1}", measured.resident as f64 / 1024.0 / 1024.0),
            measured.sum(|outcome| outcome.requests).to_string(),
            measured.sum(|outcome| outcome.errors).to_string(),
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
        let mut head = format!(
            "# CPU per request, {date}\n\n{processor}, {count} cores, Linux {kernel}. Proxy on core {proxy} with \
             one worker, origin and load on {load}{together}. {rounds} rounds of {seconds} s, proxies in turn; \
             medians.\n",
            date = machine::today(),
            processor = machine::processor(),
            count = Cores::allowed().map(|cores| cores.count()).unwrap_or(0),
            kernel = machine::kernel(),
            rounds = options.rounds(),
            seconds = options.seconds(),
        );
        let programs =
            kinds.iter().filter_map(|kind| kind.program()).filter(|program| *program != Program::Weirgate);
        let programs = programs.map(Program::name).chain(["wrk", "h2load"]);
        let mut seen = Vec::new();
        for program in programs {
            if !seen.contains(&program) {
                seen.push(program);
                head.push_str(&version(program).map(|line| format!("- {line}\n")).unwrap_or_default());
            }
        }
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
        let mut lines = String::new();
        for table in &self.tables {
            for kind in table.measured.iter().map(|measured| measured.kind) {
                let base = Kind::MinimalPingora;
                let (Some(target), Some(ratio), Some(best)) =
                    (kind.target(), table.ratio(kind, base), table.best_ratio(kind, base))
                else {
                    continue;
                };
                let verdict = if ratio <= target { "met" } else { "MISSED" };
                lines.push_str(&format!(
                    "- {}, {}: {ratio:.3}x minimal Pingora (best rounds {best:.3}x), target {target:.2}x: \
                     {verdict}\n",
                    table.workload.name(),
                    kind.name(),
                ));
            }
        }
        if lines.is_empty() { lines } else { format!("\n### Targets\n\n{lines}") }
    }

    pub fn save(&self, options: &Options) -> Result<PathBuf> {
        let name = format!("{}x {}", Cores::allowed()?.count(), machine::processor());
        let name = machine::slug(options.machine.as_deref().unwrap_or(&name));
        let path = results_dir().join(format!("{}-{name}.md", machine::today()));
        let tables: String = self.tables.iter().map(Table::to_string).collect();
        save(path, &format!("{}{tables}{}", self.head, self.targets()))
    }
}
