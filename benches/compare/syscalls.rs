//! How often a proxy calls the kernel for a request, as `strace -c` counts. In a pass of its own that nothing is timed
//! in: a process that is traced is many times slower. Called by `run`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::common::machine::Cores;
use crate::common::process::{self, Running, Stop};
use crate::load::Load;
use crate::proxies::Proxy;

/// strace must have got hold of all threads, and let go of them, within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// A body from so many bytes on takes seconds itself.
const LARGE: usize = 1024 * 1024;
/// The more connections, the more of the calls are those that accept them.
const CONNECTIONS: u32 = 64;

/// System calls of all threads of the proxy for each request, those for the connections included.
pub fn per_request(proxy: &Proxy, load: Load, cores: &Cores, dir: &Path) -> Result<f64> {
    let pids = proxy.pids()?;
    let summary = dir.join("strace.out");
    fs::remove_file(&summary).ok();
    let mut strace = Command::new(process::find("strace")?);
    strace.args(["-f", "-c", "-o"]).arg(&summary);
    pids.iter().for_each(|pid| _ = strace.args(["-p", &pid.to_string()]));
    let errors = dir.join("strace.err");
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors)?);
    let mut strace = Running::start(strace, cores, Stop::Term)?;
    wait_until_traced(&mut strace, &pids).with_context(|| process::tail(&errors))?;
    let load = Load { connections: load.connections.min(CONNECTIONS), ..load };
    let seconds = if load.answer.max(load.upload) >= LARGE { 4 } else { 1 };
    let outcome = load.run(&proxy.site, seconds, cores, dir)?;
    strace.signal(libc::SIGINT);
    // it ends by the signal that it was sent, once it has written its summary
    strace.wait(PATIENCE).ok();
    let calls = total(&fs::read_to_string(&summary)?)?;
    if outcome.requests == 0 {
        bail!("no request was answered");
    }
    Ok(calls / outcome.requests as f64)
}

fn wait_until_traced(strace: &mut Running, pids: &[u32]) -> Result<()> {
    let traced = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    };
    let deadline = Instant::now() + PATIENCE;
    while !pids.iter().all(traced) {
        strace.check_alive()?;
        if Instant::now() > deadline {
            bail!("strace does not get hold of the proxy");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// `100.00    0.123456           2     61234       123 total`: per cent, seconds, µs each, calls, errors.
fn total(summary: &str) -> Result<f64> {
    let line = summary.lines().find(|line| line.ends_with(" total")).context("strace wrote no total")?;
    let calls = line.split_whitespace().nth(3).context("a short total")?;
    Ok(calls.parse()?)
}
