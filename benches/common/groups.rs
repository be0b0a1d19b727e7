//! Groups of many servers, as they are written in a configuration. Used by `selection` and `rebuild`.

use std::fmt::Write as _;
use std::sync::Arc;

use weirgate::config::plan::Upstream;

use crate::checked;

/// Every algorithm: its name in the results, and what `balance` says.
pub const ALGORITHMS: [(&str, &str); 10] = [
    ("round_robin", "round_robin"),
    ("random", "random"),
    ("least_connections", "least_connections"),
    ("power_of_two", "power_of_two"),
    ("least_time", "least_time"),
    ("ip_hash", "ip_hash"),
    ("hash", "{ hash: { key: client } }"),
    ("consistent_hash", "{ consistent_hash: { key: client } }"),
    ("bounded_load", "{ consistent_hash: { key: client, max_load: 125% } }"),
    ("maglev", "{ maglev: { key: client } }"),
];

/// A group of so many servers, each of the weight that its number gets. `more` is further lines of the
/// group, indented by four.
pub fn plan(balance: &str, more: &str, servers: usize, weight: impl Fn(usize) -> u16) -> Arc<Upstream> {
    let mut yaml = format!(
        "listeners: [{{ address: 127.0.0.1:8080 }}]\nroutes: [{{ upstream: all }}]\nupstreams:\n  all:\n    balance: {balance}\n{more}    servers:\n"
    );
    for i in 0..servers {
        let (c, d, weight) = (i / 250, i % 250, weight(i));
        writeln!(yaml, "      - {{ address: \"127.1.{c}.{d}:3000\", weight: {weight} }}").unwrap();
    }
    Arc::clone(checked::plan(&yaml).upstreams.first().unwrap())
}
