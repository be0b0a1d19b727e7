//! How a server is chosen: one file per algorithm, each a `BackendSelection` of Pingora's, and
//! the switch between them. An algorithm offers usable servers only, best first, each once; what
//! was tried already is for the caller to decline.

pub mod algorithm;
pub mod alias;
pub mod least;
pub mod least_connections;
pub mod least_time;
pub mod pool;
pub mod power_of_two;
pub mod random;
pub mod round_robin;
mod smooth;
#[cfg(test)]
mod tests;

use super::Servers;
use super::endpoint::Changes;
use crate::config::file::Balance;
use pingora_load_balancing::Backend;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use round_robin::RoundRobin;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a group tells its algorithm.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    pub balance: Balance,
    /// What the backends of the group stand for.
    pub servers: Servers,
    /// Grows when a server of the group goes up or down.
    pub changes: Arc<Changes>,
}

/// The algorithm of a group.
pub enum Selection {
    RoundRobin(Arc<RoundRobin>),
}

/// The servers that one request is offered.
pub enum Offers {
    RoundRobin(round_robin::Offers),
}

/// Whether there is an algorithm of this name.
///
/// # Errors
/// A sentence for the operator.
pub fn supported(balance: &Balance) -> Result<(), String> {
    match balance {
        Balance::RoundRobin => Ok(()),
        Balance::Random
        | Balance::LeastConnections
        | Balance::PowerOfTwo
        | Balance::LeastTime(_)
        | Balance::IpHash
        | Balance::Hash(_)
        | Balance::ConsistentHash(_)
        | Balance::Maglev(_) => Err(format!("not supported yet: balance {balance}")),
    }
}

impl BackendSelection for Selection {
    type Iter = Offers;
    type Config = Shape;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Shape::default())
    }

    fn build_with_config(backends: &BTreeSet<Backend>, shape: &Shape) -> Self {
        match shape.balance {
            // the others do not come here: see `supported`
            Balance::RoundRobin
            | Balance::Random
            | Balance::LeastConnections
            | Balance::PowerOfTwo
            | Balance::LeastTime(_)
            | Balance::IpHash
            | Balance::Hash(_)
            | Balance::ConsistentHash(_)
            | Balance::Maglev(_) => {
                Selection::RoundRobin(Arc::new(RoundRobin::build_with_config(backends, shape)))
            }
        }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Offers {
        match &**self {
            Selection::RoundRobin(algorithm) => Offers::RoundRobin(algorithm.iter(key)),
        }
    }
}

impl BackendIter for Offers {
    fn next(&mut self) -> Option<&Backend> {
        match self {
            Offers::RoundRobin(offers) => offers.next(),
        }
    }
}
