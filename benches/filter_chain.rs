//! What a chain of filters costs one request: none, the two of the production configuration (`ip` and `headers`),
//! and ten. Request head, head to the server, head of the response. `cargo bench --bench filter_chain`.

#![allow(clippy::unwrap_used)]

#[path = "common/checked.rs"]
mod checked;

use std::future::Future as _;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{Extensions, HeaderMap, StatusCode};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt as _;
use weirgate::config::plan::Listener;
use weirgate::filter::{Chain, Exchange, Flow, RequestInfo};
use weirgate::http::{Connection, RequestId};

/// A listener with `pairs` times the two filters, as a configuration makes it.
fn listener(pairs: usize) -> Arc<Listener> {
    let pair = "
      - ip: { deny: [192.0.2.0/24] }
      - headers:
          request: { set: { X-Edge: bench } }
          response: { set: { X-Bench: \"1\" } }";
    let filters = if pairs == 0 { " []".into() } else { pair.repeat(pairs) };
    let yaml = format!(
        "listeners:\n  - address: 127.0.0.1:8080\n    filters:{filters}\nroutes:\n  - respond: {{ status: 200 }}\n"
    );
    Arc::clone(checked::plan(&yaml).listeners.first().unwrap())
}

/// A session whose request head has been read.
fn session() -> Session {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(4096);
        let head =
            "GET /users/42 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let mut session = Session::new_h1(Box::new(server));
        session.downstream_session.read_request().await.unwrap();
        session
    })
}

fn info(listener: Arc<Listener>) -> RequestInfo {
    let client = "198.51.100.7:4711".parse().unwrap();
    let local = "127.0.0.1:8080".parse().unwrap();
    RequestInfo {
        connection: Arc::new(Connection::new(listener, client, local, None)),
        client,
        https: false,
        host: "www.example.com".into(),
        normalised_path: None,
        request_id: RequestId::of(&HeaderMap::new(), false),
        route: None,
        started: Instant::now(),
    }
}

/// One request through all three phases. None of these filters waits.
fn pass(chain: &Chain, mut ex: Exchange<'_>, request: &mut RequestHeader, response: &mut ResponseHeader) {
    let flow = pin!(chain.request(&mut ex)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flow, Poll::Ready(Flow::Continue)));
    chain.upstream_request(&mut ex, request);
    chain.response(&mut ex, response);
}

fn bench(c: &mut Criterion) {
    let mut benches = c.benchmark_group("filter_chain");
    let mut session = session();
    for pairs in [0, 1, 5] {
        let listener = listener(pairs);
        let chain = Chain::new(listener.filters.iter());
        let info = info(listener);
        let mut state = Extensions::new();
        let mut request = session.req_header().clone();
        let mut response = ResponseHeader::build(StatusCode::OK, None).unwrap();
        response.insert_header("content-type", "text/plain").unwrap();
        benches.bench_function(BenchmarkId::from_parameter(pairs * 2), |b| {
            b.iter(|| {
                let ex = Exchange::new(&mut session, &info, &mut state);
                pass(black_box(&chain), ex, &mut request, &mut response);
            });
        });
        assert_eq!(response.headers.contains_key("x-bench"), pairs > 0);
        assert_eq!(request.headers.contains_key("x-edge"), pairs > 0);
    }
    benches.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
