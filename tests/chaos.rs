//! The promise: whatever happens to one of three servers, nobody who asks for something sees an error, and nothing that was
//! ordered is carried out twice. With the configuration of conf/examples/never-an-error as it stands, real servers in
//! processes of their own, and load while one of them is killed, killed and started again, frozen, cut off, or goes wrong.
//! What its clients see when an answer breaks that has begun is told here too.
//!
//! Packets are dropped by a filter on the server's own sockets: to both sides the same as a rule in a firewall, without its
//! privileges.
//!
//! `WEIRGATE_CHAOS_SECONDS` (30) is how long each of the stories takes.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "chaos/mod.rs"]
mod cast;
mod harness;

use cast::{Asked, Crowd, Ended, Load, NAME, Order, Papers, Trouble, Victim};
use harness::{Client, Gate, H2Client, Request, ServerAddress, own_loopback, spawn};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EXAMPLE: &str = include_str!("../conf/examples/never-an-error/weirgate.yaml");
/// Clients that send POST, on HTTP/1 and at a time on HTTP/2.
const POSTING: usize = 4;
const POSTING_H2: usize = 2;

/// A server may have been ejected for this long when its trouble is over, and each time for longer.
const EJECTED: Duration = Duration::from_secs(90);

/// Names the folder of a server's process; unset in the test program itself.
const FOLDER: &str = "WEIRGATE_CHAOS_SERVER";

impl ServerAddress for Victim {
    fn label(&self) -> &str {
        self.label()
    }

    fn address(&self) -> SocketAddr {
        self.address()
    }
}

fn server(label: &str) -> Victim {
    server_with(label, None)
}

/// One that speaks TLS, if it has papers.
fn server_with(label: &str, papers: Option<&Papers>) -> Victim {
    let start = |folder: &Path| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "the_process_of_a_server", "--ignored", "--nocapture"]).env(FOLDER, folder);
        spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))
    };
    Victim::start(label, own_loopback().into(), papers, start).expect("a server")
}

#[test]
#[ignore = "not a test: what the process of a server runs"]
fn the_process_of_a_server() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    cast::run(Path::new(&folder)).expect("a server");
}

/// The example, with addresses of our own.
fn gate(servers: &[Victim; 3]) -> Gate {
    gate_with(servers, None)
}

fn gate_with(servers: &[Victim; 3], papers: Option<&Papers>) -> Gate {
    let mut config = EXAMPLE.to_owned();
    for (address, name) in [
        ("127.0.0.1:8050", "$web\n    protocols: [h1, h2]"),
        ("127.0.0.1:3051", "$a"),
        ("127.0.0.1:3052", "$b"),
        ("127.0.0.1:3053", "$c"),
    ] {
        assert_eq!(config.matches(address).count(), 1, "{address} in the example");
        config = config.replace(address, name);
    }
    let [a, b, c] = servers;
    let mut gate = Gate::with(&[a, b, c]);
    if let Some(papers) = papers {
        let tls = format!("    tls: {{ ca: $dir/ca.crt, sni: {NAME} }}\n    servers:\n");
        assert_eq!(config.matches("    servers:\n").count(), 1, "the servers of the example");
        config = config.replace("    servers:\n", &tls);
        gate = gate.file("ca.crt", &papers.authority);
    }
    gate.start(&config)
}

