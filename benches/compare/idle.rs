//! `compare idle`: what a connection costs that has had a request and waits for the next, in plaintext, over TLS and
//! over HTTP/2, in weirgate, nginx and HAProxy. The resident memory before and after thousands of them, divided. Called by
//! `main`; the proxies are configured as for the other comparisons, with room for so many.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::common::client::{connect, get};
use crate::common::machine::{processor, today};
use crate::common::process::{self, Running};
use crate::common::programs::{self, Program};
use crate::common::{results_dir, table};
use crate::configs;
use crate::kinds::Dress;
use crate::load::handshakes::{Sessions, client_config};
use crate::probe;
use crate::proxies::Site;
use crate::stage::{Key, Stage};

/// What a proxy is given to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// Descriptors beside those of the connections.
const SPARE: u64 = 512;

#[derive(Args, Debug)]
pub struct Options {
    /// Connections of each kind.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=25_000))]
    count: u32,
    /// Only these kinds.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Measure this weirgate binary instead of the one built with the benchmark.
    #[arg(long, value_name = "FILE")]
    weirgate: Option<PathBuf>,
    /// Also write benches/results/idle-DATE.md.
    #[arg(long)]
    save: bool,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Plaintext,
    Tls,
    H2,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Plaintext, Kind::Tls, Kind::H2];

    fn title(self) -> &'static str {
        match self {
            Kind::Plaintext => "HTTP/1.1",
            Kind::Tls => "HTTP/1.1 over TLS 1.3",
            Kind::H2 => "HTTP/2 over TLS 1.3",
        }
    }

    /// Kilobytes for a connection of weirgate's, at the most.
    fn target(self) -> f64 {
        match self {
            Kind::Plaintext => 8.0,
            Kind::Tls => 25.0,
            Kind::H2 => 40.0,
        }
    }
}

pub fn all(options: &Options) -> Result<()> {
    process::raise_limit(u64::from(options.count) + SPARE)?;
    let stage = Stage::set_up()?;
    let kinds: Vec<_> =
        Kind::ALL.into_iter().filter(|k| options.only.is_empty() || options.only.contains(k)).collect();
    let mut rows = Vec::new();
    for program in [Program::Weirgate, Program::Nginx, Program::Haproxy] {
        if let Some(why) = program.missing() {
            println!("{} skipped: {why}", program.name());
            continue;
        }
        for &kind in &kinds {
            // a process of its own for each, so that no memory is reused
            let kilobytes = match start(&stage, program, kind, options) {
                Ok(started) => measure(&started, kind, options)?,
                Err(why) => {
                    println!("{} {} skipped: {why:#}", program.name(), kind.title());
                    continue;
                }
            };
            println!("{} {}: {kilobytes:.1} KB", program.name(), kind.title());
            let target = match program {
                Program::Weirgate => format!("{:.0}", kind.target()),
                Program::Nginx | Program::Haproxy => String::new(),
            };
            rows.push([
                kind.title().to_owned(),
                program.name().to_owned(),
                format!("{kilobytes:.1}"),
                target,
            ]);
        }
    }
    rows.sort_by_key(|[kind, ..]| Kind::ALL.iter().position(|known| known.title() == kind));
    let text = format!(
        "# Memory of an idle connection, {}\n\n{}; {} connections of each kind, each after one request; resident memory\n\n{}",
        today(),
        processor(),
        options.count,
        table::markdown(["connection", "program", "KB each", "target"], &rows, 2)
    );
    print!("{text}");
    if options.save {
        let path = results_dir().join(format!("idle-{}.md", today()));
        println!("saved as {}", programs::save(path, &text)?.display());
    }
    Ok(())
}

/// One program that answers.
struct Started {
    program: Program,
    site: Site,
    running: Running,
}

fn start(stage: &Stage, program: Program, kind: Kind, options: &Options) -> Result<Started> {
    let site = stage.site(&format!("{}-{kind:?}", program.name()), Key::P256)?;
    std::fs::create_dir_all(&site.dir)?;
    let command = program.command(&conf(program, &site)?, &site.dir, options.weirgate.as_deref())?;
    let running = programs::launch(command, &site.dir, &stage.cores.0, || probe::answers(&site))?;
    Ok(Started { program, site, running })
}

