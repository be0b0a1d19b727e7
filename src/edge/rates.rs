//! How often clients connect: to a listener in all, and each of them. Asked by `place` before a byte is read, but for what
//! a proxy says of the client.
//!
//! A rate is a token bucket, kept as the time at which it will be full again (the virtual scheduling algorithm of ITU-T
//! I.371, known as GCRA): one number for each client, and nothing to be done as time goes by. As many clients are remembered
//! as fit in a table of fixed size: where another one has no room, the one whose bucket is fullest is forgotten, which has
//! lost the least by it.

use crate::units::Rate;
use ahash::RandomState;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So that workers seldom wait for each other.
const SHARDS: usize = 16;
const SETS: usize = 512;
/// Clients that share a set: one of them may be forgotten for another. 65,536 in all, which is a megabyte.
const WAYS: usize = 8;

type Sets = Box<[[Known; WAYS]]>;

/// The connections to one address that is listened on.
pub struct Rates {
    since: Instant,
    /// When the bucket of the listener is full again.
    full_at: AtomicU64,
    /// Made for the first client of a listener that counts them.
    clients: OnceLock<[Mutex<Sets>; SHARDS]>,
    hasher: RandomState,
}

/// The bucket of a client; one that was never used is full.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    client: u64,
    full_at: u64,
}

impl Default for Rates {
    fn default() -> Self {
        let hasher = RandomState::new();
        Rates { since: Instant::now(), full_at: AtomicU64::new(0), clients: OnceLock::new(), hasher }
    }
}

impl Rates {
    /// Whether somebody may connect now.
    pub fn admit(&self, rate: Rate, now: Instant) -> bool {
        let now = self.nanos(now);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.full_at.fetch_update(set, fetch, |full_at| taken(full_at, rate, now)).is_ok()
    }

    /// Whether this client may connect now, as `clients` counts it.
    pub fn admit_client(&self, client: IpAddr, rate: Rate, now: Instant) -> bool {
        let now = self.nanos(now);
        let empty = || std::array::from_fn(|_| Mutex::new(vec![[Known::default(); WAYS]; SETS].into()));
        let shards = self.clients.get_or_init(empty);
        // its address cannot be told from it, nor another one with the same be found
        let client = self.hasher.hash_one(client).max(1);
        let (shard, set) = (client as usize % SHARDS, client as usize / SHARDS % SETS);
        let Some(mut sets) = shards.get(shard).map(Mutex::lock) else { return true };
        let Some(set) = sets.get_mut(set) else { return true };
        let Some(known) = place_of(client, set) else { return true };
        match taken(known.full_at, rate, now) {
            Some(full_at) => {
                known.full_at = full_at;
                true
            }
            None => false,
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.since))
    }
}

/// That of this client, or else of whoever has the fullest bucket, who is forgotten for it.
fn place_of(client: u64, set: &mut [Known; WAYS]) -> Option<&mut Known> {
    let known = set.iter().position(|known| known.client == client);
    if let Some(at) = known {
        return set.get_mut(at);
    }
    let place = set.iter_mut().min_by_key(|known| known.full_at)?;
    *place = Known { client, full_at: 0 };
    Some(place)
}

/// When the bucket will be full again once one more is taken out of it; `None` when there is none in it.
fn taken(full_at: u64, rate: Rate, now: u64) -> Option<u64> {
    let count = u64::from(rate.count().get());
    let each = (nanos(rate.span()) / count).max(1);
    let after = full_at.max(now).saturating_add(each);
    (after - now <= each.saturating_mul(count)).then_some(after)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn client(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from(n).into()
    }

    #[test]
    fn as_many_as_fit_in_come_at_once_and_then_one_by_one() {
        let rates = Rates::default();
        let now = rates.since;
        let at = |millis| now + Duration::from_millis(millis);
        let burst = |millis| (0..100).filter(|_| rates.admit(rate("10/s"), at(millis))).count();
        assert_eq!([0, 0, 99, 100, 350, 10_000, 10_050].map(burst), [10, 0, 0, 1, 2, 10, 0]);
    }

    #[test]
    fn no_span_has_more_than_a_burst_and_what_has_come_since() {
        for seed in 0..50 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let rates = Rates::default();
            let limit = rate(["7/s", "600/m", "3600/h", "3/m"][dice.usize(..4)]);
            let mut admitted: Vec<Duration> = Vec::new();
            let mut now = Duration::ZERO;
            for _ in 0..2000 {
                now += Duration::from_millis(dice.u64(..200));
                if rates.admit(limit, rates.since + now) {
                    admitted.push(now);
                }
            }
            let most = limit.count().get() as usize;
            for (i, first) in admitted.iter().enumerate() {
                let within = |span: u32| {
                    admitted[i..].iter().take_while(|at| **at < *first + limit.span() * span).count()
                };
                assert!(within(1) <= 2 * most && within(3) <= 4 * most, "seed {seed}, {limit}");
            }
            let spans = now.as_secs_f64() / limit.span().as_secs_f64();
            let expected = (spans * most as f64).min(2000.0 * 0.9);
            assert!(admitted.len() as f64 >= expected * 0.9, "seed {seed}, {limit}: {}", admitted.len());
        }
    }

    #[test]
    fn each_client_has_its_own() {
        let rates = Rates::default();
        let ask = |n| rates.admit_client(client(n), rate("2/m"), rates.since);
        assert_eq!([1, 1, 1, 2, 2, 2].map(ask), [true, true, false, true, true, false]);
        let later = rates.since + Duration::from_secs(30);
        assert!(rates.admit_client(client(1), rate("2/m"), later));
        assert!(!rates.admit_client(client(1), rate("2/m"), later));
    }

    #[test]
    fn a_crowd_of_clients_takes_no_more_room_and_frees_nobody_who_was_refused() {
        let rates = Rates::default();
        let limit = rate("5/m");
        while rates.admit_client(client(0), limit, rates.since) {}
        // more than are remembered, each of them once
        for n in 1..300_000 {
            assert!(rates.admit_client(client(n), limit, rates.since));
        }
        assert!(!rates.admit_client(client(0), limit, rates.since), "it has the emptiest bucket");
        let kept: usize = rates.clients.get().unwrap().iter().map(|shard| shard.lock().len() * WAYS).sum();
        assert_eq!(kept, 65_536);
    }

    #[test]
    fn threads_share_what_there_is() {
        let rates = Rates::default();
        let now = rates.since;
        let limit = rate("1000/h");
        let admitted: usize = std::thread::scope(|scope| {
            let count = || (0..1000).filter(|_| rates.admit(limit, now)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }
}
