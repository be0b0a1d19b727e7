//! What the benchmarks that run whole programs have in common: children on chosen cores, the other proxies'
//! configurations, a server to stand behind them, tables. Part of `compare` and of `effect`.

// each of the two uses its own half of some of it
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
