//! What of the live state of a server goes to a process that takes the place of this one: whether it is up, why it
//! is ejected or drains and for how much longer, what was done to it by hand, how long it takes to answer. Requests in
//! flight end with the process that they came to.

use super::endpoint::{Drain, DrainReason, Endpoint};
use super::group::Group;
use super::health::Tally;
use super::registry::Registry;
use crate::config::plan::Member;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
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
    /// A process of an earlier version does not tell this, nor the next.
    #[serde(default)]
    pub draining: Option<DrainingState>,
    #[serde(default)]
    pub standing: Option<Standing>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EjectedState {
    pub why: String,
    pub left: Duration,
    /// How many ejections make the next one longer.
    pub times: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainingState {
    pub why: DrainReason,
    pub since: SystemTime,
    /// For how much longer it keeps the sessions that are its own.
    pub left: Duration,
}

/// What the sources of a group said last of a server, and the weight that it has, which is another one where somebody has
/// given it one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub said: Said,
    pub weighs: NonZeroU16,
}

/// What the configuration or discovery says of a server that somebody may overrule while the process runs: that holds until
/// another thing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub weight: NonZeroU16,
    pub drain: bool,
}

impl From<&Member> for Said {
    fn from(member: &Member) -> Said {
        Said { weight: member.weight, drain: member.drain }
    }
}

/// What is known of all servers, for a process that takes the place of this one; of those in these groups, which are in use,
/// also where they stand.
pub fn states(registry: &Registry, groups: &[Arc<Group>]) -> Vec<ServerState> {
    let of_group = |group: &Arc<Group>| {
        (group.name().to_owned(), group.standings().into_iter().collect::<HashMap<_, _>>())
    };
    let standings: HashMap<String, HashMap<SocketAddr, Standing>> = groups.iter().map(of_group).collect();
    let mut states = registry.states();
    for state in &mut states {
        let known = standings.get(&state.group).and_then(|group| group.get(&state.address));
        state.standing = known.copied();
    }
    states
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
            draining: self.drain().and_then(draining),
            standing: None,
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
        if let Some(draining) = &state.draining {
            let until = Instant::now() + draining.left;
            self.resume_drain(Drain { why: draining.why, since: draining.since, until });
        }
    }
}

/// One that is removed comes new, if it comes.
fn draining(drain: Drain) -> Option<DrainingState> {
    let Drain { why, since, until } = drain;
    let left = until.saturating_duration_since(Instant::now());
    (why != DrainReason::Removed).then_some(DrainingState { why, since, left })
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
