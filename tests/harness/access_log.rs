//! Reads what the gate said about requests: JSON access-log lines among its output.

use super::gate::Gate;
use serde_json::Value;

impl Gate {
    /// The access log's JSON lines so far, from stdout.
    pub fn access_log(&self) -> Vec<Value> {
        json_lines(&self.stdout())
    }

    /// Waits for the access-log line that `wanted` picks. The log is written off the hot path, so it may come
    /// after the response.
    #[track_caller]
    pub fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        super::eventually("a line in the access log", || {
            found = self.access_log().into_iter().find(&wanted);
            found.is_some()
        });
        found.expect("found")
    }

    /// Waits for the line of the request for this path.
    #[track_caller]
    pub fn logged_path(&self, path: &str) -> Value {
        self.logged(|line| line["path"] == path)
    }
}

pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
