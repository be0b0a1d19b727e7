//! The server behind the proxies: does as the first eight bytes of a connection say. Run as `compare flow-echo`.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What comes is sent back.
pub const ECHO: [u8; 8] = *b"WG echo\n";
/// One byte is sent, and then the end. A ClientHello gets the same.
pub const ONCE: [u8; 8] = *b"WG once\n";
/// Bytes are sent until nobody takes them any more.
pub const STREAM: [u8; 8] = *b"WG many\n";

/// The first byte of a TLS record with a ClientHello.
const HANDSHAKE: u8 = 22;

pub fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            // A client that goes away is no business of the server's.
            tokio::spawn(async move { serve(stream).await.ok() });
        }
    })
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let first = stream.read(&mut buffer).await?;
    let Some((head, rest)) = buffer.get(..first).and_then(|bytes| bytes.split_first_chunk::<8>()) else {
        return Ok(());
    };
    match *head {
        ECHO => {
            stream.write_all(rest).await?;
            loop {
                let count = stream.read(&mut buffer).await?;
                match buffer.get(..count) {
                    None | Some([]) => return Ok(()),
                    Some(bytes) => stream.write_all(bytes).await?,
                }
            }
        }
        STREAM => {
            let piece = vec![b'x'; 256 * 1024];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        ONCE | [HANDSHAKE, ..] => stream.write_all(b"x").await,
        _ => Ok(()),
    }
}
