//! The table. Written as Markdown, so that what is printed is what is saved. Called by the conductor beside this.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::time::Duration;

use super::contenders::Contender;
use super::{GETTING, PAUSE, POSTING};
use crate::cast::{Asked, Ended, Trouble};
use crate::common::machine::{self, Cores};
use crate::common::programs::{Program, version};
use crate::common::table;

/// One program in one trouble.
pub struct Cell {
    trouble: Trouble,
    contender: Contender,
    get: Side,
    post: Side,
    /// POSTs that more than one server, or one server more than once, has received whole.
    twice: usize,
}

/// The requests of one method.
struct Side {
    /// Ascending.
    took: Vec<Duration>,
    failed: BTreeMap<Ended, usize>,
}

impl Side {
    fn new<'a>(asked: impl Iterator<Item = &'a Asked>) -> Side {
        let mut side = Side { took: Vec::new(), failed: BTreeMap::new() };
        for one in asked {
            side.took.push(one.took);
            if one.ended != Ended::Well {
                *side.failed.entry(one.ended.clone()).or_default() += 1;
            }
        }
        side.took.sort_unstable();
        side
    }

    /// The time that this part of the requests did not exceed, failed ones included, in milliseconds.
    fn quantile(&self, part: f64) -> String {
        let rank = (self.took.len() as f64 * part).ceil() as usize;
        let took = self.took.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        format!("{:.1}", took.as_secs_f64() * 1e3)
    }

    fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// `12`, or with what the clients saw `12 (502)`.
    fn told(&self) -> String {
        let kinds: Vec<String> = self.failed.keys().map(word).collect();
        match kinds.is_empty() {
            true => "0".to_owned(),
            false => format!("{} ({})", self.failures(), kinds.join(", ")),
        }
    }
}

fn word(ended: &Ended) -> String {
    match ended {
        Ended::Well => "well".to_owned(),
        Ended::Status(status) => status.to_string(),
        Ended::Wrong(_) => "wrong answer".to_owned(),
        Ended::Refused => "refused".to_owned(),
        Ended::Reset => "reset".to_owned(),
        Ended::Cut => "cut".to_owned(),
        Ended::TimedOut => "timed out".to_owned(),
        Ended::Otherwise(what) => what.clone(),
    }
}

impl Cell {
    /// `done`: method and id of each request that a server has received whole.
    pub fn new(
        trouble: Trouble,
        contender: Contender,
        asked: Vec<Asked>,
        done: Vec<(String, String)>,
    ) -> Cell {
        let mut times = BTreeMap::<String, usize>::new();
        for (_, id) in done.into_iter().filter(|(method, _)| method == "POST") {
            *times.entry(id).or_default() += 1;
        }
        Cell {
            trouble,
            contender,
            get: Side::new(asked.iter().filter(|one| one.method == "GET")),
            post: Side::new(asked.iter().filter(|one| one.method == "POST")),
            twice: times.values().filter(|times| **times > 1).count(),
        }
    }

    fn row(&self) -> [String; 9] {
        [
            self.trouble.name().to_owned(),
            self.contender.name().to_owned(),
            self.get.took.len().to_string(),
            self.get.told(),
            self.get.quantile(0.5),
            self.get.quantile(0.99),
            self.post.took.len().to_string(),
            self.post.told(),
            self.twice.to_string(),
        ]
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [trouble, contender, gets, failed, _, p99, posts, failed_posts, twice] = self.row();
        write!(
            f,
            "{trouble}, {contender}: {failed} of {gets} GET failed, p99 {p99} ms; {failed_posts} of {posts} POST failed, \
             {twice} carried out twice"
        )
    }
}

pub struct Report {
    head: String,
    cells: Vec<Cell>,
}

const COLUMNS: [&str; 9] = [
    "one of three servers",
    "program",
    "GETs",
    "failed",
    "p50 ms",
    "p99 ms",
    "POSTs",
    "failed",
    "carried out twice",
];

impl Report {
    pub fn new(seconds: u32, contenders: &[Contender], (proxy, rest): &(Cores, Cores)) -> Report {
        let mut head = format!(
            "# What clients notice when a server fails, {date}\n\n{processor}, {count} cores, Linux {kernel}. Three \
             servers in processes of their own, one of which gets into trouble: {seconds} s of load, of which the \
             middle three fifths are trouble. {GETTING} clients that GET and {POSTING} that POST 4 KB, each with a \
             pause of {PAUSE:?} after an answer. Proxy on core {proxy} with one worker, servers and clients on \
             {rest}.\n\n",
            date = machine::today(),
            processor = machine::processor(),
            count = Cores::allowed().map(|cores| cores.count()).unwrap_or(0),
            kernel = machine::kernel(),
        );
        for program in [Program::Nginx, Program::Haproxy] {
            if contenders.iter().any(|contender| contender.program() == program) {
                head.push_str(&version(program.name()).map(|line| format!("- {line}\n")).unwrap_or_default());
            }
        }
        Report { head, cells: Vec::new() }
    }

    pub fn add(&mut self, cell: Cell) {
        self.cells.push(cell);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<[String; 9]> = self.cells.iter().map(Cell::row).collect();
        writeln!(f, "{}\n{}", self.head, table::markdown(COLUMNS, &rows, 2))?;
        // what weirgate's are meant to be; printed, never asserted
        let ours = || self.cells.iter().filter(|cell| cell.contender == Contender::Weirgate);
        if ours().next().is_some() {
            let failed: usize = ours().map(|cell| cell.get.failures()).sum();
            let twice: usize = ours().map(|cell| cell.twice).sum();
            let verdict = |count| if count == 0 { "met" } else { "MISSED" };
            writeln!(f, "- failed GETs of weirgate: {failed}, target 0: {}", verdict(failed))?;
            writeln!(
                f,
                "- POSTs that weirgate had carried out twice: {twice}, target 0: {}",
                verdict(twice)
            )?;
        }
        Ok(())
    }
}
