//! The load of new TLS connections: connect, handshake, one request, close. Run as `compare handshakes`.
//!
//! Every connection offers TLS 1.3 and X25519 only, so that all servers do the same sums: a server with post-quantum
//! key exchange would otherwise be given more work than one without. Either none resumes, or all but the first ones
//! do. The certificate is verified, so that the right proxy was measured. Prints `key value` lines.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::{Load, Outcome, Protocol};
use crate::args::HandshakeSettings;
use crate::common::client::{connect, get};
use crate::proxies::Site;

/// Whether a client comes back with what a server gave it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    Kept,
    Forgotten,
}

impl Protocol {
    pub fn sessions(self) -> Sessions {
        if self == Protocol::Resumption { Sessions::Kept } else { Sessions::Forgotten }
    }
}

pub fn command(load: Load, site: &Site, seconds: u32) -> Result<Command> {
    let mut own = Command::new(std::env::current_exe()?);
    own.arg("handshakes").args(["--target", &site.secure.to_string()]);
    own.arg("--cert").arg(&site.cert);
    own.args(["--seconds", &seconds.to_string()]);
    own.args(["--concurrency", &load.connections.to_string()]);
    if load.protocol.sessions() == Sessions::Kept {
        own.arg("--resume");
    }
    Ok(own)
}

/// What [`run`] has printed.
pub fn read(text: &str) -> Result<Outcome> {
    let number = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.with_context(|| format!("handshakes: no {name}"))?.trim().parse()?)
    };
    let elapsed = Duration::from_micros(number("microseconds ")?);
    Ok(Outcome { requests: number("requests ")?, errors: number("errors ")?, elapsed })
}

/// What one of the clients has done.
#[derive(Default)]
struct Done {
    requests: u64,
    resumed: u64,
    errors: u64,
}

pub fn run(settings: &HandshakeSettings) -> Result<()> {
    let sessions = if settings.resume { Sessions::Kept } else { Sessions::Forgotten };
    let length = Duration::from_secs(u64::from(settings.seconds));
    let started = Instant::now();
    let mut all = Done::default();
    std::thread::scope(|scope| {
        let client = || -> Result<Done> {
            // of its own, so that nobody else uses up its sessions
            let config = client_config(&settings.cert, sessions)?;
            Ok(until(started + length, &config, settings.target))
        };
        let clients: Vec<_> = (0..settings.concurrency).map(|_| scope.spawn(client)).collect();
        for client in clients {
            let done = client.join().map_err(|_| anyhow!("a client has ended early"))??;
            all.requests += done.requests;
            all.resumed += done.resumed;
            all.errors += done.errors;
        }
        anyhow::Ok(())
    })?;
    let wanted =
        if settings.resume { all.requests.saturating_sub(u64::from(settings.concurrency)) } else { 0 };
    if (all.resumed as f64) < wanted as f64 * 0.95 || (!settings.resume && all.resumed > 0) {
        bail!("{} of {} connections resumed a session", all.resumed, all.requests);
    }
    println!("requests {}", all.requests);
    println!("errors {}", all.errors);
    println!("microseconds {}", started.elapsed().as_micros());
    Ok(())
}

fn until(end: Instant, config: &Arc<ClientConfig>, target: SocketAddr) -> Done {
    let mut done = Done::default();
    while Instant::now() < end {
        match get_over_tls(config, target, "/") {
            Ok((_, kind)) => {
                done.requests += 1;
                done.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
            }
            Err(error) => {
                eprintln!("handshake: {error:#}");
                done.errors += 1;
            }
        }
    }
    done
}

/// A client that trusts exactly the certificate in `cert`.
pub fn client_config(cert: &Path, sessions: Sessions) -> Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(cert).map_err(|error| anyhow!("{}: {error}", cert.display()))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    if sessions == Sessions::Forgotten {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// One new connection and one request; the whole answer, head and body, and how the handshake went. Anything but a 200
/// is an error.
pub fn get_over_tls(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    path: &str,
) -> Result<(Vec<u8>, Option<HandshakeKind>)> {
    let mut stream = connect_over_tls(config, target)?;
    let answer = get(&mut stream, path)?;
    // We close, so that the TIME_WAIT lands on a port that only we chose, and every server does the same work.
    stream.conn.send_close_notify();
    stream.flush().ok();
    Ok((answer, stream.conn.handshake_kind()))
}

/// Before the handshake, which the first bytes begin.
pub fn connect_over_tls(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    Ok(StreamOwned::new(connection, connect(target)?))
}
