//! The gate under test: the real binary, on addresses of its own, stopped with the test.

use super::http_client::{Client, Request, Response};
use super::net::{ServerAddress, free_address, is_listening, own_loopback};
use super::program::spawn;
use super::{PATIENCE, eventually};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a gate may take to leave after SIGTERM when a test is over, before it is killed.
const LEAVE: Duration = Duration::from_secs(1);

/// A running gate.
pub struct Gate {
    dir: TempDir,
    config: String,
    listeners: BTreeMap<String, SocketAddr>,
    ip: Ipv4Addr,
    names: BTreeMap<String, String>,
    child: Mutex<Child>,
    /// The processes that have taken its place, the last one last.
    successors: Mutex<Vec<u32>>,
}

/// A gate being put together: files beside the configuration, its environment, the backends it may name.
pub struct GateBuilder {
    dir: TempDir,
    ip: Ipv4Addr,
    names: BTreeMap<String, String>,
    env: Vec<(String, String)>,
    program: Option<PathBuf>,
}

/// What `weirgate check` (or another command that ends by itself) said.
#[derive(Debug)]
pub struct Checked {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command of the binary under test.
pub fn weirgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weirgate"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs `weirgate check` on this configuration.
#[track_caller]
pub fn check(config: &str) -> Checked {
    GateBuilder::new().check(config, &[])
}

impl Checked {
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = spawn(command).and_then(Child::wait_with_output).expect("run weirgate");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let checked =
            Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!checked.stderr.contains("panicked"), "weirgate panicked: {}", checked.stderr);
        checked
    }

    /// Both outputs together, for tests that do not care which one it was.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Gate {
    /// Starts a gate that may name these servers and waits until every listener accepts.
    #[track_caller]
    pub fn start(config: &str, servers: &[&dyn ServerAddress]) -> Self {
        Self::with(servers).start(config)
    }

    /// A gate that needs more than a configuration.
    pub fn with(servers: &[&dyn ServerAddress]) -> GateBuilder {
        let mut builder = GateBuilder::new();
        for server in servers {
            builder = builder.set(server.label(), &server.address().to_string());
        }
        builder
    }

    /// The address of the listener written as `$name`.
    #[track_caller]
    pub fn at(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).unwrap_or_else(|| panic!("no listener at ${name} in\n{}", self.config))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new connection to the listener `$web`.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.at("web"))
    }

    /// So many connections to `$web` that have been served and are open.
    #[track_caller]
    pub fn hold(&self, count: usize) -> Vec<Client> {
        let mut held: Vec<_> = (0..count).map(|_| self.connect()).collect();
        for (at, client) in held.iter_mut().enumerate() {
            assert!(client.is_served("/"), "connection {at} of {count} is not served");
        }
        held
    }

    /// Asks on a connection of its own to `$web`.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.connect().ask(request)
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }

    /// Sends exactly these bytes on a connection of its own to `$web` and reads one response.
    #[track_caller]
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).response()
    }

    pub fn stdout(&self) -> String {
        read(&self.dir.path().join("stdout"))
    }

    pub fn stderr(&self) -> String {
        read(&self.dir.path().join("stderr"))
    }

    /// Writes another configuration, in which `$name` means what it meant before.
    #[track_caller]
    pub fn rewrite(&mut self, config: &str) {
        let written = substitute(config, |name| match self.names.get(name) {
            Some(value) => value.clone(),
            None => {
                self.listeners.entry(name.to_owned()).or_insert_with(|| free_address(self.ip)).to_string()
            }
        });
        // as an editor does it, so that nobody reads half of it
        let (file, new) = (self.dir.path().join("weirgate.yaml"), self.dir.path().join("weirgate.new"));
        std::fs::write(&new, &written).and_then(|()| std::fs::rename(&new, &file)).expect("write it");
        self.config = written;
    }

    /// Runs a command of the binary, with `-c` and the configuration.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Checked {
        let file = self.dir.path().join("weirgate.yaml");
        Checked::of(weirgate(arguments).arg("-c").arg(file))
    }

    /// Writes another configuration and has it read.
    #[track_caller]
    pub fn reload(&mut self, config: &str) -> Checked {
        self.rewrite(config);
        self.command(&["reload"])
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        send(&self.child.lock().unwrap(), libc::SIGHUP);
    }

    /// Puts a new process in the place of the gate, which is stopped with the test. Its process id.
    #[track_caller]
    pub fn upgrade(&self) -> u32 {
        let upgraded = self.command(&["upgrade", "--format", "json"]);
        assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
        let answer: serde_json::Value = serde_json::from_str(&upgraded.stdout).expect("JSON");
        let id = answer["pid"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a process id");
        self.successors.lock().unwrap().push(id);
        id
    }

    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        send(&self.child.lock().unwrap(), libc::SIGTERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        send(&self.child.lock().unwrap(), libc::SIGINT);
    }

    /// Waits until the process has left and returns how.
    #[track_caller]
    pub fn exit(&self) -> ExitStatus {
        let mut status = None;
        eventually("the gate to exit", || {
            status = self.child.lock().unwrap().try_wait().expect("wait for the gate");
            status.is_some()
        });
        status.expect("exited")
    }
}

