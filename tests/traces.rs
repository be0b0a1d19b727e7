//! The promise: where `tracing` is configured, every request has a trace that goes on from its client and to its server,
//! in the headers of the W3C and of Zipkin, and what is sampled is told to a collector over OTLP: a span for the request
//! and one for each try. A collector that is slow or gone is noticed by no client.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "traces/collector.rs"]
mod collector;
mod harness;

use bytes::Bytes;
use collector::{Carrier, Collector, HANG, Span};
use futures_util::SinkExt;
use harness::grpc::{GrpcServer, client, run, unary, with};
use harness::websocket::{WebSocketServer, by_h1, within};
use harness::{
    Authority, Backend, Client, Gate, Origin, RawServer, RefusedAddress, Reply, Request, ServerAddress,
    eventually, own_loopback, read_head,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use tokio_tungstenite::tungstenite::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Soon, so that nobody waits.
const SOON: &str = "interval: 20ms";

/// One worker, so that spans come in the order of the requests on a connection.
fn config(tracing: &str, rest: &str) -> String {
    format!(
        "log: {{ access: {{ format: json, to: stdout }} }}
server: {{ threads: 1, upgrade_sock: $dir/control.sock }}
admin: {{ address: $admin }}
tracing: {{ {tracing} }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
{rest}
"
    )
}

/// To the collector `$otel`, with these further words of `tracing`.
fn to_collector(tracing: &str, rest: &str) -> String {
    config(&format!("otlp: {{ endpoint: \"http://$otel\", {SOON} }}, {tracing}"), rest)
}

const ONE_SERVER: &str = "routes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$one] } }";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// The ids that a server was told: of the trace, of the span, and the flags.
#[track_caller]
fn told(request: &harness::Received) -> (String, String, String) {
    let value = request.header("traceparent").expect("a traceparent");
    let parts: Vec<&str> = value.split('-').collect();
    match parts[..] {
        ["00", trace, span, flags] => (trace.to_owned(), span.to_owned(), flags.to_owned()),
        _ => panic!("{value}"),
    }
}

#[test]
fn a_request_is_a_span_with_one_below_it_for_each_try() {
    let (otel, bad, good) = (Collector::start("otel"), Backend::start("bad"), Backend::start("good"));
    bad.answers(Reply::status(503));
    let gate = Gate::start(
        &to_collector(
            "service_name: edge, resource: { deployment.environment.name: test }",
            "routes: [{ name: users, path: /api, upstream: group }]
upstreams: { group: { servers: [$bad, $good], retry: { when: [503] } } }",
        ),
        &[&otel, &bad, &good],
    );
    // whichever of the two is first: one of two in turn begins with the bad one
    let mut client = gate.connect();
    for number in 0..2 {
        let request = Request::get(&format!("/api/{number}?token=geheim"))
            .header("Authorization", "Bearer geheim")
            .header("Cookie", "session=geheim")
            .header("User-Agent", "tester/1");
        assert_eq!(client.ask(&request).text(), "good");
    }
    let both = [otel.request("/api/0"), otel.request("/api/1")];
    let (request, tries) = both.iter().find(|(_, tries)| tries.len() == 2).expect("one was tried again");
    assert_eq!((request.name.as_str(), request.parent.as_str()), ("GET /api", ""));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "tester/1"),
        ("client.address", "127.0.0.1"),
        ("weirgate.route", "users"),
        ("weirgate.upstream", "group"),
        ("weirgate.listener", "web"),
        ("http.response.body.size", "4"),
        ("error.type", ""),
    ] {
        assert_eq!(request.get(name), value, "{name} of {request:?}");
    }
    assert_eq!(request.get("server.port"), gate.at("web").port().to_string());
    assert_eq!(request.error, None);
    let [first, second] = &tries[..] else { panic!("{tries:?}") };
    for (span, server) in [(first, &bad), (second, &good)] {
        assert_eq!((span.kind, span.trace.as_str()), (SpanKind::Client, request.trace.as_str()));
        assert_eq!(span.get("server.address"), server.address().ip().to_string());
        assert_eq!(span.get("server.port"), server.address().port().to_string());
        assert!(request.start <= span.start && span.start <= span.end && span.end <= request.end, "{span:?}");
        let server_was_told: BTreeSet<_> = server.requests().iter().map(told).collect();
        assert!(
            server_was_told.contains(&(span.trace.clone(), span.id.clone(), "01".to_owned())),
            "{span:?}"
        );
    }
    assert_eq!((first.get("http.response.status_code"), first.get("error.type")), ("503", "503"));
    assert!(first.error.is_some() && second.error.is_none(), "{tries:?}");
    assert_eq!((first.get("http.request.resend_count"), second.get("http.request.resend_count")), ("", "1"));
    assert_eq!((first.get("weirgate.retry.reason"), second.get("weirgate.retry.reason")), ("", "503"));
    assert_eq!(first.get("weirgate.connection.reused"), "false");
    assert!(first.get("weirgate.connect.duration").parse::<f64>().is_ok_and(|time| time > 0.0), "{first:?}");
    let message = &otel.messages()[0];
    assert_eq!(message.path, "/v1/traces");
    assert_eq!(message.resource["service.name"], "edge");
    assert_eq!(message.resource["deployment.environment.name"], "test");
    for message in otel.messages() {
        assert!(!String::from_utf8_lossy(&message.bytes).contains("geheim"), "{message:?}");
    }
}

