//! The promise: a `udp` listener passes datagrams on in sessions, each with a server that is there, and the answers come back
//! from the address that was asked.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/udp.rs"]
mod udp;

use harness::{Gate, ServerAddress, eventually};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use udp::{UdpServer, UdpTester, nobody, start};
use weirgate::proxy_protocol::{self, Seen};

const LOG: &str = "log: { access: { format: json, to: stdout } }\n";

/// A listener with this beside its upstream, in front of a group of these servers.
fn config(listener: &str, servers: &str, group: &str) -> String {
    format!(
        "{LOG}server: {{ threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }}
listeners: [{{ name: dns, address: $dns{listener} }}]
upstreams: {{ dns: {{ servers: [{servers}]{group} }} }}
"
    )
}

fn simple(more: &str) -> String {
    config(&format!(", udp: {{ upstream: dns{more} }}"), "$one", "")
}

#[test]
fn what_is_asked_is_answered_and_written_down() {
    let one = UdpServer::start("one");
    let gate = start(&simple(", timeouts: { idle: 300ms }"), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    for text in ["hello", "again", ""] {
        assert_eq!(client.ask(text), format!("one: {text}"));
    }
    let line = gate.logged(|line| line["ended"] == "idle_timeout");
    let expected: [(&str, serde_json::Value); 11] = [
        ("listener", "dns".into()),
        ("client", client.address().ip().to_string().into()),
        ("protocol", "UDP".into()),
        ("status", 200.into()),
        ("upstream", "dns".into()),
        ("server", one.address().to_string().into()),
        ("attempts", 1.into()),
        ("request_bytes", 10.into()),
        ("response_bytes", 25.into()),
        ("request_datagrams", 3.into()),
        ("response_datagrams", 3.into()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key} of {line}");
    }
    assert!(line["upstream_response_ms"].is_number() && line["error"].is_null(), "{line}");
    assert_eq!(one.clients(), 1, "one session, one port");
    // and another begins
    assert_eq!(client.ask("later"), "one: later");
    assert_eq!(one.clients(), 2);
}

#[test]
fn large_datagrams_and_many_at_once_arrive_whole() {
    let one = UdpServer::start("one");
    let gate = start(&simple(""), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    let long = "x".repeat(40_000);
    assert_eq!(client.ask(&long), format!("one: {long}"));
    // of one length, so that they go together where the system can do that
    for burst in 0..20 {
        let texts: HashSet<String> = (0..20).map(|i| format!("{burst:05}{i:05}")).collect();
        texts.iter().for_each(|text| client.send(text));
        let answers: HashSet<String> = (0..20).map(|_| client.receive()).collect();
        assert_eq!(answers, texts.iter().map(|text| format!("one: {text}")).collect());
    }
}

#[test]
fn the_combined_format_has_sessions() {
    let one = UdpServer::start("one");
    let text = simple(", responses: 1").replace("format: json", "format: combined");
    let gate = start(&text, &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    client.ask("hello");
    eventually("its line", || gate.stdout().contains("\"UDP dns responses_complete\" 200 10 \"-\" \"-\""));
}

#[test]
fn a_session_stays_with_its_server_and_others_are_balanced() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let gate = start(&config(", udp: { upstream: dns }", "$one, $two", ""), &[&one, &two]);
    let clients: Vec<_> = (0..10).map(|_| UdpTester::to(gate.at("dns"))).collect();
    let server_of = |client: &UdpTester| client.ask("who").split(':').next().unwrap().to_owned();
    let first: Vec<String> = clients.iter().map(server_of).collect();
    for _ in 0..3 {
        assert_eq!(clients.iter().map(server_of).collect::<Vec<_>>(), first);
    }
    assert_eq!(first.iter().filter(|name| *name == "one").count(), 5);
    assert_eq!((one.clients(), two.clients()), (5, 5));
}

#[test]
fn by_the_client_every_gate_chooses_the_same_server() {
    let servers: Vec<_> = ["one", "two", "three"].map(UdpServer::start).into();
    let named: Vec<&dyn ServerAddress> = servers.iter().map(|server| server as &dyn ServerAddress).collect();
    for balance in ["ip_hash", "{ consistent_hash: { key: client } }", "{ maglev: { key: client } }"] {
        let group = format!(", balance: {balance}");
        let text = config(", udp: { upstream: dns }", "$one, $two, $three", &group);
        let gates = [start(&text, &named), start(&text, &named)];
        let mut seen = HashSet::new();
        for host in 1..=20 {
            let from = format!("127.99.7.{host}:0");
            let chosen = gates.each_ref().map(|gate| UdpTester::from(&from, gate.at("dns")).ask("who"));
            assert_eq!(chosen[0], chosen[1], "{balance}: {from}");
            seen.insert(chosen[0].clone());
        }
        assert!(seen.len() > 1, "{balance}: all of them went to one");
    }
}

#[test]
fn a_session_ends_with_its_last_answer() {
    let one = UdpServer::start("one");
    let gate = start(&simple(", responses: 1"), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    for _ in 0..3 {
        assert_eq!(client.ask("hello"), "one: hello");
        let turn = one.clients();
        eventually("it is over", || {
            gate.access_log().iter().filter(|line| line["ended"] == "responses_complete").count() == turn
        });
    }
    assert_eq!(one.clients(), 3);
}

#[test]
fn what_is_not_answered_needs_no_session() {
    let one = UdpServer::silent("one");
    let gate = start(&simple(", responses: 0"), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    for i in 0..5 {
        client.send(&format!("<14>line {i}"));
    }
    eventually("they arrive", || one.heard().len() == 5);
    // those that come together are one session
    let written =
        || gate.access_log().iter().filter_map(|line| line["request_datagrams"].as_u64()).sum::<u64>();
    eventually("they are written down", || written() == 5);
    assert!(gate.access_log().iter().all(|line| line["ended"] == "responses_complete"));
    assert_eq!(one.clients(), gate.access_log().len());
}

#[test]
fn after_so_many_requests_another_session_begins() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let listener = ", udp: { upstream: dns, requests: 2, responses: 1 }";
    let gate = start(&config(listener, "$one, $two", ""), &[&one, &two]);
    let client = UdpTester::to(gate.at("dns"));
    let answers: Vec<String> =
        (0..6).map(|_| client.ask("x").split(':').next().unwrap().to_owned()).collect();
    for pair in answers.chunks(2) {
        assert_eq!(pair[0], pair[1], "{answers:?}");
    }
    assert_eq!((answers[0] == answers[2], answers[0] == answers[4]), (false, true), "{answers:?}");
    eventually("three sessions", || gate.access_log().len() == 3);
    assert!(gate.access_log().iter().all(|line| line["request_datagrams"] == 2));
}

#[test]
fn when_there_are_enough_sessions_no_more_begin() {
    let one = UdpServer::start("one");
    let listener = ", udp: { upstream: dns, timeouts: { idle: 5s } }, limits: { connections: 2 }";
    let gate = start(&config(listener, "$one", ""), &[&one]);
    let [first, second, third] = [(); 3].map(|()| UdpTester::to(gate.at("dns")));
    for client in [&first, &second] {
        assert_eq!(client.ask("in"), "one: in");
    }
    third.send("out");
    eventually("it is said", || {
        gate.stderr().contains("has 2 sessions and begins no more (limits.connections)")
    });
    assert_eq!(first.ask("still in"), "one: still in");
    assert!(one.heard().iter().all(|text| text != "out"));
    // when somebody has left
    eventually("a place for the third", || third.asks("again").is_some());
}

#[test]
fn who_is_not_allowed_is_not_heard() {
    let one = UdpServer::start("one");
    let listener = ", udp: { upstream: dns }, ip: { deny: [127.66.0.0/16] }";
    let gate = start(&config(listener, "$one", ""), &[&one]);
    let denied = UdpTester::from("127.66.0.1:0", gate.at("dns"));
    denied.send("let me in");
    eventually("it is said", || gate.stderr().contains("127.66.0.1 is refused (ip)"));
    assert_eq!(UdpTester::to(gate.at("dns")).ask("hello"), "one: hello");
    assert_eq!(one.heard(), ["hello"]);
    assert!(denied.receives().is_none());
}

#[test]
fn where_nobody_is_the_next_server_is_asked_and_nothing_is_lost() {
    let (dead, two) = (nobody("dead"), UdpServer::start("two"));
    let gate = start(&config(", udp: { upstream: dns }", "$dead, $two", ""), &[&dead, &two]);
    for _ in 0..6 {
        assert_eq!(UdpTester::to(gate.at("dns")).ask("hello"), "two: hello");
    }
    assert_eq!(two.heard().len(), 6);
    assert!(gate.stderr().contains("nobody takes datagrams at its port (ICMP)"), "{}", gate.stderr());
}

#[test]
fn without_any_server_it_is_written_down() {
    let dead = nobody("dead");
    let gate = start(&simple("").replace("$one", "$dead"), &[&dead]);
    let client = UdpTester::to(gate.at("dns"));
    client.send("hello");
    let line = gate.logged(|line| line["ended"] == "server_unreachable");
    assert_eq!((&line["status"], &line["protocol"]), (&502.into(), &"UDP".into()), "{line}");
    assert!(line["error"].is_string(), "{line}");
}

#[test]
fn ejected_servers_get_no_new_sessions() {
    let (dead, two) = (nobody("dead"), UdpServer::start("two"));
    let group = ", outlier: { consecutive_failures: 1, ejection: 60s }";
    let gate = start(&config(", udp: { upstream: dns }", "$dead, $two", group), &[&dead, &two]);
    for _ in 0..6 {
        assert_eq!(UdpTester::to(gate.at("dns")).ask("hello"), "two: hello");
    }
    assert_eq!(gate.stderr().matches("is ejected").count(), 1, "{}", gate.stderr());
    assert_eq!(gate.stderr().matches("to be tried elsewhere").count(), 1, "{}", gate.stderr());
}

/// Two servers of which the first is stopped after a session has begun there; whom the session asks then.
fn after_the_end_of_its_server(on_server_down: &str) -> (Gate, UdpServer, UdpServer, UdpTester) {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let listener = format!(", udp: {{ upstream: dns, on_server_down: {on_server_down} }}");
    let gate = start(
        &config(
            &listener,
            "$one, { address: $two, priority: 1 }",
            ", outlier: { consecutive_failures: 1, ejection: 60s }",
        ),
        &[&one, &two],
    );
    let client = UdpTester::to(gate.at("dns"));
    assert_eq!(client.ask("hello"), "one: hello");
    one.stop();
    (gate, one, two, client)
}

#[test]
fn a_session_moves_when_its_server_has_gone_and_that_is_wanted() {
    let (gate, _one, two, client) = after_the_end_of_its_server("move");
    eventually("an answer of the other", || {
        client.asks("still there?").as_deref() == Some("two: still there?")
    });
    assert_eq!(two.clients(), 1);
    drop(gate);
}

#[test]
fn a_session_stays_when_its_server_has_gone_and_returns() {
    let (gate, one, two, client) = after_the_end_of_its_server("keep");
    for _ in 0..3 {
        assert_eq!(client.asks("still there?"), None);
    }
    // others go elsewhere
    eventually("the server is out", || {
        UdpTester::to(gate.at("dns")).asks("hello").is_some_and(|it| it == "two: hello")
    });
    let _again = UdpServer::at("again", one.address());
    eventually("it is back", || client.asks("hello").as_deref() == Some("again: hello"));
    assert!(two.heard().iter().all(|text| text == "hello"));
}

#[test]
fn health_checks_of_the_group_move_sessions() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let check = std::net::TcpListener::bind(one.address()).unwrap();
    let _other = std::net::TcpListener::bind(two.address()).unwrap();
    let group = ", health_check: { tcp: {}, interval: 100ms, unhealthy_after: 1 }";
    let servers = "$one, { address: $two, priority: 1 }";
    let gate =
        start(&config(", udp: { upstream: dns, on_server_down: move }", servers, group), &[&one, &two]);
    let client = UdpTester::to(gate.at("dns"));
    assert_eq!(client.ask("hello"), "one: hello");
    drop(check);
    eventually("it is moved", || client.asks("hello").as_deref() == Some("two: hello"));
    assert!(one.is_running(), "it answers still, but its check says no");
}

/// A group whose servers are asked by datagrams, and are down until they have answered.
fn asked_by(words: &str) -> String {
    format!(
        ", health_check: {{ udp: {{ {words} }}, interval: 100ms, timeout: 10s, unhealthy_after: 1, healthy_after: 1, \
         initial: down }}"
    )
}

#[test]
fn who_answers_a_datagram_as_expected_gets_sessions() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    // who is asked answers with its name and `ping`
    for expect in ["\"one: p\"", "{ hex: \"6f 6e 65 3A 20 70\" }", "{ regex: '^one: ping$' }"] {
        let group = asked_by(&format!("send: ping, expect: {expect}"));
        let gate = start(&config(", udp: { upstream: dns }", "$one, $two", &group), &[&one, &two]);
        let wrong = if expect.contains("regex") { "match" } else { "contain" };
        let why = format!("the answer does not {wrong} what is expected");
        eventually("the other one is found out", || gate.stderr().contains(&why));
        let client = || UdpTester::to(gate.at("dns"));
        eventually("one is up", || client().asks("hello").is_some());
        for _ in 0..4 {
            assert_eq!(client().ask("hello"), "one: hello", "{expect}");
        }
    }
}

#[test]
fn who_sends_nothing_back_is_down() {
    let mute = UdpServer::silent("mute");
    let group = asked_by("send: { hex: \"00 ff 70\" }").replace("timeout: 10s", "timeout: 300ms");
    let gate = start(&config(", udp: { upstream: dns }", "$mute", &group), &[&mute]);
    eventually("silence is told", || gate.stderr().contains("no answer within 300ms"));
    assert!(mute.heard_raw().contains(&b"\0\xffp".to_vec()), "what was written as hexadecimal");
    assert_eq!(UdpTester::to(gate.at("dns")).asks("hello"), None);
    gate.logged(|line| line["status"] == 503);
}

#[test]
fn who_is_not_there_is_down_at_once_and_a_reload_asks_something_else() {
    let one = UdpServer::start("one");
    let mut gate = start(&config(", udp: { upstream: dns }", "$one", &asked_by("send: ping")), &[&one]);
    let at = gate.at("dns");
    let is_answered = |by: &str| UdpTester::to(at).asks("hello") == Some(format!("{by}: hello"));
    eventually("it is up", || is_answered("one"));
    one.stop();
    // by what the network says
    eventually("it is down", || gate.stderr().contains("is down: nobody takes datagrams at its port (ICMP)"));
    let again = UdpServer::at("again", one.address());
    eventually("it is back", || is_answered("again"));
    let other = config(", udp: { upstream: dns }", "$one", &asked_by("send: ping, expect: nothing"));
    assert_eq!(gate.reload(&other).code, Some(0));
    eventually("it is down", || gate.stderr().contains("the answer does not contain what is expected"));
    assert!(again.heard().iter().any(|text| text == "ping"));
}

#[test]
fn checks_by_datagrams_move_sessions_and_announce_themselves() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let group = asked_by("send: ping") + ", send_proxy: v2";
    let servers = "$one, { address: $two, priority: 1 }";
    let listener = ", udp: { upstream: dns, on_server_down: move, proxy_header: first }";
    let gate = start(&config(listener, servers, &group), &[&one, &two]);
    let client = UdpTester::to(gate.at("dns"));
    // the first datagram of a session has a header in front, which is answered with
    eventually("a session with the first", || client.asks("hello").as_deref() == Some("one: hello"));
    let heard = one.heard_raw();
    let check = heard.iter().find(|datagram| datagram.ends_with(b"ping")).expect("a check");
    match proxy_protocol::read(check) {
        Ok(Seen::Header(announced, length)) => {
            assert_eq!((announced.ends, &check[length..]), (None, b"ping".as_slice()), "it is nobody's");
        }
        other => panic!("no header in {}: {other:?}", check.escape_ascii()),
    }
    one.stop();
    eventually("it is moved", || client.asks("hello").as_deref() == Some("two: hello"));
}

