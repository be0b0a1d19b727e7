//! What becomes of spans on their way to a collector.

/// The log target of traces.
const TRACES: &str = "weirgate::traces";

/// Spans were not taken. Said once in a while.
pub fn failing(collector: &str, why: &str, spans: u64) {
    log::warn!(target: TRACES, "{spans} spans are lost: the collector at {collector} does not take them: {why}");
}

/// They are again.
pub fn recovered(collector: &str) {
    log::info!(target: TRACES, "the collector at {collector} takes spans again");
}

/// They never will be.
pub fn lost(why: &str) {
    log::error!(target: TRACES, "no spans can be sent: {why}");
}
