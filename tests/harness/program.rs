//! Programs that a test needs and a user may not have.

use super::eventually;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held while a process is started. Between fork and exec a child has copies of this program's sockets: an address
/// would seem taken, or a stopped server alive, for as long as the machine lets the child wait.
static STARTING: Mutex<()> = Mutex::new(());

/// Waits until no process is being started, and lets none start while the guard lives.
pub(super) fn no_process_starting() -> MutexGuard<'static, ()> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process; returns once it is running its own program.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _starting = no_process_starting();
    command.spawn()
}

/// Set in CI, where everything is installed: a missing program fails the test instead of skipping it.
const NO_SKIP: &str = "WEIRGATE_TEST_NO_SKIP";

/// Whether `program` can be started. When it cannot, the test says so by name and returns.
///
/// ```ignore
/// if !need_program("node") { return; }
/// ```
#[track_caller]
pub fn need_program(program: &str) -> bool {
    let found = spawn(Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()));
    if found.and_then(|mut child| child.wait()).is_ok() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os(NO_SKIP).is_none(), "{test} needs {program}, and {NO_SKIP} is set");
    println!("SKIPPED: {test} needs {program}");
    eprintln!("SKIPPED: {test} needs {program}");
    false
}

/// A child process of the test, stopped (and only it) when the test is over.
pub struct Program(Child);

impl Program {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self(spawn(command).unwrap_or_else(|error| panic!("start {command:?}: {error}")))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// nginx with this in its `http`, and all its files in `dir`, from when it listens.
#[track_caller]
pub fn nginx(dir: &Path, http: &str, listens: impl Fn() -> bool) -> Program {
    let (at, file) = (dir.display(), dir.join("nginx.conf"));
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error;
events {{ }}
http {{
  client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d;
  scgi_temp_path {at}/e;
{http}
}}
"
    );
    std::fs::write(&file, config).expect("write nginx.conf");
    let nginx = Program::start(Command::new("nginx").arg("-p").arg(dir).arg("-c").arg(&file));
    eventually("nginx listens", listens);
    nginx
}
