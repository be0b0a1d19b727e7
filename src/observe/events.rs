//! One function for each thing that can happen: it says it in the process log, once. Nobody
//! else logs these. The targets (`weirgate::listener`, `weirgate::health`, ...) are for `RUST_LOG`.

mod access_log;
pub mod acme;
mod listeners;
mod servers;
pub mod traces;
pub(super) use access_log::access_log_not_rotated;

pub use listeners::*;
pub use servers::*;

use crate::units::Time;
use std::fmt::Display;
use std::io;
use std::time::Duration;

/// So many changes of a reload are said one by one.
const CHANGES_TOLD: usize = 20;

const LOG: &str = "weirgate::access_log";
const PROCESS: &str = "weirgate";

/// The sockets are open and the workers begin.
pub fn starting(workers: usize) {
    let version = env!("CARGO_PKG_VERSION");
    let plural = if workers == 1 { "" } else { "s" };
    log::info!(target: PROCESS, "weirgate {version} serves with {workers} worker{plural}");
}

/// A signal asked for the end; everything is served as before for `delay`.
pub fn about_to_drain(signal: &str, delay: Duration) {
    let delay = Time(delay);
    log::info!(target: PROCESS, "{signal}: the end begins in {delay} (server.shutdown_delay)");
}

/// A signal asked for the end; requests in flight have `grace`.
pub fn draining(signal: &str, grace: Duration) {
    let seconds = grace.as_secs();
    log::info!(target: PROCESS, "{signal}: no new connections; requests in flight have {seconds} s to end");
}

/// Another configuration is in use.
pub fn reloaded(by: &str, took: Duration, hash: &str, changes: &[impl Display]) {
    let (count, took) = (changes.len(), Time(took));
    let plural = if count == 1 { "" } else { "s" };
    log::info!(target: PROCESS, "{by}: reloaded in {took}, {count} change{plural}; configuration {hash}");
    for change in changes.iter().take(CHANGES_TOLD) {
        log::info!(target: PROCESS, "  {change}");
    }
    if let Some(more) = count.checked_sub(CHANGES_TOLD).filter(|more| *more > 0) {
        log::info!(target: PROCESS, "  and {more} more");
    }
}

/// A reload found the configuration that is in use.
pub fn reload_same(by: &str) {
    log::info!(target: PROCESS, "{by}: the configuration is the one in use; nothing has changed");
}

/// A reload was refused, and nothing has changed.
pub fn reload_refused(by: &str, why: &str) {
    log::error!(target: PROCESS, "{by}: reload refused, the configuration in use stays:\n{}", why.trim_end());
}

/// Another process has taken over.
pub fn upgraded(pid: u32) {
    log::info!(target: PROCESS, "upgrade: process {pid} serves; this one accepts no more, and ends when its connections have");
}

/// No other process has taken over.
pub fn upgrade_failed(why: &str) {
    log::error!(target: PROCESS, "upgrade failed, this process serves on: {}", why.trim_end());
}

/// Everything is done, or `left` connections were cut at the end of the grace period.
pub fn stopped(left: usize) {
    match left {
        0 => log::info!(target: PROCESS, "stopped"),
        1 => log::warn!(target: PROCESS, "stopped; 1 connection was cut at the end of the grace period"),
        n => log::warn!(target: PROCESS, "stopped; {n} connections were cut at the end of the grace period"),
    }
}

/// The access log's sink fails. Said when it begins.
pub(super) fn access_log_failing(name: &str, why: &io::Error) {
    log::error!(target: LOG, "access log {name}: {why}; lines are lost until it can be written again");
}

/// The access log can be written again.
pub(super) fn access_log_recovered(name: &str, dropped: u64) {
    log::info!(target: LOG, "access log {name} is written again; {dropped} lines were lost so far");
}

/// The access log's sink is slower than the requests. Said once a minute.
pub(super) fn access_log_behind(name: &str, dropped: u64) {
    log::warn!(
        target: LOG,
        "access log {name} is read or written too slowly: {dropped} lines were dropped since this was last said"
    );
}

/// The access log cannot be opened anew.
pub(super) fn access_log_not_reopened(name: &str, why: &io::Error) {
    log::error!(target: LOG, "access log {name} cannot be opened again: {why}; the old file is written on");
}

/// What a throttle kept back, as the end of a message.
fn and(more: u64) -> String {
    match more {
        0 => String::new(),
        n => format!("; {n} times more since this was last said"),
    }
}