#[test]
fn a_try_has_the_path_that_its_server_was_asked_for() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let gate = Gate::start(&to_collector("", ONE_SERVER), &[&otel, &one]);
    assert_eq!(gate.get("/a//b/../c?d").status, 200);
    let sent = one.only_request().target;
    let (_, tries) = otel.request("/a//b/../c");
    assert_eq!(format!("{}?d", tries[0].get("url.full")), format!("http://{}{sent}", one.address()));
    assert_eq!(sent, "/a/c?d");
}

#[test]
fn a_try_that_finds_nobody_says_so() {
    let (otel, gone, one) = (Collector::start("otel"), RefusedAddress::new("gone"), Backend::start("one"));
    let gate = Gate::start(
        &to_collector(
            "",
            "routes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$gone, $one] } }",
        ),
        &[&otel, &gone, &one],
    );
    let mut client = gate.connect();
    assert_eq!((client.get("/0").status, client.get("/1").status), (200, 200));
    let both = [otel.request("/0"), otel.request("/1")];
    let (_, tries) = both.iter().find(|(_, tries)| tries.len() == 2).expect("one was tried again");
    let (first, second) = (&tries[0], &tries[1]);
    assert_eq!((first.get("error.type"), first.get("http.response.status_code")), ("ConnectRefused", ""));
    assert!(first.error.as_ref().is_some_and(|why| why.contains("refused")), "{first:?}");
    assert_eq!(first.get("server.address"), gone.address().ip().to_string());
    assert_eq!(second.get("weirgate.retry.reason"), "ConnectRefused");
}

#[test]
fn a_request_that_fails_is_an_error_and_one_that_is_wrong_is_not() {
    let (otel, gone) = (Collector::start("otel"), RefusedAddress::new("gone"));
    let gate = Gate::start(
        &to_collector(
            "",
            "routes: [{ path: /api, upstream: api }]\nupstreams: { api: { servers: [$gone] } }",
        ),
        &[&otel, &gone],
    );
    assert_eq!((gate.get("/api").status, gate.get("/nowhere").status), (502, 404));
    let (failed, tries) = otel.request("/api");
    assert!(failed.error.is_some() && !failed.get("error.type").is_empty(), "{failed:?}");
    assert_eq!((failed.get("http.response.status_code"), tries.len()), ("502", 1));
    let (wrong, tries) = otel.request("/nowhere");
    assert_eq!((wrong.name.as_str(), wrong.error.as_ref(), tries.len()), ("GET", None, 0));
    assert_eq!((wrong.get("http.route"), wrong.get("http.response.status_code")), ("", "404"));
    // what clients make up is no name of a span
    gate.ask(&Request::new("BREW", "/pot"));
    let (odd, _) = otel.request("/pot");
    assert_eq!((odd.name.as_str(), odd.get("http.request.method")), ("HTTP", "_OTHER"));
    assert_eq!(odd.get("http.request.method_original"), "BREW");
}

