//! The promise: behind a proxy that speaks the PROXY protocol the client is the one it names, and nobody else can name
//! one.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Client, Gate, Program, RawServer, RefusedAddress, Request, eventually, free_address,
    need_program, nginx, own_loopback, read_head,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weirgate::proxy_protocol::{self, Seen};

const V1: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n";
/// From 2001:db8::9, over TLS with `a.test`.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x35\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x15\xb3\x01\xbb\
    \x20\0\x05\x01\0\0\0\0\x02\0\x06a.test";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const REQUIRED: &str = "
log: { access: { format: json, to: stdout } }
listeners: [{ name: web, address: $web, protocols: [h1, h2], proxy_protocol: required, limits: { header_timeout: 500ms } }]
routes:
  - { path: /far, upstream: api, filters: [{ ip: { deny: [203.0.113.0/24] } }] }
  - { path: /, upstream: api }
upstreams: { api: { servers: [$api] } }
";

fn announced(gate: &Gate, header: &[u8]) -> Client {
    let mut client = gate.connect();
    client.send(header);
    client
}

/// The lines of the access log, at least so many.
fn lines(gate: &Gate, count: usize) -> Vec<serde_json::Value> {
    let read = || {
        let read: Vec<_> = gate.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        read
    };
    eventually("the access log", || read().len() >= count);
    read()
}

#[test]
fn the_client_is_the_one_that_is_named() {
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    let mut client = announced(&gate, V1);
    let own = client.local_address();
    for target in ["/one", "/two"] {
        assert_eq!(client.get(target).text(), "api");
        assert_eq!(api.last_request().header("x-forwarded-for").as_deref(), Some("203.0.113.9"));
        assert_eq!(api.last_request().header("x-forwarded-proto").as_deref(), Some("http"));
    }
    assert_eq!(client.get("/far").status, 403, "conditions see it, too");
    let line = &lines(&gate, 3)[0];
    assert_eq!((&line["client"], &line["proxy"]), (&"203.0.113.9".into(), &own.ip().to_string().into()));

    let mut client = announced(&gate, V2);
    assert_eq!(client.get("/three").text(), "api");
    assert_eq!(api.last_request().header("x-forwarded-for").as_deref(), Some("2001:db8::9"));
    assert_eq!(api.last_request().header("x-forwarded-proto").as_deref(), Some("https"), "as the proxy says");
    assert_eq!(client.get("/far").text(), "api");
    // what it says itself is not believed
    let claim = Request::get("/").header("X-Forwarded-For", "10.0.0.1");
    announced(&gate, V1).ask(&claim);
    assert_eq!(api.last_request().header("x-forwarded-for").as_deref(), Some("203.0.113.9"));
}

#[test]
fn nothing_behind_the_header_is_lost_however_it_is_cut() {
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    let post = Request::post("/post", "x".repeat(50_000));
    for header in [V1, V2] {
        let all = [header, &post.bytes(), &Request::get("/next").bytes()].concat();
        for cut in [1, 6, 12, 15, 16, header.len() - 1, header.len(), header.len() + 3] {
            let mut client = gate.connect();
            client.send(&all[..cut]);
            std::thread::sleep(Duration::from_millis(10));
            client.send(&all[cut..]);
            assert_eq!(client.response().text(), "api");
            assert_eq!(client.response().text(), "api");
            let arrived = api.requests();
            let [.., post, next] = arrived.as_slice() else { panic!("{arrived:?}") };
            assert_eq!((post.body.len(), next.target.as_str()), (50_000, "/next"));
        }
    }
}

#[test]
fn a_proxy_speaks_for_itself() {
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    for header in [V2_LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 1 2 3 4 5 6\r\n"] {
        let mut client = announced(&gate, header);
        let own = client.local_address().ip().to_string();
        assert_eq!(client.get("/").text(), "api");
        assert_eq!(api.last_request().header("x-forwarded-for"), Some(own));
    }
    assert!(lines(&gate, 3).iter().all(|line| line["proxy"].is_null()));
}

