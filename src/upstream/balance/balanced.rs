//! An [`Algorithm`] as Pingora's `BackendSelection`: the servers of a group divided into lanes by
//! tier and zone, a table of the algorithm for each, and the offers that one request gets from them.

use super::algorithm::{Algorithm, Ask, Lane};
use super::key_hash;
use super::tiers::{Shares, Standing};
use super::{Selection, Shape};
use crate::config::file::SpillOver;
use crate::upstream::changes::Changes;
use crate::upstream::endpoint::FULL_WARMTH;
use crate::upstream::{Server, membership};
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many candidates of its algorithm a request looks at before it takes any server: with a
/// weight of a thousand the turn of another may be hundreds of turns away.
const LOOK_AHEAD: usize = 64;

/// An algorithm with the servers of a group.
pub struct Balanced<A: Algorithm> {
    /// By tier, the local servers of a tier first.
    lanes: Box<[Part]>,
    settings: A::Settings,
    spill_over: SpillOver,
    changes: Arc<Changes>,
    tables: ArcSwap<Tables<A>>,
    /// Held while tables are made, so that older ones never take the place of newer ones.
    making: Mutex<()>,
}

/// The servers of a tier, or those of them that are near or far.
struct Part {
    tier: u16,
    local: bool,
    lane: Lane,
    /// Beside the servers of the lane.
    backends: Box<[Backend]>,
}

/// What was made from the state of the servers at one time.
struct Tables<A> {
    /// The [`Changes`] it was made at.
    made_at: u64,
    /// For each lane.
    algorithms: Box<[Arc<A>]>,
    shares: Shares,
    any_usable: bool,
}

/// What a group tells an algorithm.
pub struct Setting<A: Algorithm> {
    pub shape: Shape,
    pub settings: A::Settings,
    /// What chose until now, to go on from.
    pub before: Option<Arc<Balanced<A>>>,
}

impl<A: Algorithm> BackendSelection for Balanced<A>
where
    A::Settings: Default,
{
    type Iter = Offers<A>;
    type Config = Setting<A>;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        let setting = Setting { shape: Shape::default(), settings: A::Settings::default(), before: None };
        Self::build_with_config(backends, &setting)
    }

    fn build_with_config(backends: &BTreeSet<Backend>, setting: &Setting<A>) -> Self {
        let Setting { shape, settings, before } = setting;
        let lanes = parts(backends, shape);
        let made_at = shape.changes.seen();
        let before = before.as_deref();
        let algorithms = lanes.iter().map(|part| {
            let earlier = before.and_then(|before| before.algorithm_of(part));
            Arc::new(A::build(&part.lane, settings, earlier.as_deref()))
        });
        let algorithms = algorithms.collect();
        let rule = rule(&shape.changes, shape.spill_over);
        let tables = Tables::of(made_at, algorithms, &lanes, rule);
        Balanced {
            settings: settings.clone(),
            spill_over: shape.spill_over,
            changes: shape.changes.clone(),
            tables: ArcSwap::from_pointee(tables),
            making: Mutex::new(()),
            lanes,
        }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Offers<A> {
        Offers::new(self.clone(), key)
    }
}

impl<A: Algorithm> Balanced<A> {
    /// Makes the tables anew when the state of a server has changed. To be called off the request
    /// path; until then, requests pass over servers that are no longer usable.
    pub fn refresh(&self) {
        let _making = self.making.lock();
        let now = self.changes.seen();
        let before = self.tables.load();
        if before.made_at == now {
            return;
        }
        let algorithms = self.lanes.iter().enumerate().map(|(index, part)| {
            let earlier = before.algorithms.get(index);
            Arc::new(A::build(&part.lane, &self.settings, earlier.map(Arc::as_ref)))
        });
        let algorithms = algorithms.collect();
        let rule = rule(&self.changes, self.spill_over);
        self.tables.store(Arc::new(Tables::of(now, algorithms, &self.lanes, rule)));
    }

    /// The table of the same lane in this selection.
    fn algorithm_of(&self, part: &Part) -> Option<Arc<A>> {
        let index = self.lanes.iter().position(|p| (p.tier, p.local) == (part.tier, part.local))?;
        self.tables.load().algorithms.get(index).cloned()
    }
}

/// How tiers and zones share; `None` in a panic, when all servers take part.
fn rule(changes: &Changes, spill_over: SpillOver) -> Option<SpillOver> {
    (!changes.panics()).then_some(spill_over)
}

/// A server, and what stands for it at Pingora's.
type Entry = (Backend, Arc<Server>);

/// The lanes of these backends.
fn parts(backends: &BTreeSet<Backend>, shape: &Shape) -> Box<[Part]> {
    let servers = shape.servers.load();
    // by tier, then far or near
    let mut lanes: BTreeMap<(u16, bool), Vec<Entry>> = BTreeMap::new();
    for backend in backends {
        let Some(server) = servers.find(backend) else { continue };
        let local = shape.zone.is_some() && server.zone == shape.zone;
        lanes.entry((server.tier, !local)).or_default().push((backend.clone(), server.clone()));
    }
    let part = |((tier, far), mut members): ((u16, bool), Vec<Entry>)| {
        members.sort_unstable_by_key(|(_, server)| server.place);
        let (backends, servers): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        Part { tier, local: !far, lane: Lane::new(servers), backends: backends.into() }
    };
    lanes.into_iter().map(part).collect()
}