#[test]
fn a_trace_goes_on_from_whoever_is_believed() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let gate = Gate::start(&to_collector("trust: everyone", ONE_SERVER), &[&otel, &one]);
    let request =
        Request::get("/").header("traceparent", &traceparent("03")).header("tracestate", "a=1, b=2");
    gate.ask(&request.header("tracestate", "c=3"));
    let (span, tries) = otel.request("/");
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    assert_eq!((span.state.as_str(), span.links.len()), ("a=1,b=2,c=3", 0));
    // sampled, random, and its parent is in another process
    assert_eq!((span.flags, tries[0].flags), (0x303, 0x103));
    let asked = one.only_request();
    assert_eq!(told(&asked), (TRACE.to_owned(), tries[0].id.clone(), "03".to_owned()));
    assert_eq!(asked.header("tracestate").as_deref(), Some("a=1,b=2,c=3"));
    assert_eq!(gate.logged_path("/")["trace_id"], TRACE);
}

#[test]
fn of_others_a_new_trace_is_begun_which_has_a_link() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let sent = Request::get("/").header("traceparent", &traceparent("00")).header("tracestate", "a=1");
    // clients are believed when they are proxies
    let gate = Gate::start(&to_collector("", ONE_SERVER), &[&otel, &one]);
    gate.ask(&sent);
    let (span, _) = otel.request("/");
    assert_ne!(span.trace, TRACE);
    assert_eq!((span.parent.as_str(), &span.links[..]), ("", &[(TRACE.to_owned(), PARENT.to_owned())][..]));
    let asked = one.only_request();
    assert_eq!(told(&asked).0, span.trace);
    assert_eq!(asked.header("tracestate"), None);

    let otel = Collector::start("otel");
    one.forget();
    let proxies = format!("trusted_proxies: [127.0.0.0/8]\n{ONE_SERVER}");
    let gate = Gate::start(&to_collector("", &proxies), &[&otel, &one]);
    gate.ask(&Request::get("/proxy").header("traceparent", &traceparent("01")));
    assert_eq!(otel.request("/proxy").0.trace, TRACE);

    let nobody = to_collector("trust: nobody", &proxies);
    let gate = Gate::start(&nobody, &[&otel, &one]);
    gate.ask(&Request::get("/nobody").header("traceparent", &traceparent("01")));
    assert_ne!(otel.request("/nobody").0.trace, TRACE);
}

#[test]
fn what_is_malformed_is_not_there() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let gate = Gate::start(&to_collector("trust: everyone", ONE_SERVER), &[&otel, &one]);
    let mut client = gate.connect();
    for bad in [
        "",
        "nonsense",
        &traceparent("01").to_uppercase(),
        &format!("00-{}-{PARENT}-01", "0".repeat(32)),
        &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        &format!("ff-{TRACE}-{PARENT}-01"),
        &format!("{}-01", traceparent("01")),
    ] {
        one.forget();
        let request = Request::get("/").header("traceparent", bad).header("tracestate", "a=1");
        assert_eq!(client.ask(&request).status, 200);
        let asked = one.only_request();
        let (trace, _, flags) = told(&asked);
        assert!(trace != TRACE && trace.len() == 32 && flags == "01", "{bad}: {asked:?}");
        assert_eq!(asked.header("tracestate"), None, "{bad}");
    }
    // a bad state does not make a good parent bad
    one.forget();
    client.ask(&Request::get("/").header("traceparent", &traceparent("01")).header("tracestate", "A=1"));
    assert_eq!(
        (told(&one.only_request()).0.as_str(), one.only_request().header("tracestate")),
        (TRACE, None)
    );
}

