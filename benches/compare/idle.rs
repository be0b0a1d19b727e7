//! `compare idle`: what a connection costs that has had a request and waits for the next, in plaintext, over TLS and
//! over HTTP/2, in weirgate, nginx and HAProxy. The resident memory before and after thousands of them, divided. Called by
//! `main`; the proxies are configured as for the other comparisons, with room for so many.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::common::client::{PATIENCE, get};
use crate::common::machine::{Cores, processor, today};
use crate::common::process::{self, Running, Stop};
use crate::common::programs::{self, Program, free_addresses};
use crate::common::{origin, results_dir, table};
use crate::handshakes::client_config;
use crate::proxies::Site;
use crate::{probe, proxy_configs};

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
    raise_limit(u64::from(options.count) + SPARE)?;
    let cores = Cores::allowed()?.split();
    let dir = tempfile::Builder::new().prefix("weirgate-idle-").tempdir()?;
    let stage = Stage::set_up(dir, &cores)?;
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
            let kilobytes = stage.measure(program, kind, options, &cores.0)?;
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

/// Lets this process, and those it starts, have so many open files.
pub fn raise_limit(wanted: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one valid rlimit.
    let raised = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            bail!("getrlimit: {}", std::io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    };
    if !raised || limit.rlim_cur < wanted {
        bail!(
            "{wanted} open files are needed and {} allowed; see `ulimit -Hn`, or use --count",
            limit.rlim_max
        );
    }
    Ok(())
}

/// What all of them share.
struct Stage {
    dir: tempfile::TempDir,
    origin: SocketAddr,
    _origin: Running,
    cert: PathBuf,
    key: PathBuf,
    pair: PathBuf,
}

impl Stage {
    fn set_up(dir: tempfile::TempDir, cores: &(Cores, Cores)) -> Result<Stage> {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let [address] = free_addresses()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["origin", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut running = Running::start(command, &cores.1, Stop::Kill)?;
        origin::wait_for(&mut running, address)?;
        Ok(Stage {
            cert: write("cert.pem", &cert)?,
            key: write("key.pem", &key)?,
            pair: write("pair.pem", &format!("{cert}{key}"))?,
            origin: address,
            _origin: running,
            dir,
        })
    }

    /// Kilobytes of resident memory for a connection.
    fn measure(&self, program: Program, kind: Kind, options: &Options, cores: &Cores) -> Result<f64> {
        let [plain, secure] = free_addresses()?;
        let site = Site {
            dir: self.dir.path().join(format!("{}-{kind:?}", program.name())),
            plain,
            secure,
            origin: self.origin,
            cert: self.cert.clone(),
            key: self.key.clone(),
            pair: self.pair.clone(),
        };
        let command = program.command(&conf(program, &site), &site.dir, options.weirgate.as_deref())?;
        let running = programs::launch(command, &site.dir, cores, || probe::answers(&site))?;
        let clients = Clients::new(&site, kind)?;
        // what the first ones make a process allocate for good is not theirs
        let warm: Vec<_> = (0..100).map(|_| clients.connect()).collect::<Result<_>>()?;
        drop(warm);
        std::thread::sleep(REST);
        let before = process::resident(&running.pids()?)?;
        let held: Vec<_> = (0..options.count)
            .map(|n| clients.connect().with_context(|| format!("{}: connection {n}", program.name())))
            .collect::<Result<_>>()?;
        std::thread::sleep(REST);
        let after = process::resident(&running.pids()?)?;
        drop(held);
        Ok(after.saturating_sub(before) as f64 / f64::from(options.count) / 1024.0)
    }
}

/// As for the other comparisons, with room for all connections and time for them to wait.
fn conf(program: Program, site: &Site) -> String {
    match program {
        Program::Weirgate => proxy_configs::weirgate(site, false).replace(
            "    address: \"",
            "    limits: { connections: 30000, idle_timeout: 600s }\n    address: \"",
        ),
        Program::Nginx => proxy_configs::nginx(site, false)
            .replace("worker_connections 4096;", "worker_connections 30000;")
            .replace(
                "keepalive_requests 100000000;\n    proxy_http",
                "keepalive_timeout 600s;\n    proxy_http",
            ),
        Program::Haproxy => proxy_configs::haproxy(site, false)
            .replace("maxconn 4096", "maxconn 30000")
            .replace("timeout client 60s", "timeout client 600s"),
    }
}

/// Where and how to connect.
struct Clients {
    kind: Kind,
    target: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Clients {
    fn new(site: &Site, kind: Kind) -> Result<Clients> {
        let mut tls = Arc::unwrap_or_clone(client_config(&site.cert)?);
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
        let mut socket = TcpStream::connect_timeout(&self.target, PATIENCE).context("connect")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
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
