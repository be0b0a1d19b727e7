//! What becomes of servers, of where they are found, and of requests to them.

use super::and;
use crate::observe::throttle::Throttle;
use crate::units::{Percent, Time};
use std::fmt::Display;
use std::time::{Duration, Instant};

/// The log target of sources of servers.
pub const DISCOVERY: &str = "weirgate::discovery";
/// The log target of health checks.
pub const HEALTH: &str = "weirgate::health";
/// The log target of what becomes of servers and requests to them.
pub const UPSTREAM: &str = "weirgate::upstream";

/// A server of a group went down, or up again. `reason` says why it went down, or what brought it back.
pub fn health_changed(group: &str, server: &str, up: bool, reason: &str) {
    if up {
        log::info!(target: HEALTH, "upstream {group:?}: server {server} is up again {reason}");
    } else {
        log::warn!(target: HEALTH, "upstream {group:?}: server {server} is down: {reason}");
    }
}

/// A server came to a group while it runs.
pub fn server_added(group: &str, server: &str) {
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} is new");
}

/// A server gets no new sessions; `removed` when it is no longer named and will leave the group.
pub fn server_draining(group: &str, server: &str, removed: bool) {
    let why = if removed { ": it is no longer named" } else { "" };
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} is draining{why}");
}

/// A server that was draining gets new sessions again.
pub fn server_back(group: &str, server: &str) {
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} is no longer draining");
}

/// A server that was draining has left its group.
pub fn server_removed(group: &str, server: &str) {
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} is drained and gone");
}

/// A server has another weight.
pub fn weight_changed(group: &str, server: &str, weight: u16) {
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} has weight {weight} now");
}

/// A source of servers names others than it did: `count` in all, `new` that it did not name before, while
/// `gone` are no longer named. Which they are is said of each as the group takes it in or lets it go.
pub fn discovered(group: &str, source: &str, count: usize, new: usize, gone: usize) {
    let plural = if count == 1 { "" } else { "s" };
    log::info!(target: DISCOVERY, "upstream {group:?}: {source} has {count} server{plural}: {new} new, {gone} gone");
}

/// A source of servers fails. Said when it begins, and for a file again when there is another mistake in it.
pub fn discovery_failed(group: &str, source: &str, why: &str, kept: usize) {
    let stay = match kept {
        0 => "no server is known from it".to_owned(),
        1 => "its last server stays".to_owned(),
        n => format!("its last {n} servers stay"),
    };
    log::warn!(target: DISCOVERY, "upstream {group:?}: {source} fails, {stay}: {why}");
}

/// A source of servers answers again.
pub fn discovery_recovered(group: &str, source: &str) {
    log::info!(target: DISCOVERY, "upstream {group:?}: {source} answers again");
}

/// A target of SRV records has no address that is known. Said when it begins.
pub fn target_lost(group: &str, name: &str, target: &str, why: &str) {
    log::warn!(target: DISCOVERY, "upstream {group:?}: dns {name}: target {target} cannot be resolved: {why}");
}

/// A try of a request on a server failed. `retry`: it is tried elsewhere if another server is up.
/// Said every ten seconds for a server; the access log has every request.
pub fn try_failed(throttle: &Throttle, group: &str, server: &str, error: &dyn Display, retry: bool) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let more = and(more);
    if retry {
        log::info!(target: UPSTREAM, "upstream {group:?}: server {server} failed, to be tried elsewhere: {error}{more}");
    } else {
        log::warn!(target: UPSTREAM, "upstream {group:?}: server {server} failed: {error}{more}");
    }
}

/// A group has spent its budget on retries: requests that fail are not tried again. Said every ten seconds.
pub fn budget_spent(throttle: &Throttle, group: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let more = and(more);
    log::warn!(
        target: UPSTREAM,
        "upstream {group:?}: too many requests fail to try them all again (retry.budget){more}"
    );
}

/// A group is full and its queue too, so that requests are refused. Said every ten seconds.
pub fn queue_full(throttle: &Throttle, group: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let more = and(more);
    log::warn!(
        target: UPSTREAM,
        "upstream {group:?}: as much is asked of it as it may do, and requests are refused (limits){more}"
    );
}

/// A server gets no requests for a while because of how it answered.
pub fn ejected(group: &str, server: &str, lasts: Duration, why: &str) {
    log::warn!(target: UPSTREAM, "upstream {group:?}: server {server} is ejected for {}: {why}", Time(lasts));
}

/// A server would be ejected, but others have been, or there is no other. Said every ten seconds for a group.
pub fn ejection_spared(throttle: &Throttle, group: &str, server: &str, why: &str, another: bool) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let spared = if another { "enough others are (outlier.max_ejected)" } else { "no other is healthy" };
    log::warn!(
        target: UPSTREAM,
        "upstream {group:?}: server {server} is not ejected, as {spared}: {why}{}", and(more)
    );
}

/// Why an ejection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    Over,
    /// Servers have left the group, and it may have fewer ejected ones.
    TooMany,
    NobodyLeft,
    /// An operator says so.
    ByHand,
}

/// A server that was ejected gets requests again.
pub fn released(group: &str, server: &str, why: Release) {
    let why = match why {
        Release::Over => "",
        Release::TooMany => ", early, as the group has become smaller (outlier.max_ejected)",
        Release::NobodyLeft => ", early, as no other is left",
        Release::ByHand => ", by hand",
    };
    log::info!(target: UPSTREAM, "upstream {group:?}: server {server} is no longer ejected{why}");
}

/// What becomes of a breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breaker {
    Opens { lasts: Duration, why: String },
    Tries { trials: u32 },
    Closes { trials: u32 },
}

/// The breaker of a server, or of the group as a whole, has changed its state.
pub fn breaker(group: &str, server: Option<&str>, change: Breaker) {
    let whose = server.map_or_else(String::new, |server| format!(" of server {server}"));
    let requests = |n: u32| if n == 1 { "trial request" } else { "trial requests" };
    match change {
        Breaker::Opens { lasts, why } => {
            log::warn!(target: UPSTREAM, "upstream {group:?}: the breaker{whose} opens for {}: {why}", Time(lasts));
        }
        Breaker::Tries { trials: n } => {
            log::info!(target: UPSTREAM, "upstream {group:?}: the breaker{whose} is half-open: {n} {} may pass", requests(n));
        }
        Breaker::Closes { trials: n } => {
            log::info!(target: UPSTREAM, "upstream {group:?}: the breaker{whose} closes: {n} {} succeeded", requests(n));
        }
    }
}

/// A group begins or ends to ignore the health of its servers. `below` is `None` when the
/// configuration no longer knows panics.
pub fn panic(group: &str, panics: bool, healthy: usize, total: usize, below: Option<Percent>) {
    let below = below.map_or_else(String::new, |below| format!(" (panic: {below})"));
    let are = if healthy == 1 { "is" } else { "are" };
    if panics {
        log::warn!(
            target: UPSTREAM,
            "upstream {group:?}: panic: only {healthy} of {total} servers {are} healthy, requests go to all of them{below}"
        );
    } else {
        log::info!(
            target: UPSTREAM,
            "upstream {group:?}: the panic is over: {healthy} of {total} servers {are} healthy{below}"
        );
    }
}
