//! What it costs to build a group of 10,000 servers anew, by algorithm, of equal and of mixed weights. Target: under
//! 20 ms, and not on the threads that answer requests. `cargo bench --bench rebuild`.
//!
//! - `tables/…`: what the algorithm alone makes, for algorithms with tables that follow from the servers.
//! - `group/…`: a group as a reload builds it, whose servers are known already.
//! - `member/…`: the same group when one of its servers is another: all of it is put together again.
//! - `health/…`: the same group after one of its servers went down or came up.

#![allow(clippy::unwrap_used)]

#[path = "common/checked.rs"]
mod checked;
#[path = "common/groups.rs"]
mod groups;

use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use weirgate::config::plan::Upstream;
use weirgate::upstream::balance::algorithm::{Algorithm, Lane};
use weirgate::upstream::balance::consistent_hash::ConsistentHash;
use weirgate::upstream::balance::hash::Hash;
use weirgate::upstream::balance::maglev::Maglev;
use weirgate::upstream::health::Thresholds;
use weirgate::upstream::{Group, Registry};

/// That of the program: a group of this size is many small pieces of memory.
#[global_allocator]
static ALLOCATOR: weirgate::Allocator = weirgate::Allocator;

const SERVERS: usize = 10_000;

fn plan(balance: &str, mixed: bool) -> Arc<Upstream> {
    let weight = |i: usize| if mixed { [1, 5, 1, 20][i % 4] } else { 1 };
    groups::plan(balance, "    health_check: { tcp: {} }\n", SERVERS, weight)
}

fn all(benches: &mut BenchmarkGroup<'_, WallTime>, weights: &str, mixed: bool) {
    for (name, balance) in groups::ALGORITHMS {
        let plan = plan(balance, mixed);
        let registry = Registry::new();
        let group = Group::build(plan.clone(), &registry).unwrap();
        benches.bench_function(BenchmarkId::new(format!("group/{name}"), weights), |b| {
            b.iter_with_large_drop(|| Group::build(black_box(plan.clone()), &registry).unwrap());
        });
        let address = group.servers().first().unwrap().endpoint.address();
        let mut weight = NonZeroU16::MIN;
        benches.bench_function(BenchmarkId::new(format!("member/{name}"), weights), |b| {
            b.iter(|| {
                weight = NonZeroU16::new(3 - weight.get()).unwrap();
                group.set_weight(address, weight).unwrap();
            });
        });
        let flapping = group.servers().first().unwrap().endpoint.clone();
        let once = Thresholds { healthy_after: NonZeroU16::MIN, unhealthy_after: NonZeroU16::MIN };
        let mut up = true;
        benches.bench_function(BenchmarkId::new(format!("health/{name}"), weights), |b| {
            b.iter(|| {
                up = !up;
                flapping.observe(if up { Ok(()) } else { Err("down") }, once, SystemTime::UNIX_EPOCH);
                group.refresh();
            });
        });
    }
}

fn tables<A: Algorithm>(benches: &mut BenchmarkGroup<'_, WallTime>, name: &str, weights: &str, lane: &Lane) {
    let settings = A::Settings::default();
    benches.bench_with_input(BenchmarkId::new(format!("tables/{name}"), weights), lane, |b, lane| {
        b.iter_with_large_drop(|| A::build(black_box(lane), &settings, None));
    });
}

fn bench(c: &mut Criterion) {
    let mut benches = c.benchmark_group("rebuild_10000");
    benches.sample_size(10);
    for (weights, mixed) in [("equal_weights", false), ("mixed_weights", true)] {
        let group = Group::build(plan("round_robin", mixed), &Registry::new()).unwrap();
        let lane = Lane::new(group.servers().to_vec());
        tables::<Hash>(&mut benches, "hash", weights, &lane);
        tables::<ConsistentHash>(&mut benches, "consistent_hash", weights, &lane);
        tables::<Maglev>(&mut benches, "maglev", weights, &lane);
        all(&mut benches, weights, mixed);
    }
    benches.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
