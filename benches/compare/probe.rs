//! Before a proxy is measured: does it answer, and does it do the work it is said to do? Called by `proxies`.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::common::client::get;
use crate::handshakes::{client_config, get_over_tls};
use crate::origin::LARGE_BODY;
use crate::proxies::{Kind, Site};

/// The last is on the answer, the others on the request that the origin gets.
const PRODUCTION_HEADERS: [&str; 7] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "x-request-id",
    "x-edge",
    "x-bench",
];

/// One request over plaintext and one over TLS.
pub fn answers(site: &Site) -> Result<()> {
    get_plain(site, "/")?;
    get_over_tls(&client_config(&site.cert)?, site.secure, "/")?;
    Ok(())
}

/// Production must add what it is measured with, and the others must not: the origin's echo shows it.
pub fn check(kind: Kind, site: &Site) -> Result<()> {
    let answer = get_plain(site, "/echo")?;
    let seen = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    for name in PRODUCTION_HEADERS {
        if seen.contains(&format!("\n{name}:")) != kind.is_production() {
            let verb = if kind.is_production() { "does not send" } else { "sends" };
            bail!("it {verb} {name} and so does other work than its name says");
        }
    }
    if get_plain(site, "/100k")?.len() < LARGE_BODY {
        bail!("it cuts large bodies");
    }
    Ok(())
}

/// How many requests of a production proxy are in its access log, waiting up to two seconds for `wanted`.
pub fn logged(kind: Kind, site: &Site, wanted: u64) -> Result<u64> {
    // HAProxy logs to standard output, which is a file here.
    let name = if kind == Kind::HaproxyProduction { "stdout.log" } else { "access.log" };
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let log = std::fs::read(site.dir.join(name)).context("the access log")?;
        let lines = log.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines >= wanted || Instant::now() > deadline {
            return Ok(lines);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn get_plain(site: &Site, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&site.plain, Duration::from_secs(1)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    get(&mut stream, path)
}
