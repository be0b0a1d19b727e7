//! What choosing a server costs with 3, 10 and 100 servers, of equal and of mixed weights, beside Pingora's own
//! round robin. `cargo bench --bench selection`.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::RoundRobin;
use weirgate::Gate;
use weirgate::upstream::{Group, Registry, Tried};

/// The group as it is built from a configuration.
fn group(servers: usize, weight: impl Fn(usize) -> usize) -> Arc<Group> {
    let mut yaml = String::from(
        "listeners: [{ address: 127.0.0.1:8080 }]\nroutes: [{ upstream: all }]\nupstreams:\n  all:\n    servers:\n",
    );
    for i in 0..servers {
        writeln!(yaml, "      - {{ address: \"127.1.0.{i}:3000\", weight: {} }}", weight(i)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weirgate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let checked = Gate::from_file(&file).check();
    let Some(plan) = checked.plan else {
        unreachable!("{}", checked.report.render_text(&checked.sources));
    };
    Group::build(Arc::clone(plan.upstreams.first().unwrap()), &Registry::new()).unwrap()
}

fn bench(c: &mut Criterion) {
    let mut benches = c.benchmark_group("selection");
    for servers in [3, 10, 100] {
        let equal = group(servers, |_| 1);
        let mixed = group(servers, |i| [5, 1, 1].get(i % 3).copied().unwrap_or(1));
        for (name, group) in [("equal_weights", &equal), ("mixed_weights", &mixed)] {
            benches.bench_with_input(BenchmarkId::new(name, servers), group, |b, group| {
                b.iter(|| group.select(black_box(&Tried::default()), None).unwrap());
            });
        }
        // One server was tried and failed: the choice of a retry.
        let mut tried = Tried::default();
        tried.push(&equal.select(&Tried::default(), None).unwrap());
        benches.bench_with_input(BenchmarkId::new("retry", servers), &equal, |b, group| {
            b.iter(|| group.select(black_box(&tried), None).unwrap());
        });
        let addresses = (0..servers).map(|i| format!("127.1.0.{i}:3000"));
        let pingora = LoadBalancer::<RoundRobin>::try_from_iter(addresses).unwrap();
        benches.bench_with_input(BenchmarkId::new("pingora_round_robin", servers), &pingora, |b, pingora| {
            b.iter(|| pingora.select(black_box(b""), 256).unwrap());
        });
    }
    benches.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
