//! How a server is chosen: one file per algorithm, and the switch between them. What an algorithm
//! is stands in [`algorithm`]; [`balanced`] makes each a `BackendSelection` of Pingora's that offers
//! usable servers only, best first, each once. What was tried already is for the caller to decline.
//! [`tiers`] says which part of the requests goes to which tier and zone.

pub mod algorithm;
pub mod alias;
pub mod balanced;
mod client_key;
pub mod consistent_hash;
pub mod hash;
pub mod key_hash;
pub mod least;
pub mod least_connections;
pub mod least_time;
pub mod maglev;
mod members;
pub mod pool;
pub mod power_of_two;
pub mod random;
mod ring;
pub mod round_robin;
mod smooth;
#[cfg(test)]
mod tests;
pub mod tiers;

pub use client_key::ClientKey;

use super::changes::Changes;
use super::{Server, Servers};
use crate::config::file::{Balance, SpillOver};
use arc_swap::{ArcSwap, ArcSwapOption};
use balanced::{Balanced, Kind, Setting};
use consistent_hash::ConsistentHash;
use hash::Hash;
use least_connections::LeastConnections;
use least_time::LeastTime;
use maglev::Maglev;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use power_of_two::PowerOfTwo;
use random::Random;
use round_robin::RoundRobin;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a group tells its algorithm. Clones share what changes.
#[derive(Clone, Default)]
pub struct Shape {
    pub balance: Balance,
    /// What the backends of the group stand for.
    pub servers: Arc<ArcSwap<Servers>>,
    /// Grows when the state of a server of the group changes.
    pub changes: Arc<Changes>,
    /// The zone of this process.
    pub zone: Option<Arc<str>>,
    pub spill_over: SpillOver,
    /// The selection that was built last, for whoever refreshes it.
    pub current: Arc<ArcSwapOption<Selection>>,
}

/// The kinds of selection: a variant for each algorithm.
macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// The algorithm of a group, with its servers. Clones are the same.
        #[derive(Clone)]
        pub enum Selection {
            $($kind(Arc<Balanced<$kind>>),)*
        }

        /// The servers that one request is offered.
        pub enum Offers {
            $($kind(balanced::Offers<$kind>),)*
        }

        impl Selection {
            /// Makes new tables when the state of a server has changed; not for the request path.
            pub fn refresh(&self) {
                match self {
                    $(Selection::$kind(balanced) => balanced.refresh(),)*
                }
            }
        }

        impl Offers {
            /// The next server, as [`BackendIter::next`] would offer it.
            pub fn next_server(&mut self) -> Option<&Arc<Server>> {
                match self {
                    $(Offers::$kind(offers) => offers.next_server(),)*
                }
            }
        }

        impl BackendIter for Offers {
            fn next(&mut self) -> Option<&Backend> {
                match self {
                    $(Offers::$kind(offers) => offers.next(),)*
                }
            }
        }

        fn offers(selection: &Selection, key: &[u8]) -> Offers {
            match selection {
                $(Selection::$kind(balanced) => Offers::$kind(balanced.iter(key)),)*
            }
        }

        $(impl Kind for $kind {
            fn of(selection: &Selection) -> Option<&Arc<Balanced<Self>>> {
                match selection {
                    Selection::$kind(balanced) => Some(balanced),
                    #[allow(unreachable_patterns, reason = "with a single kind there is no other")]
                    _ => None,
                }
            }
        })*
    };
}

kinds!(RoundRobin, Random, LeastConnections, PowerOfTwo, LeastTime, Hash, ConsistentHash, Maglev);

fn select(backends: &BTreeSet<Backend>, shape: &Shape) -> Selection {
    match &shape.balance {
        Balance::Random => Selection::Random(balanced(backends, shape, ())),
        Balance::LeastConnections => Selection::LeastConnections(balanced(backends, shape, ())),
        Balance::PowerOfTwo => Selection::PowerOfTwo(balanced(backends, shape, ())),
        Balance::LeastTime(settings) => Selection::LeastTime(balanced(backends, shape, settings.clone())),
        Balance::RoundRobin => Selection::RoundRobin(balanced(backends, shape, ())),
        // they differ in their keys, which are read by those who know the request
        Balance::IpHash | Balance::Hash(_) => Selection::Hash(balanced(backends, shape, ())),
        Balance::ConsistentHash(file) => {
            let settings = consistent_hash::Settings { max_load: file.max_load };
            Selection::ConsistentHash(balanced(backends, shape, settings))
        }
        Balance::Maglev(_) => Selection::Maglev(balanced(backends, shape, ())),
    }
}

/// The selection of this kind, which goes on from the one before.
fn balanced<A: Kind>(backends: &BTreeSet<Backend>, shape: &Shape, settings: A::Settings) -> Arc<Balanced<A>>
where
    A::Settings: Default,
{
    let current = shape.current.load();
    let before = current.as_deref().and_then(A::of).cloned();
    Arc::new(Balanced::build_with_config(backends, &Setting { shape: shape.clone(), settings, before }))
}

impl BackendSelection for Selection {
    type Iter = Offers;
    type Config = Shape;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Shape::default())
    }

    fn build_with_config(backends: &BTreeSet<Backend>, shape: &Shape) -> Self {
        let selection = select(backends, shape);
        shape.current.store(Some(Arc::new(selection.clone())));
        selection
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Offers {
        offers(self, key)
    }
}
