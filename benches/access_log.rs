//! What a request pays for its line in the access log: `cargo bench --bench access_log`.
//! The first lines say how often the request thread allocated for ten thousand lines, once its
//! buffers have grown: the answer should stay at zero.

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};
use weirgate::config::file::LogTarget;
use weirgate::config::plan;
use weirgate::observe::{AccessLog, Entry};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all work is the system allocator's; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn count() {
    // a thread that is ending counts no more
    ALLOCATIONS.try_with(|n| n.set(n.get() + 1)).ok();
}

/// Of a header that is a secret, two that are none, a parameter and a cookie.
macro_rules! many {
    () => {
        "{ template: '{client} [{time}] \"{request}\" {status} {response_bytes} {duration_ms} {server} {header.x-api-key} {header.x-tenant} {response_header.content-type} {query.page} {cookie.session}' }"
    };
}

const PLANS: [(&str, &str); 6] = [
    ("json", "format: json"),
    ("combined", "format: combined"),
    (
        "template",
        "format: { template: '{client} [{time}] \"{request}\" {status} {response_bytes} {duration_ms} {server}' }",
    ),
    ("redacted", "redact: { query: [page, token] }"),
    ("template_headers", concat!("format: ", many!())),
    (
        "template_redacted",
        concat!(
            "{ format: ",
            many!(),
            ", redact: { headers: [x-api-key], query: [page, token], cookies: [session] } }"
        ),
    ),
];

/// Headers of a request and of its answer.
fn headers() -> (HeaderMap, HeaderMap) {
    let map = |all: &[(&'static str, &'static str)]| {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        all.iter().map(header).collect()
    };
    let request = [
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "theme=dark; session=0123456789abcdef0123456789abcdef; seen=1"),
        ("x-api-key", "0123456789abcdef"),
        ("x-tenant", "acme"),
    ];
    (map(&request), map(&[("content-type", "application/json"), ("cache-control", "no-store")]))
}

/// A request as a browser makes it.
fn entry((request, response): &(HeaderMap, HeaderMap)) -> Entry<'_> {
    Entry {
        listener: "secure",
        client: Some([192, 0, 2, 7].into()),
        proxy: None,
        scheme: Some("https"),
        method: Some("GET"),
        host: Some(b"www.example.com"),
        path: Some(b"/api/v1/customers/42/orders?state=open&page=2"),
        protocol: Some("HTTP/2.0"),
        status: 200,
        grpc_status: None,
        route: Some("api"),
        upstream: Some("api"),
        server: Some("10.0.3.17:3001"),
        attempts: 1,
        request_bytes: 0,
        response_bytes: 4312,
        datagrams: None,
        duration: Duration::from_micros(12_345),
        queued: None,
        upstream_connect: Some(Duration::from_micros(250)),
        upstream_response: Some(Duration::from_micros(11_042)),
        request_id: Some(b"0123456789abcdef0123456789abcdef"),
        trace_id: None,
        tls: Some("TLSv1.3"),
        tls_cipher: Some("TLS_AES_128_GCM_SHA256"),
        sni: Some("www.example.com"),
        client_cert_subject: None,
        client_cert_fingerprint: None,
        user_agent: Some(
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0",
        ),
        referer: Some(b"https://www.example.com/customers/42"),
        ended: None,
        error: None,
        request_headers: Some(request),
        response_headers: Some(response),
    }
}

/// As a user writes it under `log.access`.
fn open(plan: &str) -> AccessLog {
    let plan: plan::AccessLog = serde_yaml::from_str(plan).unwrap_or_else(|_| std::process::exit(1));
    let plan = plan::AccessLog { to: LogTarget::File("/dev/null".into()).into(), ..plan };
    AccessLog::open(&plan).ok().flatten().unwrap_or_else(|| std::process::exit(1))
}

fn lines(c: &mut Criterion) {
    for (name, plan) in PLANS {
        let log = open(plan);
        // measured in bursts with a flush between them: a loop without pause is faster than any
        // sink, and would measure dropped lines
        c.bench_function(&format!("access_log/{name}"), |b| {
            b.iter_custom(|rounds| {
                let (mut spent, mut left, headers) = (Duration::ZERO, rounds, headers());
                while left > 0 {
                    let burst = left.min(5000);
                    let start = Instant::now();
                    for _ in 0..burst {
                        log.write(black_box(&entry(&headers)));
                    }
                    spent += start.elapsed();
                    left -= burst;
                    log.flush();
                }
                spent
            })
        });
        if log.dropped() > 0 {
            println!(
                "access_log/{name}: not valid, {} lines were dropped, which costs nothing",
                log.dropped()
            );
        }
    }
}

fn allocations(_: &mut Criterion) {
    for (name, plan) in PLANS {
        let log = open(plan);
        let headers = headers();
        let burst = || {
            let before = ALLOCATIONS.get();
            (0..1000).for_each(|_| log.write(&entry(&headers)));
            let after = ALLOCATIONS.get();
            log.flush();
            after - before
        };
        // buffers grow, and change places with the writer's
        let warm_up: u64 = (0..10).map(|_| burst()).sum();
        let counted: u64 = (0..10).map(|_| burst()).sum();
        println!(
            "access_log/{name}: {counted} allocations for 10000 lines (before them, while growing: {warm_up})"
        );
    }
}

criterion_group!(benches, allocations, lines);
criterion_main!(benches);
