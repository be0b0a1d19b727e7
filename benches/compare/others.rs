//! Envoy and Caddy, which are measured where somebody has installed them; nothing installs them. Called by `kinds`
//! and `proxies`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::common::process::{self, Stop};

pub fn envoy() -> Result<PathBuf> {
    find("envoy", "WEIRGATE_BENCH_ENVOY")
}

pub fn caddy() -> Result<PathBuf> {
    find("caddy", "WEIRGATE_BENCH_CADDY")
}

/// The file that the variable names, or else the program in the PATH.
fn find(program: &str, variable: &str) -> Result<PathBuf> {
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(file) if file.is_file() => Ok(file),
        Some(file) => bail!("{variable}: there is no file {}", file.display()),
        None => process::find(program).ok().with_context(|| {
            format!("{program} is not in the PATH, and {variable} does not say where it is")
        }),
    }
}

/// One worker, and no second process that would take over its sockets.
pub fn run_envoy(conf: &str, dir: &Path) -> Result<(Command, Stop)> {
    let file = write(dir, "envoy.yaml", conf)?;
    let mut command = Command::new(envoy()?);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    Ok((command, Stop::Term))
}

/// Go has as many threads that run as there are cores, which is one here.
pub fn run_caddy(conf: &str, dir: &Path) -> Result<(Command, Stop)> {
    let file = write(dir, "Caddyfile", conf)?;
    let mut command = Command::new(caddy()?);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    Ok((command, Stop::Term))
}

/// As it tells it: Caddy `v2.11.7 h1:…`, Envoy `…/envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
pub fn version(program: &Path, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    let version = match line.split_once("version: ") {
        Some((_, of_envoy)) => of_envoy.split('/').nth(1)?,
        None => line.split_whitespace().next()?,
    };
    Some(version.to_owned())
}

fn write(dir: &Path, name: &str, conf: &str) -> Result<PathBuf> {
    let file = dir.join(name);
    std::fs::write(&file, conf).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}
