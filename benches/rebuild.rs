//! What making the tables of a group of 10,000 servers costs, for each algorithm that chooses by key: from
//! nothing, and again when only the health of a server has changed. Target: under 20 ms, and not on the threads
//! that answer requests. `cargo bench --bench rebuild`.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use weirgate::Gate;
use weirgate::upstream::balance::algorithm::{Algorithm, Lane};
use weirgate::upstream::balance::consistent_hash::ConsistentHash;
use weirgate::upstream::balance::hash::Hash;
use weirgate::upstream::balance::maglev::Maglev;
use weirgate::upstream::{Group, Registry};

const SERVERS: usize = 10_000;

/// The servers of a group as it is built from a configuration.
fn lane(weight: impl Fn(usize) -> usize) -> Lane {
    let mut yaml = String::from(
        "listeners: [{ address: 127.0.0.1:8080 }]\nroutes: [{ upstream: all }]\nupstreams:\n  all:\n    servers:\n",
    );
    for i in 0..SERVERS {
        let (net, host) = (i / 250, i % 250);
        writeln!(yaml, "      - {{ address: \"127.1.{net}.{host}:3000\", weight: {} }}", weight(i)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weirgate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let checked = Gate::from_file(&file).check();
    let Some(plan) = checked.plan else {
        unreachable!("{}", checked.report.render_text(&checked.sources));
    };
    let group = Group::build(Arc::clone(plan.upstreams.first().unwrap()), &Registry::new()).unwrap();
    Lane::new(group.servers().to_vec())
}

fn tables<A: Algorithm>(benches: &mut BenchmarkGroup<'_, WallTime>, name: &str, weights: &str, lane: &Lane) {
    let settings = A::Settings::default();
    benches.bench_with_input(BenchmarkId::new(name, weights), lane, |b, lane| {
        b.iter_with_large_drop(|| A::build(black_box(lane), &settings, None));
    });
    let before = A::build(lane, &settings, None);
    let again = format!("{weights}/same_servers");
    benches.bench_with_input(BenchmarkId::new(name, again), lane, |b, lane| {
        b.iter_with_large_drop(|| A::build(black_box(lane), &settings, Some(&before)));
    });
}

fn bench(c: &mut Criterion) {
    let mut benches = c.benchmark_group("rebuild_10000");
    benches.sample_size(20);
    let equal = lane(|_| 1);
    let mixed = lane(|i| [5, 1, 1, 20].get(i % 4).copied().unwrap_or(1));
    for (weights, lane) in [("equal_weights", &equal), ("mixed_weights", &mixed)] {
        tables::<Hash>(&mut benches, "hash", weights, lane);
        tables::<ConsistentHash>(&mut benches, "consistent_hash", weights, lane);
        tables::<Maglev>(&mut benches, "maglev", weights, lane);
    }
    benches.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
