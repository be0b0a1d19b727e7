//! What the benchmarks that run whole programs have in common: children on chosen cores, the other proxies'
//! configurations, a server to stand behind them, tables. Part of `compare`, `effect`, `reload` and `churn`.

// each of them uses its own part of some of it
#![allow(dead_code, clippy::print_stderr)]

pub mod client;
pub mod clock;
pub mod machine;
pub mod many;
pub mod origin;
pub mod process;
pub mod programs;
pub mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The repository's folder of results.
pub fn results_dir() -> PathBuf {
    repository().join("benches/results")
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Under `cargo test --benches` nothing is measured.
pub fn skipped(name: &str) {
    println!("{name}: skipped; it measures for minutes. Run it with: cargo bench --bench {name}");
}

/// How the program of a benchmark ends.
pub fn concluded(name: &str, ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
