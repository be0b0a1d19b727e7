//! What operators do to a server while the process runs, beside its weight and draining: it is ejected, as if it had
//! failed requests, and taken back before its time. Asked by `run` for the admin address.

use super::Group;
use crate::observe::events::Release;
use crate::observe::metrics::Fault;
use crate::upstream::{Endpoint, Server};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why it is ejected.
const WHY: &str = "by hand";

fn left(endpoint: &Endpoint, now: Instant) -> Option<Duration> {
    let until = endpoint.known_conduct()?.record.ejected_until()?;
    Some(until.saturating_duration_since(now))
}

impl Group {
    /// Ejects the server by the rules of `outlier`: for as long as the next ejection lasts, and not when too many are
    /// ejected already or nobody else is healthy. For how long.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn eject_by_hand(&self, server: &Server) -> Result<Duration, String> {
        let now = Instant::now();
        let endpoint: &Arc<Endpoint> = &server.endpoint;
        let Some(rules) = &self.plan.outlier else {
            return Err(
                "the upstream has no `outlier`, by whose rules servers are ejected; drain the server".into(),
            );
        };
        if left(endpoint, now).is_some() {
            return Err("it is ejected already".into());
        }
        self.eject(endpoint, rules, (Fault::ByHand, WHY.to_owned()), now);
        left(endpoint, now).ok_or_else(|| {
            "it is not ejected: it drains, enough others are ejected (outlier.max_ejected), or no other is healthy".into()
        })
    }

    /// Whether requests go to all servers, as too few are healthy.
    pub fn ignores_health(&self) -> bool {
        self.changes().panics()
    }

    /// Ends its ejection; tells if there was one.
    pub fn restore_by_hand(&self, server: &Server) -> bool {
        let now = Instant::now();
        let ejected = left(&server.endpoint, now).is_some();
        self.release(server, now, Release::ByHand);
        self.refresh();
        ejected
    }
}