#[test]
fn servers_are_told_of_the_client() {
    for (header, per_session) in [("every", [true, true]), ("first", [true, false])] {
        let one = UdpServer::start("one");
        let listener = format!(", udp: {{ upstream: dns, proxy_header: {header} }}");
        let gate = start(&config(&listener, "$one", ", send_proxy: v2"), &[&one]);
        let client = UdpTester::to(gate.at("dns"));
        for text in ["first", "second"] {
            client.ask_raw(text.as_bytes());
        }
        let heard = one.heard_raw();
        for (datagram, has_header) in heard.iter().zip(per_session) {
            let Seen::Header(_, length) = proxy_protocol::read(datagram).unwrap() else {
                assert!(!has_header, "no header in {}", datagram.escape_ascii());
                continue;
            };
            assert!(has_header);
            // version 2, PROXY, UDP over IPv4, and twelve bytes of addresses: from there, to here
            assert_eq!(datagram[12..16], [0x21, 0x12, 0, 12]);
            let end = |ip: usize, port: usize| {
                let ip: [u8; 4] = datagram[ip..ip + 4].try_into().unwrap();
                SocketAddr::from((ip, u16::from_be_bytes([datagram[port], datagram[port + 1]])))
            };
            assert_eq!((end(16, 24), end(20, 26)), (client.address(), gate.at("dns")));
            assert!([b"first".as_slice(), b"second"].contains(&&datagram[length..]));
        }
        assert_eq!(heard.len(), 2);
    }
}

