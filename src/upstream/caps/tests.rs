use super::*;
use crate::config::{file, plan};
use crate::upstream::health::Thresholds;
use crate::upstream::{Registry, group};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

fn limits(of_group: usize, of_server: usize, queue: usize) -> Option<plan::UpstreamLimits> {
    Some(plan::UpstreamLimits { of_group, of_server, queue, queue_timeout: Duration::from_secs(1) })
}

fn group(servers: usize, limits: Option<plan::UpstreamLimits>) -> Arc<Group> {
    let check = file::HealthCheck { tcp: Some(file::TcpCheck {}), ..Default::default() };
    let plan = plan::Upstream { limits, ..group::tests::plan(&vec![1; servers], Some(check)) };
    Group::build(Arc::new(plan), &Registry::new()).unwrap()
}

fn ask(tried: &Tried) -> Ask<'_> {
    Ask { class: Class::Normal, home: None, key: None, tried }
}

#[track_caller]
fn now(admission: Admission) -> Place {
    match admission {
        Admission::Now(place) => place,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn later(admission: Admission) -> Turn {
    match admission {
        Admission::Later(turn) => turn,
        other => panic!("{other:?}"),
    }
}

fn set_up(group: &Group, place: usize, up: bool) {
    let once = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
    let result = if up { Ok(()) } else { Err("test") };
    group.servers()[place].endpoint.observe(result, once, SystemTime::now());
    group.refresh();
}

#[tokio::test]
async fn what_ends_makes_room_for_whoever_waits() {
    let group = group(1, limits(1, usize::MAX, 1));
    let caps = group.caps().unwrap();
    let tried = Tried::default();
    let place = now(caps.enter(&group, &ask(&tried)));
    let mut turn = later(caps.enter(&group, &ask(&tried)));
    assert!(matches!(caps.enter(&group, &ask(&tried)), Admission::Full));
    drop(place);
    let Answer::Go(place) = turn.answer().await else { panic!("its turn") };
    assert_eq!((caps.counts(), place.server.endpoint().in_flight()), ((1, 0), 1));

    // one that has gone is not waited for, before its turn or after it
    let gone = later(caps.enter(&group, &ask(&tried)));
    drop(gone);
    let gone = later(caps.enter(&group, &ask(&tried)));
    drop(place);
    assert_eq!(caps.counts(), (1, 0), "given to one that has not looked yet");
    drop(gone);
    assert_eq!((caps.counts(), group.servers()[0].endpoint.in_flight()), ((0, 0), 0));
}

#[tokio::test]
async fn a_full_server_is_passed_over_and_full_servers_are_waited_for() {
    let group = group(2, limits(usize::MAX, 1, 9));
    let caps = group.caps().unwrap();
    let none = Tried::default();
    let (first, second) = (now(caps.enter(&group, &ask(&none))), now(caps.enter(&group, &ask(&none))));
    let at = |place: &Place| place.server.endpoint().address();
    assert_ne!(at(&first), at(&second));

    // one waits for its own server, and nobody waits for that one
    let home = Some(at(&second));
    let mut own = later(caps.enter(&group, &Ask { home, ..ask(&none) }));
    let mut any = later(caps.enter(&group, &ask(&none)));
    let freed = at(&first);
    drop(first);
    let Answer::Go(place) = any.answer().await else { panic!("its turn") };
    assert_eq!(at(&place), freed);
    drop(second);
    let Answer::Go(own) = own.answer().await else { panic!("its turn") };
    assert_eq!(Some(at(&own)), home);

    // a retry keeps its slot, goes before all others, and not to the server that has failed it
    let mut others = later(caps.enter(&group, &ask(&none)));
    let mut tried = Tried::default();
    tried.push(own.server.endpoint());
    let mut retry = later(caps.enter(&group, &Ask { class: Class::Admitted, ..ask(&tried) }));
    drop(place);
    let Answer::Go(again) = retry.answer().await else { panic!("its turn") };
    assert_eq!((at(&again), again.slot.is_none()), (freed, true));
    let Place { mut server, slot } = own;
    server.end();
    caps.settle();
    let Answer::Go(_) = others.answer().await else { panic!("its turn") };
    drop((server, again, slot));
    assert_eq!(caps.counts().1, 0);
}

#[tokio::test]
async fn changes_of_health_reach_those_who_wait() {
    let group = group(2, limits(usize::MAX, 1, 9));
    let caps = group.caps().unwrap();
    let tried = Tried::default();
    set_up(&group, 0, false);
    let place = now(caps.enter(&group, &ask(&tried)));
    let mut turn = later(caps.enter(&group, &ask(&tried)));
    set_up(&group, 0, true);
    let Answer::Go(other) = turn.answer().await else { panic!("a server is up") };
    assert_ne!(other.server.endpoint().address(), place.server.endpoint().address());
    let mut turn = later(caps.enter(&group, &ask(&tried)));
    set_up(&group, 0, false);
    set_up(&group, 1, false);
    assert!(matches!(turn.answer().await, Answer::Nobody));
    assert!(matches!(caps.enter(&group, &ask(&tried)), Admission::Nobody));
    drop((place, other));
    assert_eq!(caps.counts(), (0, 0));
}

#[tokio::test]
async fn a_reload_finds_what_is_in_flight() {
    let registry = Registry::new();
    let build = |cap| {
        let plan = plan::Upstream { limits: limits(cap, usize::MAX, 9), ..group::tests::plan(&[1], None) };
        Group::build(Arc::new(plan), &registry).unwrap()
    };
    let (old, tried) = (build(2), Tried::default());
    let caps = old.caps().unwrap().clone();
    let first = now(caps.enter(&old, &ask(&tried)));
    let second = now(caps.enter(&old, &ask(&tried)));
    let new = build(1);
    let mut turn = later(new.caps().unwrap().enter(&new, &ask(&tried)));
    drop(first);
    assert_eq!(caps.counts(), (1, 1), "as many as the new limits allow");
    drop(second);
    assert!(matches!(turn.answer().await, Answer::Go(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_at_once_no_cap_is_passed_and_nobody_is_forgotten() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (of_group, of_server) = (5, 3);
    let group = group(2, limits(of_group, of_server, 20));
    let at_once = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (group, at_once) = (group.clone(), at_once.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed ^ task);
            let (caps, tried) = (group.caps().unwrap().clone(), Tried::default());
            let (mut served, mut left) = (0, 0);
            for _ in 0..300 {
                let class = *random.choice(&[Class::High, Class::Normal, Class::Low]).unwrap();
                let place = match caps.enter(&group, &Ask { class, ..ask(&tried) }) {
                    Admission::Now(place) => place,
                    Admission::Later(turn) if random.u8(0..4) == 0 => {
                        // gone, perhaps at the very moment of its turn
                        if random.bool() {
                            tokio::task::yield_now().await;
                        }
                        left += 1;
                        drop(turn);
                        continue;
                    }
                    Admission::Later(mut turn) => {
                        let patience = Duration::from_secs(20);
                        match tokio::time::timeout(patience, turn.answer()).await.expect("forgotten") {
                            Answer::Go(place) => place,
                            Answer::PushedOut => continue,
                            Answer::Nobody => panic!("all are up"),
                        }
                    }
                    Admission::Full => {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Admission::Nobody => panic!("all are up"),
                };
                assert!(at_once.fetch_add(1, Ordering::SeqCst) < of_group, "too many in the group");
                assert!(place.server.endpoint().in_flight() <= of_server, "too many at a server");
                for _ in 0..random.u8(0..3) {
                    tokio::task::yield_now().await;
                }
                at_once.fetch_sub(1, Ordering::SeqCst);
                served += 1;
                drop(place);
            }
            (served, left)
        });
    }
    let mut served = 0;
    while let Some(ended) = tasks.join_next().await {
        served += ended.unwrap_or_else(|error| panic!("seed {seed}: {error}")).0;
    }
    assert!(served > 0);
    assert_eq!(group.caps().unwrap().counts(), (0, 0), "seed {seed}");
    assert!(group.servers().iter().all(|server| server.endpoint.in_flight() == 0), "seed {seed}");
}
