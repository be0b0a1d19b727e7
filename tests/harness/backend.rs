//! A labelled HTTP/1.1 server inside the test process: it answers as told, remembers what it was asked, and can
//! be stopped and brought back on the same address.

use super::net::{ServerAddress, own_loopback};
use super::program::no_process_starting;
use super::reply::Reply;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The path that health checks in tests ask for. Requests to it are kept apart as probes.
const HEALTH_PATH: &str = "/healthz";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The head's exact bytes, with the empty line.
    pub raw_head: String,
    pub method: String,
    /// The request target as spelt on the wire.
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// The body with any chunking undone.
    pub body: Vec<u8>,
    /// Which of the backend's connections it came on, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The header's only value; several values of one name are joined as `a, b`.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers_named(name);
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

/// A running backend. Answers 200 with its label as the body until told otherwise.
pub struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Mutex<Option<Accepting>>,
}

struct Shared {
    label: String,
    script: Mutex<Arc<Script>>,
    health: Mutex<Reply>,
    requests: Mutex<Vec<Received>>,
    probes: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
}

struct Accepting {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Backend {
    pub fn start(label: &str) -> Self {
        Self::start_at(label, (own_loopback(), 0).into())
    }

    /// On this address, for servers that have to have something in common: port 0 is any.
    pub fn start_at(label: &str, address: SocketAddr) -> Self {
        let body = label.to_owned();
        let listener = TcpListener::bind(address).expect("a backend's address");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            label: label.to_owned(),
            script: Mutex::new(Arc::new(move |_: &Received| Reply::ok(body.clone()))),
            health: Mutex::new(Reply::ok("healthy")),
            requests: Mutex::default(),
            probes: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let accepting = Mutex::new(Some(Accepting::start(listener, &shared)));
        Self { shared, address, accepting }
    }

    /// Answers every request with `reply` from now on.
    pub fn answers(&self, reply: Reply) {
        self.answers_by(move |_| reply.clone());
    }

    /// Answers each request as `script` decides from now on.
    pub fn answers_by(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// What health checks get from now on.
    pub fn health(&self, reply: Reply) {
        *self.shared.health.lock().unwrap() = reply;
    }

    /// The requests so far, without health checks, in the order of their arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub fn only_request(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "requests at {}: {requests:#?}", self.shared.label);
        requests[0].clone()
    }

    /// The newest request.
    #[track_caller]
    pub fn last_request(&self) -> Received {
        self.requests().pop().unwrap_or_else(|| panic!("{} was never asked", self.shared.label))
    }

    /// How many health checks by HTTP have arrived.
    pub fn probes(&self) -> Vec<Received> {
        self.shared.probes.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
        self.shared.probes.lock().unwrap().clear();
    }

    /// How many connections have been accepted, ever.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes the listening socket and every connection: from now on connecting is refused.
    pub fn stop(&self) {
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            let _starting = no_process_starting();
            accepting.stop.store(true, Ordering::SeqCst);
            accepting.thread.join().expect("the accept loop ends");
        }
        self.drop_connections();
    }

    /// Closes every open connection and goes on listening.
    pub fn drop_connections(&self) {
        for (_, stream) in self.shared.open.lock().unwrap().drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again on the same address after `stop`.
    pub fn restart(&self) {
        let mut accepting = self.accepting.lock().unwrap();
        assert!(accepting.is_none(), "{} is running", self.shared.label);
        let listener = TcpListener::bind(self.address).expect("the same address again");
        *accepting = Some(Accepting::start(listener, &self.shared));
    }
}

impl ServerAddress for Backend {
    fn label(&self) -> &str {
        &self.shared.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Accepting {
    fn start(listener: TcpListener, shared: &Arc<Shared>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, seen) = (shared.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::SeqCst) {
                if readable(&listener)
                    && let Ok((stream, _)) = listener.accept()
                {
                    shared.clone().spawn_connection(stream);
                }
            }
        });
        Self { stop, thread }
    }
}

/// Waits a moment for a connection, so that the accept loop notices when it is told to stop.
fn readable(listener: &TcpListener) -> bool {
    let mut waiting = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd, and the descriptor is open for as long as the borrow of `listener`.
    unsafe { libc::poll(&raw mut waiting, 1, 20) == 1 }
}

impl Shared {
    fn spawn_connection(self: Arc<Self>, stream: TcpStream) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        if let Ok(handle) = stream.try_clone() {
            self.open.lock().unwrap().insert(number, handle);
        }
        std::thread::spawn(move || {
            let _ = self.serve(stream, number);
            self.open.lock().unwrap().remove(&number);
        });
    }

    fn serve(&self, mut stream: TcpStream, number: usize) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader, number)? {
            let reply = self.reply_to(&request);
            if !reply.write_to(&mut stream, request.method == "HEAD")? {
                break;
            }
        }
        Ok(())
    }

    fn reply_to(&self, request: &Received) -> Reply {
        if request.target == HEALTH_PATH {
            self.probes.lock().unwrap().push(request.clone());
            return self.health.lock().unwrap().clone();
        }
        self.requests.lock().unwrap().push(request.clone());
        let script = self.script.lock().unwrap().clone();
        script(request)
    }
}

/// Reads one whole request; `None` when the connection ended between two.
fn read_request(reader: &mut BufReader<TcpStream>, connection: usize) -> io::Result<Option<Received>> {
    let mut raw_head = String::new();
    while !raw_head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut raw_head)? == 0 {
            return Ok(None);
        }
    }
    let mut lines = raw_head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut request = Received { raw_head, method, target, headers, body: Vec::new(), connection };
    request.body = read_body(reader, &request)?;
    Ok(Some(request))
}

fn read_body(reader: &mut BufReader<TcpStream>, request: &Received) -> io::Result<Vec<u8>> {
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some() {
        return super::http_client::read_chunked(reader);
    }
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}
