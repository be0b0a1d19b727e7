//! The loads: one thread that goes on until its time is over. Run as `compare flow-load`; prints `key value` lines.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::echo;
use crate::common::machine::Cores;
use crate::common::process;

/// A small message.
const MESSAGE: [u8; 64] = [b'm'; 64];
/// A generator may outlive its time by this before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// 64 bytes there and back, on connections that stay.
    RoundTrips,
    /// As much as goes from the server to the client.
    Bulk,
    /// Connect, eight bytes there, one back, and the end.
    Connections,
    /// The same with a ClientHello, which says where it goes.
    Passthrough,
}

impl Load {
    pub const ALL: [Load; 4] = [Load::RoundTrips, Load::Bulk, Load::Connections, Load::Passthrough];

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn connections(self) -> u32 {
        match self {
            Load::RoundTrips => 32,
            Load::Bulk => 4,
            Load::Connections | Load::Passthrough => 16,
        }
    }

    pub fn run(self, target: SocketAddr, seconds: u32, cores: &Cores, dir: &Path) -> Result<Outcome> {
        let mut own = Command::new(std::env::current_exe()?);
        own.arg("flow-load").args(["--target", &target.to_string(), "--load", &self.name()]);
        own.args(["--seconds", &seconds.to_string()]);
        let limit = Duration::from_secs(u64::from(seconds)) + PATIENCE;
        let text = process::output(own, cores, limit, dir)?;
        let number = |name: &str| -> Result<u64> {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            found.with_context(|| format!("the load says no {name}: {text}"))
        };
        let outcome = Outcome {
            done: number("done ")?,
            errors: number("errors ")?,
            elapsed: Duration::from_micros(number("microseconds ")?),
        };
        if outcome.done == 0 { bail!("nothing was done: {text}") } else { Ok(outcome) }
    }
}

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Round trips, bytes, or connections.
    pub done: u64,
    pub errors: u64,
    pub elapsed: Duration,
}

#[derive(Args)]
pub struct Settings {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, value_enum)]
    load: Load,
    #[arg(long)]
    seconds: u32,
}

pub fn run(settings: &Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let began = Instant::now();
    let until = began + Duration::from_secs(u64::from(settings.seconds));
    let first: Rc<[u8]> = match settings.load {
        Load::RoundTrips | Load::Bulk => Rc::default(),
        Load::Connections => echo::ONCE.as_slice().into(),
        Load::Passthrough => hello()?.into(),
    };
    let (target, load) = (settings.target, settings.load);
    let (done, errors) = runtime.block_on(LocalSet::new().run_until(async {
        let one = |_| tokio::task::spawn_local(client(target, load, until, first.clone()));
        let all: Vec<_> = (0..load.connections()).map(one).collect();
        let mut sum = (0, 0);
        for client in all {
            let (done, errors) = client.await.unwrap_or((0, 1));
            sum = (sum.0 + done, sum.1 + errors);
        }
        sum
    }));
    println!("done {done}\nerrors {errors}\nmicroseconds {}", began.elapsed().as_micros());
    Ok(())
}

/// What one of them has done, and how often something went wrong.
async fn client(target: SocketAddr, load: Load, until: Instant, first: Rc<[u8]>) -> (u64, u64) {
    let (mut done, mut errors) = (0, 0);
    // a proxy that refuses everybody is no fast one
    while Instant::now() < until && errors < 100 {
        let went = match load {
            Load::RoundTrips => round_trips(target, until, &mut done).await,
            Load::Bulk => bulk(target, until, &mut done).await,
            Load::Connections | Load::Passthrough => once(target, &first, &mut done).await,
        };
        errors += u64::from(went.is_err());
    }
    (done, errors)
}

async fn connected(target: SocketAddr, first: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(first).await?;
    Ok(stream)
}

async fn round_trips(target: SocketAddr, until: Instant, done: &mut u64) -> std::io::Result<()> {
    let mut stream = connected(target, &echo::ECHO).await?;
    let mut answer = [0; MESSAGE.len()];
    while Instant::now() < until {
        stream.write_all(&MESSAGE).await?;
        stream.read_exact(&mut answer).await?;
        *done += 1;
    }
    Ok(())
}

async fn bulk(target: SocketAddr, until: Instant, done: &mut u64) -> std::io::Result<()> {
    let mut stream = connected(target, &echo::STREAM).await?;
    let mut buffer = vec![0; 256 * 1024];
    while Instant::now() < until {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        *done += count as u64;
    }
    Ok(())
}

/// The server is the first to close, so that no port of the client's is kept from the next.
async fn once(target: SocketAddr, first: &[u8], done: &mut u64) -> std::io::Result<()> {
    let mut stream = connected(target, first).await?;
    let mut answer = [0; 2];
    let mut filled = 0;
    loop {
        match stream.read(answer.get_mut(filled..).unwrap_or_default()).await? {
            0 => break,
            count => filled += count,
        }
    }
    if filled != 1 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    *done += 1;
    Ok(())
}

/// What rustls sends first to `raw.test`.
fn hello() -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), super::proxies::NAME.try_into()?)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}
