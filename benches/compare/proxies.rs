//! The proxies under test: how each is started, and where it stands. Called by `run` and `soak`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::common::machine::Cores;
use crate::common::process::{self, Running, Stop};
use crate::common::programs::{self, Program};
use crate::kinds::{Kind, Who};
use crate::{configs, others, probe};

/// Where one proxy stands: its addresses, its files, the origin behind it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its own folder, for its configuration and logs.
    pub dir: PathBuf,
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    /// HTTP/2 in plaintext.
    pub h2c: SocketAddr,
    /// Metrics, of those that record.
    pub admin: SocketAddr,
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
    /// Starts it, waits until it answers, and checks that it does the work it is measured for. `weirgate` is another
    /// binary than the one that was built with the benchmark.
    pub fn start(kind: Kind, site: Site, weirgate: Option<&Path>, cores: &Cores) -> Result<Proxy> {
        fs::create_dir_all(&site.dir)?;
        let command = command(kind, &site, weirgate)?;
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
        for address in [self.site.plain, self.site.secure, self.site.h2c] {
            process::check_only_listener(address.port(), &pids)?;
        }
        Ok(())
    }

    pub fn pids(&self) -> Result<Vec<u32>> {
        self.running.pids()
    }
}

/// What its files are made of and how it is started and stopped.
fn command(kind: Kind, site: &Site, weirgate: Option<&Path>) -> Result<(Command, Stop)> {
    let ours = |program: Program, conf: &str| program.command(conf, &site.dir, weirgate);
    match kind.who {
        Who::MinimalPingora => Ok((minimal(site)?, Stop::Kill)),
        Who::Weirgate => ours(Program::Weirgate, &configs::weirgate::conf(site, kind.dress)),
        Who::Nginx => ours(Program::Nginx, &configs::nginx::conf(site, kind.dress)),
        Who::Haproxy => ours(Program::Haproxy, &configs::haproxy::conf(site, kind.dress)?),
        Who::Envoy => others::run_envoy(&configs::envoy::conf(site), &site.dir),
        Who::Caddy => others::run_caddy(&configs::caddy::conf(site), &site.dir),
    }
}

fn minimal(site: &Site) -> Result<Command> {
    let Site { plain, secure, h2c, origin, .. } = site;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("minimal-pingora");
    for (name, address) in [("--plain", plain), ("--secure", secure), ("--h2c", h2c), ("--origin", origin)] {
        command.args([name, &address.to_string()]);
    }
    command.arg("--cert").arg(&site.cert).arg("--key").arg(&site.key);
    Ok(command)
}
