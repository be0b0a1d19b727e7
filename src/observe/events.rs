//! One function for each thing that can happen: it says it in the process log, once. Nobody
//! else logs these. The targets (`weirgate::listener`, `weirgate::health`, ...) are for `RUST_LOG`.

pub mod acme;
pub mod traces;

use super::throttle::Throttle;
use crate::units::{Percent, Rate, Time};
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// So many changes of a reload are said one by one.
const CHANGES_TOLD: usize = 20;

/// The log target of sources of servers.
pub const DISCOVERY: &str = "weirgate::discovery";
/// The log target of health checks.
pub const HEALTH: &str = "weirgate::health";
const LISTENER: &str = "weirgate::listener";
const LOG: &str = "weirgate::access_log";
const PROCESS: &str = "weirgate";
/// The log target of what becomes of servers and requests to them.
pub const UPSTREAM: &str = "weirgate::upstream";

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

/// A listener accepts connections, or takes datagrams.
pub fn listening(listener: &str, address: &dyn Display, kind: &str) {
    log::info!(target: LISTENER, "listener {listener:?} listens on {address}{kind}");
}

/// The admin address is listened on.
pub fn admin_listens(address: &dyn Display) {
    log::info!(target: LISTENER, "admin listens on {address}");
}

/// A listener serves new connections by another plan. `retired`: those that are open end after their request.
pub fn listener_changed(listener: &str, address: &dyn Display, retired: bool) {
    let open = match retired {
        true => "; open connections end after the request they are at",
        false => "",
    };
    log::info!(target: LISTENER, "listener {listener:?} on {address} has changed{open}");
}

/// A listener accepts no more; its connections have `grace` to end.
pub fn listener_closed(listener: &str, address: &dyn Display, open: usize, grace: Duration) {
    let seconds = grace.as_secs();
    let open = match open {
        0 => String::new(),
        1 => format!("; 1 connection has {seconds} s to end"),
        n => format!("; {n} connections have {seconds} s to end"),
    };
    log::info!(target: LISTENER, "listener {listener:?} on {address} is closed{open}");
}

/// A socket that was bound cannot listen.
pub fn listener_failed(listener: &str, address: &dyn Display, error: &io::Error) {
    log::error!(target: LISTENER, "listener {listener:?} cannot listen on {address}: {error}");
}

/// A socket that another process opened for this one is closed.
pub fn socket_not_wanted(address: &dyn Display) {
    log::warn!(target: LISTENER, "the socket on {address} that was handed to this process is closed: no listener has this address");
}

/// A descriptor that the service manager has opened for this process cannot be used.
pub fn socket_of_no_use(fd: i32, why: &str) {
    log::warn!(target: LISTENER, "descriptor {fd}, which the service manager handed to this process, is closed: {why}");
}

/// `accept` failed: mostly too many open files. Said once a minute.
pub fn accept_failed(throttle: &Throttle, listener: &str, error: &io::Error) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let fix = match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE)",
        Some(libc::ENFILE) => "; the machine's limit of open files is reached (fs.file-max)",
        _ => "",
    };
    log::error!(target: LISTENER, "listener {listener:?} cannot accept a connection: {error}{fix}{}", and(more));
}

/// A connection was refused because `limits.connections` are open. Said once a minute.
pub fn connections_full(throttle: &Throttle, listener: &str, limit: usize) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} has {limit} connections and refuses more (limits.connections){}", and(more)
    );
}

/// A datagram that would have begun a session was dropped because `limits.connections` have begun. Said once a minute.
pub fn sessions_full(throttle: &Throttle, listener: &str, limit: usize) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} has {limit} sessions and begins no more (limits.connections){}", and(more)
    );
}

/// Datagrams cannot be taken from the socket of a listener, or a session has no socket of its own. Said once a minute.
pub fn datagrams_failed(throttle: &Throttle, listener: &str, error: &io::Error) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let fix = match error.raw_os_error() {
        Some(libc::EMFILE) => {
            "; raise the limit of open files (ulimit -n, LimitNOFILE), or lower limits.connections"
        }
        _ => "",
    };
    log::error!(target: LISTENER, "listener {listener:?} cannot pass datagrams on: {error}{fix}{}", and(more));
}

/// A connection was closed because it did not begin with a header of the PROXY protocol. Said once a minute.
pub fn not_announced(throttle: &Throttle, listener: &str, peer: IpAddr, why: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: a connection from {} is closed, its PROXY header is refused: {why} (proxy_protocol){}",
        end(peer), and(more)
    );
}

/// An end of a connection; that of a unix socket has no address.
fn end(ip: IpAddr) -> String {
    if ip.is_unspecified() { "a unix socket".to_owned() } else { ip.to_string() }
}

/// A connection was refused because its client has as many as it may. Said once a minute.
pub fn client_full(throttle: &Throttle, listener: &str, client: IpAddr, limit: u32) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let client = client.to_canonical();
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: {client} has {limit} connections and gets no more (limits.connections_per_client){}",
        and(more)
    );
}

/// A connection was refused because too many came in a short time. Said once a minute.
pub fn too_many_come(throttle: &Throttle, listener: &str, rate: Rate) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(
        target: LISTENER,
        "listener {listener:?} gets more connections than {rate} and refuses the rest (limits.connection_rate){}",
        and(more)
    );
}

/// A connection was refused because its client connects too often. Said once a minute.
pub fn client_too_often(throttle: &Throttle, listener: &str, client: IpAddr, rate: Rate) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    let client = client.to_canonical();
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: {client} connects more often than {rate} and is refused \
         (limits.connection_rate_per_client){}",
        and(more)
    );
}

/// A connection was refused because its client is not to come here. Said once a minute.
pub fn client_denied(throttle: &Throttle, listener: &str, client: IpAddr) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::info!(target: LISTENER, "listener {listener:?}: {} is refused (ip){}", end(client.to_canonical()), and(more));
}

/// A client was cut off for what it did on its connection. Said every ten seconds.
pub fn client_cut(throttle: &Throttle, listener: &str, client: IpAddr, why: &str) {
    let Some(more) = throttle.admit(Instant::now()) else { return };
    log::warn!(target: LISTENER, "listener {listener:?}: {client} is cut off: {why}{}", and(more));
}

/// A client did not get through the TLS handshake. Anybody can cause it at will, so it is for
/// those who debug.
pub fn handshake_failed(listener: &str, client: IpAddr, why: &dyn Display) {
    log::debug!(target: LISTENER, "listener {listener:?}: TLS handshake with {}: {why}", end(client));
}

/// A certificate is to be renewed, and was not.
pub fn certificate_expires(listener: &str, file: &Path, when: &str) {
    log::warn!(target: LISTENER, "listener {listener:?}: the certificate in {file:?} {when}: renew it, and reload");
}

/// What the authority says of a certificate is out of date, and is not shown any more.
pub fn ocsp_outdated(listener: &str, file: &Path) {
    log::warn!(
        target: LISTENER,
        "listener {listener:?}: the OCSP response for {file:?} is out of date and not shown: fetch it anew, and reload"
    );
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

/// What a throttle kept back, as the end of a message.
fn and(more: u64) -> String {
    match more {
        0 => String::new(),
        n => format!("; {n} times more since this was last said"),
    }
}
