//! The load: requests that come by the clock, whatever becomes of those before, or clients that each ask again
//! some time after they were answered. Called by `run`. `common/clock.rs` says why there is the first.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::common::client::{connect, get, together};
use crate::common::clock::{self, Moments, exponential};
use crate::common::machine::Cores;

/// Connections of the load by the clock: several times what is in flight under the worst of the algorithms.
pub const CONNECTIONS: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many requests per second, at random moments (a Poisson process).
    Clock { rate: u32 },
    /// So many clients, each with one request at a time, and a pause of random length after each answer, so
    /// long on the average.
    Clients { clients: u32, pause: Duration },
}

impl Load {
    pub fn title(self) -> String {
        match self {
            Load::Clock { rate } => {
                format!("{rate} requests per second at random moments, over up to {CONNECTIONS} connections")
            }
            Load::Clients { clients, pause } if pause.is_zero() => {
                format!("{clients} clients without a pause between requests: as many as can be answered")
            }
            Load::Clients { clients, pause } => {
                format!("{clients} clients with a pause of {pause:?} on the average after each answer")
            }
        }
    }

    fn connections(self) -> u32 {
        match self {
            Load::Clock { .. } => CONNECTIONS,
            Load::Clients { clients, .. } => clients,
        }
    }
}

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub took: Duration,
    /// The number of the server that answered.
    pub server: u8,
}

/// What the clients saw in one round.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By the time they took, ascending.
    pub answers: Vec<Answered>,
    /// Requests that were not answered, and those that were never sent because the time was over.
    pub errors: u64,
}

impl Outcome {
    /// The time that `part` of the answers did not exceed, in milliseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let answer = clock::quantile(&self.answers, part);
        answer.map_or(f64::NAN, |answer| answer.took.as_secs_f64() * 1e3)
    }

    /// The part of the answers that came from this server.
    pub fn share(&self, server: u8) -> f64 {
        let its = self.answers.iter().filter(|answer| answer.server == server).count();
        its as f64 / self.answers.len() as f64
    }
}

/// When requests are due.
enum Pace {
    /// At these moments after the start.
    Clock(Moments),
    /// After a pause, for so long.
    Clients { length: Duration, pause: Duration },
}

impl Pace {
    /// `seed` makes the same moments for all contenders of a round.
    fn new(load: Load, length: Duration, seed: u64) -> Pace {
        match load {
            Load::Clock { rate } => Pace::Clock(Moments::random(rate, length, seed)),
            Load::Clients { pause, .. } => Pace::Clients { length, pause },
        }
    }

    /// Waits until the next request is due: the moment from which it counts. `None` when there is no more.
    fn next(&self, started: Instant, random: &mut fastrand::Rng) -> Option<Instant> {
        match self {
            Pace::Clock(moments) => moments.next(started),
            Pace::Clients { length, pause } => {
                if !pause.is_zero() {
                    std::thread::sleep(pause.mul_f64(exponential(random)));
                }
                let now = Instant::now();
                (now < started + *length).then_some(now)
            }
        }
    }

    /// How many requests there are to be, if that is known.
    fn planned(&self) -> Option<usize> {
        match self {
            Pace::Clock(moments) => Some(moments.count()),
            Pace::Clients { .. } => None,
        }
    }
}

/// Loads `target` from threads of this process. `seconds` bounds the time in which requests are due.
pub fn run(load: Load, target: SocketAddr, seconds: u32, seed: u64, cores: &Cores) -> Result<Outcome> {
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut client = || Ok(Client { stream: connect(target)?, target, random: seeds.fork() });
    let clients = (0..load.connections()).map(|_| client()).collect::<Result<Vec<_>>>()?;
    let pace = Pace::new(load, Duration::from_secs(u64::from(seconds)), seed);
    let started = Instant::now();
    let mut outcome = Outcome::default();
    for (answers, errors) in together(clients, cores, |client| client.run(&pace, started)) {
        outcome.answers.extend(answers);
        outcome.errors += errors;
    }
    if let Some(planned) = pace.planned() {
        outcome.errors = planned.saturating_sub(outcome.answers.len()) as u64;
    }
    if outcome.answers.is_empty() {
        bail!("no request was answered");
    }
    outcome.answers.sort_unstable_by_key(|answer| answer.took);
    Ok(outcome)
}

/// One connection and who uses it.
struct Client {
    stream: TcpStream,
    target: SocketAddr,
    random: fastrand::Rng,
}

impl Client {
    /// What was answered until nothing more is due, and how many requests were not.
    fn run(mut self, pace: &Pace, started: Instant) -> (Vec<Answered>, u64) {
        let (mut answers, mut errors) = (Vec::new(), 0);
        while let Some(due) = pace.next(started, &mut self.random) {
            match get(&mut self.stream, "/").and_then(|answer| number(&answer)) {
                Ok(server) => answers.push(Answered { took: due.elapsed(), server }),
                Err(error) => {
                    eprintln!("request: {error:#}");
                    errors += 1;
                    let Ok(another) = connect(self.target) else { break };
                    self.stream = another;
                }
            }
        }
        (answers, errors)
    }
}

/// The last byte of an answer is the digit of its server.
fn number(answer: &[u8]) -> Result<u8> {
    let digit = answer.last().copied().unwrap_or_default();
    if !digit.is_ascii_digit() {
        bail!("an answer that is not from a server of ours");
    }
    Ok(digit - b'0')
}