/// Clients that ask without end; how often, and what they were answered wrongly or not at all.
struct Askers {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    lost: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Askers {
    fn start(at: SocketAddr, count: usize) -> Askers {
        let (stop, asked, lost) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let threads = (0..count)
            .map(|i| {
                let (stop, asked) = (stop.clone(), asked.clone());
                let lost: Arc<Mutex<Vec<String>>> = Arc::clone(&lost);
                std::thread::spawn(move || {
                    let client = UdpTester::to(at);
                    for turn in 0..200_000 {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let text = format!("{i}-{turn}");
                        match client.receives_after(&text) {
                            Some(answer) if answer.ends_with(&format!(": {text}")) => {}
                            other => lost.lock().unwrap().push(format!("{text}: {other:?}")),
                        }
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Askers { stop, asked, lost, threads }
    }

    fn wait_for_more(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        eventually("more questions", || self.asked.load(Ordering::Relaxed) >= before + 100);
    }

    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut self.lost.lock().unwrap())
    }
}

#[test]
fn reloads_under_load_lose_no_session() {
    let (one, two) = (UdpServer::start("one"), UdpServer::start("two"));
    let text = |upstream: &str, idle: &str| {
        format!(
            "server: {{ threads: 2, upgrade_sock: $dir/control.sock }}
listeners: [{{ name: dns, address: $dns, udp: {{ upstream: {upstream}, timeouts: {{ idle: {idle} }} }} }}]
upstreams: {{ first: {{ servers: [$one] }}, second: {{ servers: [$two] }} }}
"
        )
    };
    let mut gate = start(&text("first", "60s"), &[&one, &two]);
    let load = Askers::start(gate.at("dns"), 4);
    load.wait_for_more();
    for turn in 0..6 {
        let upstream = if turn % 2 == 0 { "second" } else { "first" };
        assert_eq!(
            gate.reload(&text(upstream, &format!("{}s", 50 + turn))).code,
            Some(0),
            "{}",
            gate.stderr()
        );
        // for sessions to come
        let served = UdpTester::to(gate.at("dns")).ask("new");
        assert_eq!(served, if turn % 2 == 0 { "two: new" } else { "one: new" });
        load.wait_for_more();
    }
    assert_eq!(load.finish(), Vec::<String>::new());
    assert_eq!(one.clients(), 4 + 3, "the sessions of the load have stayed where they were");
}

#[test]
fn a_listener_that_is_removed_begins_no_more_and_one_that_returns_does() {
    let one = UdpServer::start("one");
    let text = simple("");
    let mut gate = start(&text, &[&one]);
    let at = gate.at("dns");
    let client = UdpTester::to(at);
    assert_eq!(client.ask("hello"), "one: hello");
    let without = text.replace("name: dns, address: $dns", "name: other, address: $other");
    assert_eq!(gate.reload(&without).code, Some(0), "{}", gate.stderr());
    // what has begun has its time, as connections have
    assert_eq!(client.ask("still here"), "one: still here");
    assert_eq!(UdpTester::to(at).asks("new"), None);
    assert_eq!(gate.reload(&text).code, Some(0), "{}", gate.stderr());
    assert_eq!(UdpTester::to(at).ask("new"), "one: new");
    assert_eq!(client.ask("and I"), "one: and I");
}

#[test]
fn what_is_removed_is_cut_after_its_time() {
    let one = UdpServer::start("one");
    let text = simple("").replace("grace_period_seconds: 5", "grace_period_seconds: 1");
    let mut gate = start(&text, &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    assert_eq!(client.ask("hello"), "one: hello");
    gate.reload(&text.replace("name: dns, address: $dns", "name: other, address: $other"));
    gate.logged(|line| line["ended"] == "cut");
    assert_eq!(client.asks("hello?"), None);
}

#[test]
fn the_end_of_the_process_waits_for_sessions_and_cuts_them() {
    let one = UdpServer::start("one");
    let gate = start(&simple("").replace("grace_period_seconds: 5", "grace_period_seconds: 1"), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    assert_eq!(client.ask("hello"), "one: hello");
    gate.terminate();
    assert!(gate.exit().success());
    gate.logged(|line| line["ended"] == "cut");
}

#[test]
fn upgrades_under_load_lose_nothing() {
    let one = UdpServer::start("one");
    let text = simple(", timeouts: { idle: 1s }");
    let gate = start(&text, &[&one]);
    let load = Askers::start(gate.at("dns"), 4);
    load.wait_for_more();
    for _ in 0..2 {
        gate.upgrade();
        load.wait_for_more();
    }
    assert_eq!(load.finish(), Vec::<String>::new());
    assert!(gate.exit().success(), "it ends when its sessions have");
}

#[test]
fn tcp_and_udp_at_one_address_are_two_listeners() {
    let one = UdpServer::start("one");
    let text = format!(
        "{LOG}server: {{ upgrade_sock: $dir/control.sock }}
listeners:
  - {{ address: $dns, udp: {{ upstream: dns }} }}
  - {{ address: $dns }}
routes: [{{ path: /, respond: {{ body: over TCP }} }}]
upstreams: {{ dns: {{ servers: [$one] }} }}
"
    );
    let mut gate = start(&text, &[&one]);
    let at = gate.at("dns");
    assert_eq!(UdpTester::to(at).ask("hello"), "one: hello");
    assert_eq!(harness::Client::connect(at).get("/").text(), "over TCP");
    gate.upgrade();
    assert_eq!(UdpTester::to(at).ask("hello"), "one: hello");
    eventually("over TCP", || harness::Client::connect(at).get("/").text() == "over TCP");
    // one of them goes, the other stays
    let without = text.replace("  - { address: $dns }\n", "  - { address: $other }\n");
    assert_eq!(gate.reload(&without).code, Some(0), "{}", gate.stderr());
    assert_eq!(UdpTester::to(at).ask("hello"), "one: hello");
    let routes = gate.command(&["routes"]).stdout;
    assert!(routes.contains(&format!("udp {at}")) && routes.contains(&format!("udp:{at}")), "{routes}");
}

#[test]
fn it_says_where_datagrams_go() {
    let one = UdpServer::start("one");
    let gate = start(&simple(", responses: 1"), &[&one]);
    let said = gate.command(&["explain", "GET", "/", "--listener", "dns"]);
    assert!(
        said.stdout.contains(", UDP)") && said.stdout.contains(&one.address().to_string()),
        "{}",
        said.text()
    );
    let printed = gate.command(&["check", "--print"]).stdout;
    assert!(printed.contains("on_server_down: keep") && printed.contains("idle: 1m"), "{printed}");
    let new = gate.dir().join("new.yaml");
    let old = std::fs::read_to_string(gate.dir().join("weirgate.yaml")).unwrap();
    std::fs::write(&new, old.replace("responses: 1", "responses: 2")).unwrap();
    let diff = gate.command(&["diff", &new.display().to_string()]);
    assert!(diff.stdout.contains("responses"), "{}", diff.text());
}

#[test]
fn limits_of_the_group_hold() {
    let one = UdpServer::start("one");
    let gate = start(&config(", udp: { upstream: dns }", "$one", ", limits: { connections: 1 }"), &[&one]);
    let first = UdpTester::to(gate.at("dns"));
    assert_eq!(first.ask("in"), "one: in");
    UdpTester::to(gate.at("dns")).send("out");
    let line = gate.logged(|line| line["status"] == 503);
    assert!(line["error"].is_string(), "{line}");
    assert_eq!(first.ask("still in"), "one: still in");
    assert!(one.heard().iter().all(|text| text != "out"));
}

/// What `timeouts.idle` is about, from the side of a client that only listens.
#[test]
fn a_server_that_goes_on_keeps_the_session() {
    let one = UdpServer::streaming("one", 30, Duration::from_millis(200));
    let gate = start(&simple(", timeouts: { idle: 4s }"), &[&one]);
    let client = UdpTester::to(gate.at("dns"));
    client.send("subscribe");
    for i in 0..30 {
        assert_eq!(client.receive(), format!("event {i}"));
    }
    let line = gate.logged(|line| line["ended"] == "idle_timeout");
    assert_eq!((&line["request_datagrams"], &line["response_datagrams"]), (&1.into(), &30.into()), "{line}");
}
