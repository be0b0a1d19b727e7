//! Servers found in DNS: the addresses of a name, or its SRV records.

use super::resolver::{Addresses, Family, Found, Resolver, Why};
use super::srv::{self, Target};
use super::{Source, backends, failure, pace};
use crate::config::plan::{DnsDiscovery, Families, Member, Records};
use crate::observe::events;
use async_trait::async_trait;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use parking_lot::Mutex;
use pingora_core::Result;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many targets of SRV records are asked for at once.
const AT_ONCE: usize = 16;

/// A name that is asked for again when its TTL is over.
pub struct DnsSource {
    plan: DnsDiscovery,
    group: String,
    resolver: Arc<Resolver>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    good_for: Duration,
    /// The last good addresses of each name.
    known: HashMap<String, Known>,
    /// Targets without an address, which has been said.
    lost: BTreeSet<String>,
}

/// The last good addresses of a name, by family: where DNS fails for one, the other is news all the same.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

/// Servers and for how long they hold.
type Answer = std::result::Result<(Vec<Member>, Duration), Why>;

impl DnsSource {
    pub fn new(plan: DnsDiscovery, group: &str, resolver: Arc<Resolver>) -> DnsSource {
        DnsSource { plan, group: group.to_owned(), resolver, state: Mutex::default() }
    }

    async fn ask(&self) -> Answer {
        match &self.plan.records {
            Records::Addresses { families, server } => self.ask_addresses(*families, server).await,
            Records::Srv => self.ask_srv().await,
        }
    }

    async fn ask_addresses(&self, families: Families, like: &Member) -> Answer {
        let name = &self.plan.name;
        let answer = self.resolver.addresses(name, families).await;
        let mut state = self.state.lock();
        let (ips, ttl) = state.known.entry(name.clone()).or_default().learn(answer)?;
        let server = |ip| Member { address: SocketAddr::new(ip, like.address.port()), ..like.clone() };
        Ok((ips.into_iter().map(server).collect(), ttl))
    }

    async fn ask_srv(&self) -> Answer {
        let found = self.resolver.ask(&self.plan.name, RecordType::SRV).await?;
        let records = services(&found)?;
        let answers = self.ask_targets(&records).await;
        self.servers(&records, found.ttl, answers)
    }

    /// The addresses of each target, asked for at once but not all of them.
    async fn ask_targets(&self, records: &[SRV]) -> HashMap<String, Addresses> {
        let names: BTreeSet<String> = records.iter().map(target).collect();
        let turn = Arc::new(Semaphore::new(AT_ONCE));
        let mut asking = JoinSet::new();
        for name in names {
            let (resolver, turn) = (self.resolver.clone(), turn.clone());
            asking.spawn(async move {
                let _turn = turn.acquire_owned().await;
                let answer = resolver.addresses(&name, Families::BOTH).await;
                (name, answer)
            });
        }
        let mut answers = HashMap::new();
        while let Some(asked) = asking.join_next().await {
            answers.extend(asked);
        }
        answers
    }

    /// A target of which nothing is known counts for nothing; one that could not be asked for keeps its
    /// last good addresses.
    fn servers(&self, records: &[SRV], ttl: Duration, answers: HashMap<String, Addresses>) -> Answer {
        let mut state = self.state.lock();
        state.known.retain(|name, _| answers.contains_key(name));
        let mut good_for = ttl;
        let mut addresses: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut lost = BTreeSet::new();
        let mut first_reason = None;
        for (name, answer) in answers {
            let known = state.known.entry(name.clone()).or_default();
            let ips = match known.learn(answer) {
                Ok((ips, ttl)) => {
                    good_for = good_for.min(ttl);
                    ips
                }
                Err(why) => {
                    let why = why.into_words();
                    if !state.lost.contains(&name) {
                        events::target_lost(&self.group, &self.plan.name, &name, &why);
                    }
                    first_reason.get_or_insert_with(|| format!("target {name}: {why}"));
                    lost.insert(name.clone());
                    state.known.get(&name).map(Known::all).unwrap_or_default()
                }
            };
            addresses.insert(name, ips);
        }
        state.lost = lost;
        let target = |record: &SRV| Target {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            addresses: addresses.get(&target(record)).cloned().unwrap_or_default(),
        };
        let members = srv::members(&records.iter().map(target).collect::<Vec<_>>());
        match (members.is_empty(), first_reason) {
            (true, reason) => Err(Why::Failed(reason.unwrap_or_else(|| "no target has an address".into()))),
            (false, _) => Ok((members, good_for)),
        }
    }
}

/// The SRV records that name a server: a target of `.` says that the service is not to be had (RFC 2782).
fn services(found: &Found) -> std::result::Result<Vec<SRV>, Why> {
    let service = |record: &RData| match record {
        RData::SRV(srv) if !srv.target.is_root() && srv.port != 0 => Some(srv.clone()),
        _ => None,
    };
    let services: Vec<_> = found.records.iter().filter_map(service).collect();
    match services.is_empty() {
        true => Err(Why::Nothing("the SRV records say that the service is not available".into())),
        false => Ok(services),
    }
}

