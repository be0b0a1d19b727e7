//! The load generators: wrk for HTTP/1.1, h2load for HTTP/2, our own for handshakes. Called by `run`.
//!
//! wrk runs by the clock; the other two send a fixed number of requests, `per_second` for each second asked
//! for. CPU per request is divided out, so both are fixed loads for what is measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::common::machine::Cores;
use crate::common::process;
use crate::origin::LARGE_BODY;
use crate::proxies::Site;

#[derive(Clone, Copy, Debug)]
pub enum Load {
    Wrk { tls: bool, path: &'static str, connections: u32 },
    H2load { connections: u32, streams: u32, per_second: u32 },
    Handshakes { concurrency: u32, per_second: u32 },
}

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers received whole, with a status below 400.
    pub requests: u64,
    pub errors: u64,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
}

/// A generator may outlive its time by this before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

impl Load {
    /// The program that must be installed, if any.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Load::Wrk { .. } => Some("wrk"),
            Load::H2load { .. } => Some("h2load"),
            Load::Handshakes { .. } => None,
        }
    }

    pub fn run(self, site: &Site, seconds: u32, cores: &Cores, dir: &Path) -> Result<Outcome> {
        let limit = Duration::from_secs(u64::from(seconds)) + PATIENCE;
        match self {
            Load::Wrk { tls, path, connections } => {
                let (scheme, target) = if tls { ("https", site.secure) } else { ("http", site.plain) };
                let mut wrk = Command::new(process::find("wrk")?);
                wrk.args(["--latency", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s")]);
                wrk.arg(format!("{scheme}://{target}{path}"));
                let text = process::output(wrk, cores, limit, dir)?;
                read_wrk(&text, path).with_context(|| format!("wrk printed:\n{text}"))
            }
            Load::H2load { connections, streams, per_second } => {
                let log = dir.join("h2load.log");
                fs::remove_file(&log).ok(); // h2load appends
                let mut h2load = Command::new(process::find("h2load")?);
                h2load.args(["-t1", &format!("-c{connections}"), &format!("-m{streams}")]);
                h2load.arg(format!("-n{}", per_second * seconds)).arg("--log-file").arg(&log);
                h2load.arg(format!("https://{}/", site.secure));
                let text = process::output(h2load, cores, limit, dir)?;
                read_h2load(&text, &fs::read_to_string(&log)?)
                    .with_context(|| format!("h2load printed:\n{text}"))
            }
            Load::Handshakes { concurrency, per_second } => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg("handshakes").args(["--target", &site.secure.to_string()]);
                own.arg("--cert").arg(&site.cert);
                own.args(["--count", &(per_second * seconds).to_string()]);
                own.args(["--concurrency", &concurrency.to_string()]);
                let text = process::output(own, cores, PATIENCE * 3, dir)?;
                read_handshakes(&text)
            }
        }
    }
}

fn read_wrk(text: &str, path: &str) -> Result<Outcome> {
    let percentile = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).context("no latency")?;
        read_duration(line.trim())
    };
    let total = text.lines().find(|line| line.contains(" requests in ")).context("no total")?;
    let [requests, _, _, elapsed, read, ..] = total.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("unknown total");
    };
    let requests: u64 = requests.parse()?;
    let mut errors = 0;
    if let Some(statuses) =
        text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses:"))
    {
        errors += statuses.trim().parse::<u64>()?;
    }
    if let Some(kinds) = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")) {
        let counts = kinds.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok());
        errors += counts.sum::<u64>();
    }
    // Answers that were cut short would look fast.
    if path == "/100k" && read_bytes(read)? < requests as f64 * LARGE_BODY as f64 * 0.99 {
        bail!("bodies are missing");
    }
    Ok(Outcome {
        requests: requests.saturating_sub(errors),
        errors,
        elapsed: read_duration(elapsed.trim_end_matches(','))?,
        p50: percentile("50%")?,
        p99: percentile("99%")?,
    })
}

fn read_h2load(text: &str, log: &str) -> Result<Outcome> {
    if !text.contains("Application protocol: h2\n") {
        bail!("the proxy did not agree to h2");
    }
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).context("no totals");
    let count = |label: &str| -> Result<u64> {
        let counts = line("requests: ")?;
        let part = counts.split(", ").find_map(|part| part.strip_suffix(label)).context("no count")?;
        Ok(part.trim().parse()?)
    };
    let elapsed = line("finished in ")?.split(',').next().unwrap_or_default();
    // start in microseconds since the epoch, status, duration in microseconds
    let times = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok());
    let (p50, p99) = percentiles(times.map(Duration::from_micros).collect())?;
    let done = count(" total")?;
    let good = count(" succeeded")?;
    Ok(Outcome { requests: good, errors: done - good, elapsed: read_duration(elapsed)?, p50, p99 })
}

fn read_handshakes(text: &str) -> Result<Outcome> {
    let numbers = |name: &'static str| {
        let lines = text.lines().filter_map(move |line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        lines.collect::<Vec<_>>()
    };
    let one = |name| numbers(name).first().copied().with_context(|| format!("handshakes: no {name}"));
    let (p50, p99) = percentiles(numbers("took ").into_iter().map(Duration::from_micros).collect())?;
    let elapsed = Duration::from_micros(one("microseconds ")?);
    Ok(Outcome { requests: one("requests ")?, errors: one("errors ")?, elapsed, p50, p99 })
}

fn percentiles(mut times: Vec<Duration>) -> Result<(Duration, Duration)> {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied();
    Ok((at(50).context("no request was answered")?, at(99).context("no request was answered")?))
}

/// `1.23ms`, `456.00us`, `4.01s`, `1.00m`.
fn read_duration(text: &str) -> Result<Duration> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).context("duration without unit")?;
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => bail!("unknown unit in {text}"),
    };
    Ok(Duration::from_secs_f64(number.parse::<f64>()? * scale))
}

/// `15.23MB`, in units of 1024.
fn read_bytes(text: &str) -> Result<f64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic()).context("size without unit")?;
    let (number, unit) = text.split_at(unit_at);
    let scale: f64 = match unit {
        "B" => 1.0,
        "KB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        _ => bail!("unknown unit in {text}"),
    };
    Ok(number.parse::<f64>()? * scale)
}
