//! `compare chaos`: three servers, one of which is killed, frozen, cut off or goes wrong under load, behind weirgate,
//! nginx and HAProxy in turn, each with the settings that are recommended for that. What clients notice, and what
//! servers were made to do twice. Called by `main`; servers, clients and troubles are those of `tests/chaos.rs`.

mod contenders;
mod report;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cast::{Crowd, Load, Papers, Trouble, Victim};
use crate::common::machine::{Cores, today};
use crate::common::process::{self, Running};
use crate::common::programs::{self, free_addresses};
use crate::common::results_dir;
use contenders::{Contender, Origin};
use report::{Cell, Report};

const GETTING: usize = 12;
const POSTING: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub struct Options {
    /// Seconds of load per trouble and program: a fifth before the trouble, three fifths in it, a fifth after it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(5..=300))]
    seconds: u32,
    /// Only troubles whose name contains one of these: `kill`, `500`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these programs: `weirgate`, `nginx`, `haproxy`.
    #[arg(long, value_delimiter = ',')]
    programs: Vec<String>,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/chaos-DATE.md.
    #[arg(long)]
    save: bool,
}

impl Options {
    fn troubles(&self) -> impl Iterator<Item = Trouble> {
        let wanted = |trouble: &Trouble| {
            self.only.is_empty() || self.only.iter().any(|part| trouble.name().contains(part.as_str()))
        };
        Trouble::ALL.into_iter().filter(wanted)
    }

    /// Those that are asked for and installed.
    fn contenders(&self) -> Vec<Contender> {
        let wanted = |contender: &Contender| {
            self.programs.is_empty() || self.programs.iter().any(|name| name == contender.program().name())
        };
        let mut found = Vec::new();
        for contender in Contender::ALL.into_iter().filter(wanted) {
            match contender.program().missing() {
                Some(why) => println!("{} skipped: {why}", contender.name()),
                None => found.push(contender),
            }
        }
        found
    }
}

pub fn all(options: &Options) -> Result<()> {
    let contenders = options.contenders();
    if contenders.is_empty() {
        bail!("nobody to measure");
    }
    let cores = Cores::allowed()?.split();
    let mut report = Report::new(options.seconds, &contenders, &cores);
    // the servers and the clients, which are started from here, stay off the proxy's core
    cores.1.pin_thread();
    let dir = tempfile::Builder::new().prefix("weirgate-chaos-").tempdir()?;
    for trouble in options.troubles() {
        for &contender in &contenders {
            let folder = dir.path().join(format!("{trouble:?}-{contender:?}"));
            let cell = measure(trouble, contender, options, (&folder, &cores.0));
            let cell = cell.with_context(|| format!("{}, {}", trouble.name(), contender.name()))?;
            println!("{cell}");
            report.add(cell);
        }
    }
    print!("\n{report}");
    if options.save {
        let path = results_dir().join(format!("chaos-{}.md", today()));
        println!("\nsaved as {}", programs::save(path, &report.to_string())?.display());
    }
    Ok(())
}

/// One program in one trouble, with servers that have not been in any other.
fn measure(
    trouble: Trouble,
    contender: Contender,
    options: &Options,
    (folder, cores): (&Path, &Cores),
) -> Result<Cell> {
    let papers = trouble.is_of_tls().then(Papers::issue).transpose()?;
    let server = |label| server(label, papers.as_ref());
    let mut servers = [server("a")?, server("b")?, server("c")?];
    let origin = Origin { addresses: servers.each_ref().map(Victim::address), papers: papers.as_ref() };
    let (address, mut proxy) = start(contender, &origin, options, (folder, cores))?;
    process::check_only_listener(address.port(), &proxy.pids()?)?;
    let length = Duration::from_secs(u64::from(options.seconds));
    let crowd = Crowd::gather(Load {
        target: address,
        getting: GETTING,
        putting: 0,
        posting: POSTING,
        pause: PAUSE,
        patience: Duration::from_secs(20),
        longest: length + Duration::from_secs(60),
    });
    let [_, victim, _] = &mut servers;
    std::thread::sleep(length / 5);
    trouble.make(victim, length * 3 / 5)?;
    trouble.end(victim)?;
    std::thread::sleep(length / 5);
    let asked = crowd.disperse();
    proxy.check_alive()?;
    let done = servers.iter().flat_map(Victim::done).collect();
    Ok(Cell::new(trouble, contender, asked, done))
}

fn server(label: &str, papers: Option<&Papers>) -> Result<Victim> {
    let start = |folder: &Path| {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("chaos-server").arg(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
    };
    Ok(Victim::start(label, Ipv4Addr::LOCALHOST.into(), papers, start)?)
}

fn start(
    contender: Contender,
    origin: &Origin<'_>,
    options: &Options,
    (folder, cores): (&Path, &Cores),
) -> Result<(SocketAddr, Running)> {
    let [address] = free_addresses()?;
    let conf = contender.conf(folder, address, origin)?;
    let command = contender.program().command(&conf, folder, options.weirgate.as_deref())?;
    let answers =
        || TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop).map_err(Into::into);
    Ok((address, programs::launch(command, folder, cores, answers)?))
}
