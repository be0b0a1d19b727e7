//! What was measured, as tables. Called by the conductor.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use super::load::Load;
use super::proxies::Kind;
use super::{Round, programs};
use crate::common::machine::{self, Cores};
use crate::common::{results_dir, table};

/// Against the better of the two others, at the most.
const ROUND_TRIP_TARGET: f64 = 1.1;
/// Kilobytes for a connection that waits, at the most.
const IDLE_TARGET: f64 = 4.0;

pub fn head(rounds: u32, seconds: u32, (proxy, load): &(Cores, Cores)) -> String {
    let mut head = format!(
        "# Connections that are passed on whole, {}\n\n{}, Linux {}. Proxy on core {proxy} with one worker, server and load \
         on {load}. {rounds} rounds of {seconds} s, proxies in turn; medians of processor time.\n",
        machine::today(),
        machine::processor(),
        machine::kernel(),
    );
    for program in ["nginx", "haproxy"] {
        head.push_str(&programs::version(program).map(|line| format!("- {line}\n")).unwrap_or_default());
    }
    head
}

/// All proxies under one load.
pub struct Table {
    pub load: Load,
    pub rounds: Vec<(Kind, Vec<Round>)>,
}

impl Table {
    fn title(&self) -> (&'static str, &'static str) {
        match self.load {
            Load::RoundTrips => ("Small round trips on 32 connections", "µs each"),
            Load::Bulk => ("Bulk transfer on 4 connections", "ms per GB"),
            Load::Connections => ("Connect, one small answer, close", "µs each"),
            Load::Passthrough => ("The same by the name in a ClientHello", "µs each"),
        }
    }

    /// In the unit of the title, of so much processor time in seconds.
    fn each(&self, seconds: f64, round: &Round) -> f64 {
        let scale = match self.load {
            Load::Bulk => 1e3 * f64::from(1 << 30),
            Load::RoundTrips | Load::Connections | Load::Passthrough => 1e6,
        };
        seconds * scale / round.outcome.done as f64
    }

    fn total(&self, round: &Round) -> f64 {
        self.each((round.cpu.user + round.cpu.system).as_secs_f64(), round)
    }

    fn median(&self, kind: Kind) -> Option<f64> {
        let (_, rounds) = self.rounds.iter().find(|(known, _)| *known == kind)?;
        Some(table::median(rounds.iter().map(|round| self.total(round)).collect()))
    }

    fn row(&self, kind: Kind, rounds: &[Round]) -> [String; 9] {
        let median = |of: &dyn Fn(&Round) -> f64| table::median(rounds.iter().map(of).collect());
        let totals = || rounds.iter().map(|round| self.total(round));
        let (low, high) = (totals().fold(f64::MAX, f64::min), totals().fold(0.0, f64::max));
        let total = median(&|round| self.total(round));
        let against = |other: Kind| match self.median(other) {
            Some(other) => format!("{:.2}", total / other),
            None => String::new(),
        };
        let per_second = median(&|round| round.outcome.done as f64 / round.outcome.elapsed.as_secs_f64());
        [
            kind.name().to_owned(),
            format!("{total:.2}"),
            format!("{low:.2}–{high:.2}"),
            format!("{:.2}", median(&|round| self.each(round.cpu.user.as_secs_f64(), round))),
            format!("{:.2}", median(&|round| self.each(round.cpu.system.as_secs_f64(), round))),
            against(Kind::Nginx),
            against(Kind::HaproxySplice),
            match self.load {
                Load::Bulk => format!("{:.2} GB", per_second / f64::from(1 << 30)),
                Load::RoundTrips | Load::Connections | Load::Passthrough => format!("{per_second:.0}"),
            },
            rounds.iter().map(|round| round.outcome.errors).sum::<u64>().to_string(),
        ]
    }

    /// What we aim at and where we are; printed, never asserted.
    fn target(&self) -> Option<String> {
        let own = self.median(Kind::Weirgate)?;
        let (best, most, words) = match self.load {
            Load::RoundTrips => {
                let others = [Kind::Nginx, Kind::Haproxy, Kind::HaproxySplice];
                let best = others.into_iter().filter_map(|kind| self.median(kind)).reduce(f64::min)?;
                (best, ROUND_TRIP_TARGET, "the better of the two")
            }
            Load::Bulk => (self.median(Kind::HaproxySplice)?, 1.0, "HAProxy's with splice"),
            Load::Connections | Load::Passthrough => return None,
        };
        let verdict = if own <= most * best { "met" } else { "MISSED" };
        Some(format!("\nTarget, at most {most:.1} of {words}: {:.2}, {verdict}\n", own / best))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, unit) = self.title();
        let columns =
            ["proxy", unit, "range", "user", "system", "/ nginx", "/ haproxy-splice", "a second", "errors"];
        let rows: Vec<_> = self.rounds.iter().map(|(kind, rounds)| self.row(*kind, rounds)).collect();
        write!(f, "\n## {title}\n\n{}", table::markdown(columns, &rows, 1))?;
        f.write_str(&self.target().unwrap_or_default())
    }
}

/// The memory of connections that wait, in kilobytes for each.
pub fn idle(count: u32, figures: &[(Kind, f64)]) -> String {
    let row = |(kind, kilobytes): &(Kind, f64)| [kind.name().to_owned(), format!("{kilobytes:.2}")];
    let rows: Vec<_> = figures.iter().map(row).collect();
    let own = figures.iter().find(|(kind, _)| *kind == Kind::Weirgate);
    let target = own.map(|(_, kilobytes)| {
        let verdict = if *kilobytes < IDLE_TARGET { "met" } else { "MISSED" };
        format!("\nTarget, under {IDLE_TARGET:.0} KB: {kilobytes:.2}, {verdict}\n")
    });
    format!(
        "\n## Resident memory of a connection that waits, of {count}\n\n{}{}",
        table::markdown(["proxy", "KB each"], &rows, 1),
        target.unwrap_or_default()
    )
}

pub fn save(text: &str) -> Result<PathBuf> {
    programs::save(results_dir().join(format!("flows-{}.md", machine::today())), text)
}
