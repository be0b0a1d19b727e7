//! What a group needs done beside its requests: new tables when the state of a server has changed,
//! servers warmed up, drained ones let go, ejected ones taken back. Called by `run::server` from a background service.

use super::group::Group;
use super::tasks;
use crate::observe::events;
use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often servers are looked at while they warm up or leave.
const PACE: Duration = Duration::from_millis(100);

/// What is due at once waits this long, so that a mistake about it costs no whole core.
const SHORTEST: Duration = Duration::from_millis(1);

/// Keeps these groups until the shutdown, or until it is dropped. To be called within a tokio
/// runtime that serves no requests.
pub async fn watch(groups: Vec<Arc<Group>>, shutdown: ShutdownWatch) {
    let mut tasks = JoinSet::new();
    for group in groups {
        tasks.spawn(keep(group));
    }
    tasks::run(
        tasks,
        shutdown,
        |error| log::error!(target: events::UPSTREAM, "the upkeep of a group ended: {error}"),
    )
    .await;
}

async fn keep(group: Arc<Group>) {
    let mut news = group.changes().subscribe();
    loop {
        // first of all, so that whatever changes from here on is looked at in the next round
        news.mark_unchanged();
        group.refresh();
        let busy = group.tend(Instant::now());
        let due = group.next_due(Instant::now()).map(|due| due.max(SHORTEST));
        let pause = async {
            match due.into_iter().chain(busy.then_some(PACE)).min() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // the sender lives in the group
            _ = news.changed() => {}
            () = pause => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{file, plan};
    use crate::upstream::health::Thresholds;
    use crate::upstream::{Registry, Tried, group};
    use std::num::NonZeroU16;
    use std::time::SystemTime;

    const ONCE: Thresholds = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };

    /// Waits for this, but not for ever.
    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waited = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), waited).await.is_ok(), "never: {what}");
    }

    fn group(slow_start: Option<Duration>) -> Arc<Group> {
        let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
        let plan = plan::Upstream { slow_start, ..group::tests::plan(&[1, 1], Some(check)) };
        Group::build(Arc::new(plan), &Registry::new()).unwrap()
    }

    /// Whether this server is among those of the next requests.
    fn gets_requests(group: &Group, place: usize) -> bool {
        let endpoint = &group.servers()[place].endpoint;
        (0..4).any(|_| group.select(&Tried::default(), None).is_some_and(|it| Arc::ptr_eq(&it, endpoint)))
    }

    #[tokio::test]
    async fn what_changes_is_heeded_without_being_told() {
        let group = group(None);
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(watch(vec![group.clone()], shutdown));
        let endpoint = group.servers()[0].endpoint.clone();
        for _ in 0..20 {
            endpoint.observe(Err("test"), ONCE, SystemTime::now());
            assert!(!gets_requests(&group, 0), "at once, whatever the tables say");
            endpoint.observe(Ok(()), ONCE, SystemTime::now());
            until("back in the tables", || gets_requests(&group, 0)).await;
        }
        // one that leaves is let go when its request has ended
        let in_flight = endpoint.begin();
        group.adopt(0, group::tests::plan(&[1, 1], None).servers.split_off(1)).unwrap();
        tokio::time::sleep(PACE / 2).await;
        assert_eq!(group.servers().len(), 2);
        drop(in_flight);
        until("gone", || group.servers().len() == 1).await;
        stop.send(true).unwrap();
        until("stopped", || watching.is_finished()).await;
    }

    #[tokio::test]
    async fn a_server_that_has_recovered_warms_up() {
        let group = group(Some(Duration::from_millis(300)));
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(watch(vec![group.clone()], shutdown));
        let endpoint = group.servers()[0].endpoint.clone();
        endpoint.observe(Err("test"), ONCE, SystemTime::now());
        endpoint.observe(Ok(()), ONCE, SystemTime::now());
        assert_eq!(endpoint.warmth(), 1, "before it is up");
        until("warm", || endpoint.warmth() == crate::upstream::endpoint::FULL_WARMTH).await;
        drop(stop);
        tokio::task::yield_now().await;
        assert!(!watching.is_finished(), "a lost shutdown watch does not end it");
        watching.abort();
    }
}
