//! Values that servers set, such as the ids of their sessions, and which server set each. Bounded,
//! and forgotten when they are not used; kept by the [`Registry`](super::Registry) across reloads.
//!
//! A value is kept as a keyed hash, so that nobody who reads this memory can take over a session.

use crate::config::plan;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::fmt;
use std::net::SocketAddr;

/// Longer values are not looked at; cookies are no longer either (RFC 6265 §6.1).
const LONGEST: usize = 4096;

/// What is known of the values of one group.
pub struct Learned {
    plan: plan::Learn,
    key: hmac::Key,
    known: Cache<Session, SocketAddr>,
}

/// A value, as it is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session([u8; 16]);

impl Learned {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// A sentence for the operator, when the system has no randomness.
    pub fn build(plan: &plan::Learn) -> Result<Learned, String> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| "the system has no randomness".to_string())?;
        Ok(Learned { plan: plan.clone(), key: hmac::Key::new(HMAC_SHA256, &key), known: cache(plan) })
    }

    /// The same knowledge under other limits.
    pub fn with_limits(&self, plan: &plan::Learn) -> Learned {
        let known = cache(plan);
        for (session, server) in &self.known {
            known.insert(*session, server);
        }
        Learned { plan: plan.clone(), key: self.key.clone(), known }
    }

    pub fn plan(&self) -> &plan::Learn {
        &self.plan
    }

    /// How a value is remembered. `None` for what cannot be one.
    pub fn session(&self, value: &[u8]) -> Option<Session> {
        if value.is_empty() || value.len() > LONGEST {
            return None;
        }
        let tag = hmac::sign(&self.key, value);
        tag.as_ref().first_chunk().copied().map(Session)
    }

    /// The server that is known for it; this counts as a use.
    pub fn server(&self, session: &Session) -> Option<SocketAddr> {
        self.known.get(session)
    }

    /// From now on, whoever brings it goes to this server.
    pub fn remember(&self, session: Session, server: SocketAddr) {
        self.known.insert(session, server);
    }
}

impl fmt::Debug for Learned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learned").field("plan", &self.plan).field("known", &self.known.entry_count()).finish()
    }
}

/// The least recently used goes first: moka's own policy would rather refuse a new session than
/// forget one that was used often.
fn cache(plan: &plan::Learn) -> Cache<Session, SocketAddr> {
    Cache::builder()
        .max_capacity(u64::from(plan.entries))
        .time_to_idle(plan.ttl)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{Learn, LearnFrom};
    use std::time::{Duration, Instant};

    const HOUR: Duration = Duration::from_secs(3600);

    fn learned(entries: u32, ttl: Duration) -> Learned {
        Learned::build(&Learn { from: LearnFrom::Cookie("SID".into()), ttl, entries }).unwrap()
    }

    fn server(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn find(learned: &Learned, value: &str) -> Option<SocketAddr> {
        learned.server(&learned.session(value.as_bytes())?)
    }

    fn learn(learned: &Learned, value: &str, port: u16) {
        learned.remember(learned.session(value.as_bytes()).unwrap(), server(port));
    }

    #[test]
    fn a_value_is_found_again_and_can_move() {
        let learned = learned(10, HOUR);
        assert_eq!(find(&learned, "alice"), None);
        learn(&learned, "alice", 1);
        learn(&learned, "bob", 2);
        assert_eq!((find(&learned, "alice"), find(&learned, "bob")), (Some(server(1)), Some(server(2))));
        learn(&learned, "alice", 3);
        assert_eq!((find(&learned, "alice"), find(&learned, "alic")), (Some(server(3)), None));
    }

    #[test]
    fn what_cannot_be_a_session_is_none() {
        let learned = learned(10, HOUR);
        assert!(learned.session(b"").is_none());
        assert!(learned.session(&[b'a'; LONGEST]).is_some());
        assert!(learned.session(&[b'a'; LONGEST + 1]).is_none());
    }

    #[test]
    fn values_are_not_kept_in_the_clear_and_each_store_hashes_its_own_way() {
        let (one, two) = (learned(10, HOUR), learned(10, HOUR));
        let (in_one, in_two) = (one.session(b"alice").unwrap(), two.session(b"alice").unwrap());
        assert_eq!(in_one, one.session(b"alice").unwrap());
        assert_ne!(in_one, in_two);
    }

    #[test]
    fn the_least_recently_used_is_forgotten_first() {
        let learned = learned(100, HOUR);
        for n in 0..1000 {
            learn(&learned, &format!("user {n}"), 1);
            // used all the time, so never the oldest
            find(&learned, "user 0");
            learned.known.run_pending_tasks();
        }
        assert!(learned.known.entry_count() <= 100, "{learned:?}");
        for kept in ["user 0", "user 999", "user 950"] {
            assert!(find(&learned, kept).is_some(), "{kept}");
        }
        assert_eq!(find(&learned, "user 1"), None);
    }

    #[test]
    fn what_is_not_used_is_forgotten() {
        let learned = learned(10, Duration::from_millis(20));
        learn(&learned, "alice", 1);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // longer than the ttl, however the machine is loaded: asking is a use
            std::thread::sleep(Duration::from_millis(40));
            if find(&learned, "alice").is_none() {
                break;
            }
            assert!(Instant::now() < deadline, "still known");
        }
    }

    #[test]
    fn other_limits_keep_what_is_known() {
        let before = learned(100, HOUR);
        for n in 0..50 {
            learn(&before, &format!("user {n}"), n);
        }
        let after = before.with_limits(&Learn { ttl: 2 * HOUR, entries: 10, ..before.plan().clone() });
        after.known.run_pending_tasks();
        let known: Vec<u16> =
            (0..50).filter(|n| find(&after, &format!("user {n}")) == Some(server(*n))).collect();
        assert_eq!(known.len(), 10, "{known:?}");
        assert_eq!(find(&before, "user 7"), Some(server(7)), "the old store goes on until nobody uses it");
    }
}
