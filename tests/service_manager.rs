//! What a service manager such as systemd is told, and the sockets that it opens for us.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Client, Gate, PATIENCE, own_loopback, weirgate};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const CONFIG: &str = "server: { threads: 2, upgrade_sock: $dir/control.sock }
listeners: [{ name: web, address: $web }]
routes: [{ path: /, respond: { status: 200, body: one } }]
";

/// What it was told, a message at a time.
struct Manager(UnixDatagram, tempfile::TempDir);

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket, dir)
    }

    fn path(&self) -> String {
        self.1.path().join("notify").display().to_string()
    }

    /// The next message with this line in it.
    #[track_caller]
    fn hears(&self, line: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).unwrap_or_else(|why| panic!("never told {line}: {why}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|said| said == line) {
                return message;
            }
        }
    }
}

#[test]
fn it_is_told_of_the_start_a_reload_and_the_end() {
    let manager = Manager::new();
    let mut gate = Gate::with(&[]).env("NOTIFY_SOCKET", &manager.path()).start(CONFIG);
    manager.hears("READY=1");
    assert_eq!(gate.reload(&CONFIG.replace("one", "two")).code, Some(0));
    let reloading = manager.hears("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1");
    // also when it is refused, or the manager would wait for ever
    gate.rewrite("listeners: [");
    gate.hang_up();
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    assert!(ready.contains("the last reload was refused"), "{ready}");
    gate.terminate();
    manager.hears("STOPPING=1");
}

#[test]
fn it_is_told_which_process_is_the_main_one() {
    let manager = Manager::new();
    let gate = Gate::with(&[]).env("NOTIFY_SOCKET", &manager.path()).start(CONFIG);
    manager.hears("READY=1");
    let id = gate.upgrade();
    manager.hears(&format!("MAINPID={id}"));
    assert!(gate.exit().success());
}

#[test]
fn it_is_told_that_the_process_lives() {
    let manager = Manager::new();
    let gate =
        Gate::with(&[]).env("NOTIFY_SOCKET", &manager.path()).env("WATCHDOG_USEC", "300000").start(CONFIG);
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    assert_eq!(gate.get("/").text(), "one");
}

#[test]
fn sockets_that_it_has_opened_are_used() {
    let listener = TcpListener::bind((own_loopback(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("weirgate.yaml");
    let config =
        CONFIG.replace("$web", &address.to_string()).replace("$dir", &dir.path().display().to_string());
    std::fs::write(&file, config).unwrap();
    // somebody came before the process was there
    let mut early = Client::connect(address);
    let mut command = activated(&file, [listener.as_raw_fd()]);
    let mut child = command.spawn().unwrap();
    drop(listener);
    assert_eq!(early.get("/").text(), "one");
    assert_eq!(Client::connect(address).get("/").text(), "one");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The gate, started with these sockets as systemd does it.
fn activated<const COUNT: usize>(file: &Path, sockets: [RawFd; COUNT]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$0\" run -c \"$1\""])
        .arg(weirgate(&[]).get_program())
        .arg(file)
        .env("LISTEN_FDS", COUNT.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: dup may be called between fork and exec, and the descriptors are open.
    unsafe {
        command.pre_exec(move || {
            let cannot = || Err(std::io::Error::last_os_error());
            // out of the way first: they may have each other's numbers
            let mut aside = [0; COUNT];
            for (aside, socket) in aside.iter_mut().zip(sockets) {
                *aside = libc::fcntl(socket, libc::F_DUPFD, 100);
            }
            for (number, aside) in (3..).zip(aside) {
                if libc::dup2(aside, number) < 0 {
                    return cannot();
                }
                libc::close(aside);
            }
            Ok(())
        });
    }
    command
}

/// A unix socket that systemd has opened, and a datagram socket that is of no use.
#[test]
fn unix_sockets_that_it_has_opened_are_used_and_left_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let (file, errors) = (dir.path().join("weirgate.yaml"), dir.path().join("stderr"));
    let config = CONFIG.replace("$web", &format!("\"unix:{}\"", path.display()));
    std::fs::write(&file, config.replace("$dir", &dir.path().display().to_string())).unwrap();
    let mut early = Client::connect_unix(&path);
    let mut command = activated(&file, [listener.as_raw_fd(), datagrams.as_raw_fd()]);
    let mut child = command.stderr(std::fs::File::create(&errors).unwrap()).spawn().unwrap();
    drop(listener);
    assert_eq!(early.get("/").text(), "one");
    let said = std::fs::read_to_string(&errors).unwrap();
    assert!(said.contains("descriptor 4") && said.contains("it is no stream"), "{said}");
    let id = i32::try_from(child.id()).unwrap();
    // SAFETY: the child has not been waited for, so its id is still its own.
    unsafe { libc::kill(id, libc::SIGTERM) };
    drop(early);
    child.wait().unwrap();
    assert!(path.exists(), "it is systemd's");
}
