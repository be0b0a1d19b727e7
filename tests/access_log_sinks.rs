//! The promise: whatever becomes of the place where the access log goes, requests are answered; lines that cannot be
//! written are counted and told of, and no others are missing.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Backend, Client, Gate, Load, Request, eventually, own_loopback};
use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DROPPED: &str = "weirgate_access_log_dropped_total";

/// Room for a line of this many bytes, and more requests than fill every buffer on the way.
const LONG: usize = 40_000;
const MANY: usize = 4000;

fn config(access: &str) -> String {
    format!(
        "server: {{ threads: 1, upgrade_sock: $dir/control.sock, grace_period_seconds: 20 }}
admin: {{ address: $admin }}
log: {{ access: {access} }}
listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, respond: {{ body: here }} }}]
"
    )
}

fn dropped(gate: &Gate) -> u64 {
    gate.metrics().get(DROPPED).expect("a count") as u64
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn json_lines(text: &str) -> usize {
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not a whole line: {line}");
    }
    text.lines().count()
}

/// The file and the older ones beside it.
fn all_of(dir: &Path, name: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name))).collect()
}

/// Its last lines are written then.
#[track_caller]
fn end(gate: &Gate) {
    gate.terminate();
    gate.exit();
}

fn signal(gate: &Gate, signal: libc::c_int) {
    let id = i32::try_from(gate.id()).unwrap();
    // SAFETY: a signal to a process of this test harms no memory.
    unsafe { libc::kill(id, signal) };
}

/// Reads on a thread of its own, to the end.
fn gather(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let text = Arc::new(Mutex::new(Vec::new()));
    let read = text.clone();
    std::thread::spawn(move || {
        let mut piece = vec![0; 65536];
        while let Ok(n @ 1..) = from.read(&mut piece) {
            read.lock().unwrap().extend_from_slice(&piece[..n]);
        }
    });
    text
}

/// The lines of long requests that have come whole.
fn long_ones(text: &Mutex<Vec<u8>>) -> u64 {
    long_ones_in(&text.lock().unwrap())
}

fn long_ones_in(text: &[u8]) -> u64 {
    // what a line ends with
    memchr::memmem::find_iter(text, "x\"}}").count() as u64
}

/// Asks with long lines until some were dropped; how many requests that took.
#[track_caller]
fn ask_until_dropped(gate: &Gate) -> u64 {
    let request = Request::get("/long").header("X-Long", &"x".repeat(LONG));
    let mut client = gate.connect();
    for number in 1..=MANY {
        assert_eq!(client.ask(&request).text(), "here");
        if number % 50 == 0 && dropped(gate) > 0 {
            return number as u64;
        }
    }
    panic!("nothing was dropped of {MANY} lines of {LONG} bytes");
}

#[test]
fn a_full_disk_costs_lines_and_no_request() {
    let mut gate = Gate::start(&config("{ to: { file: /dev/full } }"), &[]);
    for number in 1..=20 {
        assert_eq!(gate.get("/full").text(), "here");
        eventually("a lost line is counted", || dropped(&gate) == number);
    }
    assert_eq!(gate.stderr().matches("No space left on device").count(), 1, "{}", gate.stderr());
    // and elsewhere there is room
    let reloaded = gate.reload(&config("{ to: { file: $dir/access.log } }"));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    gate.get("/room");
    eventually("a line", || read(&gate.dir().join("access.log")).contains("/room"));
    assert_eq!(dropped(&gate), 20);
}

