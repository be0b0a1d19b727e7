//! Promise: `make demo` works. It starts, what it tells people to try does what it says, and nothing of it is left when it
//! ends, however it ends.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{eventually, need_program};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

const TOP: &str = env!("CARGO_MANIFEST_DIR");
const PORTS: [u16; 7] = [8080, 8443, 7001, 7002, 7003, 7101, 7102];

/// A running demo and everything it has printed.
struct Demo {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Demo {
    fn start() -> Demo {
        let mut child =
            command().stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the demo starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (BufReader::new(child.stdout.take().unwrap()), said.clone());
        std::thread::spawn(move || {
            lines.lines().map_while(Result::ok).for_each(|line| *to.lock().unwrap() += &(line + "\n"))
        });
        let mut demo = Demo { child, said };
        eventually("the demo to be ready", || {
            assert!(demo.child.try_wait().unwrap().is_none(), "the demo ended: {}", demo.said());
            demo.said().contains("Ctrl-C stops everything")
        });
        demo
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// What it tells people to type: the lines that are indented by five.
    fn commands(&self) -> Vec<String> {
        self.said().lines().filter_map(|line| line.strip_prefix("     ")).map(str::to_owned).collect()
    }

    fn signal(&mut self, signal: i32) -> ExitStatus {
        // SAFETY: kill only takes numbers, and the child has not been waited for.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), signal) }, 0);
        let mut status = None;
        eventually("the demo to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the demo said:\n{}", self.said());
        }
    }
}

/// The program that `cargo test` builds beside the binary; built here when only this test is run.
fn command() -> Command {
    let program: PathBuf = Path::new(env!("CARGO_BIN_EXE_weirgate")).parent().unwrap().join("examples/demo");
    if !program.exists() {
        let built = Command::new(env!("CARGO")).args(["build", "--locked", "--example", "demo"]).status();
        assert!(built.is_ok_and(|status| status.success()), "cargo build --example demo");
    }
    let mut command = Command::new(program);
    command.current_dir(TOP).stdin(Stdio::null());
    command
}

fn taken() -> Vec<u16> {
    PORTS.into_iter().filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_err()).collect()
}

/// The demo has fixed ports: two runs of these tests on one machine take turns. `None` when something else has them.
fn turn() -> Option<File> {
    let lock = File::create(std::env::temp_dir().join("weirgate-demo.lock")).expect("a lock file");
    // SAFETY: the descriptor is open for as long as `lock`.
    assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0, "the lock");
    let taken = taken();
    if taken.is_empty() {
        return Some(lock);
    }
    assert!(std::env::var_os("WEIRGATE_TEST_NO_SKIP").is_none(), "the ports {taken:?} of the demo are taken");
    println!("SKIPPED: the ports {taken:?} of the demo are taken");
    None
}

/// Runs a command as a person would type it; its status, and what it printed.
fn shell(command: &str) -> (Option<i32>, String) {
    let output = Command::new("sh").args(["-c", command]).current_dir(TOP).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

#[test]
fn what_it_prints_works_and_ctrl_c_ends_it() {
    let (true, Some(_turn)) = (need_program("curl"), turn()) else { return };
    let mut demo = Demo::start();
    let commands = demo.commands();
    let [request, tls, kill, edit, check] = commands.as_slice() else { panic!("{commands:?}") };

    let (status, said) = shell(&format!("{request} -sS"));
    assert!(status == Some(0) && said.starts_with("api-") && said.contains("GET /api/hello"), "{said}");
    let (status, said) = shell(&format!("{tls} -sS -w '%{{http_version}}'"));
    assert!(status == Some(0) && said.starts_with("api-") && said.ends_with('2'), "{said}");

    let (status, said) = shell(kill);
    let answers: Vec<_> = said.lines().filter(|line| line.contains("answers")).collect();
    assert_eq!((status, answers.len()), (Some(0), 4), "{said}");
    assert!(answers.iter().all(|line| !line.contains("api-1 ")), "{said}");
    eventually("the demo to say that a backend is gone", || demo.said().contains("api-1 is gone"));

    assert_eq!(shell(edit).0, Some(0));
    let (status, said) = shell(check);
    assert_eq!(status, Some(64), "{said}");
    let edited = edit.rsplit(' ').next().unwrap();
    assert!(said.contains(&format!("{edited}:")) && said.contains("did you mean"), "{said}");

    let second = command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("127.0.0.1:8080"), "{said}");

    assert!(demo.signal(libc::SIGINT).success());
    assert!(taken().is_empty(), "left: {:?}", taken());
}

#[test]
fn sigterm_ends_it_too() {
    let Some(_turn) = turn() else { return };
    let mut demo = Demo::start();
    assert!(demo.signal(libc::SIGTERM).success());
    assert!(taken().is_empty(), "left: {:?}", taken());
}

/// Nothing can be done at the time of a `kill -9`: the kernel and the closed pipes have to see to it.
#[test]
#[cfg(target_os = "linux")]
fn nothing_outlives_a_killed_demo() {
    let Some(_turn) = turn() else { return };
    let mut demo = Demo::start();
    assert!(!demo.signal(libc::SIGKILL).success());
    eventually("everything to be gone", || taken().is_empty());
}
