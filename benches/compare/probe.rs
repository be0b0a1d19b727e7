//! Before a proxy is measured: does it answer, and does it do the work it is said to do? Called by `proxies`, and by
//! `run` for the log.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::common::client::{connect, get};
use crate::kinds::{Kind, Who};
use crate::load::handshakes::{Sessions, client_config, get_over_tls};
use crate::origin::LARGE_BODY;
use crate::proxies::Site;

/// The last two are on the answer, the others on the request that the origin gets.
const PRODUCTION_HEADERS: [&str; 8] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "x-request-id",
    "x-edge",
    "x-bench",
    "strict-transport-security",
];

/// One request over plaintext and one over TLS, and a connection for HTTP/2 in plaintext, of which the load finds out
/// whether it is that.
pub fn answers(site: &Site) -> Result<()> {
    get_plain(site, "/")?;
    get_secure(site, "/")?;
    TcpStream::connect_timeout(&site.h2c, Duration::from_secs(1)).context("connect")?;
    Ok(())
}

/// Production must add what it is measured with, and the others must not: the origin's echo shows it.
pub fn check(kind: Kind, site: &Site) -> Result<()> {
    let answer = get_secure(site, "/echo")?;
    let seen = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    for name in PRODUCTION_HEADERS {
        if seen.contains(&format!("\n{name}:")) != kind.dress.is_production() && !adds_unasked(kind.who) {
            let verb = if kind.dress.is_production() { "does not send" } else { "sends" };
            bail!("it {verb} {name} and so does other work than its name says");
        }
    }
    if get_plain(site, "/100k")?.len() < LARGE_BODY {
        bail!("it cuts large bodies");
    }
    if kind.dress.records() {
        check_metrics(site).context("its metrics")?;
    }
    Ok(())
}

/// Envoy has no word for leaving out `X-Forwarded-Proto`, nor Caddy one for the three `X-Forwarded-*`; taking them away
/// would be more work than having them.
fn adds_unasked(who: Who) -> bool {
    match who {
        Who::Envoy | Who::Caddy => true,
        Who::MinimalPingora | Who::Weirgate | Who::Nginx | Who::Haproxy => false,
    }
}

fn check_metrics(site: &Site) -> Result<()> {
    let mut stream = connect(site.admin)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("not answered with 200");
    }
    Ok(())
}

/// How many requests of a proxy that records are in its access log, waiting up to two seconds for `wanted`.
pub fn logged(kind: Kind, site: &Site, wanted: u64) -> Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let log = std::fs::read(site.dir.join(log_name(kind.who))).context("the access log")?;
        let lines = log.iter().filter(|byte| **byte == b'\n').count() as u64;
        if lines >= wanted || Instant::now() > deadline {
            return Ok(lines);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// HAProxy logs to standard output, which is a file here.
pub fn log_name(who: Who) -> &'static str {
    if who == Who::Haproxy { "stdout.log" } else { "access.log" }
}

fn get_plain(site: &Site, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&site.plain, Duration::from_secs(1)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    get(&mut stream, path)
}

fn get_secure(site: &Site, path: &str) -> Result<Vec<u8>> {
    Ok(get_over_tls(&client_config(&site.cert, Sessions::Forgotten)?, site.secure, path)?.0)
}
