//! What of the live state of a server goes to a process that takes the place of this one: whether it is up, why it
//! is ejected and for how much longer, how long it takes to answer. Requests in flight end with the process
//! that they came to.

use super::endpoint::Endpoint;
use super::health::Tally;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A server as one process knows it, in the form in which another is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerState {
    pub group: String,
    pub address: SocketAddr,
    /// What the checks say.
    pub up: bool,
    pub last_failure: Option<String>,
    /// When it went up or down.
    pub since: SystemTime,
    pub ejected: Option<EjectedState>,
    /// See [`Latency`](super::latency::Latency).
    pub latency: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EjectedState {
    pub why: String,
    pub left: Duration,
    /// How many ejections make the next one longer.
    pub times: u32,
}

impl Endpoint {
    pub(super) fn state_of(&self, group: &str) -> ServerState {
        let health = self.health();
        let ejected = self.known_conduct().and_then(|conduct| conduct.record.handed_over(Instant::now()));
        ServerState {
            group: group.to_owned(),
            address: self.address(),
            up: self.is_up(),
            last_failure: health.last_failure.as_deref().map(str::to_owned),
            since: health.since,
            ejected: ejected.map(|(ejection, left, times)| EjectedState {
                why: ejection.why.as_ref().into(),
                left,
                times,
            }),
            latency: self.latency().word(),
        }
    }

    /// Goes on from what another process knew. For an endpoint that nobody uses yet.
    pub(super) fn resume(&self, state: &ServerState) {
        let tally = if state.up { Tally::default() } else { Tally::known_down() };
        self.resume_health(tally, state.last_failure.as_deref().map(Arc::from), state.since);
        self.latency().set_word(state.latency);
        if let Some(ejected) = &state.ejected {
            let now = Instant::now();
            self.conduct(now).record.resume(now, ejected.why.as_str().into(), ejected.left, ejected.times);
            self.heed_conduct();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::file::InitialHealth;
    use crate::config::plan::{Outlier, Statuses};
    use crate::upstream::Registry;
    use crate::upstream::endpoint::Heed;
    use crate::upstream::health::Thresholds;
    use crate::upstream::latency::{Decay, Moment};
    use std::net::SocketAddr;
    use std::num::NonZeroU16;
    use std::time::{Duration, Instant, SystemTime};

    #[test]
    fn what_one_process_knew_another_goes_on_from() {
        let once = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let old = Registry::new();
        let [sick, bad, well] = [1, 2, 3].map(|port| old.endpoint("api", at(port), InitialHealth::Up));
        sick.observe(Err("status 500"), once, SystemTime::now());
        let rules = Outlier {
            consecutive_failures: Some(1),
            failure_share: None,
            latency: None,
            statuses: Statuses::default(),
            ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(60),
            max_ejected: 10_000,
        };
        bad.conduct(Instant::now()).record.eject(Instant::now(), &rules, "5 failures in a row".into());
        bad.heed_conduct();
        let decay = Decay::over(Duration::from_secs(10));
        well.latency().observe(Duration::from_millis(20), Moment::now(), decay);

        let text = serde_json::to_string(&old.states()).unwrap();
        let new = Registry::new();
        new.resume(serde_json::from_str(&text).unwrap());
        let [sick, bad, well] = [1, 2, 3].map(|port| new.endpoint("api", at(port), InitialHealth::Up));
        assert!(!sick.is_up() && bad.is_up() && well.is_up());
        assert_eq!(sick.health().last_failure.as_deref(), Some("status 500"));
        let all = Heed::of(true, true, true);
        assert!(!bad.takes_sessions(all) && well.takes_sessions(all));
        let ejection = bad.known_conduct().unwrap().record.ejection().unwrap();
        assert_eq!(&*ejection.why, "5 failures in a row");
        assert!(ejection.until <= Instant::now() + rules.ejection);
        let expected = well.latency().expected(Moment::now(), decay).unwrap();
        assert!((15_000.0..25_000.0).contains(&expected), "{expected}");
        // one check that passes brings it back, as in the process before
        assert!(sick.observe(Ok(()), once, SystemTime::now()).is_some());
    }
}
