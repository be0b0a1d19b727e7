//! Many WebSockets on one thread, each asked in turn to send something back.

use super::crowd::PATIENCE;
use super::server::PAUSE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// When a connection came, and when it was told to go elsewhere (1001).
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub came: Instant,
    pub left: Instant,
}

/// What they saw.
#[derive(Debug, Default)]
pub struct Conversations {
    pub echoes: u64,
    pub sent_away: Vec<Sent>,
    pub failed: Vec<String>,
}

struct WebSocket {
    stream: TcpStream,
    came: Instant,
}

enum Said {
    Echo,
    GoingAway,
}

/// Keeps so many open until it is told to stop.
pub fn converse(address: SocketAddr, count: usize, stop: &AtomicBool, done: &AtomicU64) -> Conversations {
    let mut seen = Conversations::default();
    let mut sockets: Vec<Option<WebSocket>> = (0..count).map(|_| None).collect();
    let mut number = 0_u32;
    while !stop.load(Ordering::SeqCst) && seen.failed.len() < count {
        for socket in &mut sockets {
            number = number.wrapping_add(1);
            match one_turn(socket, address, number) {
                Ok(Said::Echo) => {
                    seen.echoes += 1;
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Said::GoingAway) => {
                    let came = socket.take().map(|socket| socket.came);
                    seen.sent_away.extend(came.map(|came| Sent { came, left: Instant::now() }));
                }
                Err(error) => {
                    let age = socket.take().map(|socket| socket.came.elapsed());
                    seen.failed.push(format!("a WebSocket of {age:?}: {error}"));
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
    seen
}

fn one_turn(socket: &mut Option<WebSocket>, address: SocketAddr, number: u32) -> io::Result<Said> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(WebSocket::open(address)?),
    };
    socket.ask(number.to_be_bytes())
}

impl WebSocket {
    fn open(address: SocketAddr) -> io::Result<WebSocket> {
        let mut stream = TcpStream::connect(address)?;
        let came = Instant::now();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(
            b"GET /chat HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        match head.starts_with(b"HTTP/1.1 101 ") {
            true => Ok(WebSocket { stream, came }),
            false => Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())),
        }
    }

    /// A binary frame there and back, both of them whole.
    fn ask(&mut self, payload: [u8; 4]) -> io::Result<Said> {
        let [a, b, c, d] = payload;
        // the close frame may be here already, and what is sent after it is nobody's loss
        let sent = self.stream.write_all(&[0x82, 0x84, 0, 0, 0, 0, a, b, c, d]);
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        match head {
            [0x82, 4] => {
                sent?;
                let mut back = [0; 4];
                self.stream.read_exact(&mut back)?;
                if back == payload {
                    Ok(Said::Echo)
                } else {
                    Err(io::Error::other("another frame came back"))
                }
            }
            [0x88, 2] => {
                let mut status = [0; 2];
                self.stream.read_exact(&mut status)?;
                match u16::from_be_bytes(status) {
                    1001 => Ok(Said::GoingAway),
                    other => Err(io::Error::other(format!("closed with {other}"))),
                }
            }
            other => Err(io::Error::other(format!("a frame that begins with {other:?}"))),
        }
    }
}