impl<A> Tables<A> {
    fn of(made_at: u64, algorithms: Box<[Arc<A>]>, lanes: &[Part], rule: Option<SpillOver>) -> Tables<A> {
        let standings: Vec<Standing> = lanes.iter().map(Part::standing).collect();
        let any_usable = standings.iter().any(|standing| standing.usable > 0);
        let shares = rule.map_or_else(|| Shares::by_weight(&standings), |rule| Shares::of(&standings, rule));
        Tables { made_at, algorithms, shares, any_usable }
    }
}

impl Part {
    fn standing(&self) -> Standing {
        let sum = |count: &dyn Fn(&Server) -> bool| -> u64 {
            let counted = self.lane.servers().iter().filter(|server| count(server));
            counted.map(|server| u64::from(server.weight())).sum()
        };
        Standing {
            tier: self.tier,
            local: self.local,
            usable: sum(&Server::usable),
            // one that is on its way out is not missing
            total: sum(&|server| !membership::is_leaving(server)),
        }
    }
}

/// The servers offered to one request: those its algorithm names, then the rest of their lane,
/// then those of the other lanes; usable ones only, each once.
pub struct Offers<A: Algorithm> {
    balanced: Arc<Balanced<A>>,
    tables: Guard<Arc<Tables<A>>>,
    ask: Ask,
    /// The lane drawn, and the one that is gone through now.
    drawn: usize,
    lane: usize,
    stage: Stage,
}

enum Stage {
    /// Candidates of the algorithm.
    Table,
    /// All servers of the lane, this many past the one to begin with.
    Rest(usize),
}

impl<A: Algorithm> Offers<A> {
    fn new(balanced: Arc<Balanced<A>>, key: &[u8]) -> Offers<A> {
        let hash = if key.is_empty() { fastrand::u64(..) } else { key_hash::of(key) };
        let tables = balanced.tables.load();
        let drawn = tables.shares.lane(hash);
        Offers { balanced, tables, ask: Ask::new(hash), drawn, lane: drawn, stage: Stage::Table }
    }

    /// The next server to offer, as an index into the current lane.
    fn find(&mut self) -> Option<usize> {
        loop {
            let (Some(part), Some(algorithm)) =
                (self.balanced.lanes.get(self.lane), self.tables.algorithms.get(self.lane))
            else {
                return None;
            };
            let lane = &part.lane;
            let candidate = match self.stage {
                Stage::Table => {
                    let more = self.ask.nth < LOOK_AHEAD;
                    let candidate = more.then(|| algorithm.candidate(lane, &mut self.ask)).flatten();
                    self.ask.nth += 1;
                    match candidate {
                        Some(index) if is_spared::<A>(lane, index, &self.ask) => continue,
                        Some(index) => index,
                        None if self.nobody() => return None,
                        None => {
                            self.stage = Stage::Rest(0);
                            continue;
                        }
                    }
                }
                Stage::Rest(past) if past < lane.servers().len() => {
                    self.stage = Stage::Rest(past + 1);
                    self.start().wrapping_add(past).checked_rem(lane.servers().len())?
                }
                Stage::Rest(_) => {
                    self.next_lane()?;
                    continue;
                }
            };
            if lane.is_usable(candidate) && !self.ask.was_offered(candidate) {
                self.ask.offer(candidate);
                return Some(candidate);
            }
        }
    }

    /// The next server to offer.
    pub fn next_server(&mut self) -> Option<&Arc<Server>> {
        let index = self.find()?;
        self.balanced.lanes.get(self.lane)?.lane.servers().get(index)
    }

    /// Nothing is usable, as far as is known: no need to go and see.
    fn nobody(&self) -> bool {
        !self.tables.any_usable && self.tables.made_at == self.balanced.changes.seen()
    }

    /// Where to begin with the rest of a lane, so that they are not all sent to its first server.
    fn start(&self) -> usize {
        // any bits will do
        (self.ask.hash >> 33) as usize
    }

    /// On to the other lanes, in order.
    fn next_lane(&mut self) -> Option<()> {
        let next = if self.lane == self.drawn { 0 } else { self.lane + 1 };
        let next = if next == self.drawn { next + 1 } else { next };
        if next >= self.balanced.lanes.len() {
            return None;
        }
        self.lane = next;
        self.ask = Ask::new(self.ask.hash);
        self.stage = Stage::Table;
        Some(())
    }
}

/// Whether a server that is warming up is passed over this time, so that it gets as much of its
/// share as it is warm. The same key is passed over the same time: as the server warms up, keys
/// come to it and stay.
fn is_spared<A: Algorithm>(lane: &Lane, index: usize, ask: &Ask) -> bool {
    if A::HEEDS_WARMTH {
        return false;
    }
    let Some(server) = lane.servers().get(index) else { return false };
    let warmth = server.endpoint.warmth();
    if warmth >= FULL_WARMTH {
        return false;
    }
    let draw = ask.hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 56;
    draw >= u64::from(warmth)
}

impl<A: Algorithm> BackendIter for Offers<A> {
    fn next(&mut self) -> Option<&Backend> {
        let index = self.find()?;
        self.balanced.lanes.get(self.lane)?.backends.get(index)
    }
}

/// A selection that is one of several kinds.
pub trait Kind: Algorithm {
    /// This selection, if it is of this kind.
    fn of(selection: &Selection) -> Option<&Arc<Balanced<Self>>>;
}

#[cfg(test)]
mod tests;
