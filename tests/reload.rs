//! Everything changes while it runs, and nobody notices who is not concerned: reloads by command, by signal and by
//! a changed file; what is refused changes nothing.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{
    Authority, Backend, Checked, Client, Gate, H2Client, Load, RawServer, Reply, Request, eventually,
    read_head, weirgate,
};
use std::io::{Read, Write};
use std::time::Duration;

const SERVER: &str = "server: { threads: 2, upgrade_sock: $dir/control.sock, grace_period_seconds: 5 }\n";

fn config(rest: &str) -> String {
    format!("{SERVER}{rest}")
}

fn answering(body: &str) -> String {
    config(&format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, respond: {{ status: 200, body: {body} }} }}]
"
    ))
}

#[test]
fn a_reload_changes_the_answer_and_says_what_it_did() {
    let mut gate = Gate::start(&answering("one"), &[]);
    assert_eq!(gate.get("/").text(), "one");
    let reloaded = gate.reload(&answering("two"));
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stdout.contains("routes[/].respond.body: one -> two"), "{}", reloaded.stdout);
    assert_eq!(gate.get("/").text(), "two");
    let again = gate.command(&["reload"]);
    assert!(again.stdout.contains("nothing has changed"), "{}", again.stdout);
    let status = gate.command(&["status"]);
    assert!(status.stdout.contains("reloads   1 done, 0 refused"), "{}", status.stdout);
}

#[test]
fn sighup_reloads() {
    let mut gate = Gate::start(&answering("one"), &[]);
    gate.rewrite(&answering("two"));
    gate.hang_up();
    eventually("the new answer", || gate.get("/").text() == "two");
    // said when it has been compared with what was before, which nobody waits for
    eventually("the line in the log", || gate.stderr().contains("SIGHUP: reloaded in "));
}

#[test]
fn a_changed_file_is_read_when_that_is_asked_for() {
    let on = |body: &str| answering(body).replace("threads: 2", "threads: 2, reload_on_change: true");
    let mut gate = Gate::start(&on("one"), &[]);
    gate.rewrite(&on("two"));
    eventually("the new answer", || gate.get("/").text() == "two");
    // a mistake is said, and the next change mends it
    gate.rewrite("listeners: [");
    eventually("the refusal", || gate.stderr().contains("a changed file: reload refused"));
    assert_eq!(gate.get("/").text(), "two");
    gate.rewrite(&on("three"));
    eventually("the third answer", || gate.get("/").text() == "three");
    // and it can be turned off
    assert_eq!(gate.reload(&answering("four")).code, Some(0));
    assert_eq!(gate.get("/").text(), "four");
}

#[test]
fn what_is_refused_is_shown_and_changes_nothing() {
    let mut gate = Gate::start(&answering("one"), &[]);
    let mut kept = gate.connect();
    kept.get("/");
    let refused = gate.reload(&config("listeners: [{ name: web, adress: $web }]\n"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("weirgate.yaml:2:26: error[E"), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean \"address\"?"), "{}", refused.stderr);
    assert_eq!(kept.get("/").text(), "one");
    let status = gate.command(&["status"]);
    assert!(status.stdout.contains("reloads   0 done, 1 refused"), "{}", status.stdout);
    assert!(status.stdout.contains("did you mean \"address\"?"), "{}", status.stdout);
}

#[test]
fn what_is_fixed_at_the_start_is_named_with_the_way_to_change_it() {
    let mut gate = Gate::start(&answering("one"), &[]);
    let refused = gate.reload(&answering("two").replace("threads: 2", "threads: 3"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("server.threads cannot change while the process runs: 2 -> 3"));
    assert!(refused.stderr.contains("weirgate upgrade"), "{}", refused.stderr);
    assert_eq!(gate.get("/").text(), "one", "not half of it either");
}

#[test]
fn an_address_in_use_refuses_all_of_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut gate = Gate::start(&answering("one"), &[]);
    let busy = answering("two").replace(
        "listeners: [",
        &format!("listeners: [{{ name: other, address: {} }}, ", taken.local_addr().unwrap()),
    );
    let refused = gate.reload(&busy);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    assert_eq!(gate.get("/").text(), "one");
}