#[test]
fn a_file_at_the_limit_of_the_process_ends_nothing() {
    // blocks of 512 bytes, for the file that is written and for the output of the process
    let builder = Gate::with(&[]);
    let script = builder.dir().join("limited.sh");
    let program = env!("CARGO_BIN_EXE_weirgate");
    let builder =
        builder.file("limited.sh", format!("#!/bin/sh\nulimit -f 64\nexec {program} run -c \"$1\"\n"));
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gate = builder.program(script).start(&config("{ to: { file: $dir/access.log } }"));
    let path = gate.dir().join("access.log");
    let mut sent = 0;
    let mut client = gate.connect();
    while dropped(&gate) == 0 {
        assert!(sent < 2000, "the limit was not reached");
        assert_eq!(client.get("/x").text(), "here");
        sent += 1;
    }
    assert!(gate.stderr().contains("File too large"), "{}", gate.stderr());
    // moved away, there is room again
    fs::rename(&path, gate.dir().join("access.old")).unwrap();
    signal(&gate, libc::SIGUSR1);
    eventually("a line in the new file", || {
        client.get("/again");
        read(&path).contains("/again")
    });
    eventually("told", || gate.stderr().contains("is written again"));
    end(&gate);
    assert!(json_lines(&read(&path)) > 0);
    let old = read(&gate.dir().join("access.old"));
    let whole = old.lines().filter(|line| line.ends_with('}')).count();
    assert!(old.lines().count() - whole <= 1, "at most one is torn: {old}");
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_request() {
    let builder = Gate::with(&[]);
    let path = builder.dir().join("pipe");
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a NUL-terminated path, alive during the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    // both ends, so that opening waits for nobody
    let pipe = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let gate = builder.start(&config("{ to: { file: $dir/pipe }, headers: { request: [x-long] } }"));
    let sent = ask_until_dropped(&gate);
    eventually("told", || gate.stderr().contains("read or written too slowly"));
    let text = gather(pipe);
    eventually("each line is read or was counted", || long_ones(&text) + dropped(&gate) == sent);
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    assert_eq!(json_lines(whole) as u64, long_ones_in(whole.as_bytes()));
}

#[test]
fn a_syslog_server_that_stands_still_costs_lines_and_no_request() {
    let server = TcpListener::bind((own_loopback(), 0)).unwrap();
    let at = server.local_addr().unwrap().to_string();
    let to = "{ to: { syslog: { address: $syslog, protocol: tcp } }, headers: { request: [x-long] } }";
    let gate = Gate::with(&[]).set("syslog", &at).start(&config(to));
    let sent = ask_until_dropped(&gate);
    let (socket, _) = server.accept().unwrap();
    let text = gather(socket);
    eventually("each line is read or was counted", || long_ones(&text) + dropped(&gate) == sent);
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    let mut rest = text.as_str();
    while let Some((length, after)) = rest.split_once(' ') {
        let (message, next) = after.split_at_checked(length.parse().unwrap()).expect("a whole message");
        assert!(message.starts_with("<190>1 ") && message.ends_with('}'), "{message}");
        rest = next;
    }
}

#[test]
fn messages_reach_a_syslog_server_whenever_it_comes() {
    let builder = Gate::with(&[]);
    let path = builder.dir().join("log");
    let to = "{ to: { syslog: { address: \"unix:$dir/log\", facility: local0, app_name: edge } } }";
    let gate = builder.start(&config(to));
    for number in 0..5 {
        gate.get(&format!("/early/{number}"));
    }
    eventually("told", || gate.stderr().contains("at the syslog server unix:"));
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut buffer = vec![0; 65536];
    let mut receive = || {
        let n = server.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    let head =
        regex::Regex::new(r"^<134>1 \d{4}-\d\d-\d\dT[0-9:.]+Z \S+ edge (\d+) access - (\{.*\})$").unwrap();
    for number in 0..5 {
        let message = receive();
        let found = head.captures(&message).unwrap_or_else(|| panic!("{message}"));
        assert_eq!(found[1], gate.id().to_string());
        let line: serde_json::Value = serde_json::from_str(&found[2]).unwrap();
        assert_eq!(line["path"], format!("/early/{number}"));
    }
    eventually("told", || gate.stderr().contains("is written again"));
    assert_eq!(dropped(&gate), 0);
}

#[test]
fn messages_go_over_udp() {
    let server = UdpSocket::bind((own_loopback(), 0)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let at = server.local_addr().unwrap().to_string();
    let to = "{ format: combined, to: { syslog: { address: $syslog, facility: daemon } } }";
    let gate = Gate::with(&[]).set("syslog", &at).start(&config(to));
    gate.get("/one");
    let mut buffer = [0; 2000];
    let n = server.recv(&mut buffer).unwrap();
    let message = std::str::from_utf8(&buffer[..n]).unwrap();
    assert!(message.starts_with("<30>1 ") && message.contains("\"GET /one HTTP/1.1\" 200 4"), "{message}");
}

#[test]
fn a_file_is_begun_anew_by_size_and_no_line_is_lost() {
    let to = "{ to: { file: $dir/access.log }, rotate: { size: 16KB, keep: 100 } }";
    let gate = Gate::start(&config(to), &[]);
    let load = Load::start(gate.at("web"), &Request::get("/x"), 2, 250);
    load.wait_for_end();
    let asked = load.finish().len();
    end(&gate);
    let files = all_of(gate.dir(), "access.log");
    assert!(files.len() > 3, "{files:?}");
    let mut found = 0;
    for path in files {
        let text = read(&path);
        assert!(text.len() <= 16 * 1024, "{path:?} has {} bytes", text.len());
        found += json_lines(&text);
    }
    assert_eq!(found, asked);
}

#[test]
fn only_so_many_old_files_are_kept() {
    let to = "{ to: { file: $dir/access.log }, rotate: { size: 4KB, keep: 2 } }";
    let gate = Gate::start(&config(to), &[]);
    let mut client = gate.connect();
    let oldest = gate.dir().join("access.log.2");
    let mut asked = 0;
    while !oldest.exists() {
        assert!(asked < 2000, "it is not rotated");
        client.get("/x");
        asked += 1;
    }
    let before = read(&oldest);
    eventually("the oldest is replaced", || {
        client.get("/x");
        let now = read(&oldest);
        !now.is_empty() && now != before
    });
    end(&gate);
    assert_eq!(all_of(gate.dir(), "access.log").len(), 3);
}

#[test]
fn settings_change_by_reload_and_no_line_is_lost() {
    let all = [
        "{ to: { file: $dir/one.log } }",
        "{ to: { file: $dir/one.log }, format: { template: '{{\"path\":\"{path}\"}}', escape: json } }",
        "{ to: { file: $dir/two.log }, rotate: { size: 8KB, keep: 900 } }",
        "{ to: { file: $dir/two.log }, redact: { query: [token] }, headers: { request: [x-a] } }",
    ];
    let mut gate = Gate::start(&config(all[0]), &[]);
    let load = Load::start(gate.at("web"), &Request::get("/x"), 2, 100_000);
    for turn in 1..9 {
        load.wait_for(load.answered() + 30);
        let reloaded = gate.reload(&config(all[turn % all.len()]));
        assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    }
    let asked = load.finish();
    assert!(asked.iter().all(|outcome| *outcome == Ok(200)));
    end(&gate);
    let files = [all_of(gate.dir(), "one.log"), all_of(gate.dir(), "two.log")].concat();
    let found: usize = files.iter().map(|path| json_lines(&read(path))).sum();
    assert_eq!(found, asked.len());
}

#[test]
fn an_upgrade_loses_no_line_and_both_rotate() {
    let to = "{ to: { file: $dir/access.log }, rotate: { size: 16KB, keep: 900 } }";
    let gate = Gate::start(&config(to), &[]);
    let load = Load::start(gate.at("web"), &Request::get("/x"), 3, 100_000);
    load.wait_for(100);
    gate.upgrade();
    assert!(gate.exit().success());
    load.wait_for(load.answered() + 100);
    let asked = load.finish();
    assert!(asked.iter().all(|outcome| *outcome == Ok(200)));
    let written =
        || -> usize { all_of(gate.dir(), "access.log").iter().map(|path| read(path).lines().count()).sum() };
    eventually("every line", || written() == asked.len());
}

#[test]
fn a_long_connection_does_not_keep_an_old_log() {
    let api = Backend::start("api");
    let with = |access: &str| {
        config(access).replace("respond: { body: here }", "upstream: api")
            + "upstreams: { api: { servers: [$api] } }\n"
    };
    let gate = &mut Gate::start(&with("{ to: { file: $dir/one.log } }"), &[&api]);
    api.answers(harness::Reply::hang());
    let mut waiting = Client::connect(gate.at("web"));
    waiting.send("GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n");
    eventually("it is at the server", || api.requests().len() == 1);
    let reloaded = gate.reload(&with("{ to: { file: $dir/two.log } }"));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    api.drop_connections();
    assert_eq!(waiting.response().status, 502);
    eventually("its line", || read(&gate.dir().join("two.log")).contains("/waiting"));
    assert_eq!(read(&gate.dir().join("one.log")), "");
}
