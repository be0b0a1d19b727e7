//! A backend in a process of its own, which a test can `kill -9`. The process is this same test program, told
//! by its environment to be a backend. Only test files that need it include this module.

use super::harness::{Backend, Program, ServerAddress, eventually};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Names the file into which the child writes its address; unset in the test program itself.
const ADDRESS_FILE: &str = "WEIRGATE_TEST_BACKEND";
/// A child that nobody stopped (its parent was killed) leaves by itself.
const LIFETIME: Duration = Duration::from_secs(120);

pub struct KillableBackend {
    label: String,
    address: SocketAddr,
    program: Mutex<Program>,
}

impl KillableBackend {
    #[track_caller]
    pub fn start(label: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("address");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([
            "--exact",
            "killable::the_process_behind_a_killable_backend",
            "--ignored",
            "--nocapture",
        ]);
        command.env(ADDRESS_FILE, &file).env("WEIRGATE_TEST_LABEL", label);
        let program = Program::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let mut address = None;
        eventually("the backend's process to listen", || {
            address = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
            address.is_some()
        });
        Self { label: label.to_owned(), address: address.expect("listening"), program: Mutex::new(program) }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.program.lock().unwrap().kill();
    }
}

impl ServerAddress for KillableBackend {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

#[test]
#[ignore = "not a test: what the child process of a killable backend runs"]
fn the_process_behind_a_killable_backend() {
    let Some(file) = std::env::var_os(ADDRESS_FILE) else { return };
    let backend = Backend::start(&std::env::var("WEIRGATE_TEST_LABEL").unwrap_or_default());
    // Moved into place, so that the parent never reads half an address.
    let written = Path::new(&file).with_extension("new");
    std::fs::write(&written, backend.address().to_string()).expect("write the address");
    std::fs::rename(&written, &file).expect("publish the address");
    let born = Instant::now();
    while born.elapsed() < LIFETIME {
        std::thread::sleep(Duration::from_millis(200));
    }
}
