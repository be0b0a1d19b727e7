//! The promise: what the page of metrics says is what happened, nothing that a client sends makes it grow, and counters go
//! on across reloads and upgrades while what was removed disappears.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "metrics/programs.rs"]
mod programs;
#[path = "harness/udp.rs"]
mod udp;

use harness::{
    Authority, Backend, Client, Gate, H2Client, RawServer, RefusedAddress, Reply, Request, ServerAddress,
    Valve, eventually, read_head,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use udp::{UdpServer, UdpTester, nobody};

const ADMIN: &str = "server: { threads: 2, upgrade_sock: $dir/control.sock }\nadmin: { address: $admin }\n";

/// Routes `api` and `fixed`; these words are in the group `api`.
fn config(words: &str) -> String {
    format!(
        "{ADMIN}listeners: [{{ name: web, address: $web }}]
routes:
  - {{ name: fixed, exact: /fixed, respond: {{ status: 204 }} }}
  - {{ name: api, path: /, upstream: api }}
upstreams:
  api: {{ {words} }}
"
    )
}

/// The labels of a server of the group `api`.
fn of_server(server: &dyn ServerAddress) -> String {
    format!("upstream=\"api\",server=\"{}\"", server.address())
}

#[test]
fn requests_are_counted_by_listener_route_upstream_and_server() {
    let api = Backend::start("api");
    let gate = Gate::start(&config("servers: [$api]"), &[&api]);
    for _ in 0..3 {
        assert_eq!(gate.get("/x").status, 200);
    }
    api.answers(Reply::new(404, "nothing"));
    assert_eq!(gate.ask(&Request::post("/x", "0123456789")).status, 404);
    assert_eq!(gate.get("/fixed").status, 204);
    assert_eq!(gate.raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").status, 400);
    assert_eq!(gate.raw("GET / HTTP/7.1\r\nHost: a\r\n\r\n").status, 505);

    let listener = "listener=\"web\",protocol=\"h1\"";
    gate.measures(&format!("weirgate_requests_total{{{listener},code=\"2xx\"}}"), 4.0);
    gate.measures(&format!("weirgate_requests_total{{{listener},code=\"4xx\"}}"), 2.0);
    gate.measures(&format!("weirgate_requests_total{{{listener},code=\"5xx\"}}"), 1.0);
    gate.measures("weirgate_route_requests_total{route=\"fixed\",code=\"2xx\"}", 1.0);
    let server = of_server(&api);
    for (room, labels) in [("route", "route=\"api\""), ("upstream", "upstream=\"api\""), ("server", &server)]
    {
        gate.measures(&format!("weirgate_{room}_requests_total{{{labels},code=\"2xx\"}}"), 3.0);
        gate.measures(&format!("weirgate_{room}_requests_total{{{labels},code=\"4xx\"}}"), 1.0);
        gate.measures(&format!("weirgate_{room}_request_body_bytes_total{{{labels}}}"), 10.0);
        gate.measures(&format!("weirgate_{room}_response_body_bytes_total{{{labels}}}"), 9.0 + 7.0);
        gate.measures(&format!("weirgate_{room}_first_byte_duration_seconds_count{{{labels}}}"), 4.0);
        let page = gate.metrics();
        let dialled = page.get(&format!("weirgate_{room}_connect_duration_seconds_count{{{labels}}}"));
        assert_eq!(dialled, Some(api.connections() as f64), "one for each new connection");
    }
    let page = gate.metrics();
    let total = page.get("weirgate_route_request_duration_seconds_sum{route=\"api\"}").unwrap();
    let first = page.get("weirgate_route_first_byte_duration_seconds_sum{route=\"api\"}").unwrap();
    assert!(first > 0.0 && total >= first, "{total} {first}");
    gate.measures("weirgate_listener_connections_accepted_total{listener=\"web\"}", 7.0);
}

#[test]
fn what_is_in_flight_is_seen_where_it_is() {
    let (busy, other) = (Backend::start("busy"), Backend::start("other"));
    busy.answers(Reply::ok("late").after(Duration::from_secs(60)));
    other.answers(Reply::ok("late").after(Duration::from_secs(60)));
    let gate = Gate::start(&config("servers: [$busy, $other]"), &[&busy, &other]);
    let mut clients: Vec<Client> = (0..3).map(|_| gate.connect()).collect();
    for client in &mut clients {
        client.send(Request::get("/slow").bytes());
    }
    gate.measures("weirgate_route_requests_in_flight{route=\"api\"}", 3.0);
    gate.measures("weirgate_upstream_requests_in_flight{upstream=\"api\"}", 3.0);
    let in_flight =
        |server: &dyn ServerAddress| format!("weirgate_server_requests_in_flight{{{}}}", of_server(server));
    let page = gate.metrics();
    let each = [&busy, &other].map(|server| page.get(&in_flight(server)).unwrap());
    assert_eq!(each.iter().sum::<f64>(), 3.0, "{each:?}");
    assert!(each.iter().all(|count| *count >= 1.0), "in turn: {each:?}");
    assert_eq!(page.get("weirgate_listener_connections_open{listener=\"web\"}"), Some(3.0));
    drop(clients);
    gate.measures("weirgate_route_requests_in_flight{route=\"api\"}", 0.0);
    gate.measures(&in_flight(&busy), 0.0);
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"none\"}", 3.0);
}

#[test]
fn tries_and_retries_are_told_apart() {
    let (gone, up) = (RefusedAddress::new("gone"), Backend::start("up"));
    let gate = Gate::start(&config("servers: [$gone, $up], retry: { attempts: 2 }"), &[&gone, &up]);
    for _ in 0..6 {
        assert_eq!(gate.get("/x").text(), "up");
    }
    gate.measures("weirgate_upstream_requests_total{upstream=\"api\",code=\"2xx\"}", 6.0);
    gate.measures(&format!("weirgate_server_requests_total{{{},code=\"2xx\"}}", of_server(&up)), 6.0);
    let page = gate.metrics();
    let failed = page.get(&format!("weirgate_server_requests_total{{{},code=\"none\"}}", of_server(&gone)));
    assert!(failed > Some(0.0));
    assert_eq!(page.get("weirgate_upstream_retries_total{upstream=\"api\"}"), failed);
    assert_eq!(page.get("weirgate_route_retries_total{route=\"api\"}"), failed);
}

#[test]
fn a_budget_that_is_spent_is_seen() {
    let (bad, worse) = (Backend::start("bad"), Backend::start("worse"));
    for backend in [&bad, &worse] {
        backend.answers(Reply::status(503));
    }
    let words =
        "servers: [$bad, $worse], retry: { attempts: 2, when: [503], budget: { share: 0%, floor: 0 } }";
    let gate = Gate::start(&config(words), &[&bad, &worse]);
    for _ in 0..4 {
        assert_eq!(gate.get("/x").status, 503);
    }
    gate.measures("weirgate_upstream_retry_budget_exhausted_total{upstream=\"api\"}", 4.0);
    gate.measures("weirgate_upstream_retries_total{upstream=\"api\"}", 0.0);
}

#[test]
fn handshakes_are_counted_by_version_and_resumption() {
    let authority = Authority::new();
    let builder = Gate::with(&[]);
    authority.issue_into(builder.dir(), "a", &["localhost"]);
    let gate = builder.start(&format!(
        "{ADMIN}listeners:
  - {{ name: web, address: $web, tls: {{ min_version: \"1.2\", certificates: [{{ cert: $dir/a.crt, key: $dir/a.key }}] }} }}
routes: [{{ path: /, respond: {{ body: here }} }}]
"
    ));
    for (version, count) in [(&rustls::version::TLS12, 3), (&rustls::version::TLS13, 2)] {
        let client = authority.client("localhost").version(version).resuming();
        for _ in 0..count {
            assert_eq!(
                client.connect(gate.at("web")).ask(&Request::get("/").host("localhost")).text(),
                "here"
            );
        }
    }
    let done = |version: &str, resumed: bool| {
        format!(
            "weirgate_tls_handshakes_total{{listener=\"web\",version=\"{version}\",resumed=\"{resumed}\"}}"
        )
    };
    for (version, resumed, count) in
        [("1.2", false, 1.0), ("1.2", true, 2.0), ("1.3", false, 1.0), ("1.3", true, 1.0)]
    {
        gate.measures(&done(version, resumed), count);
    }
    let mut noise = TcpStream::connect(gate.at("web")).unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    gate.measures("weirgate_tls_handshake_failures_total{listener=\"web\",reason=\"malformed\"}", 1.0);
    let stranger = Authority::new().client("localhost");
    assert!(stranger.try_connect(gate.at("web")).is_err());
    gate.measures("weirgate_tls_handshake_failures_total{listener=\"web\",reason=\"alert\"}", 1.0);
    let path = gate.dir().join("a.crt");
    let expiry = format!(
        "weirgate_certificate_expiry_timestamp_seconds{{listener=\"web\",certificate=\"{}\"}}",
        path.display()
    );
    assert!(gate.metrics().get(&expiry) > Some(1.7e9));
    let tls = authority.client("localhost").alpn(&["h2"]);
    assert_eq!(H2Client::connect(gate.at("web"), &tls).get("/").status, 200);
    gate.measures("weirgate_requests_total{listener=\"web\",protocol=\"h2\",code=\"2xx\"}", 1.0);
}

#[test]
fn ejections_breakers_and_health_are_seen() {
    let (bad, good) = (Backend::start("bad"), Backend::start("good"));
    let words =
        "servers: [$bad, $good], retry: { attempts: 1 }, outlier: { consecutive_failures: 2, ejection: 60s },
    health_check: { http: { path: /healthz }, interval: 50ms, unhealthy_after: 1, healthy_after: 1 },
    breaker: { server: { pending: 1000, open: 1h }, group: { pending: 1000, open: 1h } }";
    let gate = Gate::start(&config(words), &[&bad, &good]);
    bad.answers(Reply::status(502));
    for _ in 0..8 {
        gate.get("/x");
    }
    let ejections =
        |reason: &str| format!("weirgate_server_ejections_total{{{},reason=\"{reason}\"}}", of_server(&bad));
    gate.measures(&ejections("consecutive_failures"), 1.0);
    gate.measures(&ejections("latency"), 0.0);
    gate.measures(&format!("weirgate_server_ejected{{{}}}", of_server(&bad)), 1.0);
    gate.measures(&format!("weirgate_server_ejected{{{}}}", of_server(&good)), 0.0);
    gate.measures("weirgate_upstream_servers{upstream=\"api\"}", 2.0);
    gate.measures("weirgate_upstream_servers_usable{upstream=\"api\"}", 1.0);
    gate.measures("weirgate_upstream_breaker_state{upstream=\"api\",state=\"closed\"}", 1.0);
    gate.measures(&format!("weirgate_server_breaker_state{{{},state=\"open\"}}", of_server(&good)), 0.0);
    let checks = |result: &str| {
        let name = format!("weirgate_server_health_checks_total{{{},result=\"{result}\"}}", of_server(&good));
        gate.metrics().get(&name)
    };
    eventually("checks that pass", || checks("ok") >= Some(2.0));
    assert_eq!(checks("failed"), Some(0.0));
    good.health(Reply::status(500));
    gate.measures(&format!("weirgate_server_healthy{{{}}}", of_server(&good)), 0.0);
    assert!(checks("failed") >= Some(1.0));
}

#[test]
fn a_breaker_that_opens_and_requests_that_nobody_was_asked_for_are_counted() {
    let bad = Backend::start("bad");
    bad.answers(Reply::status(503));
    let words = "servers: [$bad], retry: { attempts: 1 },
    breaker: { group: { failure_share: { share: 100%, requests: 2 }, open: 1h } }";
    let gate = Gate::start(&config(words), &[&bad]);
    let ask = |times| (0..times).for_each(|_| assert_eq!(gate.get("/x").status, 503));
    ask(2);
    // it hears of an answer when that has ended, which clients may know before
    gate.measures("weirgate_upstream_breaker_opened_total{upstream=\"api\"}", 1.0);
    ask(3);
    gate.measures("weirgate_upstream_breaker_state{upstream=\"api\",state=\"open\"}", 1.0);
    gate.measures("weirgate_upstream_requests_refused_total{upstream=\"api\",reason=\"breaker_open\"}", 3.0);
    gate.measures(&format!("weirgate_server_requests_total{{{},code=\"5xx\"}}", of_server(&bad)), 2.0);
}

#[test]
fn the_queue_is_seen() {
    let slow = Backend::start("slow");
    slow.answers(Reply::ok("late").after(Duration::from_secs(60)));
    let words = "servers: [$slow], limits: { requests: 1, queue: 2, queue_timeout: 60s }";
    let gate = Gate::start(&config(words), &[&slow]);
    let ask = || {
        let mut client = gate.connect();
        client.send(Request::get("/slow").bytes());
        client
    };
    let first = ask();
    gate.measures("weirgate_upstream_requests_in_flight{upstream=\"api\"}", 1.0);
    let waiting = [ask(), ask()];
    gate.measures("weirgate_upstream_queue_length{upstream=\"api\"}", 2.0);
    assert_eq!(gate.get("/slow").status, 503);
    gate.measures("weirgate_upstream_requests_refused_total{upstream=\"api\",reason=\"queue_full\"}", 1.0);
    slow.answers(Reply::ok("quick"));
    // and the others have their turn
    drop(first);
    gate.measures("weirgate_upstream_queue_length{upstream=\"api\"}", 0.0);
    gate.measures("weirgate_upstream_queue_duration_seconds_count{upstream=\"api\"}", 2.0);
    drop(waiting);
}

fn refused(listener: &str, reason: &str) -> String {
    format!("weirgate_listener_connections_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}}")
}

#[test]
fn clients_that_are_not_let_in_are_counted_by_reason() {
    let gate = Gate::start(
        &format!(
            "{ADMIN}listeners:
  - {{ name: web, address: $web, limits: {{ connections: 2 }} }}
  - {{ name: closed, address: $closed, ip: {{ deny: [127.0.0.0/8] }} }}
routes: [{{ path: /, respond: {{ body: here }} }}]
"
        ),
        &[],
    );
    let open = "weirgate_listener_connections_open{listener=\"web\"}";
    let _clients = gate.hold(2);
    gate.measures(open, 2.0);
    assert!(Client::connect(gate.at("web")).until_closed().is_empty());
    gate.measures(&refused("web", "limit"), 1.0);
    assert!(Client::connect(gate.at("closed")).until_closed().is_empty());
    gate.measures(&refused("closed", "ip"), 1.0);
}

#[test]
fn flows_are_counted_with_their_bytes() {
    let echo = RawServer::start("echo", |mut stream| {
        let mut all = Vec::new();
        let read = (&stream).read_to_end(&mut all);
        if read.is_ok() && stream.write_all(&all).is_ok() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let gate = Gate::start(
        &format!(
            "{ADMIN}listeners: [{{ name: web, address: $web, tcp: {{ upstream: db }} }}]
upstreams: {{ db: {{ servers: [$echo] }} }}
"
        ),
        &[&echo],
    );
    let flows = |end: &str| {
        format!("weirgate_upstream_flows_total{{upstream=\"db\",protocol=\"tcp\",end=\"{end}\"}}")
    };
    let mut client = TcpStream::connect(gate.at("web")).unwrap();
    client.write_all(&[7; 5000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 5000);
    gate.measures(&flows("client_closed"), 1.0);
    for direction in ["received", "sent"] {
        let labels = format!("upstream=\"db\",protocol=\"tcp\",direction=\"{direction}\"");
        gate.measures(&format!("weirgate_upstream_flow_bytes_total{{{labels}}}"), 5000.0);
    }
    let server = format!("upstream=\"db\",server=\"{}\"", echo.address());
    gate.measures(&format!("weirgate_server_flows_total{{{server},protocol=\"tcp\",result=\"ok\"}}"), 1.0);
}

/// A gate that passes datagrams on at `$dns`; these words are of the listener and of its group.
fn gate_of_datagrams(listener: &str, group: &str, servers: &[&dyn ServerAddress]) -> Gate {
    let config = format!(
        "{ADMIN}listeners: [{{ name: dns, address: $dns, udp: {{ upstream: dns{listener}
upstreams: {{ dns: {{ {group} }} }}
"
    );
    udp::start(&config, servers)
}

fn of_sessions(end: &str) -> String {
    format!("weirgate_upstream_flows_total{{upstream=\"dns\",protocol=\"udp\",end=\"{end}\"}}")
}

#[test]
fn sessions_of_datagrams_are_counted_with_their_bytes() {
    let one = UdpServer::start("one");
    let gate = gate_of_datagrams(", responses: 1 } }]", "servers: [$one]", &[&one]);
    for _ in 0..3 {
        assert_eq!(UdpTester::to(gate.at("dns")).ask("hello"), "one: hello");
    }
    gate.measures(&of_sessions("responses_complete"), 3.0);
    let bytes = |direction: &str| {
        let labels = format!("upstream=\"dns\",protocol=\"udp\",direction=\"{direction}\"");
        format!("weirgate_upstream_flow_bytes_total{{{labels}}}")
    };
    gate.measures(&bytes("received"), 15.0);
    gate.measures(&bytes("sent"), 30.0);
    let server = format!("upstream=\"dns\",server=\"{}\",protocol=\"udp\"", one.address());
    gate.measures(&format!("weirgate_server_flows_total{{{server},result=\"ok\"}}"), 3.0);
    gate.measures(&format!("weirgate_server_flows_total{{{server},result=\"failed\"}}"), 0.0);
    // a session counts as a connection of the listener
    gate.measures("weirgate_listener_connections_accepted_total{listener=\"dns\"}", 3.0);
    gate.measures("weirgate_listener_connections_open{listener=\"dns\"}", 0.0);
}

#[test]
fn sessions_that_wait_in_vain_or_find_nobody_are_counted_by_their_end() {
    let mute = UdpServer::silent("mute");
    let gate = gate_of_datagrams(", timeouts: { idle: 400ms } } }]", "servers: [$mute]", &[&mute]);
    let client = UdpTester::to(gate.at("dns"));
    client.send("anybody?");
    gate.measures("weirgate_listener_connections_accepted_total{listener=\"dns\"}", 1.0);
    gate.measures(&of_sessions("idle_timeout"), 1.0);
    let dead = nobody("dead");
    let gate = gate_of_datagrams(" } }]", "servers: [$dead]", &[&dead]);
    let client = UdpTester::to(gate.at("dns"));
    client.send("anybody?");
    gate.measures(&of_sessions("server_unreachable"), 1.0);
    let server = format!("upstream=\"dns\",server=\"{}\",protocol=\"udp\"", dead.address());
    gate.measures(&format!("weirgate_server_flows_total{{{server},result=\"failed\"}}"), 1.0);
    gate.measures(&format!("weirgate_server_flows_total{{{server},result=\"ok\"}}"), 0.0);
    let draining = "servers: [{ address: $mute, drain: true }]";
    let gate = gate_of_datagrams(" } }]", draining, &[&mute]);
    let client = UdpTester::to(gate.at("dns"));
    client.send("anybody?");
    gate.measures(&of_sessions("refused"), 1.0);
    gate.measures("weirgate_upstream_requests_refused_total{upstream=\"dns\",reason=\"no_server\"}", 1.0);
}

#[test]
fn sessions_that_may_not_begin_are_counted_by_reason() {
    let one = UdpServer::start("one");
    for (limits, reason) in [
        ("connections: 1", "limit"),
        ("connections_per_client: 1", "client_limit"),
        ("connection_rate: 1/h", "rate"),
        ("connection_rate_per_client: 1/h", "client_rate"),
    ] {
        let gate = gate_of_datagrams(&format!(" }}, limits: {{ {limits} }} }}]"), "servers: [$one]", &[&one]);
        let [first, second] = [(); 2].map(|()| UdpTester::to(gate.at("dns")));
        assert_eq!(first.ask("in"), "one: in");
        second.send("out");
        gate.measures(&refused("dns", reason), 1.0);
        gate.measures("weirgate_listener_connections_accepted_total{listener=\"dns\"}", 2.0);
        gate.measures("weirgate_listener_connections_open{listener=\"dns\"}", 1.0);
    }
}

#[test]
fn clients_that_connect_too_much_are_counted_by_reason() {
    for (limits, reason) in
        [("connections_per_client: 2", "client_limit"), ("connection_rate_per_client: 2/h", "client_rate")]
    {
        let gate = Gate::start(
            &format!(
                "{ADMIN}listeners: [{{ name: web, address: $web, limits: {{ {limits} }} }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
            ),
            &[],
        );
        let _inside = gate.hold(2);
        assert!(gate.connect().until_closed().is_empty());
        gate.measures(&refused("web", reason), 1.0);
    }
}

#[test]
fn connections_beyond_the_rate_of_a_listener_are_counted() {
    let gate = Gate::start(
        &format!(
            "{ADMIN}listeners: [{{ name: web, address: $web, limits: {{ connection_rate: 5/h }} }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
        ),
        &[],
    );
    let accepted = "weirgate_listener_connections_accepted_total{listener=\"web\"}";
    let served = (0..8).filter(|_| gate.connect().is_served("/")).count();
    gate.measures(accepted, 8.0);
    assert_eq!(served, 5);
    gate.measures(&refused("web", "rate"), 3.0);
}

#[test]
fn second_tries_that_were_in_vain_are_counted() {
    let (slow, valve) = (Backend::start("slow"), Valve::default());
    let at = valve.clone();
    slow.answers_by(move |_| {
        at.hold();
        Reply::ok("slow")
    });
    let silent = RawServer::start("silent", |mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0; 1]);
    });
    let retry = "retry: { hedge: { after: 50ms }, budget: 100% }";
    let gate = Gate::start(&config(&format!("servers: [$slow, $silent], {retry}")), &[&slow, &silent]);
    for _ in 0..6 {
        let mut client = gate.connect();
        client.send(Request::get("/x").bytes());
        valve.wait_for(1);
        // the other one has been asked, too, before this one answers
        gate.measures("weirgate_upstream_requests_in_flight{upstream=\"api\"}", 2.0);
        valve.let_go(1);
        assert_eq!(client.response().text(), "slow");
        gate.measures("weirgate_upstream_requests_in_flight{upstream=\"api\"}", 0.0);
    }
    gate.measures("weirgate_upstream_requests_total{upstream=\"api\",code=\"2xx\"}", 6.0);
    let first = |request: &&harness::Received| request.header("x-weirgate-attempts").as_deref() != Some("2");
    let in_vain = slow.requests().iter().filter(first).count();
    assert!(in_vain > 0, "it was asked first at times");
    gate.measures("weirgate_upstream_hedges_total{upstream=\"api\"}", in_vain as f64);
}

#[test]
fn nothing_that_a_client_sends_makes_the_page_grow() {
    let api = Backend::start("api");
    let gate = Gate::start(&config("servers: [$api]"), &[&api]);
    assert_eq!(gate.get("/x").status, 200);
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 1.0);
    let names = |page: &harness::Page| page.samples.keys().cloned().collect::<Vec<_>>();
    let before = names(&gate.metrics());
    let mut client = gate.connect();
    for n in 0..300 {
        let method = ["GET", "POST", "PURGE", "X-ODD", "DELETE"][n % 5];
        let request = Request::new(method, &format!("/{}/{n}?q={}", fastrand::u64(..), fastrand::u64(..)))
            .host(&format!("h{}.example", fastrand::u64(..)))
            .header("user-agent", &format!("agent {n}"));
        assert_eq!(client.ask(&request).status, 200, "{n}");
    }
    for status in [100, 299, 307, 418, 599] {
        api.answers(Reply::new(if status == 100 { 200 } else { status }, "x"));
        client.get("/y");
    }
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 303.0);
    assert_eq!(names(&gate.metrics()), before);
}

#[test]
fn counters_go_on_across_reloads_and_what_was_removed_disappears() {
    let (api, more) = (Backend::start("api"), Backend::start("more"));
    let both = "
listeners: [{ name: web, address: $web }, { name: second, address: $second }]
routes:
  - { name: old, path: /old, upstream: old }
  - { name: api, path: /, upstream: api }
upstreams: { api: { servers: [$api, $more] }, old: { servers: [$more] } }
";
    let one = "
listeners: [{ name: web, address: $web }]
routes: [{ name: api, path: /, upstream: api }]
upstreams: { api: { servers: [$api] } }
";
    let mut gate = Gate::start(&format!("{ADMIN}{both}"), &[&api, &more]);
    assert_eq!(gate.get("/old").status, 200);
    for _ in 0..4 {
        assert_eq!(gate.get("/x").status, 200);
    }
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 4.0);
    gate.measures("weirgate_route_requests_total{route=\"old\",code=\"2xx\"}", 1.0);
    let server = format!("weirgate_server_requests_total{{{},code=\"2xx\"}}", of_server(&api));
    let answered = gate.metrics().get(&server).unwrap();
    let hash = gate.metrics().beginning("weirgate_config_info").join("");
    assert_eq!(gate.reload(&format!("{ADMIN}{one}")).code, Some(0));
    gate.measures_no_more("weirgate_route_requests_total{route=\"old\"");
    gate.measures_no_more("weirgate_listener_connections_open{listener=\"second\"");
    gate.measures_no_more("weirgate_upstream_requests_total{upstream=\"old\"");
    gate.measures_no_more(&format!("weirgate_server_requests_total{{{}", of_server(&more)));
    for _ in 0..3 {
        assert_eq!(gate.get("/x").text(), "api");
    }
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 7.0);
    gate.measures("weirgate_upstream_requests_total{upstream=\"api\",code=\"2xx\"}", 7.0);
    gate.measures("weirgate_requests_total{listener=\"web\",protocol=\"h1\",code=\"2xx\"}", 8.0);
    gate.measures(&server, answered + 3.0);
    let page = gate.metrics();
    assert_ne!(page.beginning("weirgate_config_info").join(""), hash, "another configuration");
    assert_eq!(page.get("weirgate_config_reloads_total{result=\"ok\"}"), Some(1.0));
    let read = page.get("weirgate_config_last_reload_success_timestamp_seconds");
    assert!(read >= page.get("process_start_time_seconds"));
    gate.rewrite(&format!("{ADMIN}routes: 7"));
    gate.hang_up();
    gate.measures("weirgate_config_reloads_total{result=\"failed\"}", 1.0);
    gate.measures("weirgate_config_last_reload_successful", 0.0);
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 7.0);
}

#[test]
fn counters_go_on_in_a_process_that_takes_over() {
    let api = Backend::start("api");
    let gate = Gate::start(&config("servers: [$api]"), &[&api]);
    for _ in 0..5 {
        assert_eq!(gate.get("/x").status, 200);
    }
    let server = format!("weirgate_server_requests_total{{{},code=\"2xx\"}}", of_server(&api));
    gate.measures(&server, 5.0);
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 5.0);
    let first = gate.id();
    let second = gate.upgrade();
    assert_ne!(first, second);
    assert!(gate.exit().success());
    assert_eq!(gate.get("/x").status, 200);
    gate.measures(&server, 6.0);
    gate.measures("weirgate_route_requests_total{route=\"api\",code=\"2xx\"}", 6.0);
    gate.measures("weirgate_route_request_duration_seconds_count{route=\"api\"}", 6.0);
    gate.measures("weirgate_route_requests_in_flight{route=\"api\"}", 0.0);
}
