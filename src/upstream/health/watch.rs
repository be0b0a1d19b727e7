//! When servers are checked: each has a task of its own, so that a slow one delays no other, and
//! the checks are spread over time, so that a thousand servers are not asked at once. Called by
//! `run::server` from a background service.

use super::dial::HostName;
use super::{Change, Probe};
use crate::observe::events;
use crate::upstream::tasks::{self, Task};
use crate::upstream::{Group, Server, Servers};
use pingora_core::server::ShutdownWatch;
use pingora_load_balancing::Backend;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The first check comes within this, and within a tenth of the interval.
const LATEST_START: Duration = Duration::from_secs(1);
/// The time between the end of a check and the next, however small the interval.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// Checks the servers of these groups until the shutdown, or until it is dropped. Returns at once
/// when no group has a check. To be called within a tokio runtime.
pub async fn watch(groups: Vec<Arc<Group>>, shutdown: ShutdownWatch) {
    let mut tasks = JoinSet::new();
    for group in groups.into_iter().filter(|group| group.probe().is_some()) {
        tasks.spawn(watch_group(group));
    }
    tasks::run(tasks, shutdown, |error| log::error!(target: events::HEALTH, "a health check ended: {error}"))
        .await;
}

/// Has a task for each server that is in the group.
async fn watch_group(group: Arc<Group>) {
    let mut news = group.changes().subscribe();
    let mut servers = Servers::default();
    let mut tasks: HashMap<SocketAddr, Task> = HashMap::new();
    loop {
        news.mark_unchanged();
        let now = group.servers();
        if !now.same(&servers) {
            tasks.retain(|address, _| now.at(*address).is_some());
            for server in now.iter() {
                tasks
                    .entry(server.endpoint.address())
                    .or_insert_with(|| Task::spawn(watch_server(group.clone(), server.clone())));
            }
            servers = now;
        }
        // the sender lives in the group
        news.changed().await.ok();
    }
}

async fn watch_server(group: Arc<Group>, server: Arc<Server>) {
    let Some(probe) = group.probe() else { return };
    let mut backend = server.backend();
    if let Some(host) = &server.host {
        backend.ext.insert(HostName(host.clone()));
    }
    let endpoint = &server.endpoint;
    backend.addr = endpoint.at().socket();
    // one that is down waits for its check
    if endpoint.is_up() {
        tokio::time::sleep(first_pause(probe.interval(true), fastrand::f64())).await;
    }
    loop {
        let (begun, random) = (Instant::now(), fastrand::f64());
        check_once(&group, probe, &server, &backend).await;
        let next = begun + jittered(probe.interval(endpoint.is_up()), random);
        tokio::time::sleep_until(next.max(Instant::now() + SHORTEST_PAUSE)).await;
    }
}

/// Checks a server and takes in the result.
async fn check_once(group: &Group, probe: &Probe, server: &Server, backend: &Backend) {
    let endpoint = &server.endpoint;
    let result = probe.check(backend).await;
    endpoint.counted().checked(result.is_ok());
    let seen = result.as_ref().copied().map_err(String::as_str);
    let change = endpoint.observe(seen, probe.thresholds, SystemTime::now());
    match change {
        None => {}
        Some(Change::Down { .. }) => {
            let reason = result.err().unwrap_or_default();
            events::health_changed(group.name(), endpoint.name(), false, &reason);
        }
        Some(Change::Up { passed }) => {
            let checks = if passed == 1 { "check" } else { "checks" };
            let reason = format!("after {passed} passed {checks}");
            events::health_changed(group.name(), endpoint.name(), true, &reason);
        }
    }
}

/// When to check first. `random` is from 0 up to 1.
fn first_pause(interval: Duration, random: f64) -> Duration {
    (interval / 10).min(LATEST_START).mul_f64(random)
}

/// The interval, a tenth less or more. `random` is from 0 up to 1.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::{HealthCheck, HttpCheck};
    use crate::units::Time;
    use crate::upstream::health::tests::head;
    use crate::upstream::{Endpoint, Registry, group};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    /// Waits for this, but not for ever.
    async fn until(what: &str, holds: impl Fn() -> bool) {
        let waited = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), waited).await.is_ok(), "never: {what}");
    }

    fn group_of(addresses: &[std::net::SocketAddr], check: Option<HealthCheck>) -> Arc<Group> {
        let mut plan = group::tests::plan(&vec![1; addresses.len()], check);
        for (member, address) in plan.servers.iter_mut().zip(addresses) {
            member.address = *address;
        }
        Group::build(Arc::new(plan), &Registry::new()).unwrap()
    }

    #[tokio::test]
    async fn a_server_goes_down_and_comes_back_while_another_does_not_answer() {
        let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let changing = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [slow.local_addr().unwrap(), changing.local_addr().unwrap()];
        let well = Arc::new(AtomicBool::new(true));
        let says = well.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = changing.accept().await {
                let answer = if says.load(Ordering::Relaxed) { "200 OK" } else { "500 Oh" };
                let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        let check = HealthCheck {
            http: Some(HttpCheck::default()),
            interval: Time::millis(5),
            timeout: Time::secs(3600),
            ..Default::default()
        };
        let group = group_of(&addresses, Some(check));
        let endpoint = |place: usize| -> Arc<Endpoint> { group.servers()[place].endpoint.clone() };
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(watch(vec![group.clone()], shutdown));

        // its first check has begun, and will not end
        let _open = slow.accept().await.unwrap();
        well.store(false, Ordering::Relaxed);
        until("down", || !endpoint(1).is_up()).await;
        assert_eq!(endpoint(1).health().last_failure.as_deref(), Some("status 500, expected 2xx"));
        assert!(endpoint(0).is_up());
        assert_eq!(group.healthy_count(), 1);
        well.store(true, Ordering::Relaxed);
        until("up", || endpoint(1).is_up()).await;

        stop.send(true).unwrap();
        until("stopped", || watching.is_finished()).await;
    }

    #[tokio::test]
    async fn a_lost_shutdown_watch_does_not_end_the_checks() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let check = HealthCheck {
            tcp: Some(crate::config::file::TcpCheck {}),
            interval: Time::millis(5),
            ..Default::default()
        };
        let group = group_of(&[gone], Some(check));
        let (stop, shutdown) = tokio::sync::watch::channel(false);
        let watching = tokio::spawn(watch(vec![group.clone()], shutdown));
        drop(stop);
        until("down", || !group.any_healthy()).await;
        assert!(!watching.is_finished());
        watching.abort();
    }

    #[tokio::test]
    async fn without_checks_there_is_nothing_to_do() {
        let group = group_of(&[([127, 0, 0, 1], 1).into()], None);
        let (_stop, shutdown) = tokio::sync::watch::channel(false);
        watch(vec![group], shutdown).await;
    }

    #[test]
    fn intervals_vary_by_a_tenth() {
        let interval = Duration::from_secs(10);
        assert_eq!(jittered(interval, 0.0), Duration::from_secs(9));
        assert_eq!(jittered(interval, 0.5), interval);
        for _ in 0..1000 {
            let pause = jittered(interval, fastrand::f64());
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&pause), "{pause:?}");
        }
    }

    #[test]
    fn the_first_check_comes_soon() {
        assert_eq!(first_pause(Duration::from_secs(5), 0.0), Duration::ZERO);
        for _ in 0..1000 {
            assert!(first_pause(Duration::from_secs(5), fastrand::f64()) <= Duration::from_millis(500));
            assert!(first_pause(Duration::from_secs(3600), fastrand::f64()) <= LATEST_START);
        }
    }
}