impl GateBuilder {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("weirgate-test-").tempdir().expect("a directory");
        let names = BTreeMap::from([("dir".to_owned(), dir.path().display().to_string())]);
        Self { dir, ip: own_loopback(), names, env: Vec::new(), program: None }
    }

    /// `$name` stands for `value`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.names.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts this program, which takes the configuration as its only argument, instead of `weirgate run`.
    pub fn program(self, program: PathBuf) -> Self {
        Self { program: Some(program), ..self }
    }

    /// A file in the gate's directory, `$dir/NAME`.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.dir.path().join(name), content).expect("write a file for the gate");
        self
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the gate and waits until every listener accepts.
    #[track_caller]
    pub fn start(self, config: &str) -> Gate {
        let gate = self.launch(config);
        let deadline = Instant::now() + PATIENCE;
        for (name, address) in &gate.listeners {
            while !is_listening(*address) {
                let left = gate.child.lock().unwrap().try_wait().expect("look at the gate");
                assert!(left.is_none(), "the gate left with {left:?} instead of listening at {name}");
                assert!(Instant::now() < deadline, "the gate does not listen at {name} {address}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        gate
    }

    /// Starts the gate and waits for nothing: for gates that are to fail.
    #[track_caller]
    pub fn launch(self, config: &str) -> Gate {
        let (config, listeners) = self.write(config);
        let output = |name: &str| File::create(self.dir.path().join(name)).expect("a file for output");
        let mut command = self.program.map_or_else(|| weirgate(&["run", "-c"]), Command::new);
        command
            .arg(self.dir.path().join("weirgate.yaml"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(output("stdout"))
            .stderr(output("stderr"));
        let child = spawn(&mut command).expect("start weirgate");
        Gate {
            dir: self.dir,
            config,
            listeners,
            ip: self.ip,
            names: self.names,
            child: Mutex::new(child),
            successors: Mutex::default(),
        }
    }

    /// Runs `weirgate check` with these further arguments on the configuration.
    #[track_caller]
    pub fn check(&self, config: &str, arguments: &[&str]) -> Checked {
        self.write(config);
        let file = self.dir.path().join("weirgate.yaml");
        let mut command = weirgate(&["check", "-c"]);
        command.arg(file).args(arguments).envs(self.env.iter().map(|(name, value)| (name, value)));
        Checked::of(&mut command)
    }

    /// Writes `weirgate.yaml` with every `$name` replaced, giving names not known yet a free address each.
    fn write(&self, config: &str) -> (String, BTreeMap<String, SocketAddr>) {
        let mut listeners = BTreeMap::new();
        let written = substitute(config, |name| match self.names.get(name) {
            Some(value) => value.clone(),
            None => listeners.entry(name.to_owned()).or_insert_with(|| free_address(self.ip)).to_string(),
        });
        std::fs::write(self.dir.path().join("weirgate.yaml"), &written).expect("write the configuration");
        (written, listeners)
    }
}

/// Replaces `$name`; `${...}` and `$$` belong to the gate and stay.
fn substitute(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut parts = text.split('$');
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        if end == 0 || !part.starts_with(|c: char| c.is_ascii_alphabetic()) {
            done.push('$');
            done.push_str(part);
        } else {
            done.push_str(&value(&part[..end]));
            done.push_str(&part[end..]);
        }
    }
    done
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn send(child: &Child, signal: libc::c_int) {
    let id = i32::try_from(child.id()).expect("a process id");
    // SAFETY: the child has not been waited for, so its id is still its own.
    unsafe { libc::kill(id, signal) };
}

/// Ends a process that a gate with this directory has started in its place. It is nobody's child here.
fn stop_successor(id: u32, dir: &Path) {
    let is_ours = || {
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&*dir.to_string_lossy())
    };
    let signal = |signal| {
        if let (true, Ok(pid)) = (is_ours(), i32::try_from(id)) {
            // SAFETY: a signal harms no memory.
            unsafe { libc::kill(pid, signal) };
        }
    };
    signal(libc::SIGTERM);
    let deadline = Instant::now() + LEAVE;
    while is_ours() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    signal(libc::SIGKILL);
}

impl Drop for Gate {
    fn drop(&mut self) {
        for id in self.successors.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            stop_successor(id, self.dir.path());
        }
        stop(self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner));
        let (stderr, failing) = (self.stderr(), std::thread::panicking());
        let panicked = stderr.contains("panicked");
        if failing || panicked {
            eprintln!(
                "--- configuration\n{}\n--- stderr\n{stderr}\n--- stdout\n{}",
                self.config,
                self.stdout()
            );
        }
        // A second panic while one is under way would end the whole test program.
        assert!(failing || !panicked, "the gate panicked");
    }
}

/// SIGTERM, then SIGKILL when that was not enough.
fn stop(child: &mut Child) {
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    send(child, libc::SIGTERM);
    let deadline = Instant::now() + LEAVE;
    while Instant::now() < deadline {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}
