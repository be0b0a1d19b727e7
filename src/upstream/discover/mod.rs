//! Servers that come and go. A group has sources beside its own list: names in DNS and watched files. Each
//! is a Pingora `ServiceDiscovery` that [`watch`](fn@watch) asks again and again, and the group adopts what it says.
//!
//! - [`dns`]: the addresses of a name, or its SRV records, whose arithmetic is in [`srv`].
//! - [`resolver`]: one question to DNS and its answer, by hickory.
//! - [`file`](mod@file): a file with a list of servers.
//! - [`pace`]: when to ask again.
//! - [`watch`](mod@watch): the tasks that ask.
//!
//! A source that fails says nothing about its servers: the group keeps those it had. That a name does not
//! exist, or has no addresses, is such a failure too: a slip in a zone must not take every server away.

pub mod dns;
pub mod file;
pub mod pace;
pub mod resolver;
pub mod srv;
pub mod watch;

pub use resolver::Resolvers;
pub use watch::watch;

use crate::config::plan::{self, Member};
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::{Error, ErrorType};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Extensions};
use std::collections::BTreeSet;
use std::time::Duration;

/// A source of servers, with the pace at which it wants to be asked. Each backend that `discover`
/// returns carries its [`Member`] in `ext`.
pub trait Source: ServiceDiscovery + Send + Sync {
    /// How long what it last said holds.
    fn good_for(&self) -> Duration;

    /// When to ask again after this many failures in a row, from 1. `random` is from 0 up to 1.
    fn retry_after(&self, failures: u32, random: f64) -> Duration;

    /// Whether a failure for another reason than the last is news, or part of one outage.
    fn each_reason_is_news(&self) -> bool;
}

/// Builds a source. `group` is for what it says in the process log.
pub fn source(plan: &plan::Discovery, group: &str, resolvers: &mut Resolvers) -> Box<dyn Source> {
    match plan {
        plan::Discovery::Dns(plan) => {
            let resolver = resolvers.get(&plan.dns);
            Box::new(dns::DnsSource::new(plan.clone(), group, resolver))
        }
        plan::Discovery::File(plan) => Box::new(file::FileSource::new(plan.clone())),
    }
}

/// As Pingora wants them; in the order of their addresses, so that an order which changes from answer to
/// answer means nothing.
fn backends(members: impl IntoIterator<Item = Member>) -> BTreeSet<Backend> {
    let backend = |member: Member| {
        let mut ext = Extensions::new();
        let (addr, weight) = (PingoraAddress::Inet(member.address), usize::from(member.weight.get()));
        ext.insert(member);
        Backend { addr, weight, ext }
    };
    members.into_iter().map(backend).collect()
}

/// The members that these backends carry.
fn members(backends: BTreeSet<Backend>) -> Vec<Member> {
    backends.into_iter().filter_map(|mut backend| backend.ext.remove::<Member>()).collect()
}

/// Why a source has nothing to say, in words for the process log.
fn failure(why: impl Into<String>) -> Box<Error> {
    Error::explain(ErrorType::Custom("Discovery"), why.into())
}