/// The target's name, with the dot that keeps search domains away.
fn target(record: &SRV) -> String {
    record.target.to_lowercase().to_ascii()
}

impl Known {
    /// Takes an answer in, when it has any address; `Err` leaves everything as it was.
    fn learn(&mut self, answer: Addresses) -> std::result::Result<(Vec<IpAddr>, Duration), Why> {
        let mut ttl: Option<Duration> = None;
        let mut reasons = Vec::new();
        let mut family = |answer: Option<Family>, known: &[IpAddr]| match answer {
            None => Vec::new(),
            Some(Ok((ips, holds))) if !ips.is_empty() => {
                ttl = Some(ttl.map_or(holds, |ttl| ttl.min(holds)));
                ips
            }
            Some(Ok(_)) => {
                reasons.push(Why::Nothing("no address that a server can have".into()));
                Vec::new()
            }
            Some(Err(why @ Why::Nothing(_))) => {
                reasons.push(why);
                Vec::new()
            }
            Some(Err(why @ Why::Failed(_))) => {
                reasons.push(why);
                known.to_vec()
            }
        };
        let learnt = Known { v4: family(answer.v4, &self.v4), v6: family(answer.v6, &self.v6) };
        match ttl {
            Some(ttl) => {
                *self = learnt;
                Ok((self.all(), ttl))
            }
            None => Err(join(reasons)),
        }
    }

    fn all(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }
}

/// One reason for all. That DNS does not say outweighs that it says no.
fn join(reasons: Vec<Why>) -> Why {
    let failed = reasons.iter().any(|why| matches!(why, Why::Failed(_)));
    let mut words: Vec<String> = reasons
        .into_iter()
        .filter(|why| !failed || matches!(why, Why::Failed(_)))
        .map(Why::into_words)
        .collect();
    words.dedup();
    let words = words.join("; ");
    if failed { Why::Failed(words) } else { Why::Nothing(words) }
}

#[async_trait]
impl ServiceDiscovery for DnsSource {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let (members, ttl) = self.ask().await.map_err(|why| failure(why.into_words()))?;
        let dns = &self.plan.dns;
        self.state.lock().good_for = pace::clamped(ttl, dns.min_interval, dns.max_interval);
        Ok((backends(members), HashMap::new()))
    }
}

impl Source for DnsSource {
    fn good_for(&self) -> Duration {
        self.state.lock().good_for
    }

    fn retry_after(&self, failures: u32, random: f64) -> Duration {
        pace::backoff(failures, self.plan.dns.min_interval, self.plan.dns.max_interval, random)
    }

    fn each_reason_is_news(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn says(addresses: &[&str], ttl: u64) -> Option<Family> {
        Some(Ok((ips(addresses), Duration::from_secs(ttl))))
    }

    fn nothing() -> Option<Family> {
        Some(Err(Why::Nothing("none".into())))
    }

    fn fails() -> Option<Family> {
        Some(Err(Why::Failed("SERVFAIL".into())))
    }

    #[test]
    fn both_families_count_and_the_shorter_ttl() {
        let mut known = Known::default();
        let answer = Addresses { v4: says(&["10.0.0.1"], 30), v6: says(&["::1"], 5) };
        assert_eq!(known.learn(answer), Ok((ips(&["10.0.0.1", "::1"]), Duration::from_secs(5))));
        let answer = Addresses { v4: says(&["10.0.0.2"], 30), v6: nothing() };
        assert_eq!(known.learn(answer), Ok((ips(&["10.0.0.2"]), Duration::from_secs(30))));
    }

    #[test]
    fn a_family_that_fails_keeps_its_addresses_while_the_other_changes() {
        let mut known = Known::default();
        known.learn(Addresses { v4: says(&["10.0.0.1"], 30), v6: says(&["::1"], 30) }).unwrap();
        let answer = Addresses { v4: says(&["10.0.0.2"], 30), v6: fails() };
        assert_eq!(known.learn(answer).unwrap().0, ips(&["10.0.0.2", "::1"]));
    }

    #[test]
    fn without_any_address_nothing_is_learnt() {
        let mut known = Known::default();
        known.learn(Addresses { v4: says(&["10.0.0.1"], 30), v6: nothing() }).unwrap();
        let before = known.clone();
        for (v4, v6, why) in [
            (nothing(), nothing(), Why::Nothing("none".into())),
            (nothing(), fails(), Why::Failed("SERVFAIL".into())),
            (fails(), None, Why::Failed("SERVFAIL".into())),
            (says(&[], 30), None, Why::Nothing("no address that a server can have".into())),
        ] {
            assert_eq!(known.learn(Addresses { v4, v6 }), Err(why));
            assert_eq!(known, before);
        }
    }
}
