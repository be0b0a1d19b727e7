//! A server to stand behind a proxy: keep-alive HTTP/1.1, requests without a body or with a Content-Length. It must
//! never be the slowest part unless it is told to be, so it knows only what the proxies send. Called by the origins of
//! the benchmarks.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::process::Running;

/// A request head longer than this ends its connection.
const MAX_HEAD: usize = 16 * 1024;
/// So much of a body is read at a time.
const PIECE: usize = 128 * 1024;

pub trait Answers: Send + Sync + 'static {
    /// The whole answer to the request with this head, given once its body is here.
    fn to(&self, head: &[u8]) -> Cow<'_, [u8]>;

    /// How long each answer is waited for.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// Serves until the process ends, or nothing more can be accepted.
pub async fn serve(address: SocketAddr, answers: impl Answers) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("origin: bind {address}"))?;
    let answers = Arc::new(answers);
    loop {
        let (stream, _) = listener.accept().await.context("origin: accept")?;
        let answers = Arc::clone(&answers);
        // A client that goes away is no business of the origin's.
        tokio::spawn(async move { serve_one(stream, &*answers).await.ok() });
    }
}

async fn serve_one(mut stream: TcpStream, answers: &impl Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; MAX_HEAD];
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Ok(()); // closed, or a head over MAX_HEAD
        }
        filled += read;
        let mut start = 0;
        while let Some(head) = buffer.get(start..filled).and_then(first_head) {
            start += head.len();
            let body = body_length(head);
            let here = body.min(filled - start);
            start += here;
            discard(&mut stream, body - here).await?;
            if !answers.delay().is_zero() {
                tokio::time::sleep(answers.delay()).await;
            }
            stream.write_all(&answers.to(head)).await?;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// What a request says that follows its head. GET, which is most of them, has nothing.
fn body_length(head: &[u8]) -> usize {
    if head.starts_with(b"GET ") {
        return 0;
    }
    let lines = head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, length)| length.trim().parse().ok()).unwrap_or(0)
}

async fn discard(stream: &mut TcpStream, mut missing: usize) -> std::io::Result<()> {
    if missing == 0 {
        return Ok(());
    }
    let mut room = vec![0; PIECE];
    while missing > 0 {
        let read = stream.read(room.get_mut(..missing.min(PIECE)).unwrap_or_default()).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        missing -= read;
    }
    Ok(())
}

/// The bytes up to and including the first empty line.
fn first_head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    bytes.get(..end + 4)
}

/// A whole answer with this body.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut whole =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    whole.extend_from_slice(body);
    whole
}

/// Waits until a child of ours listens there.
pub fn wait_for(running: &mut Running, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(address).is_err() {
        running.check_alive().context("the origin")?;
        if Instant::now() > deadline {
            bail!("the origin does not listen on {address}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