#[test]
fn zipkins_headers_are_taken_and_passed_on() {
    let one = Backend::start("one");
    let start = |propagation: &str, otel: &Collector| {
        let tracing = format!("trust: everyone, propagation: [{propagation}]");
        Gate::start(&to_collector(&tracing, ONE_SERVER), &[otel, &one])
    };
    let asked = |gate: &Gate, headers: &[(&str, &str)]| {
        one.forget();
        let request =
            headers.iter().fold(Request::get("/"), |request, (name, value)| request.header(name, value));
        assert_eq!(gate.ask(&request).status, 200);
        one.only_request()
    };
    let otel = Collector::start("otel");
    let gate = start("b3", &otel);
    let single = asked(&gate, &[("b3", &format!("{TRACE}-{PARENT}-1"))]).header("b3").expect("b3");
    let (span, tries) = otel.request("/");
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    assert_eq!(single, format!("{TRACE}-{}-1-{}", tries[0].id, span.id));
    // a decision without a trace, and one that is malformed
    let denied = asked(&gate, &[("b3", "0")]).header("b3").expect("b3");
    assert_eq!(denied.split('-').nth(2), Some("0"), "{denied}");
    let odd = asked(&gate, &[("b3", &format!("{TRACE}-{PARENT}-yes"))]).header("b3").expect("b3");
    assert!(!odd.contains(TRACE), "{odd}");

    let otel = Collector::start("otel");
    let gate = start("b3multi, tracecontext", &otel);
    let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", PARENT), ("X-B3-ParentSpanId", "05e3ac9a4f6e3b90")];
    let server = asked(&gate, &[&ids[..], &[("X-B3-Flags", "1")]].concat());
    let (span, tries) = otel.request("/");
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    for (name, value) in [
        ("x-b3-traceid", Some(TRACE)),
        ("x-b3-spanid", Some(&tries[0].id)),
        ("x-b3-parentspanid", Some(&span.id)),
        ("x-b3-flags", Some("1")),
        ("x-b3-sampled", None),
    ] {
        assert_eq!(server.header(name).as_deref(), value, "{name}");
    }
    // and the other spelling with it
    assert_eq!(told(&server), (TRACE.to_owned(), tries[0].id.clone(), "01".to_owned()));
    let denied = asked(&gate, &[&ids[..], &[("X-B3-Sampled", "0")]].concat());
    assert_eq!(denied.header("x-b3-sampled").as_deref(), Some("0"));
    assert_eq!(told(&denied).2, "00");
}

/// Asks for each of these paths with these flags in `traceparent`, then for one that is recorded: the paths that the
/// collector has heard of.
fn recorded(gate: &Gate, otel: &Collector, asked: &[(&str, &str)]) -> BTreeSet<String> {
    let mut client = gate.connect();
    for (path, flags) in asked.iter().chain(&[("/always", "01")]) {
        let mut request = Request::get(path);
        if !flags.is_empty() {
            request = request.header("traceparent", &traceparent(flags));
        }
        client.ask(&request);
    }
    otel.request("/always");
    let spans = otel.spans().into_iter().filter(|span| span.kind == SpanKind::Server);
    spans.map(|span| span.get("url.path").to_owned()).filter(|path| path != "/always").collect()
}

#[test]
fn what_was_decided_is_kept_and_passed_on() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let routes = "routes:
  - { path: /, upstream: api }
  - { path: /never, upstream: api, tracing: { sampling: { ratio: 0% } } }
  - { path: /own, upstream: api, tracing: { sampling: { parent_based: false } } }
upstreams: { api: { servers: [$one] } }";
    let gate = Gate::start(&to_collector("trust: everyone", routes), &[&otel, &one]);
    let paths = recorded(
        &gate,
        &otel,
        &[("/yes", "01"), ("/no", "00"), ("/new", ""), ("/never", ""), ("/never/but", "01"), ("/own", "00")],
    );
    assert_eq!(paths, ["/yes", "/new", "/never/but", "/own"].map(str::to_owned).into());
    let flags = |path: &str| told(one.requests().iter().find(|asked| asked.target == path).expect(path)).2;
    for (path, expected) in [("/yes", "01"), ("/no", "00"), ("/never", "00"), ("/own", "01")] {
        assert_eq!(flags(path), expected, "{path}");
    }
    // what is not sampled goes on all the same
    let no = one.requests().into_iter().find(|asked| asked.target == "/no").expect("/no");
    assert!(told(&no).0 == TRACE && told(&no).1 != PARENT, "{no:?}");
}

