//! What a connection costs that has had a request and waits for the next, in plaintext, over TLS and over HTTP/2: the
//! memory before and after thousands of them. The proxies are configured as for the other comparisons, with room for so
//! many. Called by `memory`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::Subject;
use crate::common::client::{connect, get};
use crate::common::programs::Program;
use crate::configs;
use crate::kinds::Dress;
use crate::load::handshakes::{Sessions, client_config};
use crate::probe;
use crate::proxies::Site;

/// What the first ones make a process allocate for good is not theirs.
const WARMING: usize = 100;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Plaintext,
    Tls,
    H2,
}

/// Bytes for each.
pub fn each(subject: &Subject<'_>, spoken: Spoken) -> Result<f64> {
    let conf = |site: &Site| conf(subject.program, site);
    let started = subject.start(&format!("{spoken:?}"), conf, probe::answers)?;
    let clients = Clients::new(&started.site, spoken)?;
    drop((0..WARMING).map(|_| clients.connect()).collect::<Result<Vec<_>>>()?);
    let count = subject.options.count;
    let before = started.at_rest()?;
    let held: Vec<_> = (0..count)
        .map(|n| clients.connect().with_context(|| format!("connection {n}")))
        .collect::<Result<_>>()?;
    let after = started.at_rest()?;
    drop(held);
    Ok(after.saturating_sub(before) as f64 / f64::from(count))
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
    spoken: Spoken,
    target: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Clients {
    fn new(site: &Site, spoken: Spoken) -> Result<Clients> {
        let mut tls = Arc::unwrap_or_clone(client_config(&site.cert, Sessions::Forgotten)?);
        let (target, protocol) = match spoken {
            Spoken::Plaintext => (site.plain, "http/1.1"),
            Spoken::Tls => (site.secure, "http/1.1"),
            Spoken::H2 => (site.secure, "h2"),
        };
        tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ok(Clients { spoken, target, tls: Arc::new(tls) })
    }

    /// A connection that has had one request.
    fn connect(&self) -> Result<Box<dyn Held>> {
        let mut socket = connect(self.target)?;
        if self.spoken == Spoken::Plaintext {
            get(&mut socket, "/")?;
            return Ok(Box::new(socket));
        }
        let connection = ClientConnection::new(self.tls.clone(), ServerName::try_from("localhost")?)?;
        let mut stream = StreamOwned::new(connection, socket);
        match self.spoken {
            Spoken::H2 => get_h2(&mut stream)?,
            Spoken::Tls | Spoken::Plaintext => drop(get(&mut stream, "/")?),
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
