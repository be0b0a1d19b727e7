//! The promise: servers may be at unix sockets, and everything else is as with any other server: HTTP/1.1, h2c and TLS,
//! kept connections, checks, retries and second tries, the PROXY protocol, files of servers.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Client, Gate, GateBuilder, HealthServer, NOT_SERVING, Origin, Program, RawServer,
    Request, SERVING, ServerAddress, UnixDoor, eventually, need_program, nginx, own_loopback, read_head,
};
use std::io::Read;
use std::path::Path;

/// nginx at a unix socket of this directory, which answers with the `Host` it was asked by and how often its connection
/// was used.
fn nginx_at(dir: &Path, options: &str) -> Program {
    let socket = dir.join("app.sock");
    let server = format!(
        "  access_log off;
  server {{ listen unix:{}{options}; location / {{
    return 200 '$host $connection_requests $proxy_protocol_addr'; }} }}",
        socket.display()
    );
    nginx(dir, &server, || std::os::unix::net::UnixStream::connect(&socket).is_ok())
}

const SERVERS: &str = "
log: { access: { format: json, to: stdout } }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: app }]
upstreams:
  app:
    servers: [\"unix:$dir/app.sock\", { address: $backup, priority: 1 }]
    health_check: { http: { path: /healthz }, interval: 50ms, timeout: 1s, unhealthy_after: 1, healthy_after: 1 }
";

#[test]
fn a_server_may_be_at_a_unix_socket() {
    if !need_program("nginx") {
        return;
    }
    let backup = Backend::start("backup");
    for check in ["", "http: { path: /healthz }", "tcp: {}"] {
        let builder = Gate::with(&[&backup]);
        let mut app = nginx_at(builder.dir(), "");
        let config = match check {
            "" => {
                SERVERS.lines().filter(|line| !line.contains("health_check")).collect::<Vec<_>>().join("\n")
            }
            check => SERVERS.replace("http: { path: /healthz }", check),
        };
        let gate = builder.start(&config);
        let mut client = gate.connect();
        for n in 1..5 {
            let text = client.get("/").text();
            assert!(text.starts_with("gate.test "), "{text}");
            assert!(n == 1 || !text.starts_with("gate.test 1 "), "the connection is kept: {text}");
        }
        let server = format!("\"server\":\"unix:{}\"", gate.dir().join("app.sock").display());
        eventually("the log", || gate.stdout().contains(&server));
        // what it was is tried elsewhere, or known to be down
        app.kill();
        for _ in 0..5 {
            assert_eq!(gate.get("/").text(), "backup");
        }
        if !check.is_empty() {
            eventually("it is found down", || gate.stderr().contains("app.sock is down"));
            std::fs::remove_file(gate.dir().join("app.sock")).unwrap();
            let _nginx = nginx_at(gate.dir(), "");
            eventually("and up again", || gate.get("/").text().starts_with("gate.test"));
        }
    }
}

#[test]
fn its_host_is_localhost_and_clients_stay_with_it() {
    if !need_program("nginx") {
        return;
    }
    let backup = Backend::start("backup");
    let builder = Gate::with(&[&backup]);
    let _nginx = nginx_at(builder.dir(), "");
    let config = SERVERS.replace(", priority: 1", "")
        + "    host: server\n    sticky: { cookie: { name: stay, secret: 0123456789abcdef0123456789abcdef } }\n";
    let gate = builder.start(&config);
    let first = gate.get("/");
    let cookie = first.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let is_nginx = |text: String| text.starts_with("localhost ");
    let with = is_nginx(first.text());
    for _ in 0..10 {
        let again = gate.ask(&Request::get("/").header("Cookie", cookie)).text();
        assert_eq!(is_nginx(again), with);
    }
    eventually("both are asked", || is_nginx(gate.get("/").text()));
}

#[test]
fn it_is_told_of_the_client() {
    if !need_program("nginx") {
        return;
    }
    let backup = Backend::start("backup");
    for version in ["v1", "v2"] {
        let builder = Gate::with(&[&backup]);
        let _nginx = nginx_at(builder.dir(), " proxy_protocol");
        let gate = builder.start(
            &format!("{SERVERS}    send_proxy: {version}\n")
                .replace(", { address: $backup, priority: 1 }", ""),
        );
        let from = own_loopback();
        let mut client = Client::connect_from(from.into(), gate.at("web"));
        for n in 1..4 {
            assert_eq!(client.get("/").text(), format!("gate.test {n} {from}"), "{version}");
        }
    }
}

const BEHIND: &str = "
trusted_proxies: [unix]
listeners: [{ name: local, address: \"unix:$dir/local.sock\" }]
routes:
  - { exact: /from, respond: { status: 200, body: \"{client_ip}\" } }
  - { path: /, upstream: api }
upstreams: { api: { servers: [$api] } }
";

#[test]
fn a_gate_behind_a_gate() {
    let api = Backend::start("api");
    let behind = Gate::start(BEHIND, &[&api]);
    let config = "
listeners: [{ name: web, address: $web }]
routes: [{ path: /, upstream: next }]
upstreams: { next: { servers: [\"unix:$behind\"] } }
";
    let socket = behind.dir().join("local.sock").display().to_string();
    let gate = Gate::with(&[]).set("behind", &socket).start(config);
    let from = own_loopback();
    let mut client = Client::connect_from(from.into(), gate.at("web"));
    for _ in 0..3 {
        assert_eq!(client.get("/from").text(), from.to_string());
        assert_eq!(client.ask(&Request::post("/x", "x".repeat(100_000))).text(), "api");
    }
}

/// A gate with only these servers, and this said of the group. `$dir/ca.crt` is the authority.
fn start(builder: GateBuilder, servers: &str, group: &str) -> Gate {
    builder.start(&format!(
        "log: {{ access: {{ format: json, to: stdout }} }}
listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes: [{{ path: /, upstream: app }}]
upstreams: {{ app: {{ servers: [{servers}], {group} }} }}
"
    ))
}

const ONE: &str = "\"unix:$dir/app.sock\"";
const BOTH: &str = "\"unix:$dir/app.sock\", $backup";

#[test]
fn it_is_spoken_to_in_every_way() {
    let authority = Authority::new();
    let origin =
        |alpn: &[&str]| Origin::with("one").tls(authority.issue(&["app.internal"])).alpn(alpn).start();
    let (h1, h2) = (origin(&[]), origin(&["h2"]));
    let h2c = Origin::with("one").h2().start();
    let plain = Origin::with("one").start();
    let tls = "tls: { ca: $dir/ca.crt, sni: app.internal }";
    let by_host = "tls: { ca: $dir/ca.crt }, host: app.internal";
    for (origin, group, protocol, sni) in [
        (&plain, "protocol: h1".to_owned(), "h1", None),
        (&h2c, "protocol: h2c".to_owned(), "h2", None),
        (&h1, tls.to_owned(), "h1", Some("app.internal")),
        (&h1, by_host.to_owned(), "h1", Some("app.internal")),
        (&h2, format!("{tls}, protocol: h2"), "h2", Some("app.internal")),
        (&h2, format!("{tls}, protocol: auto"), "h2", Some("app.internal")),
        (&h2, "tls: { verify: false }, protocol: h2".to_owned(), "h2", None),
    ] {
        let before = origin.connections();
        let builder = Gate::with(&[]).file("ca.crt", authority.pem());
        let _door = UnixDoor::open(builder.dir().join("app.sock"), origin.address());
        let gate = start(builder, ONE, &group);
        let mut client = gate.connect();
        for _ in 0..5 {
            assert_eq!(client.get("/").text(), "one", "{group}");
        }
        let big = "x".repeat(300_000);
        assert_eq!(client.ask(&Request::post("/", big.clone())).text(), "one", "{group}");
        let last = origin.last();
        assert_eq!(last.body, big.as_bytes());
        assert_eq!((last.protocol, last.sni.as_deref()), (protocol, sni), "{group}");
        assert_eq!(origin.connections() - before, 1, "{group}");
        let server = format!("unix:{}", gate.dir().join("app.sock").display());
        assert_eq!(gate.logged_path("/")["server"], server);
    }
}

#[test]
fn a_certificate_for_somebody_else_is_not_taken() {
    let authority = Authority::new();
    let origin = Origin::with("one").tls(authority.issue(&["other.internal"])).start();
    let builder = Gate::with(&[]).file("ca.crt", authority.pem());
    let _door = UnixDoor::open(builder.dir().join("app.sock"), origin.address());
    let gate = start(builder, ONE, "tls: { ca: $dir/ca.crt, sni: app.internal }");
    assert_eq!(gate.get("/").status, 502);
    eventually("the reason", || gate.stderr().contains("certificate not valid for name \"app.internal\""));
    assert!(origin.arrived().is_empty());
}

#[test]
fn its_checks_may_be_grpc_and_over_tls() {
    let authority = Authority::new();
    let server = Backend::start("one");
    let certificate = authority.issue(&["app.internal"]);
    for (tls, said) in [(None, ""), (Some(&certificate), ", tls: { ca: $dir/ca.crt, sni: app.internal }")] {
        let health = HealthServer::grpc(server.address().ip(), tls);
        let builder = Gate::with(&[]).file("ca.crt", authority.pem());
        let _door =
            UnixDoor::open(builder.dir().join("app.sock"), (server.address().ip(), health.port()).into());
        let gate = start(
            builder,
            ONE,
            &format!(
                "health_check: {{ grpc: {{}}{said}, interval: 50ms, timeout: 5s, unhealthy_after: 1, healthy_after: 1 }}"
            ),
        );
        eventually("a check", || !health.probes().is_empty());
        let probe = health.probes()[0].clone();
        assert_eq!((probe.host.as_str(), probe.sni.as_deref()), ("localhost", tls.map(|_| "app.internal")));
        health.says(NOT_SERVING);
        eventually("it is down", || gate.get("/").status == 503);
        health.says(SERVING);
        eventually("it is up", || gate.get("/").status != 503);
    }
}

#[test]
fn where_nobody_listens_another_server_is_asked() {
    let backup = Backend::start("backup");
    // no file, and one that nobody listens at any more
    for left_behind in [false, true] {
        let builder = Gate::with(&[&backup]);
        if left_behind {
            drop(std::os::unix::net::UnixListener::bind(builder.dir().join("app.sock")).unwrap());
        }
        let gate = start(builder, BOTH, "retry: { budget: 100% }");
        for number in 0..6 {
            let post = Request::post(&format!("/{number}"), "once");
            assert_eq!(gate.ask(&post).text(), "backup");
        }
        // whose turn it is differs from worker to worker
        let tries = (0..6).map(|number| gate.logged_path(&format!("/{number}"))["attempts"].as_u64());
        assert!(tries.flatten().any(|tries| tries == 2));
        let why = if left_behind { "refused" } else { "no such file" };
        let said = gate.stderr().to_lowercase();
        assert!(said.contains("app.sock") && said.contains(why), "{said}");
    }
}

#[test]
fn a_second_try_goes_there_too() {
    let slow = RawServer::start("slow", |mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let quick = Backend::start("quick");
    let builder = Gate::with(&[&slow]);
    let _door = UnixDoor::open(builder.dir().join("app.sock"), quick.address());
    let gate = start(
        builder,
        "\"unix:$dir/app.sock\", $slow",
        "host: server, retry: { hedge: { after: 50ms }, budget: 100% }",
    );
    for _ in 0..6 {
        assert_eq!(gate.get("/").text(), "quick");
    }
    assert_eq!(quick.last_request().header("host").as_deref(), Some("localhost"));
    let second = |r: &harness::Received| r.header("x-weirgate-attempts").as_deref() == Some("2");
    assert!(quick.requests().iter().any(second));
}

#[test]
fn a_file_of_servers_may_name_it() {
    let (first, second) = (Backend::start("first"), Backend::start("second"));
    let builder = Gate::with(&[]);
    let dir = builder.dir().to_owned();
    let _first = UnixDoor::open(dir.join("1.sock"), first.address());
    let _second = UnixDoor::open(dir.join("2.sock"), second.address());
    let write = |name: &str| {
        let list = format!("- \"unix:{}\"\n", dir.join(name).display());
        std::fs::write(dir.join("servers.new"), list).unwrap();
        std::fs::rename(dir.join("servers.new"), dir.join("servers.yaml")).unwrap();
    };
    write("1.sock");
    let check = "health_check: { tcp: {}, interval: 50ms }";
    let gate = start(
        builder,
        "",
        &format!("discover: {{ file: {{ path: $dir/servers.yaml, interval: 20ms }} }}, {check}"),
    );
    assert_eq!(gate.get("/").text(), "first");
    write("2.sock");
    eventually("the second one", || gate.get("/").text() == "second");
    assert!(!gate.stderr().contains("is down"), "{}", gate.stderr());
}
