//! The load of new TLS connections: connect, full handshake, one request, close. Run as `compare handshakes`.
//!
//! Every connection offers TLS 1.3 and X25519 only and never resumes, so that all servers do the same sums: a
//! server with post-quantum key exchange would otherwise be given more work than one without. The certificate
//! is verified, so that the right proxy was measured. Prints `key value` lines for `load` to read.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::args::HandshakeSettings;
use crate::common::client::{PATIENCE, get};

/// The whole run ends after this, whatever is left of the count.
const MAX_RUN: Duration = Duration::from_secs(60);

pub fn run(settings: HandshakeSettings) -> Result<()> {
    let config = client_config(&settings.cert)?;
    let left = AtomicU32::new(settings.count);
    let started = Instant::now();
    let (mut times, mut errors) = (Vec::new(), 0_u64);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..settings.concurrency)
            .map(|_| scope.spawn(|| worker(&config, settings.target, &left, started)))
            .collect();
        for worker in workers {
            let (worker_times, worker_errors) = worker.join().unwrap_or_default();
            times.extend(worker_times);
            errors += worker_errors;
        }
    });
    println!("requests {}", times.len());
    println!("errors {errors}");
    println!("microseconds {}", started.elapsed().as_micros());
    for time in times {
        println!("took {}", time.as_micros());
    }
    Ok(())
}

fn worker(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    left: &AtomicU32,
    started: Instant,
) -> (Vec<Duration>, u64) {
    let (mut times, mut errors) = (Vec::new(), 0);
    let take_one = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    while started.elapsed() < MAX_RUN && take_one().is_ok() {
        let begun = Instant::now();
        match get_over_tls(config, target, "/") {
            Ok(_) => times.push(begun.elapsed()),
            Err(error) => {
                eprintln!("handshake: {error:#}");
                errors += 1;
            }
        }
    }
    (times, errors)
}

/// A client that trusts exactly the certificate in `cert`.
pub fn client_config(cert: &std::path::Path) -> Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(cert).map_err(|error| anyhow!("{}: {error}", cert.display()))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// One new connection and one request; the whole answer, head and body. Anything but a 200 is an error.
pub fn get_over_tls(config: &Arc<ClientConfig>, target: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let socket = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(connection, socket);
    let answer = get(&mut stream, path)?;
    // We close, so that the TIME_WAIT lands on a port that only we chose, and every server does the same work.
    stream.conn.send_close_notify();
    stream.flush().ok();
    Ok(answer)
}
