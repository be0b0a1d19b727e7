//! The promise: programs that people have in front of their databases do not notice that there is a gate between.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Gate, Program, ServerAddress, eventually, free_address, need_program, own_loopback};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program that listens at an address of its own.
struct Listening {
    label: &'static str,
    address: SocketAddr,
    program: Program,
}

impl ServerAddress for Listening {
    fn label(&self) -> &str {
        self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

fn redis(label: &'static str, dir: &tempfile::TempDir) -> Listening {
    let address = free_address(own_loopback());
    let program = Program::start(
        Command::new("redis-server")
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null()),
    );
    eventually("redis listens", || TcpStream::connect(address).is_ok());
    Listening { label, address, program }
}

fn said(program: &str, at: SocketAddr, arguments: &[&str]) -> String {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let output = Command::new(program).args(["-h", &host, "-p", &port]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{complaints}");
    text
}

#[test]
fn redis_is_spoken_to_and_its_second_takes_over() {
    if ["redis-server", "redis-cli", "redis-benchmark"].iter().any(|program| !need_program(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut first, second) = (redis("first", &dir), redis("second", &dir));
    let gate = Gate::start(
        "listeners: [{ name: web, address: $web, tcp: { upstream: redis } }]
upstreams:
  redis: { servers: [$first, { address: $second, priority: 1 }], health_check: { tcp: {}, interval: 200ms, unhealthy_after: 1 } }
",
        &[&first, &second],
    );
    let at = gate.at("web");
    let big = "x".repeat(100_000);
    assert_eq!(said("redis-cli", at, &["SET", "big", &big]).trim(), "OK");
    assert_eq!(said("redis-cli", at, &["GET", "big"]).trim(), big);
    let measured = said(
        "redis-benchmark",
        at,
        &["-n", "3000", "-c", "20", "-P", "4", "-t", "set,get,lrange_100", "--csv"],
    );
    assert!(measured.contains("\"SET\"") && measured.contains("\"GET\""), "{measured}");
    first.program.kill();
    eventually("the second", || {
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let ask =
            Command::new("redis-cli").args(["-h", &host, "-p", &port, "EXISTS", "big"]).output().unwrap();
        ask.stdout.trim_ascii() == b"0"
    });
}

/// Who is meant by nobody on Debian. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// Where PostgreSQL's own programs are, which Debian has in a folder for each version and not on the PATH.
fn postgres_folder() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").is_file()).max().unwrap_or_default()
}

/// A command that does not run as root, in a folder of its own, with English words.
fn unprivileged(program: PathBuf, dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("LC_ALL", "C").stdout(Stdio::null());
    if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn postgres(label: &'static str, dir: &tempfile::TempDir) -> Listening {
    let folder = postgres_folder();
    let mut initdb = unprivileged(folder.join("initdb"), dir);
    initdb.args(["-D", "data", "-U", "postgres", "-A", "trust", "--no-sync", "--no-locale"]);
    let made = initdb.stderr(Stdio::piped()).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let address = free_address(own_loopback());
    let program = Program::start(
        unprivileged(folder.join("postgres"), dir)
            .args(["-D", "data", "-h", &address.ip().to_string(), "-p", &address.port().to_string()])
            .args(["-k", "", "-F", "-c", "shared_buffers=16MB"])
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap()),
    );
    eventually("postgres listens", || TcpStream::connect(address).is_ok());
    Listening { label, address, program }
}

#[test]
fn postgres_is_spoken_to_while_the_gate_is_reloaded() {
    let initdb = postgres_folder().join("initdb").display().to_string();
    if ["psql", "pgbench", &initdb].iter().any(|program| !need_program(program)) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let db = postgres("db", &dir);
    let to = |idle: &str| {
        format!(
            "server: {{ threads: 2, upgrade_sock: $dir/control.sock }}
listeners: [{{ name: web, address: $web, tcp: {{ upstream: db, timeouts: {{ idle: {idle} }} }} }}]
upstreams: {{ db: {{ servers: [$db], health_check: {{ tcp: {{}}, interval: 500ms }}, limits: {{ connections: 20, queue: 20 }} }} }}
"
        )
    };
    let mut gate = Gate::start(&to("1h"), &[&db]);
    let at = gate.at("web");
    let psql = |sql: &str| said("psql", at, &["-U", "postgres", "-d", "postgres", "-Atqc", sql]);
    eventually("postgres is ready", || {
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let ready = Command::new("psql")
            .args(["-h", &host, "-p", &port, "-U", "postgres", "-d", "postgres", "-c", "select 1"])
            .output();
        ready.is_ok_and(|output| output.status.success())
    });
    assert_eq!(psql("select 6 * 7").trim(), "42");
    let big = psql("select repeat('weirgate', 500000)");
    assert_eq!((big.trim().len(), big.starts_with("weirgateweirgate")), (4_000_000, true));
    assert_eq!(
        psql("select inet_client_addr() is not null, count(*) from generate_series(1, 100000)").trim(),
        "t|100000"
    );
    said("pgbench", at, &["-U", "postgres", "-i", "-q", "-s", "1", "postgres"]);
    let measured = std::thread::scope(|scope| {
        let bench = ["-U", "postgres", "-n", "-c", "8", "-j", "2", "-T", "3", "postgres"];
        let measured = scope.spawn(move || said("pgbench", at, &bench));
        // connections of a listener that stays, and goes to the same group
        for idle in ["2h", "3h"] {
            std::thread::sleep(std::time::Duration::from_millis(700));
            let reloaded = gate.reload(&to(idle));
            assert_eq!(reloaded.code, Some(0), "{}", reloaded.text());
        }
        measured.join().unwrap()
    });
    assert!(measured.contains("number of failed transactions: 0 "), "{measured}");
    let of =
        measured.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let processed = of.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default();
    assert!(processed > 0, "{measured}");
    assert_eq!(
        psql("select count(*) from pgbench_history").trim(),
        processed.to_string(),
        "each of them once"
    );
}
