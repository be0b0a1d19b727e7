use super::picture::{CertificateNow, ListenerNow, RouteNow, ServerNow, UpstreamNow};
use super::*;
use std::time::{Duration, UNIX_EPOCH};

/// One of everything.
struct One(Metrics);

impl Live for One {
    fn picture(&self) -> Picture {
        let route = |name: &str| RouteNow { name: name.to_owned(), counted: self.0.route(name) };
        let certificate = || CertificateNow {
            listener: "web".to_owned(),
            certificate: "a.crt".to_owned(),
            expires: UNIX_EPOCH + Duration::from_secs(2_000_000_000),
        };
        Picture {
            listeners: vec![ListenerNow {
                name: "web".to_owned(),
                counted: self.0.listener("web"),
                open: 3,
                tls: true,
                requests: true,
            }],
            // two routes may be called the same
            routes: vec![route("api"), route("api"), route("a \"b\"")],
            upstreams: vec![self.upstream()],
            certificates: vec![certificate(), certificate()],
            authorities: Vec::new(),
            config_hash: "0123".to_owned(),
            log_dropped: 2,
        }
    }
}

impl One {
    fn upstream(&self) -> UpstreamNow {
        UpstreamNow {
            name: "api".to_owned(),
            counted: self.0.upstream("api"),
            servers: vec![ServerNow {
                name: "127.0.0.1:3001".to_owned(),
                counted: self.0.server("api", "127.0.0.1:3001"),
                in_flight: 4,
                flows: true,
                checked: true,
                healthy: true,
                usable: true,
                draining: false,
                ejected: Some(false),
                breaker: Some(BreakerState::HalfOpen),
                weight: 2,
            }],
            in_flight: 4,
            flows: true,
            waiting: Some(7),
            budget: (1.0, 4.0),
            breaker: Some(BreakerState::Open),
            panics: true,
        }
    }
}

fn metrics() -> Metrics {
    let metrics = Metrics::new();
    metrics.shows(One(metrics.clone()));
    metrics
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.contains(&format!("\n{line}\n")), "{line} is not in\n{page}");
}

#[test]
fn the_page_says_which_program_this_is_before_there_is_anything_else() {
    has(
        &Metrics::new().render(),
        &format!("weirgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    );
}

#[test]
fn what_is_counted_is_on_the_page_under_its_name() {
    let metrics = metrics();
    let request = Request::new(503, Duration::from_millis(3));
    let request =
        request.moving(10, 0).tried_again(1, 0).in_parts(None, None, Some(Duration::from_millis(1)));
    let at = AtRoute::begin(metrics.route("api"));
    at.route().ended(&request);
    metrics.upstream("api").ended(&request);
    metrics.upstream("api").refused(Refused::QueueFull);
    metrics.server("api", "127.0.0.1:3001").tried(&Try { status: 200, ..Try::default() });
    metrics.server("api", "127.0.0.1:3001").ejected(Fault::Latency);
    metrics.listener("web").request(Protocol::H2, 0);
    metrics.listener("web").handshake(TlsVersion::V1_3, true);
    metrics.process().log_replaced(5);
    let page = metrics.render();
    let server = "upstream=\"api\",server=\"127.0.0.1:3001\"";
    for line in [
        "weirgate_requests_total{listener=\"web\",protocol=\"h2\",code=\"none\"} 1",
        "weirgate_tls_handshakes_total{listener=\"web\",version=\"1.3\",resumed=\"true\"} 1",
        "weirgate_route_requests_total{route=\"api\",code=\"5xx\"} 1",
        "weirgate_route_requests_total{route=\"a \\\"b\\\"\",code=\"5xx\"} 0",
        "weirgate_route_requests_in_flight{route=\"api\"} 1",
        "weirgate_route_request_duration_seconds_sum{route=\"api\"} 0.003",
        "weirgate_route_first_byte_duration_seconds_bucket{route=\"api\",le=\"0.001\"} 1",
        "weirgate_upstream_request_body_bytes_total{upstream=\"api\"} 10",
        "weirgate_upstream_retries_total{upstream=\"api\"} 1",
        "weirgate_upstream_requests_refused_total{upstream=\"api\",reason=\"queue_full\"} 1",
        "weirgate_upstream_queue_length{upstream=\"api\"} 7",
        "weirgate_upstream_breaker_state{upstream=\"api\",state=\"open\"} 1",
        "weirgate_upstream_retry_budget_used_ratio{upstream=\"api\"} 0.25",
        &format!("weirgate_server_requests_total{{{server},code=\"2xx\"}} 1"),
        &format!("weirgate_server_ejections_total{{{server},reason=\"latency\"}} 1"),
        &format!("weirgate_server_breaker_state{{{server},state=\"half_open\"}} 1"),
        "weirgate_certificate_expiry_timestamp_seconds{listener=\"web\",certificate=\"a.crt\"} 2000000000",
        "weirgate_config_info{hash=\"0123\"} 1",
        "weirgate_access_log_dropped_total 7",
    ] {
        has(&page, line);
    }
    drop(at);
    has(&metrics.render(), "weirgate_route_requests_in_flight{route=\"api\"} 0");
}

#[test]
fn every_sample_is_there_once() {
    let page = metrics().render();
    let mut seen = std::collections::HashSet::new();
    for line in page.lines() {
        let name = line.rsplit_once(' ').map_or(line, |(name, _)| name);
        assert!(line.starts_with('#') || seen.insert(name), "twice: {line}");
    }
}

#[test]
fn another_process_goes_on_from_the_counts_of_this_one() {
    let old = metrics();
    old.route("api").ended(&Request::new(200, Duration::from_millis(3)));
    let at = AtRoute::begin(old.route("api"));
    old.server("api", "127.0.0.1:3001").checked(true);
    old.process().reloaded(true);
    let text = serde_json::to_string(&old.counts()).unwrap();
    let new = Metrics::new();
    new.resume(serde_json::from_str(&text).unwrap());
    new.shows(One(new.clone()));
    let page = new.render();
    has(&page, "weirgate_route_requests_total{route=\"api\",code=\"2xx\"} 1");
    has(&page, "weirgate_route_request_duration_seconds_bucket{route=\"api\",le=\"0.005\"} 1");
    has(&page, "weirgate_route_requests_in_flight{route=\"api\"} 0");
    has(
        &page,
        "weirgate_server_health_checks_total{upstream=\"api\",server=\"127.0.0.1:3001\",result=\"ok\"} 1",
    );
    has(&page, "weirgate_config_reloads_total{result=\"ok\"} 1");
    has(&new.render(), "weirgate_route_requests_total{route=\"api\",code=\"2xx\"} 1");
    drop(at);
}

#[test]
fn what_nobody_uses_is_forgotten() {
    let metrics = Metrics::new();
    let kept = metrics.route("kept");
    kept.ended(&Request::new(200, Duration::ZERO));
    metrics.route("gone").ended(&Request::new(200, Duration::ZERO));
    metrics.prune();
    assert_eq!(metrics.counts().len(), 2, "the process and one route");
    assert!(Arc::ptr_eq(&kept, &metrics.route("kept")));
}
