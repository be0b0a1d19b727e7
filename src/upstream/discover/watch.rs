//! The tasks that ask: one for each source, so that a silent one delays no other. Called by `run::server`
//! from a background service.

use super::resolver::Resolvers;
use super::{Source, members, source};
use crate::config::plan::Member;
use crate::observe::events;
use crate::upstream::{Group, tasks};
use pingora_core::Error;
use pingora_core::server::ShutdownWatch;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How long the first answers are waited for before requests are served without them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the sources of a group until the shutdown, or until it is dropped. `begun` is told when every
/// source has answered or failed once, or does not within five seconds; at once when there is none, and nothing to do
/// either. To be called within a tokio runtime.
pub fn watch(
    group: &Arc<Group>,
    resolvers: &mut Resolvers,
    begun: oneshot::Sender<()>,
    shutdown: ShutdownWatch,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    if group.plan().discover.is_empty() {
        group.begin();
        // nobody may be waiting
        begun.send(()).ok();
        return None;
    }
    let mut tasks = JoinSet::new();
    let (first, firsts) = mpsc::channel(1);
    for (place, plan) in group.plan().discover.iter().enumerate() {
        let asked = source(plan, group.name(), resolvers);
        let told = Told::new(group.name(), plan);
        let group = group.clone();
        let adopt = move |members| {
            // the group's own list is its source 0
            if let Err(error) = group.adopt(place + 1, members) {
                log::error!(target: events::DISCOVERY, "upstream {:?}: {error}", group.name());
            }
        };
        tasks.spawn(follow(asked, told, adopt, first.clone()));
    }
    drop(first);
    tasks.spawn(wait_for(firsts, group.clone(), begun));
    Some(tasks::run(tasks, shutdown, |error| {
        log::error!(target: events::DISCOVERY, "a source of servers ended: {error}");
    }))
}

/// Every sender of `firsts` is dropped after a first answer.
async fn wait_for(mut firsts: mpsc::Receiver<()>, group: Arc<Group>, begun: oneshot::Sender<()>) {
    let all = async { while firsts.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, all).await.ok();
    group.begin();
    // nobody may be waiting
    begun.send(()).ok();
}

/// Asks one source for ever.
async fn follow(
    source: Box<dyn Source>,
    mut told: Told,
    adopt: impl Fn(Vec<Member>),
    first: mpsc::Sender<()>,
) {
    let mut first = Some(first);
    loop {
        let pause = match source.discover().await {
            Ok((backends, _)) => {
                let members = members(backends);
                told.answered(&members);
                adopt(members);
                source.good_for()
            }
            Err(error) => {
                told.failed(&error, source.each_reason_is_news());
                source.retry_after(told.failures, fastrand::f64())
            }
        };
        first.take();
        tokio::time::sleep(pause).await;
    }
}

/// What the process log knows of a source.
struct Told {
    group: String,
    name: String,
    /// The servers that it last named.
    servers: BTreeSet<SocketAddr>,
    /// In a row.
    failures: u32,
    reason: String,
}

impl Told {
    fn new(group: &str, name: &dyn std::fmt::Display) -> Told {
        Told {
            group: group.to_owned(),
            name: name.to_string(),
            servers: BTreeSet::new(),
            failures: 0,
            reason: String::new(),
        }
    }

    fn answered(&mut self, members: &[Member]) {
        if std::mem::take(&mut self.failures) > 0 {
            events::discovery_recovered(&self.group, &self.name);
        }
        let servers: BTreeSet<SocketAddr> = members.iter().map(|member| member.address).collect();
        if servers != self.servers {
            let new = servers.difference(&self.servers).count();
            let gone = self.servers.difference(&servers).count();
            events::discovered(&self.group, &self.name, servers.len(), new, gone);
            self.servers = servers;
        }
    }

    fn failed(&mut self, error: &Error, each_reason_is_news: bool) {
        let reason =
            error.context.as_ref().map_or_else(|| error.to_string(), |words| words.as_str().to_owned());
        if self.failures == 0 || (each_reason_is_news && reason != self.reason) {
            events::discovery_failed(&self.group, &self.name, &reason, self.servers.len());
            self.reason = reason;
        }
        self.failures = self.failures.saturating_add(1);
    }
}
