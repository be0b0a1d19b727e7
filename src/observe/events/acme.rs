//! What becomes of certificates that are ordered from an authority.

use super::super::stamp::at_text;
use crate::units::Time;
use std::time::{Duration, SystemTime};

/// The log target of certificates that are ordered.
const ACME: &str = "weirgate::acme";

/// So many names of a certificate are said.
const NAMES_TOLD: usize = 5;

/// Which certificate is meant.
#[derive(Debug, Clone, Copy)]
pub struct Which<'a> {
    pub authority: &'a str,
    pub names: &'a [String],
}

impl std::fmt::Display for Which<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "acme {:?}: certificate for ", self.authority)?;
        for (place, name) in self.names.iter().take(NAMES_TOLD).enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { ", " })?;
        }
        match self.names.len().saturating_sub(NAMES_TOLD) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A certificate is stored, and shown from the start.
pub fn found(which: Which<'_>, expires: SystemTime) {
    log::info!(target: ACME, "{which}: stored, expires {}", at_text(expires));
}

/// A certificate is asked for: the first, or one in place of that which ends then.
pub fn ordered(which: Which<'_>, replaces: Option<SystemTime>) {
    match replaces {
        None => log::info!(target: ACME, "{which}: ordered"),
        Some(end) => log::info!(target: ACME, "{which}: renewal ordered, as it expires {}", at_text(end)),
    }
}

/// There is a new one, and it is shown.
pub fn obtained(which: Which<'_>, expires: SystemTime, took: Duration, renews: SystemTime) {
    let took = Time(Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    let (expires, renews) = (at_text(expires), at_text(renews));
    log::info!(target: ACME, "{which}: obtained in {took}, expires {expires}, to be renewed {renews}");
}

/// Another process has obtained one, and it is shown here.
pub fn taken_over(which: Which<'_>, expires: SystemTime) {
    log::info!(target: ACME, "{which}: obtained by another process, expires {}", at_text(expires));
}

/// An order failed. `ends`: the end of the certificate that is shown meanwhile, if there is one.
pub fn failed(which: Which<'_>, why: &str, next: SystemTime, ends: Option<SystemTime>) {
    let meanwhile = match ends {
        None => "; until then its names are served only where another certificate covers them".to_owned(),
        Some(end) => format!("; the one that is shown expires {}", at_text(end)),
    };
    log::error!(target: ACME, "{which}: failed, to be tried again {}: {why}{meanwhile}", at_text(next));
}

/// What is stored cannot be used.
pub fn unusable(which: Which<'_>, why: &str) {
    log::error!(target: ACME, "{which}: what is stored cannot be used: {why}");
}

/// An account was opened with an authority.
pub fn account(authority: &str, url: &str) {
    log::info!(target: ACME, "acme {authority:?}: account {url:?} is opened");
}

/// The authority wants it to be renewed at another time than it was to be.
pub fn rescheduled(which: Which<'_>, renews: SystemTime) {
    log::info!(target: ACME, "{which}: the authority asks for it to be renewed {}", at_text(renews));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_said_up_to_a_number() {
        let names: Vec<_> = (1..=7).map(|n| format!("{n}.example.com")).collect();
        let said = |n: usize| Which { authority: "le", names: &names[..n] }.to_string();
        assert_eq!(said(2), "acme \"le\": certificate for 1.example.com, 2.example.com");
        assert!(said(7).ends_with("5.example.com and 2 more"), "{}", said(7));
    }
}
