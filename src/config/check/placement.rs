//! Warnings about tiers, zones and draining: what is well written and cannot do what it is for.

use super::Checker;
use crate::config::report::Code;

impl Checker<'_> {
    /// Where there are errors, the mistake may be in what is missing here.
    pub(super) fn placement(&mut self) {
        if self.report.has_errors() {
            return;
        }
        self.all_draining();
        self.zones();
    }

    /// A group that takes nobody. One tier that drains is not wrong: the next is there for it.
    fn all_draining(&mut self) {
        for (name, upstream) in self.file.upstreams.iter() {
            // others may be discovered
            let known = upstream.discover.0.is_empty() && !upstream.servers.is_empty();
            if known && upstream.servers.iter().all(|server| server.value.drain) {
                let message =
                    format!("upstream \"{}\" takes no new sessions: all its servers drain", name.value);
                self.report
                    .warning(Code::AllDraining, name.span, message)
                    .help("take `drain: true` from one of them, or add another server");
            }
        }
    }

    /// Zones take both: where this process is, and where the servers are.
    fn zones(&mut self) {
        let file = self.file;
        let groups = || file.upstreams.iter();
        let somewhere = groups().find_map(|(name, upstream)| {
            let server = upstream.servers.iter().find(|server| server.value.zone.is_some())?;
            Some((name, server))
        });
        match (&file.server.zone, somewhere) {
            (None, Some((name, server))) => {
                let message = format!(
                    "server {} of upstream \"{}\" has a zone, but where this process is nobody says",
                    server.value.address, name.value
                );
                self.report
                    .warning(Code::NoEffect, server.span, message)
                    .help("add `server: { zone: ... }`, or remove the zones");
            }
            (Some(zone), None) if groups().all(|(_, upstream)| upstream.discover.0.is_empty()) => {
                let message = format!("this process is in zone \"{}\", but no server has a zone", zone.value);
                self.report
                    .warning(Code::NoEffect, zone.span, message)
                    .help("add `zone` to servers, or remove it here");
            }
            (None | Some(_), None | Some(_)) => {}
        }
    }
}