#[test]
fn listeners_come_and_go() {
    let mut gate = Gate::start(&answering("one"), &[]);
    let two = answering("two").replace("listeners: [", "listeners: [{ name: more, address: $more }, ");
    assert_eq!(gate.reload(&two).code, Some(0));
    let more = gate.at("more");
    let mut kept = Client::connect(more);
    assert_eq!(kept.get("/").text(), "two");
    assert_eq!(gate.reload(&answering("three")).code, Some(0));
    eventually("nobody listens there", || std::net::TcpStream::connect(more).is_err());
    assert!(kept.until_closed().is_empty(), "an idle connection of a removed listener is closed");
    assert_eq!(gate.get("/").text(), "three");
}

fn proxying(servers: &str, rest: &str) -> String {
    config(&format!(
        "listeners: [{{ name: web, address: $web }}]
routes: [{{ path: /, upstream: api }}]
upstreams:
  api: {{ servers: [{servers}], health_check: {{ http: {{ path: /healthz }}, interval: 100ms, unhealthy_after: 1 }}{rest} }}
"
    ))
}

#[test]
fn servers_keep_what_is_known_of_them() {
    let (api, sick) = (Backend::start("api"), Backend::start("sick"));
    sick.health(Reply::status(500));
    let mut gate = Gate::start(&proxying("$api, $sick", ""), &[&api, &sick]);
    eventually("it is found sick", || gate.stderr().contains("is down"));
    // the group is another one, its servers are the same
    sick.forget();
    for balance in ["random", "least_connections", "power_of_two", "round_robin"] {
        let reloaded = gate.reload(&proxying("$api, $sick", &format!(", balance: {balance}")));
        assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
        for _ in 0..10 {
            assert_eq!(gate.get("/").text(), "api");
        }
    }
    assert!(sick.requests().is_empty(), "it is known to be sick");
    assert_eq!(gate.stderr().matches("is down").count(), 1, "and is not found out again");
    sick.health(Reply::status(200));
    eventually("it is checked still", || gate.stderr().contains("is up again"));
}

#[test]
fn a_server_that_is_no_longer_named_finishes_its_requests() {
    let (api, slow) = (Backend::start("api"), Backend::start("slow"));
    slow.answers(Reply::ok("slow").after(Duration::from_millis(1500)));
    let mut gate = Gate::start(&proxying("$slow", ""), &[&api, &slow]);
    let mut client = gate.connect();
    client.send(Request::get("/").bytes());
    eventually("it is with the server", || slow.requests().len() == 1);
    assert_eq!(gate.reload(&proxying("$api", "")).code, Some(0));
    assert_eq!(gate.get("/").text(), "api");
    assert_eq!(client.response().text(), "slow");
    eventually("it has left", || gate.stderr().contains("is drained and gone"));
}

#[test]
fn a_filter_that_comes_holds_for_connections_that_are_there() {
    let mut gate = Gate::start(&answering("one"), &[]);
    let mut kept = gate.connect();
    assert_eq!(kept.get("/").status, 200);
    let denying = answering("one")
        .replace("address: $web }", "address: $web, filters: [{ ip: { deny: [127.0.0.0/8] } }] }");
    assert_eq!(gate.reload(&denying).code, Some(0));
    assert_eq!(kept.get("/").status, 403, "on the same connection");
}

