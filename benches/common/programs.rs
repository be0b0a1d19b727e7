//! The programs that are measured beside each other: how each is started, and the part of its configuration that
//! is the same whatever it is to do: one worker, keep-alive on both sides, no limits in the way. Each is written
//! as its own manual recommends for a proxy under load. Called by the contenders of each benchmark.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::machine::Cores;
use super::process::{self, Running, Stop};

/// How long a program may take to answer first. nginx takes more than ten seconds to read 100,000 routes.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Weirgate,
    Nginx,
    Haproxy,
}

impl Program {
    pub const ALL: [Program; 3] = [Program::Weirgate, Program::Nginx, Program::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Program::Weirgate => "weirgate",
            Program::Nginx => "nginx",
            Program::Haproxy => "haproxy",
        }
    }

    /// Why it cannot be measured on this machine.
    pub fn missing(self) -> Option<anyhow::Error> {
        match self {
            Program::Weirgate => None,
            Program::Nginx | Program::Haproxy => process::find(self.name()).err(),
        }
    }

    /// The command that runs this configuration, whose files are in `dir`. `weirgate` is another binary than the
    /// one that was built with the benchmark.
    pub fn command(self, conf: &str, dir: &Path, weirgate: Option<&Path>) -> Result<(Command, Stop)> {
        fs::create_dir_all(dir)?;
        let file = dir.join("proxy.conf");
        fs::write(&file, conf)?;
        let (mut command, stop) = match self {
            Program::Weirgate => {
                let built = option_env!("CARGO_BIN_EXE_weirgate").map(Path::new);
                let weirgate = weirgate.or(built).context("no weirgate binary; give --weirgate FILE")?;
                let mut command = Command::new(weirgate);
                command.args(["run", "-c"]);
                (command, Stop::Kill)
            }
            Program::Nginx => {
                let mut command = Command::new(process::find("nginx")?);
                command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c");
                (command, Stop::Term)
            }
            Program::Haproxy => {
                let mut command = Command::new(process::find("haproxy")?);
                command.args(["-db", "-f"]);
                (command, Stop::Term)
            }
        };
        command.arg(&file);
        Ok((command, stop))
    }
}

/// Starts a proxy and waits until it answers. What it prints is in `dir`.
pub fn launch(
    (mut command, stop): (Command, Stop),
    dir: &Path,
    cores: &Cores,
    answers: impl Fn() -> Result<()>,
) -> Result<Running> {
    let errors = dir.join("stderr.log");
    command.stdin(Stdio::null()).env("RUST_LOG", "error");
    command.stdout(File::create(dir.join("stdout.log"))?).stderr(File::create(&errors)?);
    let mut running = Running::start(command, cores, stop)?;
    wait_until(&mut running, answers).map_err(|error| anyhow!("{error:#}: {}", process::tail(&errors)))?;
    Ok(running)
}

fn wait_until(running: &mut Running, answers: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        running.check_alive()?;
        match answers() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => bail!("no answer in {PATIENCE:?}: {error:#}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// An `nginx.conf` around what stands in its `http` block.
pub fn nginx(dir: &Path, http: &str) -> String {
    let dir = dir.display();
    // SAFETY: geteuid cannot fail and takes nothing.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    format!(
        r#"{user}daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 100000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_buffers 16 16k;
    proxy_max_temp_file_size 0;
    {http}
}}
"#
    )
}

/// An nginx `upstream` block; `method` is the line that says how a server is chosen.
pub fn nginx_upstream(method: &str, servers: &[SocketAddr]) -> String {
    let servers: String = servers.iter().map(|server| format!("server {server};\n        ")).collect();
    format!(
        "upstream origin {{\n        {method}{servers}keepalive 128;\n        keepalive_requests 100000000;\n    }}"
    )
}

/// An `haproxy.cfg` around lines of its `global` section and what follows `defaults`.
pub fn haproxy(global: &str, sections: &str) -> String {
    format!(
        r#"global
    nbthread 1
    maxconn 4096
    {global}
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
{sections}"#
    )
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

/// The first line of what `program -v` prints.
pub fn version(program: &str) -> Option<String> {
    let flag = if program == "h2load" { "--version" } else { "-v" };
    let output = Command::new(process::find(program).ok()?).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}

/// Writes a file of results, with its folder.
pub fn save(path: PathBuf, text: &str) -> Result<PathBuf> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
