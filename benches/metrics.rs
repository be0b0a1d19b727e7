//! What a request pays for being counted: `cargo bench --bench metrics`. All that `http::measure` adds up at its end, for
//! its listener, route, upstream and server, and what it holds on to meanwhile; and what a scrape takes.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weirgate::observe::metrics::{
    AtRoute, Listener, Metrics, Protocol, Request, Route, Server, Try, Upstream,
};

/// What a request finds at hand.
struct Handles {
    listener: Arc<Listener>,
    route: Arc<Route>,
    upstream: Arc<Upstream>,
    server: Arc<Server>,
}

impl Handles {
    fn of(metrics: &Metrics) -> Handles {
        Handles {
            listener: metrics.listener("secure"),
            route: metrics.route("api"),
            upstream: metrics.upstream("api"),
            server: metrics.server("api", "10.0.3.17:3001"),
        }
    }

    fn request(&self, connect: Option<Duration>) {
        let at = AtRoute::begin(self.route.clone());
        let first_byte = Some(Duration::from_micros(11_042));
        self.listener.request(Protocol::H2, black_box(200));
        let request = Request::new(black_box(200), black_box(Duration::from_micros(12_345)))
            .in_parts(None, connect, black_box(first_byte))
            .moving(0, black_box(4312))
            .tried_again(0, 0);
        at.route().ended(&request);
        self.upstream.ended(&request);
        self.server.tried(&Try { status: 200, connect, first_byte });
        self.server.moved(0, black_box(4312));
    }
}

fn requests(c: &mut Criterion) {
    let handles = Handles::of(&Metrics::new());
    c.bench_function("metrics/request", |b| b.iter(|| handles.request(None)));
    let connect = Some(Duration::from_micros(250));
    c.bench_function("metrics/request_new_connection", |b| b.iter(|| handles.request(black_box(connect))));
}

/// As before, while another worker counts requests of the same route and server.
fn beside_another(c: &mut Criterion) {
    let handles = Handles::of(&Metrics::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                handles.request(None);
            }
        });
        c.bench_function("metrics/request_beside_another_worker", |b| b.iter(|| handles.request(None)));
        over.store(true, Ordering::Relaxed);
    });
}

criterion_group!(benches, requests, beside_another);
criterion_main!(benches);