#[test]
fn failures_are_recorded_though_they_are_not_sampled_where_that_is_wanted() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    one.answers_by(|asked| Reply::status(if asked.target.contains("bad") { 500 } else { 200 }));
    let tracing = "trust: everyone, sampling: { ratio: 0%, errors: true }";
    let gate = Gate::start(&to_collector(tracing, ONE_SERVER), &[&otel, &one]);
    let paths = recorded(&gate, &otel, &[("/good", ""), ("/bad", ""), ("/bad/told", "00")]);
    assert_eq!(paths, ["/bad", "/bad/told"].map(str::to_owned).into());
    let (span, tries) = otel.request("/bad");
    assert_eq!((span.get("error.type"), tries.len()), ("500", 1));
    assert_eq!(told(&one.requests()[1]).2, "00", "the server was not told to record it");
}

#[test]
fn a_call_of_grpc_has_its_status() {
    let (otel, one) = (Collector::start("otel"), GrpcServer::start("one"));
    let rest = "routes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$one], protocol: h2c } }";
    let gate = Gate::start(&to_collector("", rest), &[&otel, &one]);
    run(async {
        let mut calls = client(gate.at("web"), None).await;
        unary(&mut calls, with(Bytes::from_static(b"hello"), &[])).await.expect("an answer");
    });
    let seen = one.seen();
    let traceparent = seen[0].get("traceparent").expect("it was told").to_str().expect("text").to_owned();
    eventually("its span", || otel.spans().iter().any(|span| span.kind == SpanKind::Server));
    let spans = otel.spans();
    let request = spans.iter().find(|span| span.kind == SpanKind::Server).expect("its span");
    assert_eq!((request.get("rpc.system"), request.get("rpc.grpc.status_code")), ("grpc", "0"));
    assert_eq!(request.get("network.protocol.version"), "2");
    let one_try = spans.iter().find(|span| span.parent == request.id).expect("its try");
    assert_eq!(traceparent, format!("00-{}-{}-01", request.trace, one_try.id));
    assert_eq!(one_try.get("network.protocol.version"), "2");
}

#[test]
fn a_websocket_is_one_span_until_its_end() {
    let (otel, one) = (Collector::start("otel"), WebSocketServer::start("one"));
    let gate = Gate::start(&to_collector("", ONE_SERVER), &[&otel, &one]);
    within(async {
        let mut socket = by_h1(gate.at("web"), None, "/chat").await;
        socket.send(Message::text("hello")).await.expect("sent");
        socket.close(None).await.expect("closed");
    });
    let (span, tries) = otel.request("/chat");
    assert_eq!((span.get("http.response.status_code"), span.error.as_ref()), ("101", None));
    assert_eq!(tries.len(), 1);
    let told = one.last_head().get("traceparent").expect("it was told").to_str().expect("text").to_owned();
    assert_eq!(told, format!("00-{}-{}-01", span.trace, tries[0].id));
}

/// It reads, and never answers.
fn slow() -> RawServer {
    RawServer::start("slow", |mut stream| {
        if !read_head(&mut stream).is_empty() {
            let _ = stream.read(&mut [0; 1]);
        }
    })
}

#[test]
fn what_a_filter_tells_a_server_stays_in_both_tries_of_a_hedged_request() {
    let (slow, quick) = (slow(), Backend::start("quick"));
    let rest = "routes: [{ path: /, upstream: api, filters: [{ headers: { request: { set: { traceparent: mine } } } }] }]
upstreams: { api: { servers: [$slow, $quick], retry: { hedge: { after: 50ms }, budget: 100% } } }";
    let gate = Gate::start(&config("propagation: [tracecontext, b3]", rest), &[&slow, &quick]);
    let mut client = gate.connect();
    for path in ["/0", "/1"] {
        assert_eq!(client.get(path).text(), "quick");
    }
    let asked = quick.requests();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.header("traceparent").as_deref() == Some("mine")), "{asked:?}");
    let spans: BTreeSet<_> = asked.iter().map(|asked| asked.header("b3").expect("a b3")).collect();
    assert_eq!(spans.len(), 2, "{spans:?}");
}

