//! A server that does with each connection exactly what the test says: for answers that no proper server gives.

use super::net::{ServerAddress, own_loopback};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A listening socket and the test's own handling of each connection.
pub struct RawServer {
    label: String,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl RawServer {
    pub fn start(label: &str, handle: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((own_loopback(), 0)).expect("an address");
        let address = listener.local_addr().expect("address");
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, handle) = (stop.clone(), Arc::new(handle));
        let accepting = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let handle = handle.clone();
                std::thread::spawn(move || handle(stream));
            }
        });
        Self { label: label.to_owned(), address, stop, accepting: Some(accepting) }
    }

    /// Answers the first request on each connection with these bytes and closes.
    pub fn saying(label: &str, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(label, move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(&answer);
        })
    }
}

/// Reads up to the empty line after a head.
pub fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    head
}

impl ServerAddress for RawServer {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, so that it sees the end.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
