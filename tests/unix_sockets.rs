//! The promise: a listener may be a unix socket. It is there while the gate is, for whom it is meant, and never in two
//! gates' hands.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Backend, Client, Gate, Program, Request, eventually, free_address, need_program, nginx, own_loopback,
};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;

const CONFIG: &str = "
server: { threads: 2, upgrade_sock: $dir/control.sock }
log: { access: { format: json, to: stdout } }
listeners:
  - { name: web, address: $web }
  - { name: local, address: \"unix:$dir/local.sock\", socket_mode: \"0666\" }
routes:
  - { exact: /from, respond: { status: 200, body: \"{client_ip}\" } }
  - { path: /, upstream: api }
upstreams: { api: { servers: [$api] } }
";

const LOCAL: &str = "  - { name: local, address: \"unix:$dir/local.sock\", socket_mode: \"0666\" }\n";

fn path(gate: &Gate) -> PathBuf {
    gate.dir().join("local.sock")
}

fn connect(gate: &Gate) -> Client {
    let path = path(gate);
    eventually("the unix socket", || UnixStream::connect(&path).is_ok());
    Client::connect_unix(&path)
}

#[test]
fn requests_come_in_over_a_unix_socket() {
    let api = Backend::start("api");
    let gate = Gate::start(CONFIG, &[&api]);
    let mut client = connect(&gate);
    for _ in 0..3 {
        let post = Request::post("/x", "x".repeat(200_000)).header("X-Forwarded-For", "10.0.0.1");
        assert_eq!(client.ask(&post).text(), "api");
    }
    let arrived = api.last_request();
    assert_eq!(
        (arrived.body.len(), arrived.header("x-forwarded-for")),
        (200_000, None),
        "nobody is to be believed"
    );
    assert_eq!(arrived.header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(client.get("/from").text(), "unix");
    assert_eq!(std::fs::metadata(path(&gate)).unwrap().permissions().mode() & 0o777, 0o666);
    let line = || gate.stdout().lines().find(|line| line.contains("\"local\"")).map(str::to_owned);
    eventually("the log", || line().is_some());
    assert!(!line().unwrap().contains("\"client\""), "it has no address");
    if need_program("curl") {
        let socket = path(&gate);
        let output = Command::new("curl")
            .args(["-s", "--max-time", "20", "--unix-socket"])
            .arg(socket)
            .arg("http://gate.test/curl")
            .output();
        assert_eq!(output.unwrap().stdout, b"api");
    }
}

#[test]
fn whoever_connects_there_can_be_trusted() {
    let api = Backend::start("api");
    let gate = Gate::start(&format!("{CONFIG}trusted_proxies: [unix]\n"), &[&api]);
    let named = |target| Request::get(target).header("X-Forwarded-For", "192.0.2.7");
    assert_eq!(connect(&gate).ask(&named("/from")).text(), "192.0.2.7");
    assert_eq!(connect(&gate).ask(&named("/x")).text(), "api");
    assert_eq!(
        api.last_request().header("x-forwarded-for").as_deref(),
        Some("192.0.2.7"),
        "nothing is added"
    );
    // and only there
    assert_ne!(gate.ask(&named("/from")).text(), "192.0.2.7");
}

#[test]
fn the_proxy_protocol_is_spoken_there_too() {
    let api = Backend::start("api");
    let gate = Gate::start(&CONFIG.replace("\"0666\"", "\"0666\", proxy_protocol: required"), &[&api]);
    let mut client = connect(&gate);
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 5555 443\r\n");
    assert_eq!(client.get("/from").text(), "203.0.113.9");
    if !need_program("haproxy") {
        return;
    }
    let front = free_address(own_loopback());
    let file = gate.dir().join("haproxy.cfg");
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n\
         listen front\n  bind {front}\n  server gate unix@{} send-proxy-v2\n",
        path(&gate).display()
    );
    std::fs::write(&file, config).unwrap();
    let _haproxy = Program::start(Command::new("haproxy").arg("-db").arg("-q").arg("-f").arg(&file));
    eventually("haproxy listens", || TcpStream::connect(front).is_ok());
    let from = own_loopback();
    assert_eq!(Client::connect_from(from.into(), front).get("/from").text(), from.to_string());
}

#[test]
fn behind_nginx() {
    if !need_program("nginx") {
        return;
    }
    let api = Backend::start("api");
    let gate = Gate::start(&format!("{CONFIG}trusted_proxies: [unix]\n"), &[&api]);
    let front = free_address(own_loopback());
    let dir = gate.dir().join("nginx");
    std::fs::create_dir(&dir).unwrap();
    let proxy = format!(
        "  access_log off;
  upstream gate {{ server unix:{socket}; keepalive 4; }}
  server {{ listen {front}; location / {{
    proxy_pass http://gate; proxy_http_version 1.1; proxy_set_header Connection '';
    proxy_set_header X-Forwarded-For $remote_addr; }} }}",
        socket = path(&gate).display()
    );
    let _nginx = nginx(&dir, &proxy, || TcpStream::connect(front).is_ok());
    let from = own_loopback();
    for _ in 0..5 {
        assert_eq!(Client::connect_from(from.into(), front).get("/from").text(), from.to_string());
    }
}

#[test]
fn it_is_there_while_the_gate_is() {
    let api = Backend::start("api");
    for end in [Gate::terminate, Gate::interrupt] {
        let gate = Gate::start(CONFIG, &[&api]);
        assert_eq!(connect(&gate).get("/x").text(), "api");
        end(&gate);
        gate.exit();
        assert!(!path(&gate).exists(), "{:?}", gate.stderr());
    }
}

#[test]
fn one_that_was_left_behind_gives_way_and_one_in_use_does_not() {
    let api = Backend::start("api");
    let builder = Gate::with(&[&api]);
    let socket = builder.dir().join("local.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "left behind");
    let gate = builder.start(CONFIG);
    assert_eq!(connect(&gate).get("/x").text(), "api");

    let second = CONFIG.replace("$dir", &gate.dir().display().to_string()).replace("control", "other");
    let refused = Gate::with(&[&api]).launch(&second);
    assert_eq!(refused.exit().code(), Some(1));
    assert!(refused.stderr().contains("local.sock is in use"), "{}", refused.stderr());
    assert_eq!(connect(&gate).get("/x").text(), "api", "it is still that of the first");

    let builder = Gate::with(&[&api]).file("local.sock", "precious");
    let refused = builder.launch(CONFIG);
    assert_eq!(refused.exit().code(), Some(1));
    assert!(refused.stderr().contains("is a file and no socket"), "{}", refused.stderr());
    assert_eq!(std::fs::read(refused.dir().join("local.sock")).unwrap(), b"precious");
}

#[test]
fn it_comes_and_goes_while_the_gate_runs() {
    let api = Backend::start("api");
    let mut gate = Gate::start(CONFIG, &[&api]);
    let mut open = connect(&gate);
    assert_eq!(open.get("/x").text(), "api");
    for _ in 0..3 {
        assert_eq!(gate.reload(&CONFIG.replace(LOCAL, "")).code, Some(0));
        assert!(!path(&gate).exists());
        assert_eq!(gate.reload(CONFIG).code, Some(0));
        assert_eq!(connect(&gate).get("/x").text(), "api");
    }
    assert_eq!(open.until_closed(), b"", "it ended with its listener");
    // a reload that is refused leaves nothing behind
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "listeners:\n  - {{ address: \"unix:$dir/new.sock\" }}\n  - {{ address: {} }}",
        taken.local_addr().unwrap()
    );
    assert_eq!(gate.reload(&CONFIG.replace("listeners:", &more)).code, Some(1));
    assert!(!gate.dir().join("new.sock").exists());
    assert_eq!(connect(&gate).get("/x").text(), "api");
}

#[test]
fn it_goes_to_the_process_that_takes_over() {
    let api = Backend::start("api");
    let mut gate = Gate::start(CONFIG, &[&api]);
    let inode =
        |gate: &Gate| std::os::unix::fs::MetadataExt::ino(&std::fs::symlink_metadata(path(gate)).unwrap());
    let before = (connect(&gate).get("/x").text(), inode(&gate));
    // one that cannot start leaves it where it is
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("listeners:\n  - {{ address: {} }}", taken.local_addr().unwrap());
    gate.rewrite(&CONFIG.replace("listeners:", &more));
    assert_eq!(gate.command(&["upgrade"]).code, Some(1));
    assert_eq!((connect(&gate).get("/x").text(), inode(&gate)), before);
    gate.rewrite(CONFIG);
    for _ in 0..2 {
        gate.upgrade();
        assert_eq!((connect(&gate).get("/x").text(), inode(&gate)), before);
    }
    assert!(gate.exit().success());
    assert_eq!((connect(&gate).get("/x").text(), inode(&gate)), before, "the first has left it there");
    let status = gate.command(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let last = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    // SAFETY: a signal harms no memory, and the process is one that this gate has started.
    unsafe { libc::kill(last, libc::SIGTERM) };
    eventually("the last one removes it", || !path(&gate).exists());
}

#[test]
fn who_has_no_address_is_not_counted_until_a_proxy_names_one() {
    let api = Backend::start("api");
    let limited = |more: &str| {
        CONFIG.replace("socket_mode", &format!("limits: {{ connections_per_client: 1 }}{more}, socket_mode"))
    };
    let gate = Gate::start(&limited(""), &[&api]);
    let mut many: Vec<_> = (0..4).map(|_| connect(&gate)).collect();
    assert!(many.iter_mut().all(|client| client.is_served("/from")));

    let gate = Gate::start(&limited(", proxy_protocol: required"), &[&api]);
    let announced = |client: &str| {
        let mut connection = connect(&gate);
        connection.send(format!("PROXY TCP4 {client} 192.0.2.1 5555 443\r\n"));
        connection
    };
    let mut first = announced("203.0.113.9");
    assert!(first.is_served("/from"));
    assert!(!announced("203.0.113.9").is_served("/from"), "a second");
    assert!(announced("203.0.113.8").is_served("/from"), "of another");
}
