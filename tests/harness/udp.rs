//! Servers and clients that speak UDP, and a gate that is waited for without connecting to it. Only test files that need it
//! include this module, and each uses a part of it.

#![allow(dead_code)]

use super::harness::{Gate, PATIENCE, ServerAddress, eventually, own_loopback};
use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long something is waited for that may not come.
const A_MOMENT: Duration = Duration::from_millis(200);

/// A gate whose listeners may be for UDP, from when it serves.
#[track_caller]
pub fn start(config: &str, servers: &[&dyn ServerAddress]) -> Gate {
    let gate = Gate::with(servers).launch(config);
    eventually("the gate to serve", || gate.stderr().contains(" serves with "));
    gate
}

/// What a server has heard.
#[derive(Default)]
struct Heard {
    datagrams: Vec<Vec<u8>>,
    clients: HashSet<SocketAddr>,
}

/// A server that answers each datagram with its name and the datagram, and remembers what it was sent.
pub struct UdpServer {
    label: String,
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl UdpServer {
    pub fn start(label: &str) -> Self {
        Self::at(label, SocketAddr::from((own_loopback(), 0)))
    }

    /// At this address, where no other is any more.
    pub fn at(label: &str, address: SocketAddr) -> Self {
        let name = label.to_owned();
        Self::answering(label, address, move |socket, text, client| {
            let _ = socket.send_to(&[name.as_bytes(), b": ", text].concat(), client);
        })
    }

    /// Answers nothing.
    pub fn silent(label: &str) -> Self {
        Self::answering(label, SocketAddr::from((own_loopback(), 0)), |_, _, _| {})
    }

    /// Answers with so many events, so far apart.
    pub fn streaming(label: &str, count: usize, apart: Duration) -> Self {
        Self::answering(label, SocketAddr::from((own_loopback(), 0)), move |socket, _, client| {
            for i in 0..count {
                let _ = socket.send_to(format!("event {i}").as_bytes(), client);
                std::thread::sleep(apart);
            }
        })
    }

    fn answering(
        label: &str,
        address: SocketAddr,
        answer: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).expect("an address for UDP");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let address = socket.local_addr().expect("an address");
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        let (known, stopped) = (heard.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !stopped.load(Ordering::SeqCst) {
                let Ok((length, client)) = socket.recv_from(&mut room) else { continue };
                {
                    let mut known = known.lock().unwrap();
                    known.datagrams.push(room[..length].to_vec());
                    known.clients.insert(client);
                }
                answer(&socket, &room[..length], client);
            }
        });
        Self { label: label.to_owned(), address, heard, stop, thread: Mutex::new(Some(thread)) }
    }

    /// What it was sent, as it came.
    pub fn heard_raw(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().datagrams.clone()
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard_raw().into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
    }

    /// How many addresses and ports have asked it.
    pub fn clients(&self) -> usize {
        self.heard.lock().unwrap().clients.len()
    }

    pub fn is_running(&self) -> bool {
        self.thread.lock().unwrap().as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Closes its socket: who sends to it hears that nobody is there.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            let _ = thread.join();
        }
    }
}

impl ServerAddress for UdpServer {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address at which nobody takes datagrams.
pub fn nobody(label: &str) -> UdpServer {
    let server = UdpServer::start(label);
    server.stop();
    server
}

/// A client that is connected to one address: an answer from any other never reaches it.
pub struct UdpTester(UdpSocket);

impl UdpTester {
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::from("127.0.0.1:0", address)
    }

    #[track_caller]
    pub fn from(own: &str, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).expect("an address of its own");
        socket.connect(address).expect("connect");
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub fn send(&self, text: &str) {
        // an error is about what was sent before
        for _ in 0..3 {
            if self.0.send(text.as_bytes()).is_ok() {
                return;
            }
        }
    }

    fn within(&self, time: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(time)).expect("a timeout");
        let mut room = vec![0; 65_536];
        let length = self.0.recv(&mut room).ok()?;
        room.truncate(length);
        Some(room)
    }

    /// What comes, which has to.
    #[track_caller]
    pub fn receive(&self) -> String {
        String::from_utf8(self.within(PATIENCE).expect("an answer")).expect("text")
    }

    /// What comes, if something does.
    pub fn receives(&self) -> Option<String> {
        String::from_utf8(self.within(A_MOMENT)?).ok()
    }

    #[track_caller]
    pub fn ask(&self, text: &str) -> String {
        self.send(text);
        self.receive()
    }

    #[track_caller]
    pub fn ask_raw(&self, bytes: &[u8]) -> Vec<u8> {
        self.0.send(bytes).expect("send");
        self.within(PATIENCE).expect("an answer")
    }

    /// What is answered, if something is.
    pub fn asks(&self, text: &str) -> Option<String> {
        self.send(text);
        self.receives()
    }

    /// The same, with patience.
    pub fn receives_after(&self, text: &str) -> Option<String> {
        self.send(text);
        String::from_utf8(self.within(PATIENCE)?).ok()
    }
}
