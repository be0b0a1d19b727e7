//! A new process takes the place of this one: the program is started anew, with the arguments it was started
//! with, is given every listening socket and what is known of the servers, and says when it serves. Then this
//! process accepts no more, and ends when its connections have. If the new one cannot start, nothing has
//! happened. Asked for through `control`.

use super::doorplate;
use super::handover::{Goods, Line, PATIENCE, VARIABLE};
use super::notify;
use crate::admin::Admin;
use crate::config::file;
use crate::edge::Edge;
use crate::observe::events;
use crate::upstream::{Group, Registry, state};
use parking_lot::{Mutex, MutexGuard};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where the program is, so that what is there now is started.
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub directory: PathBuf,
}

impl Program {
    /// To be called at the start, when it is still there.
    pub fn this() -> io::Result<Program> {
        let directory = std::env::current_dir()?;
        let mut arguments = std::env::args_os();
        // as it was called: a link may lead to another version by then
        let called = arguments.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let called = called.map(|path| directory.join(path)).filter(|path| path.exists());
        let path = called.map_or_else(std::env::current_exe, Ok)?;
        Ok(Program { path, arguments: arguments.collect(), directory })
    }
}

/// Whether servers may be changed by hand: not from the moment on when another process is told what they are, as that one
/// would not know of it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct ByHand(Arc<Mutex<Told>>);

/// Another process was told.
#[derive(Debug, Default)]
struct Told(bool);

/// Keeps an upgrade waiting while something is changed.
pub struct Changing<'a>(
    #[expect(dead_code, reason = "held for as long as the change takes")] MutexGuard<'a, Told>,
);

impl ByHand {
    /// `None`: not now.
    pub fn may_change(&self) -> Option<Changing<'_>> {
        let told = self.0.lock();
        (!told.0).then_some(Changing(told))
    }

    fn tell(&self, told: bool) {
        self.0.lock().0 = told;
    }
}

/// Does it.
pub struct Upgrade {
    program: Program,
    edge: Edge,
    admin: Admin,
    registry: Registry,
    by_hand: ByHand,
    /// Told the process id of the one that has taken over.
    successor: watch::Sender<Option<u32>>,
    /// The file that says which process this is.
    pid_file: Option<PathBuf>,
}

impl Upgrade {
    pub fn new(
        program: Program,
        (edge, admin): (Edge, Admin),
        (registry, by_hand): (Registry, ByHand),
        successor: watch::Sender<Option<u32>>,
        server: &file::Server,
    ) -> Upgrade {
        Upgrade { program, edge, admin, registry, by_hand, successor, pid_file: server.pid_file.clone() }
    }

    /// Returns when the new process serves; its process id. `groups` are those in use.
    ///
    /// # Errors
    /// In words for the operator. This process goes on as before.
    pub async fn run(&self, groups: &[Arc<Group>]) -> Result<u32, String> {
        if self.successor.borrow().is_some() {
            return Err("another process has taken over already".into());
        }
        self.by_hand.tell(true);
        let began = self.begin(groups).await;
        match &began {
            Ok(pid) => {
                events::upgraded(*pid);
                self.edge.hand_over();
                self.admin.hand_over();
                notify::main_process(*pid);
                self.successor.send_replace(Some(*pid));
            }
            Err(why) => {
                self.by_hand.tell(false);
                if let Some(path) = &self.pid_file {
                    // a new one that is a daemon may have put its own there
                    doorplate::write_pid(path).ok();
                }
                events::upgrade_failed(why);
            }
        }
        began
    }

    /// The process whose place this one was to take has not waited, and goes on: this one accepts no more, and ends
    /// when its connections have.
    pub fn stand_back(&self) {
        self.edge.hand_over();
        self.admin.hand_over();
        self.successor.send_replace(Some(std::os::unix::process::parent_id()));
    }

    async fn begin(&self, groups: &[Arc<Group>]) -> Result<u32, String> {
        let cannot = |why: io::Error| format!("the sockets cannot be handed over: {why}");
        let mut sockets = self.edge.sockets().map_err(cannot)?;
        sockets.extend(self.admin.sockets().map_err(cannot)?);
        let goods = Goods {
            sockets,
            servers: state::states(&self.registry, groups),
            counts: self.registry.metrics().counts(),
            tickets: self.edge.ticket_secrets(),
            closed: Vec::new(),
        };
        let program = self.program.clone();
        let started = tokio::task::spawn_blocking(move || start(&program, &goods));
        started.await.map_err(|why| format!("the upgrade broke off: {why}"))?
    }
}

fn start(program: &Program, goods: &Goods) -> Result<u32, String> {
    let name = program.path.display();
    let (line, theirs) = Line::pair(PATIENCE).map_err(|why| format!("no way to hand over: {why}"))?;
    let child = Command::new(&program.path)
        .args(&program.arguments)
        .current_dir(&program.directory)
        .env(VARIABLE, std::process::id().to_string())
        .stdin(Stdio::from(theirs))
        .spawn();
    let child = child.map_err(|why| format!("`{name}` cannot be started: {why}"))?;
    let became = line.give(goods).and_then(|()| line.wait());
    match became {
        Ok(Ok(pid)) => {
            // a daemon's parent ends
            std::thread::spawn(move || bury(child, false));
            Ok(pid)
        }
        Ok(Err(why)) => {
            bury(child, true);
            Err(why)
        }
        Err(why) => {
            let end = bury(child, true);
            Err(match why.kind() {
                io::ErrorKind::WouldBlock => {
                    format!("`{name}` did not serve within {} s, and was ended", PATIENCE.as_secs())
                }
                _ => format!("`{name}` ended before it served ({end}); its messages are in the process log"),
            })
        }
    }
}

/// Waits for the end of the child, which is asked for if that is wanted; how it ended, in words.
fn bury(mut child: Child, at_once: bool) -> String {
    if at_once {
        // it may be ending by itself, and have something to say about it
        for _ in 0..50 {
            if let Ok(Some(status)) = child.try_wait() {
                return status.to_string();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().ok();
    }
    child.wait().map_or_else(|why| why.to_string(), |status| status.to_string())
}