/// A server that switches protocols and sends back what it gets.
fn echo() -> RawServer {
    RawServer::start("echo", |mut stream| {
        read_head(&mut stream);
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch).ok();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

fn websocket(gate: &Gate) -> Client {
    let mut client = gate.connect();
    client.send(
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    client
}

/// Two configurations that differ in nearly everything but the listener and the server of the WebSocket.
fn alternating(turn: usize) -> String {
    let (balance, more, filter) = match turn % 2 {
        0 => ("round_robin", "", "{ response: { set: { X-Turn: even } } }"),
        _ => ("least_connections", ", $other", "{ response: { set: { X-Turn: odd } } }"),
    };
    config(&format!(
        "listeners: [{{ name: web, address: $web, protocols: [h1, h2] }}]
routes:
  - {{ path: /chat, upstream: chat }}
  - {{ name: api{turn}, path: /, upstream: api, filters: [{{ headers: {filter} }}] }}
upstreams:
  chat: {{ servers: [$echo] }}
  api: {{ servers: [$api{more}], balance: {balance}, health_check: {{ http: {{ path: /healthz }}, interval: 1s }} }}
"
    ))
}

#[test]
fn reloads_under_load_lose_nothing() {
    let (api, other, echo) = (Backend::start("api"), Backend::start("other"), echo());
    let mut gate = Gate::start(&alternating(0), &[&api, &other, &echo]);
    let mut sockets: Vec<Client> = (0..5).map(|_| websocket(&gate)).collect();
    let mut h2 = H2Client::connect_plaintext(gate.at("web"));
    let load = Load::start(gate.at("web"), &Request::get("/x"), 4, 100_000);
    load.wait_for(50);
    for turn in 1..=20 {
        let reloaded = gate.reload(&alternating(turn));
        assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
        let expected = if turn % 2 == 0 { "even" } else { "odd" };
        assert_eq!(gate.get("/y").header("x-turn").as_deref(), Some(expected));
        let response = h2.get("/z");
        assert_eq!((response.status, response.header("x-turn").as_deref()), (200, Some(expected)));
        for socket in &mut sockets {
            socket.send("ping");
            assert_eq!(socket.read_exactly(4).unwrap(), b"ping");
        }
    }
    let outcomes = load.finish();
    let lost: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(200)).take(5).collect();
    assert!(lost.is_empty(), "of {}: {lost:?}", outcomes.len());
}

#[test]
fn a_second_gate_on_the_same_socket_is_refused() {
    let gate = Gate::start(&answering("one"), &[]);
    let second = Gate::with(&[])
        .set("socket", &gate.dir().join("control.sock").display().to_string())
        .launch("server: { upgrade_sock: $socket }\nlisteners: [{ name: web, address: $web }]\nroutes: [{ path: /, respond: { status: 200 } }]\n");
    assert_eq!(second.exit().code(), Some(1));
    assert!(second.stderr().contains("another process listens on it"), "{}", second.stderr());
    assert_eq!(gate.command(&["status"]).code, Some(0), "the first one is still found");
}

#[test]
fn without_a_process_the_commands_say_so() {
    let gate = Gate::start(&answering("one"), &[]);
    gate.terminate();
    gate.exit();
    let asked = gate.command(&["reload"]);
    assert_eq!(asked.code, Some(1));
    assert!(asked.stderr.contains("no weirgate runs that listens on"), "{}", asked.stderr);
}

#[test]
fn the_socket_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let gate = Gate::start(&answering("one"), &[]);
    // its address accepts a moment earlier
    assert_eq!(gate.get("/").text(), "one");
    let mode = std::fs::metadata(gate.dir().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn diff_shows_what_a_reload_would_change() {
    let mut gate = Gate::start(&answering("one"), &[]);
    // its address accepts a moment before it can be asked
    assert_eq!(gate.get("/").text(), "one");
    gate.rewrite(&answering("two"));
    let diff = gate.command(&["diff"]);
    assert_eq!(diff.code, Some(1), "{}", diff.stderr);
    assert!(diff.stdout.contains("routes[/].respond.body: one -> two"), "{}", diff.stdout);
    assert_eq!(gate.get("/").text(), "one", "nothing was sent");
    assert_eq!(gate.command(&["reload"]).code, Some(0));
    assert_eq!(gate.command(&["diff"]).code, Some(0));
}

/// Every mistake that there is a golden file for.
#[test]
fn no_mistake_whatever_changes_what_is_served() {
    let api = Backend::start("api");
    let gate = Gate::start(&proxying("$api", ""), &[&api]);
    let mut kept = gate.connect();
    assert_eq!(kept.get("/").text(), "api");
    let mistakes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let socket = gate.dir().join("control.sock").display().to_string();
    let mut refused = 0;
    for entry in std::fs::read_dir(mistakes).unwrap() {
        let file = entry.unwrap().path();
        let is_yaml = file.extension().is_some_and(|extension| extension == "yaml");
        if !is_yaml || file.display().to_string().contains("-warn-") {
            continue;
        }
        std::fs::copy(&file, gate.dir().join("weirgate.yaml")).unwrap();
        let answer = gate.command(&["reload", "--socket", &socket]);
        // what stands in files beside it is missing here, so that it may be another mistake, but one it is
        if answer.code == Some(1) {
            assert!(answer.stderr.contains("error"), "{}: {}", file.display(), answer.stderr);
            refused += 1;
        } else {
            panic!("{} was taken: {}", file.display(), answer.stdout);
        }
        assert_eq!(kept.get("/").text(), "api", "after {}", file.display());
    }
    assert!(refused >= 30, "{refused} mistakes");
    assert_eq!(gate.get("/").text(), "api");
    let status = gate.command(&["status", "--socket", &socket]);
    assert!(status.stdout.contains(&format!("reloads   0 done, {refused} refused")), "{}", status.stdout);
}

#[test]
fn a_renewed_certificate_is_for_those_who_come() {
    let (first, second) = (Authority::new(), Authority::new());
    let secure = "server: { reload_on_change: true }
listeners:
  - { name: secure, address: $secure, tls: { certificates: [{ cert: $dir/a.crt, key: $dir/a.key }] } }
routes: [{ path: /, respond: { status: 200, body: one } }]
";
    let builder = Gate::with(&[]);
    first.issue_into(builder.dir(), "a", &["localhost"]);
    let gate = builder.start(secure);
    let mut kept = first.client("localhost").connect(gate.at("secure"));
    assert_eq!(kept.get("/").text(), "one");
    // nothing but the two files changes
    second.issue_into(gate.dir(), "a", &["localhost"]);
    let renewed = second.client("localhost");
    eventually("the new certificate", || renewed.try_connect(gate.at("secure")).is_ok());
    assert_eq!(renewed.connect(gate.at("secure")).get("/").text(), "one");
    assert_eq!(kept.get("/").text(), "one", "and the old one goes on for those who are there");
    eventually("the line in the log", || gate.stderr().contains("the contents of "));
}

#[test]
fn a_file_that_is_not_that_of_the_process_is_not_taken_for_it() {
    let gate = Gate::start(&answering("one"), &[]);
    let (its, other) = (gate.dir().join("weirgate.yaml"), gate.dir().join("other.yaml"));
    let text = std::fs::read_to_string(&its).unwrap();
    std::fs::write(&other, text.replace("body: one", "body: two")).unwrap();
    for command in ["reload", "upgrade"] {
        let asked = Checked::of(weirgate(&[command, "-c"]).arg(&other));
        assert_eq!(asked.code, Some(1));
        assert!(asked.stderr.contains("nothing was done"), "{}", asked.stderr);
        assert!(asked.stderr.contains(&format!("say -c {}", its.display())), "{}", asked.stderr);
    }
    assert_eq!(gate.get("/").text(), "one");
    // the same file by another name
    std::fs::write(&its, text.replace("body: one", "body: three")).unwrap();
    let link = gate.dir().join("link.yaml");
    std::os::unix::fs::symlink(&its, &link).unwrap();
    let asked = Checked::of(weirgate(&["reload", "-c"]).arg(&link));
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    assert_eq!(gate.get("/").text(), "three");
}

#[test]
fn warnings_are_shown_to_whoever_asks() {
    let mut gate = Gate::start(&answering("one"), &[]);
    let unused = format!("{}upstreams: {{ idle: {{ servers: [127.0.0.1:9] }} }}\n", answering("two"));
    let reloaded = gate.reload(&unused);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.stderr);
    assert!(reloaded.stderr.contains("warning: upstream \"idle\" is not used"), "{}", reloaded.stderr);
    let again = gate.command(&["reload"]);
    assert!(again.stdout.contains("nothing has changed"), "{}", again.stdout);
}
