//! wrk: HTTP/1.1, with keep-alive. Called by [`Load::run`].

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Load, Outcome, Protocol, read_bytes, read_duration};
use crate::common::process;
use crate::proxies::Site;

pub fn command(load: Load, site: &Site, seconds: u32, dir: &Path) -> Result<Command> {
    let (scheme, target) = match load.protocol {
        Protocol::TlsH1 => ("https", site.secure),
        _ => ("http", site.plain),
    };
    let mut wrk = Command::new(process::find("wrk")?);
    wrk.args(["-t1", &format!("-c{}", load.connections), &format!("-d{seconds}s")]);
    if load.upload > 0 {
        let script = dir.join("upload.lua");
        let text = format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {})\n", load.upload);
        std::fs::write(&script, text)?;
        wrk.arg("-s").arg(script);
    }
    wrk.arg(format!("{scheme}://{target}{}", load.path));
    Ok(wrk)
}

pub fn read(load: Load, text: &str) -> Result<Outcome> {
    let total = text.lines().find(|line| line.contains(" requests in ")).context("no total")?;
    let [requests, _, _, elapsed, received, ..] = total.split_whitespace().collect::<Vec<_>>()[..] else {
        bail!("unknown total");
    };
    let requests: u64 = requests.parse()?;
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start));
    let mut errors = 0;
    if let Some(statuses) = after("Non-2xx or 3xx responses:") {
        errors += statuses.trim().parse::<u64>()?;
    }
    if let Some(kinds) = after("Socket errors:") {
        errors += kinds.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
    }
    // Answers that were cut short would look fast.
    if read_bytes(received)? < requests as f64 * load.answer as f64 * 0.99 {
        bail!("bodies are missing");
    }
    let elapsed = read_duration(elapsed.trim_end_matches(','))?;
    Ok(Outcome { requests: requests.saturating_sub(errors), errors, elapsed })
}