#[test]
fn both_tries_of_a_hedged_request_have_spans_of_their_own() {
    let otel = Collector::start("otel");
    let (slow, quick) = (slow(), Backend::start("quick"));
    let rest = "routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$slow, $quick], retry: { hedge: { after: 50ms }, budget: 100% } } }";
    let gate = Gate::start(&to_collector("", rest), &[&otel, &slow, &quick]);
    let mut client = gate.connect();
    assert_eq!((client.get("/0").text(), client.get("/1").text()), ("quick".to_owned(), "quick".to_owned()));
    let both = [otel.request("/0"), otel.request("/1")];
    let (request, tries) = both.iter().find(|(_, tries)| tries.len() == 2).expect("one was hedged");
    assert_eq!((tries[0].get("error.type"), request.error.as_ref()), ("Overtaken", None));
    assert_eq!(tries[1].get("http.response.status_code"), "200");
    let asked: BTreeSet<_> = quick.requests().iter().map(|asked| told(asked).1).collect();
    assert!(asked.contains(&tries[1].id), "{asked:?} {tries:?}");
}

#[test]
fn spans_are_sent_by_grpc_and_over_tls() {
    let (authority, one) = (Authority::new(), Backend::start("one"));
    for carrier in [Carrier::Http, Carrier::Grpc] {
        for tls in [false, true] {
            let address = SocketAddr::from((own_loopback(), 0));
            let pair = tls.then(|| authority.issue(&[&address.ip().to_string()]));
            let otel = Collector::with("otel", address, carrier, pair);
            let protocol = if carrier == Carrier::Grpc { "grpc" } else { "http/protobuf" };
            let (scheme, ca) = if tls { ("https", "ca: $dir/ca.crt, ") } else { ("http", "") };
            let otlp = format!(
                "otlp: {{ endpoint: \"{scheme}://$otel\", protocol: {protocol}, {ca}{SOON}, headers: {{ x-key: \"abc\" }} }}"
            );
            let gate =
                Gate::with(&[&otel, &one]).file("ca.crt", authority.pem()).start(&config(&otlp, ONE_SERVER));
            assert_eq!(gate.get("/over").status, 200);
            let (_, tries) = otel.request("/over");
            assert_eq!(tries.len(), 1, "{carrier:?} {tls}");
            assert_eq!(otel.messages()[0].headers["x-key"], "abc", "{carrier:?} {tls}");
            gate.measures("weirgate_trace_spans_total{result=\"sent\"}", 2.0);
        }
    }
}

#[test]
fn a_collector_that_is_gone_is_noticed_by_no_client() {
    let (gone, one) = (RefusedAddress::new("otel"), Backend::start("one"));
    let otlp = format!("otlp: {{ endpoint: \"http://$otel\", {SOON}, batch_size: 1, queue_size: 1 }}");
    let gate = Gate::start(&config(&otlp, ONE_SERVER), &[&gone, &one]);
    let mut client = gate.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    // one is being sent and one waits
    eventually("spans to be dropped", || {
        gate.metrics()
            .get("weirgate_trace_spans_total{result=\"dropped\"}")
            .is_some_and(|count| count >= 2.0 * 40.0)
    });
    assert_eq!(gate.metrics().get("weirgate_trace_spans_total{result=\"sent\"}"), Some(0.0));
}

#[test]
fn a_collector_that_does_not_answer_is_given_up_and_holds_no_end_up() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    otel.answers(&[HANG; 20]);
    let otlp =
        format!("otlp: {{ endpoint: \"http://$otel\", {SOON}, timeout: 60s, batch_size: 1, queue_size: 4 }}");
    let gate = Gate::start(&config(&otlp, ONE_SERVER), &[&otel, &one]);
    let mut client = gate.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    eventually("a message", || !otel.messages().is_empty());
    drop(client);
    gate.terminate();
    assert!(gate.exit().success());
}

#[test]
fn what_a_collector_refuses_for_now_is_sent_again_and_what_it_refuses_is_not() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    otel.answers(&[503]);
    let gate = Gate::start(&to_collector("", ONE_SERVER), &[&otel, &one]);
    gate.get("/again");
    otel.request("/again");
    assert_eq!(otel.messages().len(), 2);
    otel.answers(&[400]);
    gate.get("/refused");
    gate.measures("weirgate_trace_spans_total{result=\"failed\"}", 2.0);
    gate.measures("weirgate_trace_spans_total{result=\"sent\"}", 2.0);
    eventually("it is said", || gate.stderr().contains("400 Bad Request"));
    gate.get("/well");
    otel.request("/well");
    eventually("it is said", || gate.stderr().contains("takes spans again"));
}

