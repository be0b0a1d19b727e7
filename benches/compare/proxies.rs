//! The proxies under test: what each is called, how it is started, whom it is compared with. Called by `run`.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::args::Options;
use crate::machine::Cores;
use crate::process::{self, Running, Stop};
use crate::{probe, proxy_configs};

/// In the order in which they are measured and printed. "Production" is with an access log, a request id,
/// forwarded headers, a header filter and an address filter; the others do nothing but proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    MinimalPingora,
    Weirgate,
    Nginx,
    Haproxy,
    WeirgateProduction,
    NginxProduction,
    HaproxyProduction,
}

impl Kind {
    pub const ALL: &'static [Kind] = &[
        Kind::MinimalPingora,
        Kind::Weirgate,
        Kind::Nginx,
        Kind::Haproxy,
        Kind::WeirgateProduction,
        Kind::NginxProduction,
        Kind::HaproxyProduction,
    ];

    /// The name used on the command line and in the tables.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn is_production(self) -> bool {
        match self {
            Kind::MinimalPingora | Kind::Weirgate | Kind::Nginx | Kind::Haproxy => false,
            Kind::WeirgateProduction | Kind::NginxProduction | Kind::HaproxyProduction => true,
        }
    }

    /// The nginx and the HAProxy that do the same work.
    pub fn peers(self) -> (Kind, Kind) {
        if self.is_production() {
            (Kind::NginxProduction, Kind::HaproxyProduction)
        } else {
            (Kind::Nginx, Kind::Haproxy)
        }
    }

    /// How much CPU it should need per request against minimal Pingora, at the most.
    pub fn target(self) -> Option<f64> {
        match self {
            Kind::Weirgate => Some(1.05),
            Kind::WeirgateProduction => Some(1.15),
            Kind::MinimalPingora
            | Kind::Nginx
            | Kind::Haproxy
            | Kind::NginxProduction
            | Kind::HaproxyProduction => None,
        }
    }

    /// The program that must be installed, if any.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Kind::MinimalPingora | Kind::Weirgate | Kind::WeirgateProduction => None,
            Kind::Nginx | Kind::NginxProduction => Some("nginx"),
            Kind::Haproxy | Kind::HaproxyProduction => Some("haproxy"),
        }
    }

    /// Why it cannot be measured on this machine.
    pub fn missing(self) -> Option<anyhow::Error> {
        process::find(self.program()?).err()
    }

    /// What its files are made of and how it is started and stopped.
    fn command(self, site: &Site, weirgate: &Path) -> Result<(Command, Stop)> {
        let conf = site.dir.join("proxy.conf");
        let (text, program, args, stop) = match self {
            Kind::MinimalPingora => return Ok((minimal(site)?, Stop::Kill)),
            Kind::Weirgate | Kind::WeirgateProduction => {
                let text = proxy_configs::weirgate(site, self.is_production());
                (text, weirgate.to_owned(), vec!["run".into(), "-c".into(), conf.clone()], Stop::Kill)
            }
            Kind::Nginx | Kind::NginxProduction => {
                let text = proxy_configs::nginx(site, self.is_production());
                let args = vec!["-e".into(), "stderr".into(), "-p".into(), site.dir.clone(), "-c".into()];
                (text, process::find("nginx")?, [args, vec![conf.clone()]].concat(), Stop::Term)
            }
            Kind::Haproxy | Kind::HaproxyProduction => {
                let text = proxy_configs::haproxy(site, self.is_production());
                (text, process::find("haproxy")?, vec!["-db".into(), "-f".into(), conf.clone()], Stop::Term)
            }
        };
        fs::write(&conf, text)?;
        let mut command = Command::new(program);
        command.args(args);
        Ok((command, stop))
    }
}

fn minimal(site: &Site) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("minimal-pingora");
    for (name, address) in [("--plain", site.plain), ("--secure", site.secure), ("--origin", site.origin)] {
        command.args([name, &address.to_string()]);
    }
    command.arg("--cert").arg(&site.cert).arg("--key").arg(&site.key);
    Ok(command)
}

/// Where one proxy stands: its addresses, its files, the origin behind it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its own folder, for its configuration and logs.
    pub dir: PathBuf,
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    pub origin: SocketAddr,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants them.
    pub pair: PathBuf,
}

/// A proxy that answers.
pub struct Proxy {
    pub kind: Kind,
    pub site: Site,
    running: Running,
}

impl Proxy {
    /// Starts it, waits until it answers, and checks that it does the work it is measured for.
    pub fn start(kind: Kind, site: Site, options: &Options, cores: &Cores) -> Result<Proxy> {
        fs::create_dir_all(&site.dir)?;
        let built = option_env!("CARGO_BIN_EXE_weirgate").map(PathBuf::from);
        let weirgate =
            options.weirgate.clone().or(built).context("no weirgate binary; give --weirgate FILE")?;
        let (mut command, stop) = kind.command(&site, &weirgate)?;
        let errors = site.dir.join("stderr.log");
        command.stdin(Stdio::null()).env("RUST_LOG", "error");
        command.stdout(File::create(site.dir.join("stdout.log"))?).stderr(File::create(&errors)?);
        let running = Running::start(command, cores, stop)?;
        let mut proxy = Proxy { kind, site, running };
        proxy.wait_until_ready().map_err(|error| anyhow!("{error:#}: {}", process::tail(&errors)))?;
        probe::check(kind, &proxy.site)?;
        proxy.check_listeners()?;
        Ok(proxy)
    }

    /// Refuses ports on which anybody else listens too.
    pub fn check_listeners(&mut self) -> Result<()> {
        self.running.check_alive()?;
        let pids = self.running.pids()?;
        process::check_only_listener(self.site.plain.port(), &pids)?;
        process::check_only_listener(self.site.secure.port(), &pids)
    }

    pub fn pids(&self) -> Result<Vec<u32>> {
        self.running.pids()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            self.running.check_alive()?;
            match probe::answers(&self.site) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => bail!("no answer in 10 s: {error:#}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Loopback addresses that were free a moment ago. All are held until the last is found, so none comes twice.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut found = Vec::with_capacity(N);
    for _ in 0..N {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        found.push(listener.local_addr()?);
        held.push(listener);
    }
    found.try_into().map_err(|_| anyhow!("no free ports"))
}
