//! The load generators at full rate, all of them by the clock: wrk for HTTP/1.1, h2load for HTTP/2, our own for
//! handshakes. Called by `run`, `syscalls` and `soak`. [`paced`] is the load at a fixed rate, which tells latencies.

mod h2;
mod h2load;
pub mod handshakes;
pub mod paced;
mod wrk;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::common::machine::Cores;
use crate::proxies::Site;

/// What is spoken, and how long a connection lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    H1,
    TlsH1,
    TlsH2,
    H2c,
    /// A connection for each request, with all of the sums.
    Handshake,
    /// A connection for each request, with the session of one before.
    Resumption,
}

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub protocol: Protocol,
    pub path: &'static str,
    /// Bytes that the body of an answer must have at least.
    pub answer: usize,
    /// Bytes of a body that goes with a request; without any it is a GET, otherwise a POST.
    pub upload: usize,
    pub connections: u32,
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers received whole, with a status below 400.
    pub requests: u64,
    pub errors: u64,
    pub elapsed: Duration,
}

/// A generator may outlive its time by this before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

impl Load {
    /// The program that must be installed, if any.
    pub fn program(self) -> Option<&'static str> {
        match self.protocol {
            Protocol::H1 | Protocol::TlsH1 => Some("wrk"),
            Protocol::TlsH2 | Protocol::H2c => Some("h2load"),
            Protocol::Handshake | Protocol::Resumption => None,
        }
    }

    /// For so many seconds. Files are made in `dir`.
    pub fn run(self, site: &Site, seconds: u32, cores: &Cores, dir: &Path) -> Result<Outcome> {
        let limit = Duration::from_secs(u64::from(seconds)) + PATIENCE;
        let run = |command| crate::common::process::output(command, cores, limit, dir);
        match self.protocol {
            Protocol::H1 | Protocol::TlsH1 => {
                let text = run(wrk::command(self, site, seconds, dir)?)?;
                wrk::read(self, &text).with_context(|| format!("wrk printed:\n{text}"))
            }
            Protocol::TlsH2 | Protocol::H2c => {
                let text = run(h2load::command(self, site, seconds)?)?;
                h2load::read(self, &text).with_context(|| format!("h2load printed:\n{text}"))
            }
            Protocol::Handshake | Protocol::Resumption => {
                handshakes::read(&run(handshakes::command(self, site, seconds)?)?)
            }
        }
    }
}

/// `1.23ms`, `456.00us`, `4.01s`, `1.00m`.
fn read_duration(text: &str) -> Result<Duration> {
    let (number, unit) = split_unit(text)?;
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => bail!("unknown unit in {text}"),
    };
    Ok(Duration::from_secs_f64(number * scale))
}

/// `15.23MB`, in units of 1024.
fn read_bytes(text: &str) -> Result<f64> {
    let (number, unit) = split_unit(text)?;
    let scale: f64 = match unit {
        "B" => 1.0,
        "KB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        _ => bail!("unknown unit in {text}"),
    };
    Ok(number * scale)
}

fn split_unit(text: &str) -> Result<(f64, &str)> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).context("number without unit")?;
    let (number, unit) = text.split_at(unit_at);
    Ok((number.parse()?, unit))
}
