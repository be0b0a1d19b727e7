//! What a request pays for its trace: `cargo bench --bench traces`. All that `http::trace` does for one with a single try: its
//! ids are read or made, its server is told, and what is recorded goes to the queue, which is full, as nobody takes it: then
//! the request's thread also throws it away. Copying the head that is told is not measured, nor what the sending costs another
//! thread.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use weirgate::config::file::{OtlpProtocol, Propagator, RouteSampling, TraceTrust};
use weirgate::config::plan::{Otlp, Sampling, Tracing, Trust};
use weirgate::observe::traces::{Request, Tracer, Try, told};
use weirgate::observe::{Metrics, traces};
use weirgate::units::Percent;

/// Whether something is sent, the share of it, and whether failures are.
const CASES: [(&str, bool, u8, bool); 4] = [
    ("passed_on", false, 100, false),
    ("not_sampled", true, 0, false),
    ("errors_only", true, 0, true),
    ("recorded", true, 100, false),
];

fn tracer((sent, percent, errors): (bool, u8, bool)) -> Arc<Tracer> {
    let otlp = Otlp {
        // where nobody is
        endpoint: Uri::from_static("http://127.0.0.1:9/v1/traces"),
        protocol: OtlpProtocol::HttpProtobuf,
        headers: Vec::new(),
        trust: Trust::These(Vec::new()),
        timeout: Duration::from_secs(1),
        interval: Duration::from_secs(1),
        batch_size: 1,
        queue_size: 1,
    };
    let plan = Tracing {
        otlp: sent.then_some(otlp),
        resource: Vec::new(),
        propagation: vec![Propagator::TraceContext],
        trust: TraceTrust::Everyone,
        sampling: Sampling { ratio: Percent::of(percent), parent_based: false, errors },
    };
    Tracer::open(&Arc::new(plan), &Metrics::new()).unwrap_or_else(|_| std::process::exit(1))
}

fn one_try() -> Try {
    Try {
        after: Duration::ZERO,
        took: Duration::from_millis(11),
        method: Method::GET,
        path: told(black_box(b"/api/v1/customers/42/orders")),
        https: false,
        server: "10.0.3.17:3001".into(),
        address: Some(([10, 0, 3, 17], 3001).into()),
        version: Some("1.1"),
        connect: None,
        reused: true,
        first_byte: Some(Duration::from_millis(10)),
        status: Some(200),
        resends: 0,
        failure: None,
        because: None,
    }
}

fn whole() -> Request {
    Request {
        method: Method::GET,
        https: true,
        host: told(black_box(b"www.example.com")),
        port: Some(443),
        path: told(black_box(b"/api/v1/customers/42/orders")),
        version: "2",
        route: None,
        listener: "secure".into(),
        upstream: Some("api".into()),
        client: Some([192, 0, 2, 7].into()),
        peer: Some(([192, 0, 2, 7], 50_000).into()),
        user_agent: Some(told(black_box(
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
        ))),
        request_id: "0123456789abcdef0123456789abcdef".into(),
        status: 200,
        grpc_status: None,
        received: 0,
        sent: 4312,
        queued: None,
        hedged: 0,
        took: Duration::from_millis(12),
        failed: false,
        error: None,
    }
}

fn serve(tracer: Option<&Arc<Tracer>>, brought: &HeaderMap, sent: &mut HeaderMap) {
    let Some(tracer) = tracer else { return };
    let mut trace: Box<traces::Trace> = tracer.begin(brought, true, RouteSampling::default());
    trace.next_try(false);
    trace.tell(|name, value| match value {
        Some(value) => drop(sent.insert(name, value)),
        None => drop(sent.remove(name)),
    });
    if trace.is_recorded() {
        trace.try_over(one_try());
    }
    if trace.is_told(false) {
        trace.end(whole());
    }
}

fn requests(c: &mut Criterion) {
    let parent = HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let begun = HeaderMap::from_iter([(HeaderName::from_static("traceparent"), parent)]);
    let (none, mut sent) = (HeaderMap::new(), HeaderMap::new());
    c.bench_function("traces/off", |b| b.iter(|| serve(black_box(None), black_box(&none), &mut sent)));
    for (name, to, percent, errors) in CASES {
        let tracer = tracer((to, percent, errors));
        c.bench_function(&format!("traces/{name}"), |b| {
            b.iter(|| serve(black_box(Some(&tracer)), black_box(&none), &mut sent))
        });
        if name == "passed_on" {
            c.bench_function("traces/passed_on_from_a_client", |b| {
                b.iter(|| serve(black_box(Some(&tracer)), black_box(&begun), &mut sent))
            });
        }
    }
}

criterion_group!(benches, requests);
criterion_main!(benches);
