//! Who is measured: a program and the way in which it is told to choose servers, in its own word. Called by `run`.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::common::client::{self, PATIENCE};
use crate::common::machine::Cores;
use crate::common::process::{self, Running};
use crate::common::programs::{self, Program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    pub program: Program,
    /// As it stands in the program's configuration.
    pub algorithm: &'static str,
}

const fn contender(program: Program, algorithm: &'static str) -> Contender {
    Contender { program, algorithm }
}

/// nginx has no word for what it does when nothing is said.
const NGINX_DEFAULT: &str = "round robin";

pub const LEAST_TIME: Contender = contender(Program::Weirgate, "least_time");

/// In the order in which they are measured and printed.
pub const ALL: [Contender; 12] = [
    contender(Program::Weirgate, "round_robin"),
    contender(Program::Weirgate, "random"),
    contender(Program::Weirgate, "power_of_two"),
    contender(Program::Weirgate, "least_connections"),
    LEAST_TIME,
    contender(Program::Nginx, NGINX_DEFAULT),
    contender(Program::Nginx, "random"),
    contender(Program::Nginx, "random two least_conn"),
    contender(Program::Nginx, "least_conn"),
    contender(Program::Haproxy, "roundrobin"),
    contender(Program::Haproxy, "random(2)"),
    contender(Program::Haproxy, "leastconn"),
];

impl Contender {
    pub fn name(&self) -> String {
        format!("{} {}", self.program.name(), self.algorithm)
    }

    fn conf(&self, dir: &Path, address: SocketAddr, servers: &[SocketAddr]) -> String {
        match self.program {
            Program::Weirgate => weirgate(self.algorithm, address, servers),
            Program::Nginx => nginx(self.algorithm, dir, address, servers),
            Program::Haproxy => haproxy(self.algorithm, address, servers),
        }
    }
}

fn weirgate(algorithm: &str, address: SocketAddr, servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let servers = servers.join(", ");
    format!(
        r#"server: {{ threads: 1 }}
log: {{ access: {{ to: "off" }} }}
listeners:
  - address: "{address}"
routes:
  - path: /
    upstream: origin
upstreams:
  origin:
    balance: {algorithm}
    servers: [{servers}]
"#
    )
}

fn nginx(algorithm: &str, dir: &Path, address: SocketAddr, servers: &[SocketAddr]) -> String {
    let method = match algorithm {
        NGINX_DEFAULT => String::new(),
        _ => format!("{algorithm};\n        "),
    };
    let upstream = programs::nginx_upstream(&method, servers);
    let http = format!(
        r#"access_log off;
    {upstream}
    server {{
        listen {address};
        location / {{ proxy_pass http://origin; }}
    }}"#
    );
    programs::nginx(dir, &http)
}

fn haproxy(algorithm: &str, address: SocketAddr, servers: &[SocketAddr]) -> String {
    let servers = servers.iter().enumerate();
    let servers: String =
        servers.map(|(number, server)| format!("    server s{number} {server}\n")).collect();
    let sections = format!(
        r#"frontend edge
    bind {address}
    default_backend origin
backend origin
    balance {algorithm}
{servers}"#
    );
    programs::haproxy("", &sections)
}

/// A contender that answers.
pub struct Started {
    pub contender: Contender,
    pub address: SocketAddr,
    running: Running,
}

impl Started {
    /// Starts it in a folder of its own under `dir`.
    pub fn start(
        contender: Contender,
        dir: &Path,
        servers: &[SocketAddr],
        weirgate: Option<&Path>,
        cores: &Cores,
    ) -> Result<Started> {
        let [address] = programs::free_addresses()?;
        let dir: PathBuf = dir.join(contender.name().replace(' ', "-"));
        let conf = contender.conf(&dir, address, servers);
        let command = contender.program.command(&conf, &dir, weirgate)?;
        let running = programs::launch(command, &dir, cores, || answers(address))?;
        Ok(Started { contender, address, running })
    }

    /// Refuses a port on which anybody else listens too.
    pub fn check(&mut self) -> Result<()> {
        self.running.check_alive()?;
        process::check_only_listener(self.address.port(), &self.running.pids()?)
    }
}

fn answers(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    client::get(&mut stream, "/").map(drop)
}