#[test]
fn a_reload_turns_it_on_and_elsewhere_and_off() {
    let (otel, other, one) = (Collector::start("otel"), Collector::start("other"), Backend::start("one"));
    let off = config("", ONE_SERVER).replace("tracing: {  }\n", "");
    let mut gate = Gate::start(&off, &[&otel, &other, &one]);
    let reload = |gate: &mut Gate, config: &str| {
        let reloaded = gate.reload(config);
        assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    };
    let mut client = gate.connect();
    // what clients say is passed on as it came
    client.ask(&Request::get("/off").header("traceparent", "what I like"));
    assert_eq!(one.only_request().header("traceparent").as_deref(), Some("what I like"));
    assert_eq!(gate.logged_path("/off")["trace_id"], serde_json::Value::Null);
    reload(&mut gate, &to_collector("", ONE_SERVER));
    client.get("/on");
    otel.request("/on");
    // spans of a request under the earlier settings are not lost
    let slow = to_collector("", ONE_SERVER).replace(SOON, "interval: 1h");
    reload(&mut gate, &slow);
    client.get("/left");
    reload(&mut gate, &to_collector("", ONE_SERVER).replace("$otel", "$other"));
    client.get("/elsewhere");
    other.request("/elsewhere");
    otel.request("/left");
    reload(&mut gate, &off);
    one.forget();
    client.get("/off/again");
    assert_eq!(one.only_request().header("traceparent"), None);
    gate.measures("weirgate_trace_spans_total{result=\"sent\"}", 6.0);
    let all = [otel.spans(), other.spans()].concat();
    assert!(all.iter().all(|span: &Span| !span.get("url.path").starts_with("/off")), "{all:?}");
}

#[test]
fn what_clients_say_is_cut_so_that_what_waits_has_a_bound() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let gate = Gate::start(&to_collector("", ONE_SERVER), &[&otel, &one]);
    let long = format!("/{}", "a".repeat(5000));
    let agent = "tester/".repeat(1000);
    assert_eq!(gate.ask(&Request::get(&long).header("User-Agent", &agent)).status, 200);
    assert_eq!(one.only_request().target, long, "what is sent on is whole");
    let (request, tries) = otel.request(&long[..2048]);
    assert_eq!(request.get("user_agent.original"), &agent[..2048]);
    assert_eq!(tries[0].get("url.full"), format!("http://{}{}", one.address(), &long[..2048]));
}

#[test]
fn a_graceful_end_sends_what_is_left() {
    let (otel, one) = (Collector::start("otel"), Backend::start("one"));
    let config = to_collector("", ONE_SERVER).replace(SOON, "interval: 1h");
    let gate = Gate::start(&config, &[&otel, &one]);
    assert_eq!(gate.get("/last").status, 200);
    assert!(otel.messages().is_empty());
    gate.terminate();
    assert!(gate.exit().success());
    assert_eq!(otel.request("/last").1.len(), 1);
}

#[test]
fn without_a_collector_traces_are_passed_on_and_nothing_is_told() {
    let one = Backend::start("one");
    let gate = Gate::start(&config("trust: everyone", ONE_SERVER), &[&one]);
    Client::connect(gate.at("web")).ask(&Request::get("/").header("traceparent", &traceparent("01")));
    let (trace, span, flags) = told(&one.only_request());
    assert!(trace == TRACE && span != PARENT && flags == "01");
    assert_eq!(gate.logged_path("/")["trace_id"], TRACE);
    assert_eq!(gate.metrics().get("weirgate_trace_spans_total{result=\"dropped\"}"), Some(0.0));
}

#[test]
fn a_server_over_http_2_is_told_too() {
    let otel = Collector::start("otel");
    let one = Origin::with("one").h2().start();
    let rest = "routes: [{ path: /, upstream: api }]\nupstreams: { api: { servers: [$one], protocol: h2c } }";
    let gate = Gate::start(&to_collector("trust: everyone", rest), &[&otel, &one]);
    gate.ask(&Request::get("/two").header("traceparent", &traceparent("01")));
    let (_, tries) = otel.request("/two");
    assert_eq!(tries[0].get("network.protocol.version"), "2");
    let asked = one.arrived();
    assert_eq!(asked[0].headers["traceparent"], format!("00-{TRACE}-{}-01", tries[0].id));
}
