//! The promise: `weirgate top` shows on a terminal what the gate does, does what keys say, and leaves the terminal as it was.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;
#[path = "harness/terminal.rs"]
mod terminal;

use harness::{
    Authority, Backend, Gate, Load, Program, Request, ServerAddress, eventually, free_address, own_loopback,
    weirgate,
};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use terminal::Terminal;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const WIDE: (u16, u16) = (112, 32);
const DOWN: &str = "\x1b[B";

/// `admin` is what stands beside the address.
fn config(admin: &str) -> String {
    format!(
        "admin: {{ address: $admin{admin} }}
listeners: [{{ name: web, address: $web }}]
routes:
  - {{ name: shop, path: /, upstream: goods }}
  - {{ name: old, path: /old, upstream: gone }}
  - {{ name: ping, exact: /ping, respond: {{ status: 200, body: pong }} }}
upstreams:
  goods:
    servers: [$a, $b, {{ address: $c, weight: 3, priority: 1 }}]
    health_check: {{ http: {{ path: /healthz }}, interval: 300ms, unhealthy_after: 1, healthy_after: 1 }}
  gone:
    servers: [$c]
    outlier: {{}}
"
    )
}

fn servers() -> (Backend, Backend, Backend) {
    (Backend::start("a"), Backend::start("b"), Backend::start("c"))
}

/// `weirgate top` for this gate, with these further words.
fn top(gate: &Gate, words: &[&str]) -> Command {
    let mut command = weirgate(&["top", "-c"]);
    command.arg(gate.dir().join("weirgate.yaml")).args(words).env_remove("NO_COLOR");
    command
}

/// Chooses the server of `goods` at this address and opens it.
fn open(terminal: &Terminal, server: &dyn ServerAddress) {
    let address = server.address().to_string();
    for _ in 0..12 {
        let before = terminal.marked();
        terminal.press(DOWN);
        terminal.shows_like("another line is marked", |_| terminal.marked() != before);
        if terminal.marked().is_some_and(|line| line.contains(&address)) {
            terminal.press("\r");
            terminal.shows(&format!("goods  {address}"));
            return;
        }
    }
    panic!("{address} was never chosen in\n{}", terminal.text());
}

#[test]
fn what_the_gate_does_is_seen_and_a_server_that_dies_turns_down() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(""), &[&a, &b, &c]);
    let mut terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
    for text in [
        "ready".to_owned(),
        "LISTENERS".to_owned(),
        gate.at("web").to_string(),
        "/ → goods".to_owned(),
        "/ping → respond 200".to_owned(),
        "3 of 3 usable".to_owned(),
        format!("{}", c.address()),
        "×3  backup 1".to_owned(),
        "FAILURES  none".to_owned(),
    ] {
        terminal.shows(&text);
    }
    let load = Load::start(gate.at("web"), &Request::get("/x"), 1, 1_000_000);
    let counts = |name: &str| {
        let line = terminal.line(name).unwrap_or_default();
        let timed = line.contains(" ms") || line.contains(" µs");
        line.contains("/s") && !line.contains(" 0/s") && line.contains(" 0%") && timed
    };
    terminal.shows_like("rates of the route", |_| counts("/ → goods"));
    terminal.shows_like("rates of a server", |_| counts(&a.address().to_string()));
    a.stop();
    terminal.shows("down: connection refused");
    terminal.shows("2 of 3 usable");
    c.answers(harness::Reply::status(503));
    let failed = gate.get("/old/4711?secret=1");
    assert_eq!(failed.status, 503);
    terminal.shows("/old/4711");
    assert!(!terminal.text().contains("secret"), "queries may hold secrets");
    terminal.press("f");
    terminal.shows_like("the failures alone", |screen| {
        screen.contains("/old/4711") && !screen.contains("ROUTES")
    });
    terminal.press("\x1b");
    terminal.shows("ROUTES");
    // what belongs to what: the first route is chosen
    terminal.press(DOWN);
    terminal.shows_like("it is marked", |_| terminal.marked().is_some_and(|line| line.contains("shop")));
    terminal.picture("top.svg");
    load.finish();
    terminal.press("q");
    assert_eq!(terminal.exit().code(), Some(0));
    terminal.turns_as_before();
}

#[test]
fn keys_drain_a_server_and_give_it_a_weight() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(&format!(", token: {TOKEN}")), &[&a, &b, &c]);
    // the token is in the file
    let terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
    terminal.shows("3 of 3 usable");
    open(&terminal, &b);
    terminal.press("d");
    terminal.shows("done: draining");
    terminal.shows("2 of 3 usable");
    for _ in 0..4 {
        assert_eq!(gate.get("/x").text(), "a");
    }
    terminal.picture("top-server.svg");
    terminal.press("d");
    terminal.shows("done: up, weight 1");
    terminal.press("w27\r");
    terminal.shows("done: up, weight 27");
    terminal.press("+");
    terminal.shows("done: up, weight 28");
    terminal.press("w0\r");
    terminal.shows("1 to 65535");
    terminal.press("e");
    terminal.shows("outlier");
    terminal.press("\x1b");
    terminal.shows("choose");
    terminal.shows("×28");
}

#[test]
fn without_the_token_it_looks_and_changes_nothing() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(&format!(", token: {TOKEN}")), &[&a, &b, &c]);
    let address = gate.at("admin").to_string();
    let file = gate.dir().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let without = Terminal::start(weirgate(&["top", "--admin", &address]).env_remove("NO_COLOR"), WIDE);
    without.shows("3 of 3 usable");
    open(&without, &a);
    without.press("d");
    without.shows("wants its token");
    let with = Terminal::start(weirgate(&["top", "--admin", &address, "--token-file"]).arg(&file), WIDE);
    with.shows("3 of 3 usable");
    open(&with, &a);
    with.press("d");
    with.shows("done: draining");
    without.shows("draining: ");
}

