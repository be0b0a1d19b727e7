//! The load at a fixed rate that no proxy is too slow for, by the clock: what a user waits for while there is room.
//! Called by `run`. From threads of this process; see `common/clock.rs`.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::handshakes::{client_config, connect_over_tls, get_over_tls};
use super::{Load, Protocol, h2};
use crate::common::client::{ask, connect, together};
use crate::common::clock::{Moments, quantile};
use crate::common::machine::Cores;
use crate::proxies::Site;

/// Clients, each with a connection and a request at a time: several times what is ever under way.
const CLIENTS: u32 = 32;
/// What this load itself can do in a second on one core, with room to spare.
const MOST: u32 = 5_000;

/// What the clients saw of one proxy: times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Requests that were not answered with a 200, and those for which there was no time.
    pub errors: u64,
}

/// Half of what the slowest of the proxies has answered in a second at the full rate, or what this load can do.
pub fn rate(slowest: f64, cores: &Cores) -> u32 {
    let most = MOST * u32::try_from(cores.count()).unwrap_or(1).max(1);
    ((slowest / 2.0) as u32).clamp(1, most)
}

/// `seconds` bounds the time in which requests are due; `seed` makes the same moments for all proxies.
pub fn run(load: Load, site: &Site, rate: u32, seconds: u32, seed: u64, cores: &Cores) -> Result<Latency> {
    let request = Arc::new(request(load));
    let clients = (0..CLIENTS).map(|_| Client::new(load, site, &request)).collect::<Result<Vec<_>>>()?;
    let _waiting = waiting(load, site, &request)?;
    let moments = Moments::random(rate, Duration::from_secs(u64::from(seconds)), seed);
    let started = Instant::now();
    let mut took = together(clients, cores, |mut client| client.run(&moments, started)).concat();
    took.sort_unstable();
    let errors = moments.count().saturating_sub(took.len()) as u64;
    let ms = |part| quantile(&took, part).map(|time: &Duration| time.as_secs_f64() * 1e3);
    let (Some(p50), Some(p99), Some(p999)) = (ms(0.5), ms(0.99), ms(0.999)) else {
        bail!("no request was answered at a fixed rate");
    };
    Ok(Latency { p50, p99, p999, errors })
}

/// The connections of a load that has more of them than there are clients: each had a request and waits.
fn waiting(load: Load, site: &Site, request: &[u8]) -> Result<Vec<TcpStream>> {
    let more = match load.protocol {
        Protocol::H1 => load.connections.saturating_sub(CLIENTS),
        Protocol::TlsH1 | Protocol::TlsH2 | Protocol::H2c | Protocol::Handshake | Protocol::Resumption => 0,
    };
    let one = |_| {
        let mut stream = connect(site.plain)?;
        ask(&mut stream, request).context("a connection that waits")?;
        Ok(stream)
    };
    (0..more).map(one).collect()
}

fn request(load: Load) -> Vec<u8> {
    let path = load.path;
    let head = match load.upload {
        0 => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        length => format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"),
    };
    let mut request = head.into_bytes();
    request.resize(request.len() + load.upload, b'x');
    request
}

/// Somebody who asks for one thing at a time.
struct Client {
    load: Load,
    site: Site,
    tls: Arc<ClientConfig>,
    request: Arc<Vec<u8>>,
    connection: Connection,
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    H2(h2::Connection),
    /// One for each request.
    None,
}

impl Client {
    /// One that has been answered once, so that no handshake of its connection is counted.
    fn new(load: Load, site: &Site, request: &Arc<Vec<u8>>) -> Result<Client> {
        let mut tls = client_config(&site.cert, load.protocol.sessions())?;
        if load.protocol == Protocol::TlsH2 {
            Arc::make_mut(&mut tls).alpn_protocols = vec![b"h2".to_vec()];
        }
        let connection = open(load, site, &tls)?;
        let mut client = Client { load, site: site.clone(), tls, request: Arc::clone(request), connection };
        client.ask()?;
        Ok(client)
    }

    fn run(&mut self, moments: &Moments, started: Instant) -> Vec<Duration> {
        let mut took = Vec::new();
        while let Some(due) = moments.next(started) {
            match self.ask() {
                Ok(()) => took.push(due.elapsed()),
                Err(error) => {
                    eprintln!("request: {error:#}");
                    let Ok(another) = open(self.load, &self.site, &self.tls) else { break };
                    self.connection = another;
                }
            }
        }
        took
    }

    fn ask(&mut self) -> Result<()> {
        let body = match &mut self.connection {
            Connection::Plain(stream) => ask(stream, &self.request)?,
            Connection::Tls(stream) => ask(stream, &self.request)?,
            Connection::H2(connection) => return connection.get(),
            Connection::None => return get_over_tls(&self.tls, self.site.secure, self.load.path).map(drop),
        };
        if body < self.load.answer {
            bail!("a body of {body} bytes");
        }
        Ok(())
    }
}

fn open(load: Load, site: &Site, tls: &Arc<ClientConfig>) -> Result<Connection> {
    Ok(match load.protocol {
        Protocol::H1 => Connection::Plain(connect(site.plain)?),
        Protocol::TlsH1 => Connection::Tls(Box::new(connect_over_tls(tls, site.secure)?)),
        Protocol::TlsH2 => Connection::H2(h2::Connection::open(site.secure, load.path, Some(tls))?),
        Protocol::H2c => Connection::H2(h2::Connection::open(site.h2c, load.path, None)?),
        Protocol::Handshake | Protocol::Resumption => Connection::None,
    })
}
