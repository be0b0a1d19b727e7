//! The proxies and their configurations: connections to `plain` are passed on, and those to `closed` by the name in their
//! ClientHello. Each with its defaults, but for what a manual recommends under load. Called by the conductor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use clap::ValueEnum;

use crate::common::process;
use crate::common::programs::Program;

/// The name whose connections stay unopened.
pub const NAME: &str = "raw.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Weirgate,
    Nginx,
    Haproxy,
    HaproxySplice,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Weirgate, Kind::Nginx, Kind::Haproxy, Kind::HaproxySplice];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Weirgate => "weirgate",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::HaproxySplice => "haproxy-splice",
        }
    }

    pub fn program(self) -> Program {
        match self {
            Kind::Weirgate => Program::Weirgate,
            Kind::Nginx => Program::Nginx,
            Kind::Haproxy | Kind::HaproxySplice => Program::Haproxy,
        }
    }

    /// Why it cannot be measured on this machine.
    pub fn missing(self, nginx_stream: Option<&Path>) -> Option<anyhow::Error> {
        let module = || if self == Kind::Nginx { load_module(nginx_stream).err() } else { None };
        self.program().missing().or_else(module)
    }

    pub fn conf(self, site: &Site) -> Result<String> {
        match self {
            Kind::Weirgate => Ok(weirgate(site)),
            Kind::Nginx => nginx(site),
            Kind::Haproxy => Ok(haproxy(site, 9900, "")),
            // pipes count among its open files, too
            Kind::HaproxySplice => {
                Ok(haproxy(site, 4000, "    option splice-request\n    option splice-response\n"))
            }
        }
    }
}

/// Where one proxy stands.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its own folder, for its configuration and logs.
    pub dir: PathBuf,
    pub plain: SocketAddr,
    pub closed: SocketAddr,
    pub echo: SocketAddr,
    pub nginx_stream: Option<PathBuf>,
}

fn weirgate(site: &Site) -> String {
    let Site { plain, closed, echo, .. } = site;
    format!(
        r#"server: {{ threads: 1 }}
log: {{ access: {{ format: json, to: "off" }} }}
listeners:
  - {{ name: plain, address: "{plain}", tcp: {{ upstream: echo }}, limits: {{ connections: 9900 }} }}
  - {{ name: closed, address: "{closed}", tls: {{ passthrough: {{ "{NAME}": echo }} }} }}
upstreams: {{ echo: {{ servers: ["{echo}"] }} }}
"#
    )
}

fn nginx(site: &Site) -> Result<String> {
    let Site { dir, plain, closed, echo, nginx_stream } = site;
    let module = load_module(nginx_stream.as_deref())?;
    let dir = dir.display();
    // SAFETY: geteuid cannot fail and takes nothing.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;\n" } else { "" };
    Ok(format!(
        r#"{user}{module}daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 20000; }}
stream {{
    upstream echo {{ server {echo}; }}
    map $ssl_preread_server_name $group {{ {NAME} echo; }}
    server {{ listen {plain}; proxy_pass echo; }}
    server {{ listen {closed}; ssl_preread on; proxy_pass $group; }}
}}
"#
    ))
}

/// The line that has nginx know of streams; empty where it does anyway.
fn load_module(given: Option<&Path>) -> Result<String> {
    const PLACES: [&str; 3] =
        ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"];
    let built = Command::new(process::find("nginx")?).arg("-V").output()?;
    if String::from_utf8_lossy(&built.stderr).split_whitespace().any(|word| word == "--with-stream") {
        return Ok(String::new());
    }
    let usual = PLACES.iter().map(|place| Path::new(place).join("ngx_stream_module.so"));
    let module = given.map(Path::to_owned).into_iter().chain(usual).find(|file| file.is_file());
    let module = module.ok_or_else(|| {
        anyhow!("nginx has no module for streams (Debian: libnginx-mod-stream); or give --nginx-stream FILE")
    })?;
    let module = module.to_str().context("the module's path is not UTF-8")?;
    Ok(format!("load_module {module};\n"))
}

fn haproxy(site: &Site, most: u32, splice: &str) -> String {
    let Site { plain, closed, echo, .. } = site;
    format!(
        r#"global
    nbthread 1
    maxconn {most}
defaults
    mode tcp
    timeout connect 5s
    timeout client 600s
    timeout server 600s
{splice}frontend plain
    bind {plain}
    default_backend echo
frontend closed
    bind {closed}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.ssl_hello_type 1 }}
    use_backend echo if {{ req.ssl_sni -i {NAME} }}
backend echo
    server one {echo}
"#
    )
}
