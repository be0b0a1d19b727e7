//! What is known of the configuration in use: where it came from, since when, and what became of the last
//! attempt to change it. Written by `reload`, read by whoever asks.

use crate::acme::{self, Managed};
use crate::config::Comparable;
use crate::observe::at_text;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use twox_hash::XxHash3_64;

/// A configuration that is, or was, in use.
#[derive(Debug)]
pub struct Loaded {
    pub file: PathBuf,
    pub comparable: Comparable,
    /// The same for the same configuration, whatever its spelling: 16 hexadecimal digits.
    pub hash: String,
    pub since: SystemTime,
}

impl Loaded {
    pub fn new(file: PathBuf, comparable: Comparable) -> Loaded {
        // megabytes, when there are many routes, and only to be told apart: what is secret in it is a digest already
        let hash = format!("{:016x}", XxHash3_64::oneshot(comparable.text().as_bytes()));
        Loaded { file, comparable, hash, since: SystemTime::now() }
    }
}

/// A configuration that was not taken.
#[derive(Debug, Clone)]
pub struct Refused {
    pub at: SystemTime,
    pub by: String,
    /// The report of it.
    pub why: String,
}

/// Of one process.
#[derive(Debug)]
pub struct Status(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    certificates: acme::Registry,
    loaded: Arc<Loaded>,
    reloads: u64,
    refused: Option<Refused>,
    refusals: u64,
}

impl Status {
    pub fn new(loaded: Loaded, certificates: acme::Registry) -> Status {
        let loaded = Arc::new(loaded);
        Status(Mutex::new(Inner { certificates, loaded, reloads: 0, refused: None, refusals: 0 }))
    }

    /// Certificates that are ordered.
    pub fn ordered(&self) -> Vec<Arc<Managed>> {
        self.0.lock().certificates.kept()
    }

    pub fn loaded(&self) -> Arc<Loaded> {
        self.0.lock().loaded.clone()
    }

    /// Another one is in use.
    pub fn replace(&self, loaded: Loaded) {
        let mut inner = self.0.lock();
        inner.loaded = Arc::new(loaded);
        inner.reloads += 1;
    }

    pub fn refuse(&self, refused: Refused) {
        let mut inner = self.0.lock();
        inner.refused = Some(refused);
        inner.refusals += 1;
    }

    /// For machines.
    pub fn to_json(&self) -> Value {
        let inner = self.0.lock();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "config": {
                "file": inner.loaded.file.display().to_string(),
                "hash": inner.loaded.hash,
                "since": at_text(inner.loaded.since),
            },
            "reloads": inner.reloads,
            "refusals": inner.refusals,
            "last_refused": inner.refused.as_ref().map(|refused| json!({
                "at": at_text(refused.at), "by": refused.by, "why": refused.why,
            })),
            "acme": inner.certificates.kept().iter().map(|kept| certificate(kept)).collect::<Vec<_>>(),
        })
    }
}

/// One that is ordered from an authority.
fn certificate(managed: &Managed) -> Value {
    let (plan, standing) = (managed.plan(), managed.standing());
    json!({
        "acme": plan.authority.name,
        "names": plan.names,
        "expires": standing.expires.map(at_text),
        "ordering": standing.ordering,
        "next": standing.next.map(at_text),
        "failures": standing.failures,
        "last_error": standing.last_error.map(|(at, why)| json!({ "at": at_text(at), "why": why })),
    })
}
