//! What happens beside requests, told once: each event is a function that logs it.

/// The log target of health checks.
pub const HEALTH: &str = "weirgate::health";

/// A server of a group went down, or up again. `reason` says why it went down, or what brought it back.
pub fn health_changed(group: &str, server: &str, up: bool, reason: &str) {
    if up {
        log::info!(target: HEALTH, "upstream {group:?}: server {server} is up again {reason}");
    } else {
        log::warn!(target: HEALTH, "upstream {group:?}: server {server} is down: {reason}");
    }
}
