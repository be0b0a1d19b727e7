//! The promise: asked for twice what its servers can do, the gate keeps them busy, wastes none of their work, does not
//! grow, and is well again as soon as it is over.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, Reply, Request, eventually};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the servers can do: so many requests at once, each of which takes so long.
const SLOTS: usize = 16;
const SERVICE: Duration = Duration::from_millis(160);
/// How long more than that is asked.
const OVERLOAD: Duration = Duration::from_secs(20);
/// So many clients that ask for more until the end: as many as are served or wait, and the same again, who are
/// refused, and come back as soon as a request could have been served.
const CLIENTS: usize = 96;
const QUEUE: usize = 32;
/// How much the process may grow meanwhile: some ten times what its connections need.
const GROWTH: u64 = 32 * 1024 * 1024;

/// What the servers have done. They are the clock: a slow machine makes their work slower, too.
#[derive(Default)]
struct Work {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    busy: usize,
    most: usize,
    done: usize,
    /// The time for which slots were busy, summed over them.
    worked: Duration,
}

impl Work {
    /// One request, which waits at the server when all its slots are busy.
    fn serve(&self) {
        let mut state = self.state.lock().unwrap();
        state.most = state.most.max(state.busy + 1);
        state = self.free.wait_while(state, |state| state.busy >= SLOTS).unwrap();
        state.busy += 1;
        drop(state);
        let begun = Instant::now();
        std::thread::sleep(SERVICE);
        let mut state = self.state.lock().unwrap();
        state.busy -= 1;
        state.done += 1;
        state.worked += begun.elapsed();
        self.free.notify_one();
    }

    /// Requests done, and the time worked.
    fn so_far(&self) -> (usize, Duration) {
        let state = self.state.lock().unwrap();
        (state.done, state.worked)
    }
}

/// What the clients got.
#[derive(Default)]
struct Outcome {
    served: AtomicUsize,
    refused: AtomicUsize,
    /// What was neither.
    other: Mutex<Vec<String>>,
}

fn ask_until(stop: &AtomicBool, gate: &Gate, outcome: &Outcome) {
    let mut client = gate.connect();
    while !stop.load(Ordering::SeqCst) {
        client.send(Request::get("/").bytes());
        match client.try_response_to("GET").map(|answer| answer.status) {
            Ok(200) => {
                outcome.served.fetch_add(1, Ordering::SeqCst);
            }
            Ok(503) => {
                outcome.refused.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(SERVICE);
            }
            other => {
                outcome.other.lock().unwrap().push(format!("{other:?}"));
                client = gate.connect();
            }
        }
    }
}

/// What the process has in memory, in bytes.
fn resident(gate: &Gate) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", gate.id())).expect("its memory");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

#[test]
fn under_twice_the_load_servers_stay_busy_and_nothing_they_do_is_lost() {
    let (api, work) = (Backend::start("api"), Arc::new(Work::default()));
    let at = work.clone();
    api.answers_by(move |_| {
        at.serve();
        Reply::ok("done")
    });
    let gate = Gate::start(
        &format!(
            "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: group }}]
upstreams:
  group: {{ servers: [$api], limits: {{ requests: {SLOTS}, queue: {QUEUE}, queue_timeout: 1s }} }}
"
        ),
        &[&api],
    );
    // the connections are not what is measured
    let mut kept: Vec<Client> = (0..CLIENTS).map(|_| gate.connect()).collect();
    assert_eq!(kept[0].get("/").status, 200);
    drop(kept);
    let before = resident(&gate);

    let (stop, outcome) = (AtomicBool::new(false), Outcome::default());
    let (asked, done, worked, passed, largest) = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_until(&stop, &gate, &outcome));
        }
        // from when all slots are busy
        eventually("a full group", || work.state.lock().unwrap().busy == SLOTS);
        eventually("a full queue", || outcome.refused.load(Ordering::SeqCst) > 0);
        let (begun, done) = (Instant::now(), work.so_far());
        let refused = outcome.refused.load(Ordering::SeqCst);
        let mut largest = before;
        while begun.elapsed() < OVERLOAD {
            std::thread::sleep(Duration::from_millis(100));
            largest = largest.max(resident(&gate));
        }
        let (now, passed) = (work.so_far(), begun.elapsed());
        let asked = now.0 - done.0 + outcome.refused.load(Ordering::SeqCst) - refused;
        stop.store(true, Ordering::SeqCst);
        (asked, now.0 - done.0, now.1 - done.1, passed, largest)
    });
    let goodput = worked.as_secs_f64() / (passed.as_secs_f64() * SLOTS as f64);
    let (served, other) = (outcome.served.into_inner(), outcome.other.into_inner().unwrap());
    println!("{asked} asked, {done} done, {:.1}% of capacity", goodput * 100.0);
    assert!(asked >= 2 * done, "{asked} were asked for while {done} were done: no overload");
    assert!(goodput >= 0.9, "the servers were busy for {:.1}% of the time", goodput * 100.0);
    assert!(other.is_empty(), "neither 200 nor 503: {other:?}");
    assert_eq!(work.state.lock().unwrap().most, SLOTS, "never more at once than the limit");
    assert_eq!(served + 1, work.so_far().0, "whatever a server did was delivered");
    assert!(largest < before + GROWTH, "from {before} to {largest} bytes");

    // and it is over at once: nobody is refused any more, or waits
    let mut client = gate.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/after").status, 200);
    }
    let mut after = Vec::new();
    eventually("five lines", || {
        after = gate.access_log().into_iter().filter(|line| line["path"] == "/after").collect();
        after.len() == 5
    });
    assert!(after.iter().all(|line| line["queue_ms"].is_null()), "{after:?}");
}