/// Kilobytes of resident memory for a connection.
fn measure(started: &Started, kind: Kind, options: &Options) -> Result<f64> {
    let clients = Clients::new(&started.site, kind)?;
    // what the first ones make a process allocate for good is not theirs
    let warm: Vec<_> = (0..100).map(|_| clients.connect()).collect::<Result<_>>()?;
    drop(warm);
    std::thread::sleep(REST);
    let before = process::resident(&started.running.pids()?)?;
    let held: Vec<_> = (0..options.count)
        .map(|n| clients.connect().with_context(|| format!("{}: connection {n}", started.program.name())))
        .collect::<Result<_>>()?;
    std::thread::sleep(REST);
    let after = process::resident(&started.running.pids()?)?;
    drop(held);
    Ok(after.saturating_sub(before) as f64 / f64::from(options.count) / 1024.0)
}

/// As for the other comparisons, with room for all connections and time for them to wait.
fn conf(program: Program, site: &Site) -> Result<String> {
    Ok(match program {
        Program::Weirgate => configs::weirgate::conf(site, Dress::Bare).replace(
            "    address: \"",
            "    limits: { connections: 30000, idle_timeout: 600s }\n    address: \"",
        ),
        Program::Nginx => configs::nginx::conf(site, Dress::Bare)
            .replace(configs::nginx::WORKER_CONNECTIONS, "worker_connections 30000;")
            .replace(
                "keepalive_requests 100000000;\n    proxy_http",
                "keepalive_timeout 600s;\n    proxy_http",
            ),
        // it wants two descriptors for each of its maxconn, of which half would never be used here, and otherwise
        // does not start where so many are not allowed
        Program::Haproxy => configs::haproxy::conf(site, Dress::Bare)?
            .replace("maxconn 4096", "maxconn 30000\n    no strict-limits")
            .replace("timeout client 60s", "timeout client 600s"),
    })
}

/// Where and how to connect.
struct Clients {
    kind: Kind,
    target: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Clients {
    fn new(site: &Site, kind: Kind) -> Result<Clients> {
        let mut tls = Arc::unwrap_or_clone(client_config(&site.cert, Sessions::Forgotten)?);
        let (target, protocol) = match kind {
            Kind::Plaintext => (site.plain, "http/1.1"),
            Kind::Tls => (site.secure, "http/1.1"),
            Kind::H2 => (site.secure, "h2"),
        };
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Clients { kind, target, tls: Arc::new(tls) })
    }

    /// A connection that has had one request.
    fn connect(&self) -> Result<Box<dyn Held>> {
        let mut socket = connect(self.target)?;
        if self.kind == Kind::Plaintext {
            get(&mut socket, "/")?;
            return Ok(Box::new(socket));
        }
        let connection = ClientConnection::new(self.tls.clone(), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(connection, socket);
        match self.kind {
            Kind::H2 => get_h2(&mut stream)?,
            Kind::Tls | Kind::Plaintext => drop(get(&mut stream, "/")?),
        }
        Ok(Box::new(stream))
    }
}

/// A connection that is only kept open.
trait Held {}
impl Held for TcpStream {}
impl Held for StreamOwned<ClientConnection, TcpStream> {}

/// `GET https://localhost/` on stream 1 and its whole answer (RFC 9113 §3.4, §4.1; RFC 7541 Appendix A).
fn get_h2(stream: &mut (impl Read + Write)) -> Result<()> {
    let block = [&[0x82, 0x84, 0x87, 0x41, 9][..], b"localhost"].concat();
    let mut opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    opening.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // the gate's settings are acknowledged, as every client does
    opening.extend([0, 0, 0, 4, 1, 0, 0, 0, 0]);
    opening.extend([0, 0, u8::try_from(block.len())?, 1, 5, 0, 0, 0, 1]);
    opening.extend(block);
    stream.write_all(&opening)?;
    stream.flush()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).context("an answer over HTTP/2")?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c]))?];
        stream.read_exact(&mut payload)?;
        match (kind, flags & 1) {
            // DATA or HEADERS with END_STREAM
            (0 | 1, 1) => return Ok(()),
            (3 | 7, _) => bail!("refused over HTTP/2"),
            _ => {}
        }
    }
}
