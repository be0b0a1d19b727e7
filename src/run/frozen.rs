//! What a reload cannot change, because it is fixed when the process starts: the threads, the user, the pools.
//! Such a reload is refused and says the way, so that what runs is always what a file says.

use crate::config::file::Server;
use crate::config::report::Code;
use serde_json::Value;

/// The keys of `server` that a reload may change.
const FREE: [&str; 5] = [
    "zone",
    "shutdown_delay",
    "grace_period_seconds",
    "graceful_shutdown_timeout_seconds",
    "reload_on_change",
];

/// What differs between these that cannot change while the process runs, in words for the operator.
pub fn changes(before: &Server, after: &Server) -> Option<String> {
    if before == after {
        return None;
    }
    let (before, after) = (serde_json::to_value(before).ok()?, serde_json::to_value(after).ok()?);
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return None };
    let differs = |key: &&String| !FREE.contains(&key.as_str()) && before.get(*key) != after.get(*key);
    let fixed: Vec<String> = after
        .keys()
        .filter(differs)
        .map(|key| {
            let value = |of: &serde_json::Map<String, Value>| of.get(key).cloned().unwrap_or_default();
            format!(
                "error[{}]: server.{key} cannot change while the process runs: {} -> {}",
                Code::Fixed.as_str(),
                value(&before),
                value(&after)
            )
        })
        .collect();
    if fixed.is_empty() {
        return None;
    }
    Some(format!(
        "{}\n  = help: `weirgate upgrade` puts a new process in the place of this one without losing a \
         connection; or put the old value back\n",
        fixed.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fixed_is_named_with_the_way_to_change_it() {
        let before = Server::default();
        let after = Server { threads: 3, max_retries: 7, grace_period_seconds: 1, ..Server::default() };
        let why = changes(&before, &after).unwrap();
        assert!(why.contains("server.threads cannot change while the process runs: 0 -> 3"), "{why}");
        assert!(why.contains("server.max_retries") && why.contains("weirgate upgrade"), "{why}");
        assert!(!why.contains("grace_period_seconds"), "{why}");
    }

    #[test]
    fn the_rest_may_change() {
        let after = Server { grace_period_seconds: 1, ..Server::default() };
        assert_eq!(changes(&Server::default(), &after), None);
        assert_eq!(changes(&after, &after), None);
    }
}
