//! A server seen from outside: told what to do, frozen, killed, started again on its address, and asked what it has done.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::orders::{Order, files};
use super::papers::Papers;

/// A server may take this long to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a process that calls [`super::run`] with this folder.
type Start = dyn Fn(&Path) -> io::Result<Child>;

pub struct Victim {
    label: String,
    folder: TempDir,
    address: SocketAddr,
    start: Box<Start>,
    process: Child,
}

impl Victim {
    /// Starts a server on a free port and waits until it listens. With papers it speaks TLS.
    ///
    /// # Errors
    /// Its process cannot be started or does not listen in time.
    pub fn start(
        label: &str,
        ip: IpAddr,
        papers: Option<&Papers>,
        start: impl Fn(&Path) -> io::Result<Child> + 'static,
    ) -> io::Result<Victim> {
        let folder = tempfile::Builder::new().prefix("weirgate-chaos-").tempdir()?;
        if let Some(papers) = papers {
            fs::write(folder.path().join(files::CERTIFICATE), &papers.certificate)?;
            fs::write(folder.path().join(files::KEY), &papers.key)?;
        }
        let (process, address) = launch(label, (ip, 0).into(), folder.path(), &start)?;
        Ok(Victim { label: label.to_owned(), folder, address, start: Box::new(start), process })
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it behaves from now on.
    ///
    /// # Errors
    /// Its folder cannot be written, or it does not follow, as it is not running.
    pub fn order(&self, order: Order) -> io::Result<()> {
        let written = self.folder.path().join("order.new");
        fs::write(&written, order.word())?;
        fs::rename(&written, self.folder.path().join(files::ORDER))?;
        let deadline = Instant::now() + PATIENCE;
        while fs::read_to_string(self.folder.path().join(files::FOLLOWED)).unwrap_or_default() != order.word()
        {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("server {} does not follow {order:?}", self.label)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// SIGSTOP: its sockets stay, and the kernel goes on taking connections and bytes for it.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Starts it again on the same address, after `kill`.
    ///
    /// # Errors
    /// As `start`.
    pub fn restart(&mut self) -> io::Result<()> {
        (self.process, _) = launch(&self.label, self.address, self.folder.path(), &self.start)?;
        Ok(())
    }

    /// Method and id of each request that it has received whole, in all its lives.
    pub fn done(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.folder.path().join(files::DONE)).unwrap_or_default();
        let entries = text.lines().filter_map(|line| line.split_once(' '));
        entries.map(|(method, id)| (method.to_owned(), id.to_owned())).collect()
    }

    fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // SAFETY: takes plain integers; the child has not been waited for, so its id is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // gone already is fine
        drop(self.kill());
    }
}

fn launch(label: &str, at: SocketAddr, folder: &Path, start: &Start) -> io::Result<(Child, SocketAddr)> {
    let listening = folder.join(files::LISTENING);
    fs::write(folder.join(files::IDENTITY), format!("{label} {at}"))?;
    if listening.exists() {
        fs::remove_file(&listening)?;
    }
    let mut process = start(folder)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(address) = fs::read_to_string(&listening).ok().and_then(|text| text.parse().ok()) {
            return Ok((process, address));
        }
        if let Some(status) = process.try_wait()? {
            return Err(io::Error::other(format!("server {label} at {at} ended with {status}")));
        }
        if Instant::now() > deadline {
            drop(process.kill().and_then(|()| process.wait()));
            return Err(io::Error::other(format!("server {label} does not listen at {at}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
