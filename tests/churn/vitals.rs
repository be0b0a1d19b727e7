//! What a process holds, as the kernel tells it. Linux only.

use std::collections::BTreeMap;
use std::fs;

/// Of one process, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Resident memory, in KiB.
    pub memory: u64,
    pub threads: u64,
    /// What each descriptor leads to; sockets by their kind alone.
    pub descriptors: BTreeMap<String, usize>,
}

impl Vitals {
    /// `None` when there is no such process.
    pub fn of(id: u32) -> Option<Vitals> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{id}/fd")).ok()?.flatten() {
            // one that is closed meanwhile is none
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            let kind = target.split_once(":[").map_or(&*target, |(kind, _)| kind);
            *descriptors.entry(kind.to_owned()).or_default() += 1;
        }
        Some(Vitals { memory: number("VmRSS:")?, threads: number("Threads:")?, descriptors })
    }

    pub fn open(&self) -> usize {
        self.descriptors.values().sum()
    }
}

/// Whether it runs: a process that has ended and that nobody has asked about yet does not.
pub fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
