//! The conductor: starts each program with each size, loads it, reloads it under the load. Called by `main`; the tables
//! are made by `report`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::args::Options;
use crate::common::client::{connect, get};
use crate::common::machine::{Cores, today};
use crate::common::many::{self, Places, Size, VERSION};
use crate::common::process::{self, Running, Stop};
use crate::common::programs::{self, Program, free_addresses, save};
use crate::common::{origin, results_dir};
use crate::load::{Load, p99};
use crate::report::{Measured, Reload, Report};

/// Requests that were due so long before the signal are *before*, those so long after it, or twice as long as the reload
/// took, are *during*.
const WINDOW: Duration = Duration::from_secs(1);
/// The load has found its pace, and what was replaced is gone.
const SETTLED: Duration = Duration::from_secs(1);
/// A reload that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(120);
/// Between two questions for the version.
const PACE: Duration = Duration::from_millis(1);

pub fn all(options: &Options) -> Result<()> {
    let cores = Cores::allowed()?.split();
    let dir = tempfile::Builder::new().prefix("weirgate-reload-").tempdir()?;
    let [origin] = free_addresses()?;
    let _origin = start_origin(origin, &cores.1)?;
    let mut report = Report::new(options, &cores);
    print!("{}", report.head());
    for size in options.sizes() {
        let mut rows = Vec::new();
        for program in options.programs() {
            if let Some(why) = program.missing() {
                println!("{} skipped: {why}", program.name());
                continue;
            }
            let folder = dir.path().join(format!("{}-{}", program.name(), size.routes));
            let mut subject = Subject::start(program, size, folder, origin, options, &cores.0)
                .with_context(|| format!("{} with {} routes", program.name(), size.routes))?;
            rows.push(subject.measure(options, &cores.1).with_context(|| program.name())?);
        }
        print!("{}", report.add(size, rows));
    }
    print!("{}", report.verdict());
    if options.save {
        let path = save(results_dir().join(format!("reload-{}.md", today())), &report.text())?;
        println!("\nsaved as {}", path.display());
    }
    Ok(())
}

fn start_origin(address: SocketAddr, cores: &Cores) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("origin").arg(address.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = Running::start(command, cores, Stop::Kill)?;
    origin::wait_for(&mut running, address)?;
    Ok(running)
}

/// A program with a configuration of this size.
struct Subject {
    program: Program,
    size: Size,
    dir: PathBuf,
    address: SocketAddr,
    origin: SocketAddr,
    version: u32,
    running: Running,
}

impl Subject {
    fn start(
        program: Program,
        size: Size,
        dir: PathBuf,
        origin: SocketAddr,
        options: &Options,
        cores: &Cores,
    ) -> Result<Subject> {
        std::fs::create_dir_all(&dir)?;
        let [address] = free_addresses()?;
        let conf = many::write(program, size, 0, Places { dir: &dir, address, origin })?;
        let (mut command, stop) = program.command(&conf, &dir, options.weirgate.as_deref())?;
        if program == Program::Haproxy {
            // a master, which reloads
            command.arg("-W");
        }
        let running = programs::launch((command, stop), &dir, cores, || version(address).map(drop))?;
        Ok(Subject { program, size, dir, address, origin, version: 0, running })
    }

    fn memory(&self) -> Result<u64> {
        // a process of before may end while we look
        let memory = |_| process::resident(&self.running.pids()?);
        (0..5).map(memory).find(Result::is_ok).unwrap_or_else(|| bail!("its processes come and go"))
    }

    fn measure(&mut self, options: &Options, cores: &Cores) -> Result<Measured> {
        std::thread::sleep(SETTLED);
        let at_first = self.memory()?;
        let mut reloads = Vec::new();
        for _ in 0..options.runs {
            reloads.push(self.reload(options, cores)?);
        }
        std::thread::sleep(SETTLED);
        Ok(Measured { program: self.program, reloads, memory: (at_first, self.memory()?) })
    }

    fn reload(&mut self, options: &Options, cores: &Cores) -> Result<Reload> {
        self.version += 1;
        let places = Places { dir: &self.dir, address: self.address, origin: self.origin };
        let conf = many::write(self.program, self.size, self.version, places)?;
        std::fs::write(self.dir.join("proxy.conf"), conf)?;
        let load = Load::start(self.address, &self.size.path(), options.rate, cores)?;
        std::thread::sleep(SETTLED + WINDOW);
        let signalled = Instant::now();
        self.running.signal(match self.program {
            Program::Weirgate | Program::Nginx => libc::SIGHUP,
            Program::Haproxy => libc::SIGUSR2,
        });
        let took = self.until_new(signalled)?;
        let window = WINDOW.max(took * 2);
        std::thread::sleep((signalled + window).saturating_duration_since(Instant::now()));
        let asked = load.end();
        let (before, failed_before) = p99(&asked, signalled - WINDOW, WINDOW)?;
        let (during, failed_during) = p99(&asked, signalled, window)?;
        Ok(Reload { took, before, during, failed: failed_before + failed_during })
    }

    fn until_new(&mut self, signalled: Instant) -> Result<Duration> {
        let wanted = self.version.to_string();
        loop {
            // whoever is asked may be on the way out
            if version(self.address).is_ok_and(|version| version == wanted) {
                return Ok(signalled.elapsed());
            }
            if signalled.elapsed() > LONGEST {
                bail!("it does not use the new configuration");
            }
            self.running.check_alive()?;
            std::thread::sleep(PACE);
        }
    }
}

/// The number of the configuration that is used for a new connection.
fn version(address: SocketAddr) -> Result<String> {
    let answer = get(&mut connect(address)?, VERSION)?;
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no body")? + 4;
    Ok(String::from_utf8_lossy(answer.get(body..).unwrap_or_default()).into_owned())
}