/// One server gets into trouble and out of it again, under load.
fn story(trouble: Trouble) {
    let seconds = std::env::var("WEIRGATE_CHAOS_SECONDS").map_or(30, |text| text.parse().expect("seconds"));
    let length = Duration::from_secs(seconds);
    let papers = trouble.is_of_tls().then(|| Papers::issue().expect("papers"));
    let mut servers = ["a", "b", "c"].map(|label| server_with(label, papers.as_ref()));
    let gate = gate_with(&servers, papers.as_ref());
    let crowd = Crowd::gather(Load {
        target: gate.at("web"),
        getting: 8,
        putting: 2,
        posting: POSTING,
        pause: Duration::from_millis(50),
        patience: Duration::from_secs(20),
        longest: length + EJECTED,
    });
    let multiplexed = Multiplexed::start(gate.at("web"));
    std::thread::sleep(length / 6);
    trouble.make(&mut servers[1], length / 2).expect("trouble");
    trouble.end(&mut servers[1]).expect("an end of it");
    let before = crowd.answered_by("b");
    std::thread::sleep(length / 3);
    let deadline = Instant::now() + EJECTED;
    while crowd.answered_by("b") < before + 20 {
        assert!(Instant::now() < deadline, "the server is not used again: {}", gate.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut asked = crowd.disperse();
    asked.extend(multiplexed.finish());

    tell(trouble, &asked);
    let told = gate.stderr();
    assert!(told.contains(&servers[1].address().to_string()), "no request met the trouble: {told}");
    let failed: Vec<_> =
        asked.iter().filter(|one| one.method != "POST" && one.ended != Ended::Well).collect();
    assert!(failed.is_empty(), "{trouble:?}: {} requests failed: {failed:#?}", failed.len());
    nothing_is_done_twice(trouble, &asked, &servers);
}

/// A client with one HTTP/2 connection, on which it asks for several things at once, again and again.
struct Multiplexed {
    stop: Arc<AtomicBool>,
    client: JoinHandle<Vec<Asked>>,
}

impl Multiplexed {
    fn start(target: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let client = std::thread::spawn(move || {
            let mut asked = Vec::new();
            let mut client = H2Client::connect_plaintext(target);
            while !stopped.load(Ordering::SeqCst) && asked.len() < 20_000 {
                asked.extend(ask_together(&mut client, asked.len()));
                std::thread::sleep(Duration::from_millis(50));
            }
            asked
        });
        Self { stop, client }
    }

    fn finish(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::SeqCst);
        self.client.join().expect("the client of HTTP/2")
    }
}

/// Each takes as long as all of them.
fn ask_together(client: &mut H2Client, number: usize) -> Vec<Asked> {
    let methods = std::iter::repeat_n("GET", 4).chain(std::iter::repeat_n("POST", POSTING_H2));
    let requests: Vec<_> = methods
        .enumerate()
        .map(|(nth, method)| {
            let request =
                if method == "GET" { Request::get("/") } else { Request::post("/", "x".repeat(4096)) };
            let id = format!("{method}-h2-{}", number + nth);
            (method, id.clone(), request.header("X-Id", &id))
        })
        .collect();
    let started = Instant::now();
    let sent: Vec<_> = requests.iter().map(|(_, _, request)| request.clone()).collect();
    let outcomes = client.try_ask_all(&sent);
    let took = started.elapsed();
    let ended = outcomes.into_iter().zip(requests).map(|(outcome, (method, id, _))| {
        let ended = match outcome {
            Ok(answer) if answer.status != 200 => Ended::Status(answer.status),
            Ok(answer) if answer.text().ends_with(&format!(" {id}")) => Ended::Well,
            Ok(answer) => Ended::Wrong(answer.text()),
            Err(error) => Ended::Otherwise(error.to_string()),
        };
        Asked { method, id, ended, took }
    });
    ended.collect()
}

/// How many requests ended how.
fn tell(trouble: Trouble, asked: &[Asked]) {
    for method in ["GET", "PUT", "POST"] {
        let its = || asked.iter().filter(|one| one.method == method);
        let mut took: Vec<_> = its().map(|one| one.took).collect();
        took.sort();
        let mut ends = BTreeMap::<_, usize>::new();
        its().for_each(|one| *ends.entry(&one.ended).or_default() += 1);
        println!("{}: {method}: {ends:?}, p99 {:?}", trouble.name(), took.get(took.len() * 99 / 100));
    }
    assert!(asked.len() >= 300, "{} requests are no load", asked.len());
}

/// No POST is carried out twice, and those that were answered once. One may fail only where it could have been carried out,
/// and then its status says so.
fn nothing_is_done_twice(trouble: Trouble, asked: &[Asked], servers: &[Victim; 3]) {
    let mut done = BTreeMap::<String, usize>::new();
    for (method, id) in servers.iter().flat_map(Victim::done) {
        if method == "POST" {
            *done.entry(id).or_default() += 1;
        }
    }
    let twice: Vec<_> = done.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{trouble:?}: carried out more than once: {twice:?}");
    let (well, failed): (Vec<_>, Vec<_>) =
        asked.iter().filter(|one| one.method == "POST").partition(|one| one.ended == Ended::Well);
    assert!(well.iter().all(|one| done.contains_key(&one.id)), "{trouble:?}: answered and not carried out");
    for one in &failed {
        assert!(matches!(one.ended, Ended::Status(500 | 502 | 504)), "{trouble:?}: {one:?}");
    }
    match trouble {
        // who is gone refuses connections, which is safe: only what was under way is in doubt
        Trouble::Killed | Trouble::Untrusted | Trouble::Stalling => {
            assert!(failed.len() <= POSTING + POSTING_H2, "{failed:#?}")
        }
        Trouble::HalfHeads | Trouble::SilentHeads | Trouble::Babbling | Trouble::Failing => {
            assert!(
                failed.iter().all(|one| done.contains_key(&one.id)),
                "given up without need: {failed:#?}"
            );
        }
        // nobody can know
        Trouble::Flapping | Trouble::Frozen | Trouble::Closing | Trouble::Vanished => {}
    }
}

#[test]
fn nobody_notices_that_a_server_is_killed() {
    story(Trouble::Killed);
}

#[test]
fn nobody_notices_that_a_server_is_killed_and_started_again_and_again() {
    story(Trouble::Flapping);
}

#[test]
fn nobody_notices_that_a_server_freezes() {
    story(Trouble::Frozen);
}

#[test]
fn nobody_notices_that_a_server_closes_what_it_accepts() {
    story(Trouble::Closing);
}

#[test]
fn nobody_notices_that_a_server_breaks_off_within_the_head() {
    story(Trouble::HalfHeads);
}

#[test]
fn nobody_notices_that_a_server_falls_silent_within_the_head() {
    story(Trouble::SilentHeads);
}

#[test]
fn nobody_notices_that_a_server_answers_what_is_not_http() {
    story(Trouble::Babbling);
}

#[test]
fn nobody_notices_that_packets_to_a_server_are_lost() {
    story(Trouble::Vanished);
}

#[test]
fn nobody_notices_that_a_server_answers_500() {
    story(Trouble::Failing);
}

#[test]
fn nobody_notices_that_a_server_has_a_certificate_that_is_not_trusted() {
    story(Trouble::Untrusted);
}

#[test]
fn nobody_notices_that_a_server_does_not_shake_hands() {
    story(Trouble::Stalling);
}

/// Answers of 64 KiB, of which half comes.
const WHOLE: usize = 64 * 1024;

/// What a client has got before the connection ended must not look like a whole answer, nor like two.
fn assert_broken(got: &[u8], target: &str, how: &str) {
    let heads = got.windows(9).filter(|nine| nine.starts_with(b"HTTP/1.1 ")).count();
    assert_eq!(heads, 1, "{target}, {how}");
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
    let (head, body) = got.split_at(end);
    let head = String::from_utf8_lossy(head).to_lowercase();
    assert!(head.starts_with("http/1.1 200 ") && !body.is_empty(), "{target}, {how}: {head}");
    match target {
        "/length" => assert!(head.contains(&format!("content-length: {WHOLE}")), "{how}: {head}"),
        _ => assert!(head.contains("transfer-encoding: chunked"), "{how}: {head}"),
    }
    assert!(body.len() < WHOLE && !body.ends_with(b"0\r\n\r\n"), "{target}, {how}: a clean end");
}

fn ask_for(gate: &Gate, target: &str, id: &str) -> Client {
    let mut client = gate.connect();
    client.send(Request::get(target).header("X-Id", id).bytes());
    client
}

#[test]
fn an_answer_that_breaks_is_cut_for_the_client_too_and_not_begun_again() {
    let servers = [server("a"), server("b"), server("c")];
    let gate = gate(&servers);
    for order in [Order::CutAndClose, Order::CutAndReset] {
        servers.iter().for_each(|server| server.order(order).expect("an order"));
        for target in ["/length", "/chunked"] {
            let id = format!("{order:?}{target}");
            let got = ask_for(&gate, target, &id).until_closed();
            assert_broken(&got, target, order.word());
            let times = servers.iter().flat_map(Victim::done).filter(|(_, done)| *done == id).count();
            assert_eq!(times, 1, "{target}, {order:?}: an answer that has begun is not asked for again");
        }
    }
}

#[test]
fn an_answer_is_cut_when_its_server_is_killed() {
    for target in ["/length", "/chunked"] {
        let mut servers = [server("a"), server("b"), server("c")];
        let gate = gate(&servers);
        servers.iter().for_each(|server| server.order(Order::CutAndHang).expect("an order"));
        let mut client = ask_for(&gate, target, "the-one");
        let mut got = client.read_exactly(10_000).expect("the beginning of an answer");
        // whoever would be asked again could answer
        servers.iter().for_each(|server| server.order(Order::Serve).expect("an order"));
        let asked = |server: &Victim| server.done().iter().any(|(_, id)| id == "the-one");
        let chosen = servers.iter_mut().find(|server| asked(server)).expect("the server that was asked");
        chosen.kill().expect("killed");
        got.extend(client.until_closed());
        assert_broken(&got, target, "kill -9");
        assert_eq!(servers.iter().filter(|server| asked(server)).count(), 1, "{target}: asked again");
    }
}

#[test]
fn an_answer_that_breaks_resets_its_stream_and_no_other() {
    let servers = [server("a"), server("b"), server("c")];
    let gate = gate(&servers);
    let mut client = H2Client::connect_plaintext(gate.at("web"));
    for order in [Order::CutAndClose, Order::CutAndReset] {
        for target in ["/length", "/chunked"] {
            servers.iter().for_each(|server| server.order(order).expect("an order"));
            let outcome = client.try_ask(&Request::get(target));
            let error = outcome.expect_err("half an answer is none");
            let error = error.downcast_ref::<h2::Error>().expect("an error of HTTP/2");
            assert!(error.is_reset() && error.is_remote(), "{target}, {order:?}: {error}");
            servers.iter().for_each(|server| server.order(Order::Serve).expect("an order"));
            let next = client.ask(&Request::get("/").header("X-Id", "next"));
            assert!(next.text().ends_with(" next"), "the connection goes on: {next:?}");
        }
    }
}
