//! What the benchmarks that run whole programs have in common: children on chosen cores, the other proxies'
//! configurations, a server to stand behind them, tables. Part of `compare`, `effect`, `reload` and `churn`.

// each of them uses its own part of some of it
#![allow(dead_code)]

pub mod client;
pub mod machine;
pub mod origin;
pub mod process;
pub mod programs;
pub mod table;

use std::path::{Path, PathBuf};

/// The repository's folder of results.
pub fn results_dir() -> PathBuf {
    repository().join("benches/results")
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
