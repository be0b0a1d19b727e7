//! The tables: medians over the rounds. Called by `run`. Written as Markdown, so that what is printed is what is
//! saved.

use std::fmt::{self, Display};

use crate::args::Options;
use crate::common::machine::{self, Cores};
use crate::common::programs::{Program, version};
use crate::common::table::{self, median};
use crate::contenders::{Contender, LEAST_TIME, Started};
use crate::load::{Load, Outcome};
use crate::run::SLOW;

/// All rounds of one contender under one load.
pub struct Measured {
    pub contender: Contender,
    rounds: Vec<Round>,
}

/// One round: times in milliseconds.
struct Round {
    quantiles: [f64; 4],
    slow_share: f64,
    requests: usize,
    errors: u64,
}

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

impl Measured {
    pub fn new(contender: Contender) -> Measured {
        Measured { contender, rounds: Vec::new() }
    }

    pub fn add(&mut self, outcome: &Outcome) {
        self.rounds.push(Round {
            quantiles: QUANTILES.map(|part| outcome.quantile(part)),
            slow_share: outcome.share(SLOW),
            requests: outcome.answers.len(),
            errors: outcome.errors,
        });
    }

    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(value).collect())
    }

    /// Milliseconds.
    pub fn p99(&self) -> f64 {
        self.median(|round| round.quantiles[2])
    }

    /// The part of the requests that the slow server got.
    pub fn slow_share(&self) -> f64 {
        self.median(|round| round.slow_share)
    }

    /// The least and the most of the rounds' p99.
    fn p99_spread(&self) -> (f64, f64) {
        let all = self.rounds.iter().map(|round| round.quantiles[2]);
        all.fold((f64::INFINITY, 0.0), |(low, high), p99| (p99.min(low), p99.max(high)))
    }

    fn row(&self) -> [String; 10] {
        let ms = |nth: usize| {
            format!("{:.2}", self.median(|round| round.quantiles.get(nth).copied().unwrap_or(f64::NAN)))
        };
        let (low, high) = self.p99_spread();
        let requests: usize = self.rounds.iter().map(|round| round.requests).sum();
        let errors: u64 = self.rounds.iter().map(|round| round.errors).sum();
        [
            self.contender.program.name().to_owned(),
            self.contender.algorithm.to_owned(),
            ms(0),
            ms(1),
            ms(2),
            format!("{low:.2}–{high:.2}"),
            ms(3),
            format!("{:.2}%", self.slow_share() * 100.0),
            requests.to_string(),
            errors.to_string(),
        ]
    }
}

/// One load's results.
pub struct Table {
    pub load: Load,
    pub measured: Vec<Measured>,
}

const COLUMNS: [&str; 10] = [
    "program",
    "algorithm",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "min–max",
    "p99.9 ms",
    "slow server",
    "requests",
    "errors",
];

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 10]> = self.measured.iter().map(Measured::row).collect();
        write!(f, "\n### {}\n\n{}", self.load.title(), table::markdown(COLUMNS, &rows, 2))
    }
}

impl Table {
    /// What `least_time` is meant to be; printed, never asserted.
    pub fn verdict(&self) -> String {
        let p99 = |program, wanted: &dyn Fn(&str) -> bool| {
            let its = self.measured.iter().filter(|one| one.contender.program == program);
            its.filter(|one| wanted(one.contender.algorithm)).map(Measured::p99).reduce(f64::min)
        };
        let Some(ours) = p99(LEAST_TIME.program, &|algorithm| algorithm == LEAST_TIME.algorithm) else {
            return String::new();
        };
        let mut lines = String::from("\n");
        for program in [Program::Nginx, Program::Haproxy] {
            let round_robin = p99(program, &|algorithm| algorithm.replace(' ', "") == "roundrobin");
            let best = p99(program, &|_| true);
            for (whose, theirs, target) in [("round robin", round_robin, 5.0), ("best", best, 1.0)] {
                let Some(theirs) = theirs else { continue };
                let ratio = theirs / ours;
                let verdict = if ratio > target { "met" } else { "MISSED" };
                lines.push_str(&format!(
                    "- the p99 of {}'s {whose} is {ratio:.1} times that of least_time, target {target:.0}: {verdict}\n",
                    program.name(),
                ));
            }
        }
        lines
    }
}

/// Everything one run found out.
pub struct Report {
    head: String,
    tables: Vec<Table>,
}

impl Report {
    pub fn new(options: &Options, started: &[Started], cores: &(Cores, Cores)) -> Report {
        let (proxy, load) = cores;
        let mut head = format!(
            "# Response times with one slow server, {date}\n\n{processor}, {count} cores, Linux {kernel}. Three \
             servers, of which two answer at once and one after {slow:?}. Proxy on core {proxy} with one worker, \
             servers and load on {load}. {rounds} rounds of {seconds} s, contenders in turn; medians of the \
             rounds, and the least and the most for p99.\n\n",
            date = machine::today(),
            processor = machine::processor(),
            count = Cores::allowed().map(|cores| cores.count()).unwrap_or(0),
            kernel = machine::kernel(),
            slow = options.slow(),
            rounds = options.rounds(),
            seconds = options.seconds,
        );
        for program in [Program::Nginx, Program::Haproxy] {
            if started.iter().any(|one| one.contender.program == program) {
                head.push_str(&version(program.name()).map(|line| format!("- {line}\n")).unwrap_or_default());
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

    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    pub fn text(&self) -> String {
        let tables = self.tables.iter().map(|table| format!("{table}{}", table.verdict()));
        format!("{}{}", self.head, tables.collect::<String>())
    }
}