#[test]
fn what_is_required_and_not_there_ends_the_connection() {
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    let bad_sum = [&V2[..15], b"\x2b", &V2[16..52], b"\x03\0\x04abcd"].concat();
    for bytes in [
        &Request::get("/").bytes()[..],
        b"PROXY TCP4 203.0.113.9 192.0.2.1 5555\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\0\x05hello",
        &bad_sum,
        // never complete
        &V1[..20],
        &V2[..30],
        b"P",
    ] {
        assert_eq!(announced(&gate, bytes).until_closed(), b"", "{}", bytes.escape_ascii());
    }
    announced(&gate, V1).get("/good");
    assert_eq!(api.only_request().target, "/good");
    assert_eq!(lines(&gate, 1).len(), 1, "these were no requests");
    assert!(gate.stderr().contains("its PROXY header is refused"), "{}", gate.stderr());
}

#[test]
fn http2_comes_behind_it_too() {
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    let mut client =
        announced(&gate, &[V1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"].concat());
    assert_eq!(&client.read_exactly(4).unwrap()[3..], [4], "settings");
}

#[test]
fn optional_is_for_trusted_proxies() {
    let api = Backend::start("api");
    let (proxy, stranger): (IpAddr, IpAddr) = (own_loopback().into(), own_loopback().into());
    let config = REQUIRED.replace("required", "optional") + "trusted_proxies: [$proxy]\n";
    let gate = Gate::with(&[&api]).set("proxy", &proxy.to_string()).start(&config);
    let asked = |from: IpAddr, header: &[u8]| {
        let mut client = Client::connect_from(from, gate.at("web"));
        let status = client.send(header).get("/").status;
        (status, api.requests().last().and_then(|last| last.header("x-forwarded-for")))
    };
    assert_eq!(asked(proxy, V1), (200, Some("203.0.113.9".into())));
    assert_eq!(asked(proxy, V2), (200, Some("2001:db8::9".into())));
    assert_eq!(asked(proxy, b""), (200, Some(proxy.to_string())));
    assert_eq!(asked(stranger, b""), (200, Some(stranger.to_string())));
    api.forget();
    // of others nothing is looked for: it is no request
    assert_eq!(asked(stranger, V1), (400, None));
    // the proxy is trusted, whom it names is not
    let mut client = Client::connect_from(proxy, gate.at("web"));
    client.send(V1).ask(&Request::get("/").header("X-Forwarded-For", "10.0.0.1"));
    assert_eq!(api.last_request().header("x-forwarded-for").as_deref(), Some("203.0.113.9"));
}

#[test]
fn it_comes_before_tls() {
    let (authority, api) = (Authority::new(), Backend::start("api"));
    let builder = Gate::with(&[&api]).certified(&authority);
    let tls = "proxy_protocol: required, $tls";
    let gate = builder.start(&REQUIRED.replace("proxy_protocol: required", tls));
    for header in [V1, V2] {
        let mut socket = TcpStream::connect(gate.at("web")).unwrap();
        socket.write_all(header).unwrap();
        let mut client = authority.client("localhost").over(socket).unwrap();
        assert_eq!(client.get("/").text(), "api");
    }
    assert_eq!(api.last_request().header("x-forwarded-for").as_deref(), Some("2001:db8::9"));
    assert!(authority.client("localhost").try_connect(gate.at("web")).is_err(), "required");
    if need_program("curl") {
        let url = format!("https://{}/curl", gate.at("web"));
        let output =
            Command::new("curl").args(["-sk", "--max-time", "20", "--haproxy-protocol", &url]).output();
        assert_eq!(output.unwrap().stdout, b"api");
        // each worker has its own lines until they are written
        let lines = lines(&gate, 3);
        let line = lines.iter().find(|line| line["path"] == "/curl").unwrap();
        assert!(line["proxy"].is_string());
    }
}

#[test]
fn it_is_switched_on_and_off_while_the_gate_runs() {
    let api = Backend::start("api");
    let on = format!("{REQUIRED}server: {{ upgrade_sock: $dir/control.sock }}\n");
    let off = on.replace(", proxy_protocol: required", "");
    let mut gate = Gate::start(&off, &[&api]);
    assert_eq!(gate.get("/").status, 200);
    assert_eq!(gate.reload(&on).code, Some(0));
    assert_eq!(announced(&gate, V1).get("/").status, 200);
    assert_eq!(gate.connect().send(Request::get("/").bytes()).until_closed(), b"");
    gate.upgrade();
    eventually("the new process has the listener", || gate.stderr().matches("serves with").count() == 2);
    assert_eq!(announced(&gate, V2).get("/").status, 200);
    assert_eq!(gate.connect().send(Request::get("/").bytes()).until_closed(), b"");
    assert_eq!(gate.reload(&off).code, Some(0));
    assert_eq!(gate.get("/").status, 200);
    assert_eq!(announced(&gate, V1).get("/").status, 400);
}

#[test]
fn a_listener_that_cannot_know_whom_to_believe_is_a_mistake() {
    let checked = harness::check(&REQUIRED.replace("required", "optional").replace("$web", "127.0.0.1:8080"));
    assert_eq!(checked.code, Some(64));
    assert!(checked.text().contains("there are no trusted_proxies"), "{checked:?}");
}

/// HAProxy in front of the gate, in both versions; the client is on an address of its own.
#[test]
fn behind_haproxy() {
    if !need_program("haproxy") {
        return;
    }
    let api = Backend::start("api");
    let gate = Gate::start(REQUIRED, &[&api]);
    let options =
        ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,authority,unique-id"];
    for (done, option) in options.into_iter().enumerate() {
        let front = free_address(own_loopback());
        let _haproxy = haproxy(&gate, front, &format!("server gate {} {option}", gate.at("web")));
        let client: IpAddr = own_loopback().into();
        let mut asked = Client::connect_from(client, front);
        assert_eq!(asked.get("/one").text(), "api", "{option}");
        assert_eq!(api.last_request().header("x-forwarded-for"), Some(client.to_string()), "{option}");
        let line = lines(&gate, done + 1).pop().unwrap();
        assert_eq!((&line["client"], line["proxy"].is_string()), (&client.to_string().into(), true));
    }
}

/// HAProxy at `front`, passing connections on to this server.
fn haproxy(gate: &Gate, front: SocketAddr, server: &str) -> Program {
    let file = gate.dir().join(format!("haproxy-{}.cfg", front.port()));
    let config = format!(
        "global\n  stats timeout 1s\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
         listen front\n  bind {front}\n  {server}\n"
    );
    std::fs::write(&file, config).unwrap();
    let haproxy = Program::start(Command::new("haproxy").arg("-db").arg("-q").arg("-f").arg(&file));
    eventually("haproxy listens", || TcpStream::connect(front).is_ok());
    haproxy
}

const SENDING: &str = "
log: { access: { to: off } }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams: { api: { servers: [$api], send_proxy: v2 } }
";

/// A server that answers with the client it was told of, its name and the number of the connection. `/slow` takes its
/// time.
fn told(label: &str, slow: Duration) -> RawServer {
    let connections = AtomicUsize::new(0);
    RawServer::start(label, move |mut stream| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        let mut bytes = Vec::new();
        let announced = loop {
            match proxy_protocol::read(&bytes) {
                Ok(Seen::Header(announced, length)) if length == bytes.len() => break announced,
                Ok(Seen::Partial) => {}
                other => panic!("{other:?}: {}", bytes.escape_ascii()),
            }
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            bytes.push(byte[0]);
        };
        let client = announced.ends.map_or("nobody".to_owned(), |ends| ends.client.to_string());
        let name = announced.authority.as_deref().unwrap_or("-");
        loop {
            let head = read_head(&mut stream);
            if head.is_empty() {
                return;
            }
            if head.starts_with(b"GET /slow") {
                std::thread::sleep(slow);
            }
            let body = format!("{client} {name} {number}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// The client and the number of the connection.
fn answer(text: &str) -> (String, usize) {
    let words: Vec<&str> = text.split(' ').collect();
    (words[0].to_owned(), words[2].parse().unwrap())
}

#[test]
fn a_server_is_told_of_each_client_and_connections_are_not_mixed() {
    for version in ["v1", "v2"] {
        let api = told("api", Duration::ZERO);
        let gate = Gate::start(&SENDING.replace("v2", version), &[&api]);
        let numbers: Vec<usize> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = gate.connect();
                        let own = client.local_address().to_string();
                        let answers: Vec<_> = (0..30).map(|_| answer(&client.get("/").text())).collect();
                        assert!(answers.iter().all(|(told, _)| *told == own), "{own}: {answers:?}");
                        assert!(answers.iter().all(|(_, number)| *number == answers[0].1), "it is kept");
                        answers[0].1
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let different: std::collections::BTreeSet<_> = numbers.iter().collect();
        assert_eq!(different.len(), 8, "{version}: {numbers:?}");
    }
}

#[test]
fn version_2_tells_the_name_of_the_handshake_and_the_protocol() {
    let (authority, api) = (Authority::new(), told("api", Duration::ZERO));
    let builder = Gate::with(&[&api]).certified(&authority);
    let tls = "address: $web, $tls";
    let gate = builder.start(&SENDING.replace("address: $web", tls));
    let mut client = authority.client("localhost").connect(gate.at("web"));
    let text = client.get("/").text();
    assert!(text.contains(" localhost "), "{text}");
    assert_eq!(answer(&text).0, client.local_address().to_string());
}

#[test]
fn retries_and_second_tries_tell_it_too() {
    let (first, second) = (told("first", Duration::from_secs(30)), told("second", Duration::ZERO));
    let hedging = "
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: api }]
upstreams:
  api:
    servers: [$first, { address: $second, priority: 1 }]
    send_proxy: v2
    retry: { attempts: 2, hedge: { after: 50ms }, budget: 100% }
    spill_over: { tier: 0% }
";
    let gate = Gate::start(&hedging.replace(", priority: 1", ""), &[&first, &second]);
    for _ in 0..4 {
        let mut client = gate.connect();
        let own = client.local_address().to_string();
        assert_eq!(answer(&client.get("/slow").text()).0, own);
        assert_eq!(answer(&client.get("/").text()).0, own);
    }
    drop(gate);
    let nobody = RefusedAddress::new("first");
    let gate = Gate::start(hedging, &[&nobody, &second]);
    for _ in 0..3 {
        let mut client = gate.connect();
        let own = client.local_address().to_string();
        assert_eq!(answer(&client.get("/").text()).0, own);
    }
}

#[test]
fn what_one_proxy_says_is_passed_on() {
    let api = told("api", Duration::ZERO);
    let config = SENDING.replace("address: $web", "address: $web, proxy_protocol: required");
    let gate = Gate::start(&config, &[&api]);
    let (told, _) = answer(&announced(&gate, V1).get("/").text());
    assert_eq!(told, "203.0.113.9:5555");
    let text = announced(&gate, V2).get("/").text();
    assert!(text.starts_with("[2001:db8::9]:5555 a.test "), "{text}");
    assert_eq!(answer(&announced(&gate, V2_LOCAL).get("/").text()).0.split(':').next(), Some("127.0.0.1"));
}

/// nginx behind the gate, plaintext and TLS: it refuses connections without a header, health checks among them.
#[test]
fn in_front_of_nginx() {
    if !need_program("nginx") {
        return;
    }
    let authority = Authority::new();
    let (plain, secure) = (free_address(own_loopback()), free_address(own_loopback()));
    for version in ["v1", "v2"] {
        let builder = Gate::with(&[]).set("plain", &plain.to_string()).set("secure", &secure.to_string());
        let dir = builder.dir().display().to_string();
        authority.issue_into(builder.dir(), "origin", &["localhost"]);
        std::fs::write(builder.dir().join("ca.crt"), authority.pem()).unwrap();
        let server = format!(
            "  log_format told '$proxy_protocol_addr $proxy_protocol_port $request_uri'; access_log {dir}/access told;
  server {{
    listen {plain} proxy_protocol; listen {secure} ssl proxy_protocol;
    ssl_certificate {dir}/origin.crt; ssl_certificate_key {dir}/origin.key;
    location / {{ return 200 '$proxy_protocol_addr:$proxy_protocol_port $https'; }}
  }}"
        );
        let _nginx = nginx(builder.dir(), &server, || TcpStream::connect(secure).is_ok());
        let checks =
            "health_check: { http: { path: /healthz, status: 200 }, interval: 100ms, initial: down }";
        let gate = builder.start(&format!(
            "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: plain }}, {{ path: /secure, upstream: secure }}, {{ path: /tcp, upstream: tcp }}]
upstreams:
  plain: {{ servers: [$plain], send_proxy: {version}, {checks} }}
  secure: {{ servers: [$secure], send_proxy: {version}, tls: {{ ca: $dir/ca.crt, sni: localhost }}, {checks} }}
  tcp: {{ servers: [$plain], send_proxy: {version}, health_check: {{ tcp: {{}}, interval: 100ms, initial: down }} }}
"
        ));
        for (path, https) in [("/", ""), ("/secure", "on"), ("/tcp", "")] {
            eventually("the check passes", || gate.get(path).status == 200);
            let mut client = gate.connect();
            let expected = format!("{} {https}", client.local_address());
            for _ in 0..3 {
                assert_eq!(client.get(path).text(), expected, "{version} {path}");
            }
        }
        let errors = std::fs::read_to_string(gate.dir().join("error")).unwrap_or_default();
        assert_eq!(errors.matches("broken header").count(), 1, "only this test came without one: {errors}");
        let access = std::fs::read_to_string(gate.dir().join("access")).unwrap_or_default();
        // what a check is from, nginx is not told, or that it is from the gate
        assert!(access.lines().any(|line| line.ends_with("/healthz")), "{access}");
    }
}

fn is_served(client: &mut Client) -> bool {
    client.is_served("/")
}

const COUNTED: &str = "
trusted_proxies: [127.77.1.1]
listeners: [{ name: web, address: $web, proxy_protocol: $wanted, limits: { connections_per_client: 2 } }]
routes: [{ path: /, respond: { body: here } }]
";

fn counted(wanted: &str) -> Gate {
    Gate::start(&COUNTED.replace("$wanted", wanted), &[])
}

/// A connection from this address, with this before its first request.
fn from(gate: &Gate, own: [u8; 4], header: &[u8]) -> Client {
    let mut client = Client::connect_from(IpAddr::from(own), gate.at("web"));
    client.send(header);
    client
}

#[test]
fn connections_are_counted_for_the_client_that_is_named() {
    // whoever sends the header is believed where it is required
    for (wanted, proxy) in
        [("required", [127, 77, 1, 2]), ("required", [127, 77, 1, 1]), ("optional", [127, 77, 1, 1])]
    {
        let gate = counted(wanted);
        let mut held: Vec<_> = (0..2).map(|_| from(&gate, proxy, V1)).collect();
        assert!(held.iter_mut().all(is_served), "{wanted}");
        assert!(!is_served(&mut from(&gate, proxy, V1)), "a third of 203.0.113.9");
        let other = String::from_utf8_lossy(V1).replace("203.0.113.9", "203.0.113.8");
        assert!(is_served(&mut from(&gate, proxy, other.as_bytes())), "another client of the same proxy");
        held.extend((0..2).map(|_| from(&gate, proxy, V2)));
        assert!(held.iter_mut().all(is_served), "those inside are not disturbed");
        assert!(!is_served(&mut from(&gate, proxy, V2)), "a third of 2001:db8::/64");
        held.pop();
        eventually("a place that became free", || is_served(&mut from(&gate, proxy, V2)));
        eventually("the process log says whose they are", || {
            gate.stderr()
                .contains("203.0.113.9 has 2 connections and gets no more (limits.connections_per_client)")
        });
    }
}

#[test]
fn without_a_header_the_one_who_connects_is_counted() {
    let gate = counted("optional");
    let mut proxied: Vec<_> = (0..6).map(|_| from(&gate, [127, 77, 1, 1], b"")).collect();
    assert!(proxied.iter_mut().all(is_served), "a trusted proxy speaks for many");
    let mut held: Vec<_> = (0..2).map(|_| from(&gate, [127, 77, 1, 2], b"")).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(!is_served(&mut from(&gate, [127, 77, 1, 2], b"")), "a third");
    assert!(!is_served(&mut from(&gate, [127, 77, 1, 2], V1)), "and it cannot name another");

    // a proxy that speaks for itself, and is nobody special
    let gate = counted("required");
    let mut held: Vec<_> = (0..2).map(|_| from(&gate, [127, 77, 1, 2], V2_LOCAL)).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(!is_served(&mut from(&gate, [127, 77, 1, 2], V2_LOCAL)), "a third");
}
