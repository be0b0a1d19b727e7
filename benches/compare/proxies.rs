//! The proxies under test: what each is called, how it is started, whom it is compared with. Called by `run`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::args::Options;
use crate::common::machine::Cores;
use crate::common::process::{self, Running, Stop};
use crate::common::programs::{self, Program};
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

    /// The program it is; `None` for the yardstick, which is a face of the benchmark.
    pub fn program(self) -> Option<Program> {
        match self {
            Kind::MinimalPingora => None,
            Kind::Weirgate | Kind::WeirgateProduction => Some(Program::Weirgate),
            Kind::Nginx | Kind::NginxProduction => Some(Program::Nginx),
            Kind::Haproxy | Kind::HaproxyProduction => Some(Program::Haproxy),
        }
    }

    /// Why it cannot be measured on this machine.
    pub fn missing(self) -> Option<anyhow::Error> {
        self.program()?.missing()
    }

    /// What its files are made of and how it is started and stopped.
    fn command(self, site: &Site, options: &Options) -> Result<(Command, Stop)> {
        let Some(program) = self.program() else { return Ok((minimal(site)?, Stop::Kill)) };
        let conf = match program {
            Program::Weirgate => proxy_configs::weirgate(site, self.is_production()),
            Program::Nginx => proxy_configs::nginx(site, self.is_production()),
            Program::Haproxy => proxy_configs::haproxy(site, self.is_production()),
        };
        program.command(&conf, &site.dir, options.weirgate.as_deref())
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
        let command = kind.command(&site, options)?;
        let running = programs::launch(command, &site.dir, cores, || probe::answers(&site))?;
        let mut proxy = Proxy { kind, site, running };
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
}
