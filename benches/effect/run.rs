//! The conductor: starts the servers and the contenders, loads them in turn, collects what clients saw. Called by
//! `main`; the table is made by `report`, the picture by `chart`.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::args::Options;
use crate::chart;
use crate::common::machine::{Cores, today};
use crate::common::origin;
use crate::common::process::{Running, Stop};
use crate::common::programs::{free_addresses, save};
use crate::common::{repository, results_dir};
use crate::contenders::Started;
use crate::load::{self, Load, Outcome};
use crate::origins::Server;
use crate::report::{Measured, Report, Table};

/// The number of the server that is slow. Not the first, which is the one that everybody begins with.
pub const SLOW: u8 = 1;

pub fn all(options: &Options) -> Result<()> {
    let stage = Stage::set_up(options)?;
    let mut started = Vec::new();
    for contender in options.contenders() {
        match contender.program.missing() {
            Some(why) => println!("{} skipped: {why}", contender.name()),
            None => started.push(stage.start(contender, options)?),
        }
    }
    if started.is_empty() {
        bail!("nobody to measure");
    }
    let mut report = Report::new(options, &started, &stage.cores);
    print!("{}", report.head());
    for load in options.loads() {
        let table = stage.measure(load, &mut started, options)?;
        print!("{table}{}", table.verdict());
        report.add(table);
    }
    if options.save {
        let path = save(results_dir().join(format!("effect-{}.md", today())), &report.text())?;
        println!("\nsaved as {}", path.display());
        if let Some(table) = report.tables().first() {
            let path = save(repository().join("docs/images/balancing.svg"), &chart::svg(table, options))?;
            println!("drawn in {}", path.display());
        }
    }
    Ok(())
}

/// What all contenders share.
struct Stage {
    dir: tempfile::TempDir,
    cores: (Cores, Cores),
    servers: Vec<SocketAddr>,
    _origins: Running,
}

impl Stage {
    fn set_up(options: &Options) -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("weirgate-effect-").tempdir()?;
        let cores = Cores::allowed()?.split();
        let servers: [SocketAddr; 3] = free_addresses()?;
        Ok(Stage {
            _origins: start_origins(&servers, options, &cores.1)?,
            servers: servers.to_vec(),
            cores,
            dir,
        })
    }

    fn start(&self, contender: crate::contenders::Contender, options: &Options) -> Result<Started> {
        let weirgate = options.weirgate.as_deref();
        Started::start(contender, self.dir.path(), &self.servers, weirgate, &self.cores.0)
            .with_context(|| contender.name())
    }

    /// All contenders run at once, idle but for the one under load, so that the rounds can go A B C D A B C D
    /// and whatever disturbs the machine disturbs all of them alike.
    fn measure(&self, load: Load, started: &mut [Started], options: &Options) -> Result<Table> {
        let mut measured: Vec<Measured> = started.iter().map(|one| Measured::new(one.contender)).collect();
        for round in 1..=options.rounds() {
            for (one, measured) in started.iter_mut().zip(&mut measured) {
                let outcome = self.round(load, one, options.seconds, round);
                measured.add(&outcome.with_context(|| format!("{} in round {round}", one.contender.name()))?);
            }
        }
        Ok(Table { load, measured })
    }

    fn round(&self, load: Load, one: &mut Started, seconds: u32, round: u32) -> Result<Outcome> {
        one.check()?;
        load::run(load, one.address, seconds, u64::from(round), &self.cores.1)
    }
}

fn start_origins(servers: &[SocketAddr], options: &Options, cores: &Cores) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("origins").stdin(Stdio::null()).stdout(Stdio::null());
    for (number, &address) in servers.iter().enumerate() {
        let delay = if number == usize::from(SLOW) { options.slow() } else { Duration::ZERO };
        command.arg(Server { address, delay }.to_string());
    }
    let mut running = Running::start(command, cores, Stop::Kill)?;
    for &address in servers {
        origin::wait_for(&mut running, address)?;
    }
    Ok(running)
}
