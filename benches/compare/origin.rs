//! The server behind every proxy: keep-alive HTTP/1.1, answers made once at start. Run as `compare origin`.
//!
//! It must never be the slowest part, so it knows only what the proxies send: requests without a body.
//! `/` is 13 bytes, `/100k` is 100 KB (102,400 bytes), `/echo` gives back the request head as it arrived.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub const LARGE_BODY: usize = 100 * 1024;
/// A request head longer than this ends its connection.
const MAX_HEAD: usize = 16 * 1024;

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

pub fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.with_context(|| format!("origin: bind {address}"))?;
        let answers =
            Arc::new(Answers { small: answer(b"hello, world\n"), large: answer(&vec![b'x'; LARGE_BODY]) });
        loop {
            let (stream, _) = listener.accept().await.context("origin: accept")?;
            let answers = Arc::clone(&answers);
            // A client that goes away is no business of the origin's.
            tokio::spawn(async move { serve(stream, &answers).await.ok() });
        }
    })
}

async fn serve(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
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
            if head.starts_with(b"GET /100k ") {
                stream.write_all(&answers.large).await?;
            } else if head.starts_with(b"GET /echo ") {
                stream.write_all(&answer(head)).await?;
            } else {
                stream.write_all(&answers.small).await?;
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The bytes up to and including the first empty line.
fn first_head(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    bytes.get(..end + 4)
}

fn answer(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut whole =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    whole.extend_from_slice(body);
    whole
}
