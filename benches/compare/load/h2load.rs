//! h2load: HTTP/2 over TLS, and in plaintext by prior knowledge. Called by [`Load::run`].

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Load, Outcome, Protocol, read_duration};
use crate::common::process;
use crate::proxies::Site;

/// Requests that a connection has under way at once.
const STREAMS: u32 = 4;

pub fn command(load: Load, site: &Site, seconds: u32) -> Result<Command> {
    let mut h2load = Command::new(process::find("h2load")?);
    h2load.args(["-t1", &format!("-c{}", load.connections), &format!("-m{STREAMS}")]);
    h2load.args(["-D", &seconds.to_string()]);
    match load.protocol {
        Protocol::H2c => h2load.args(["-p", "h2c", &format!("http://{}{}", site.h2c, load.path)]),
        _ => h2load.arg(format!("https://{}{}", site.secure, load.path)),
    };
    Ok(h2load)
}

pub fn read(load: Load, text: &str) -> Result<Outcome> {
    let agreed = if load.protocol == Protocol::H2c { "h2c" } else { "h2" };
    if !text.contains(&format!("Application protocol: {agreed}\n")) {
        bail!("the proxy did not agree to {agreed}");
    }
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).context("no totals");
    let count = |start: &str, label: &str| -> Result<u64> {
        let part = line(start)?.split(", ").find_map(|part| part.trim().strip_suffix(label));
        Ok(part.context("no count")?.trim().parse()?)
    };
    let elapsed = line("finished in ")?.split(',').next().unwrap_or_default();
    // the counts of requests leave out those before all connections were open; what is under way at the end is in neither
    let (requests, errors) = (count("status codes: ", " 2xx")?, count("requests: ", " failed")?);
    Ok(Outcome { requests, errors, elapsed: read_duration(elapsed)? })
}
