//! The process that is trained. Called by `main`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::configs::{Places, Wearing};

/// Instrumented code is slow, and what it has seen is written as it ends.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Gate(Child);

impl Gate {
    /// Starts it and waits until it listens. What it has seen will be in a file of its own in `profiles`.
    pub async fn start(weirgate: &Path, profiles: &Path, places: &Places, wearing: Wearing) -> Result<Gate> {
        places.write(wearing, 0)?;
        let mut command = Command::new(weirgate);
        command.args(["run", "-c"]).arg(places.file()).env("RUST_LOG", "error");
        command.env("LLVM_PROFILE_FILE", profiles.join("%p.profraw"));
        command.stdin(Stdio::null());
        let mut gate = Gate(command.spawn().with_context(|| format!("start {}", weirgate.display()))?);
        let deadline = Instant::now() + PATIENCE;
        for address in [places.plain, places.secure, places.tcp] {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = gate.0.try_wait()? {
                    bail!("weirgate left with {status}");
                }
                if Instant::now() > deadline {
                    bail!("weirgate does not listen on {address}");
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(gate)
    }

    /// Changes the configuration a few times.
    pub async fn reload(&self, places: &Places) -> Result<()> {
        for turn in 1..=5 {
            places.write(Wearing::Production, turn)?;
            self.signal(Signal::SIGHUP)?;
            // not waited for: what is trained is how it is read and put in place, however long that takes
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Lets it end by itself, so that it writes what it has seen.
    pub async fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("weirgate ended with {status}"),
                None if Instant::now() > deadline => bail!("weirgate does not end"),
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // where it has ended there is nothing to do
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