#[test]
fn a_refused_reload_is_shown_as_check_prints_it() {
    let (a, b, c) = servers();
    let mut gate = Gate::start(&config(""), &[&a, &b, &c]);
    let address = gate.at("admin").to_string();
    let terminal = Terminal::start(&mut weirgate(&["top", "--admin", &address]), (100, 50));
    terminal.shows("ready");
    gate.rewrite(&config("").replace("upstream: gone", "upstream: goen"));
    gate.hang_up();
    terminal.shows("reload refused");
    terminal.press("r");
    // wherever its lines are broken
    terminal.shows("E014");
    terminal.shows("did you mean \"gone\"?");
    terminal.press("\x1b");
    gate.rewrite(&config("").replace("weight: 3", "weight: 4"));
    gate.hang_up();
    terminal.shows("×4  backup 1");
    terminal.shows_like("no refusal any more", |screen| !screen.contains("reload refused"));
}

#[test]
fn it_comes_back_when_the_process_does_and_tells_meanwhile() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(""), &[&a, &b, &c]);
    let mut terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
    terminal.shows(&format!("process {} at", gate.id()));
    gate.terminate();
    gate.exit();
    terminal.shows("asking again");
    assert!(terminal.text().contains("3 of 3 usable"), "what was known stays");
    let again = Program::start(weirgate(&["run", "-c"]).arg(gate.dir().join("weirgate.yaml")));
    terminal.shows(&format!("process {} at", again.id()));
    terminal.shows_like("no trouble any more", |screen| !screen.contains("asking again"));
    terminal.signal(libc::SIGTERM);
    assert_eq!(terminal.exit().code(), Some(0));
    terminal.turns_as_before();
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was_whenever_it_comes() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(""), &[&a, &b, &c]);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // at the first moment in which there is something to be undone, and later
        for drawn in [false, false, false, true] {
            let mut terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
            match drawn {
                true => terminal.shows("3 of 3 usable"),
                false => terminal.is_taken(),
            }
            terminal.signal(signal);
            assert_eq!(terminal.exit().code(), Some(0), "signal {signal}");
            terminal.turns_as_before();
        }
    }
}

#[test]
fn it_fits_the_terminal_and_does_without_colours() {
    let (a, b, c) = servers();
    let gate = Gate::start(&config(""), &[&a, &b, &c]);
    let mut terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
    terminal.shows("last minute");
    terminal.shows_like("colours", |_| terminal.has_colours());
    terminal.resize((60, 20));
    terminal.shows_like("fewer columns", |screen| screen.contains("p99") && !screen.contains("p50"));
    terminal.resize(WIDE);
    terminal.shows("last minute");
    terminal.press("\x03");
    assert_eq!(terminal.exit().code(), Some(0));
    terminal.turns_as_before();
    let plain = Terminal::start(top(&gate, &[]).env("NO_COLOR", "1"), WIDE);
    plain.shows("3 of 3 usable");
    assert!(!plain.has_colours());
}

#[test]
fn over_tls_and_at_a_unix_socket_it_is_the_same() {
    let (a, b, c) = servers();
    let (authority, admin) = (Authority::new(), free_address(own_loopback()));
    let builder = Gate::with(&[&a, &b, &c]).file("ca.crt", authority.pem()).set("admin", &admin.to_string());
    authority.issue_into(builder.dir(), "gate", &[&admin.ip().to_string()]);
    let tls = ", tls: { certificates: [{ cert: $dir/gate.crt, key: $dir/gate.key }] }";
    let gate = builder.start(&config(tls));
    eventually("the admin address", || TcpStream::connect(admin).is_ok());
    let ca = gate.dir().join("ca.crt").display().to_string();
    let terminal = Terminal::start(&mut top(&gate, &["--ca", &ca]), WIDE);
    terminal.shows("3 of 3 usable");
    let address = format!("https://{admin}");
    let mut stranger = Terminal::start(&mut weirgate(&["top", "--admin", &address]), WIDE);
    stranger.shows("an authority that is not trusted");
    assert_eq!(stranger.exit().code(), Some(1));
    let socket = Gate::with(&[&a, &b, &c]).start(&config("").replace("$admin", "unix:$dir/admin.sock"));
    eventually("the admin address", || UnixStream::connect(socket.dir().join("admin.sock")).is_ok());
    let terminal = Terminal::start(&mut top(&socket, &[]), WIDE);
    terminal.shows("3 of 3 usable");
    terminal.shows("admin.sock");
}

#[test]
fn who_cannot_be_shown_anything_is_told_why() {
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web }]\nroutes: [{ path: /, respond: { status: 204 } }]\n",
        &[],
    );
    let piped = harness::Checked::of(&mut top(&gate, &[]));
    assert_eq!(piped.code, Some(64));
    assert!(piped.stderr.contains("top needs a terminal"), "{}", piped.stderr);
    let mut terminal = Terminal::start(&mut top(&gate, &[]), WIDE);
    terminal.shows("has no admin address");
    assert_eq!(terminal.exit().code(), Some(64));
    let nobody = harness::RefusedAddress::new("nobody").address().to_string();
    let mut terminal = Terminal::start(&mut weirgate(&["top", "--admin", &nobody]), WIDE);
    terminal.shows(&format!("nobody answers at {nobody}"));
    assert_eq!(terminal.exit().code(), Some(1));
    terminal.turns_as_before();
    let mut terminal = Terminal::start(&mut weirgate(&["top", "--admin", "ftp://gate:1"]), WIDE);
    terminal.shows("is not spoken");
    assert_eq!(terminal.exit().code(), Some(64));
}
