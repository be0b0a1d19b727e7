//! The tables: medians over the reloads. Called by `run`. Written as Markdown, so that what is printed is what is saved.

use std::fmt::Write as _;
use std::time::Duration;

use crate::args::Options;
use crate::common::machine::{self, Cores};
use crate::common::many::Size;
use crate::common::programs::{Program, version};
use crate::common::table::{self, median};

/// One reload: times in milliseconds, but the first.
pub struct Reload {
    pub took: Duration,
    pub before: f64,
    pub during: f64,
    pub failed: usize,
}

/// All reloads of one program with one size.
pub struct Measured {
    pub program: Program,
    pub reloads: Vec<Reload>,
    /// In bytes, at first and at the end.
    pub memory: (u64, u64),
}

impl Measured {
    fn median(&self, value: impl Fn(&Reload) -> f64) -> f64 {
        median(self.reloads.iter().map(value).collect())
    }

    /// Milliseconds.
    fn took(&self) -> f64 {
        self.median(|reload| reload.took.as_secs_f64() * 1e3)
    }

    fn ratio(&self) -> f64 {
        self.median(|reload| reload.during / reload.before)
    }

    fn memory(&self) -> (f64, f64) {
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        (megabytes(self.memory.0), megabytes(self.memory.1))
    }

    fn row(&self) -> [String; 9] {
        let took = || self.reloads.iter().map(|reload| reload.took.as_secs_f64() * 1e3);
        let (least, most) = (took().fold(f64::INFINITY, f64::min), took().fold(0.0, f64::max));
        let (first, last) = self.memory();
        let failed: usize = self.reloads.iter().map(|reload| reload.failed).sum();
        [
            self.program.name().to_owned(),
            format!("{:.1}", self.took()),
            format!("{least:.1}–{most:.1}"),
            format!("{:.2}", self.median(|reload| reload.before)),
            format!("{:.2}", self.median(|reload| reload.during)),
            format!("{:.2}", self.ratio()),
            format!("{first:.1}"),
            format!("{last:.1}"),
            failed.to_string(),
        ]
    }
}

const COLUMNS: [&str; 9] = [
    "program",
    "reload ms",
    "min–max",
    "p99 before ms",
    "p99 during ms",
    "ratio",
    "RSS at first MB",
    "RSS at the end MB",
    "failed",
];

/// What is meant to be at 10,000 routes: milliseconds, times as long, megabytes.
const TARGETS: (usize, f64, f64, f64) = (10_000, 50.0, 1.5, 60.0);

/// Everything one run found out.
pub struct Report {
    head: String,
    tables: Vec<(Size, Vec<Measured>, String)>,
}

impl Report {
    pub fn new(options: &Options, cores: &(Cores, Cores)) -> Report {
        let (proxy, load) = cores;
        let build = if cfg!(debug_assertions) { "a development" } else { "a release" };
        let mut head = format!(
            "# Reloads with many routes, {date}\n\n{processor}, {count} cores, Linux {kernel}; {build} build. Proxy on \
             core {proxy} with one worker, server and load on {load}: {rate} requests per second by the clock. Medians \
             of {runs} reloads.\n\n",
            date = machine::today(),
            processor = machine::processor(),
            count = Cores::allowed().map(|cores| cores.count()).unwrap_or(0),
            kernel = machine::kernel(),
            rate = options.rate,
            runs = options.runs,
        );
        for program in options.programs().filter(|program| *program != Program::Weirgate) {
            head.push_str(&version(program.name()).map(|line| format!("- {line}\n")).unwrap_or_default());
        }
        Report { head, tables: Vec::new() }
    }

    pub fn head(&self) -> &str {
        &self.head
    }

    /// The table of one size.
    pub fn add(&mut self, size: Size, measured: Vec<Measured>) -> &str {
        let rows: Vec<_> = measured.iter().map(Measured::row).collect();
        let table = format!(
            "\n### {} routes, {} groups\n\n{}",
            size.routes,
            size.upstreams,
            table::markdown(COLUMNS, &rows, 1)
        );
        self.tables.push((size, measured, table));
        self.tables.last().map(|(.., table)| table.as_str()).unwrap_or_default()
    }

    /// Printed, never asserted.
    pub fn verdict(&self) -> String {
        let (routes, milliseconds, times, megabytes) = TARGETS;
        let ours = self.tables.iter().filter(|(size, ..)| size.routes == routes);
        let ours = ours.flat_map(|(_, measured, _)| measured).find(|one| one.program == Program::Weirgate);
        let Some(ours) = ours else { return String::new() };
        let mut lines = format!("\nTargets at {routes} routes:\n\n");
        for (what, is, target, unit) in [
            ("reload", ours.took(), milliseconds, " ms"),
            ("p99 during the reload, to that before", ours.ratio(), times, " times"),
            ("memory", ours.memory().1, megabytes, " MB"),
        ] {
            let verdict = if is <= target { "met" } else { "MISSED" };
            // writing to a String cannot fail
            let _ = writeln!(lines, "- {what}: {is:.2}{unit}, target {target}{unit}: {verdict}");
        }
        lines
    }

    pub fn text(&self) -> String {
        let tables: String = self.tables.iter().map(|(.., table)| table.as_str()).collect();
        format!("{}{tables}{}", self.head, self.verdict())
    }
}
