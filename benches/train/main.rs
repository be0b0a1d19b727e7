//! The work that a release is trained on (profile-guided optimisation): `scripts/release.sh` runs it with an
//! instrumented weirgate, which writes down as it ends which of its branches were taken how often.
//!
//! `cargo bench --bench train -- --weirgate FILE` does the same by hand. Nothing is measured here, and nothing but
//! Rust is needed: origin and load are part of this program. The work is what `compare` measures, and the reading
//! and reloading of a large configuration.

#![allow(clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
mod configs;
mod gate;
mod load;
mod origin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use rustls::pki_types::CertificateDer;

use configs::{Places, Wearing};
use gate::Gate;
use load::Load;

#[derive(Parser)]
#[command(name = "train", about = "The work that a release of weirgate is trained on")]
struct Args {
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// The instrumented binary.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// The folder for what it writes down.
    #[arg(long, value_name = "DIR", default_value = "target/pgo/raw")]
    profiles: PathBuf,
    /// How many requests of each kind.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    requests: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(weirgate) = &args.weirgate else {
        println!("train: skipped; it is for scripts/release.sh, or give it --weirgate FILE");
        return ExitCode::SUCCESS;
    };
    let trained = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(train(weirgate, &args.profiles, args.requests)));
    common::concluded("train", trained)
}

/// A small configuration that does nothing but proxy, and one with thousands of routes and what production adds.
async fn train(weirgate: &Path, profiles: &Path, requests: u32) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("weirgate-train-").tempdir()?;
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(dir.path().join("cert.pem"), pair.cert.pem())?;
    std::fs::write(dir.path().join("key.pem"), pair.signing_key.serialize_pem())?;
    let places = Places::free(dir.path(), origin::start().await?)?;
    let load = Load::new(&places, CertificateDer::from(pair.cert.der().to_vec()))?;
    for wearing in [Wearing::Nothing, Wearing::Production] {
        println!("training: {wearing:?}");
        let gate = Gate::start(weirgate, profiles, &places, wearing).await?;
        let load = Arc::new(load.clone());
        load::all(&load, requests).await.with_context(|| format!("{wearing:?}"))?;
        if wearing == Wearing::Production {
            gate.reload(&places).await?;
            load::all(&load, requests / 10).await.context("after a reload")?;
        }
        gate.stop().await?;
    }
    Ok(())
}
