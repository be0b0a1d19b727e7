//! What choosing a server costs, by algorithm and by the number of servers: 3, 100 and 10,000, of which a few are
//! heavier. `cargo bench --bench selection`.
//!
//! - `idle/…`: one choice by our own iterator; no request is in flight, and no response time known.
//! - `busy/…`: the same when every server has requests in flight and response times differ.
//! - `request/…`: a busy group asked as a request asks it.
//! - `select_with/…`: the same through Pingora's `LoadBalancer::select_with`, which requests do not take.
//! - `retry/…`: as `request/…` when one server was tried already.
//! - `pingora/…`: Pingora's own round robin and random through its own `select`, for comparison.
//!
//! It also prints how many allocations a choice makes: by our iterator, for a request, and through `select_with`.

#![allow(clippy::unwrap_used)]

#[path = "common/checked.rs"]
mod checked;
#[path = "common/groups.rs"]
mod groups;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Random, RoundRobin};
use weirgate::upstream::{Group, InFlight, Registry, Tried, latency};

/// Counts, as no choice is to allocate.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `alloc` above with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations each of a thousand calls makes.
fn allocations(mut call: impl FnMut()) -> f64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..1_000).for_each(|_| call());
    (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / 1_000.0
}

const SERVERS: [usize; 3] = [3, 100, 10_000];

fn group(balance: &str, servers: usize) -> Result<Arc<Group>, String> {
    Group::build(groups::plan(balance, "", servers, |i| if i % 10 == 0 { 2 } else { 1 }), &Registry::new())
}

/// Two or three requests with each server, and response times from 10 to 20 ms.
fn keep_busy(group: &Group) -> Vec<InFlight> {
    let mut open = Vec::new();
    for (at, server) in group.servers().iter().enumerate() {
        open.extend((0..2 + at % 2).map(|_| server.endpoint.begin()));
        let took = Duration::from_micros(10_000 + (at as u64 * 7_919) % 10_000);
        latency::answered(&group.plan().balance, &server.endpoint, took);
    }
    open
}

fn bench(c: &mut Criterion) {
    let mut benches = c.benchmark_group("selection");
    benches
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(30);
    for servers in SERVERS {
        for (name, balance) in groups::ALGORITHMS {
            let Ok(group) = group(balance, servers) else { continue };
            let selection = group.selection().unwrap();
            let key = 0x5eed_u64.to_be_bytes();
            benches.bench_function(BenchmarkId::new(format!("idle/{name}"), servers), |b| {
                b.iter(|| selection.iter(black_box(&key)).next().is_some());
            });
            let _open = keep_busy(&group);
            benches.bench_function(BenchmarkId::new(format!("busy/{name}"), servers), |b| {
                b.iter(|| selection.iter(black_box(&key)).next().is_some());
            });
            benches.bench_function(BenchmarkId::new(format!("request/{name}"), servers), |b| {
                b.iter(|| group.select(black_box(&Tried::default()), Some(&key)).unwrap());
            });
            benches.bench_function(BenchmarkId::new(format!("select_with/{name}"), servers), |b| {
                b.iter(|| group.balancer().select_with(black_box(&key), servers, |_, _| true).unwrap());
            });
            let ours = allocations(|| assert!(black_box(selection.iter(&key).next().is_some())));
            let asked = allocations(|| drop(black_box(group.select(&Tried::default(), Some(&key)))));
            let with =
                allocations(|| drop(black_box(group.balancer().select_with(&key, servers, |_, _| true))));
            println!(
                "selection/{name}/{servers}: {ours} allocations by our iterator, {asked} for a request, {with} by select_with\n"
            );
            let mut tried = Tried::default();
            tried.push(&group.select(&Tried::default(), Some(&key)).unwrap());
            benches.bench_function(BenchmarkId::new(format!("retry/{name}"), servers), |b| {
                b.iter(|| group.select(black_box(&tried), Some(&key)).unwrap());
            });
        }
        let addresses = || (0..servers).map(|i| format!("127.1.{}.{}:3000", i / 250, i % 250));
        let pingora = LoadBalancer::<RoundRobin>::try_from_iter(addresses()).unwrap();
        benches.bench_function(BenchmarkId::new("pingora/round_robin", servers), |b| {
            b.iter(|| pingora.select(black_box(b""), 256).unwrap());
        });
        let pingora = LoadBalancer::<Random>::try_from_iter(addresses()).unwrap();
        benches.bench_function(BenchmarkId::new("pingora/random", servers), |b| {
            b.iter(|| pingora.select(black_box(b""), 256).unwrap());
        });
    }
    benches.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
