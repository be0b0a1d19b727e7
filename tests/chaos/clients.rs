//! A crowd of clients with kept connections, each with one request at a time and a pause after each answer. Every
//! request has an id of its own, which the right answer repeats.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A body that is more than one packet, and well within what a proxy keeps to send it again.
const SENT: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub target: SocketAddr,
    /// How many clients send GET, PUT with a body, and POST with one.
    pub getting: usize,
    pub putting: usize,
    pub posting: usize,
    /// After each answer.
    pub pause: Duration,
    /// After which a client gives up.
    pub patience: Duration,
    /// After which all end, whatever happens.
    pub longest: Duration,
}

/// How a request ended for its client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// 200 with the right answer.
    Well,
    /// Another status.
    Status(u16),
    /// 200, and an answer to something else.
    Wrong(String),
    /// The connection was refused.
    Refused,
    /// The connection ended before any of an answer.
    Reset,
    /// The connection ended within the answer.
    Cut,
    TimedOut,
    Otherwise(String),
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: &'static str,
    pub id: String,
    pub ended: Ended,
    pub took: Duration,
}

pub struct Crowd {
    clients: Vec<JoinHandle<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    /// How many requests each server has answered, by label.
    answered: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Crowd {
    pub fn gather(load: Load) -> Crowd {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let many = std::iter::repeat_n;
        let methods =
            many("GET", load.getting).chain(many("PUT", load.putting)).chain(many("POST", load.posting));
        let clients = methods.enumerate().map(|(number, method)| {
            let client = Client {
                load,
                number,
                method,
                stop: Arc::clone(&stop),
                answered: Arc::clone(&answered),
                connection: None,
            };
            thread::spawn(move || client.ask_repeatedly())
        });
        Crowd { clients: clients.collect(), stop, answered }
    }

    /// How many requests this server has answered so far.
    pub fn answered_by(&self, label: &str) -> usize {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).get(label).copied().unwrap_or_default()
    }

    /// Ends it; how every request went.
    pub fn disperse(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::SeqCst);
        // a client that panicked is missed by its number of requests, and its message is printed
        self.clients.into_iter().filter_map(|client| client.join().ok()).flatten().collect()
    }
}

struct Client {
    load: Load,
    number: usize,
    method: &'static str,
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<BTreeMap<String, usize>>>,
    connection: Option<BufReader<TcpStream>>,
}

struct Answer {
    status: u16,
    body: String,
    last: bool,
}

impl Client {
    fn ask_repeatedly(mut self) -> Vec<Asked> {
        let begun = Instant::now();
        let mut asked = Vec::new();
        // not all of them at the same moment
        thread::sleep(self.load.pause * u32::try_from(self.number % 16).unwrap_or(0) / 16);
        while !self.stop.load(Ordering::SeqCst) && begun.elapsed() < self.load.longest {
            let id = format!("{}-{}-{}", self.method, self.number, asked.len());
            let started = Instant::now();
            let ended = self.ask(&id).unwrap_or_else(|ended| ended);
            if ended != Ended::Well {
                self.connection = None;
            }
            asked.push(Asked { method: self.method, id, ended, took: started.elapsed() });
            thread::sleep(self.load.pause);
        }
        asked
    }

    /// `Err` for whatever is not an answer.
    fn ask(&mut self, id: &str) -> Result<Ended, Ended> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        connection.get_mut().write_all(&self.request(id)).map_err(before_the_answer)?;
        let answer = read_answer(&mut connection)?;
        if !answer.last {
            self.connection = Some(connection);
        }
        if answer.status != 200 {
            return Ok(Ended::Status(answer.status));
        }
        match answer.body.split_once(' ') {
            Some((label, answered)) if answered == id => {
                let mut all = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
                *all.entry(label.to_owned()).or_default() += 1;
                Ok(Ended::Well)
            }
            Some(_) | None => Ok(Ended::Wrong(answer.body)),
        }
    }

    fn connect(&self) -> Result<BufReader<TcpStream>, Ended> {
        let opened = TcpStream::connect_timeout(&self.load.target, self.load.patience).and_then(|stream| {
            stream.set_read_timeout(Some(self.load.patience))?;
            stream.set_write_timeout(Some(self.load.patience))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        opened.map(BufReader::new).map_err(before_the_answer)
    }

    fn request(&self, id: &str) -> Vec<u8> {
        let Client { method, .. } = self;
        let head = format!("{method} / HTTP/1.1\r\nHost: gate.test\r\nX-Id: {id}\r\n");
        if *method == "GET" {
            return (head + "\r\n").into_bytes();
        }
        let head = format!("{head}Content-Length: {SENT}\r\n\r\n");
        [head.as_bytes(), &[b'p'; SENT]].concat()
    }
}

fn before_the_answer(error: io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Ended::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            Ended::Reset
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Ended::TimedOut,
        _ => Ended::Otherwise(error.to_string()),
    }
}

fn within_the_answer(error: io::Error) -> Ended {
    match before_the_answer(error) {
        Ended::Reset => Ended::Cut,
        other => other,
    }
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> Result<Answer, Ended> {
    // the first byte tells a reset from an answer that was cut
    if reader.fill_buf().map_err(before_the_answer)?.is_empty() {
        return Err(Ended::Reset);
    }
    let first = line(reader)?;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
    let status = status.ok_or_else(|| Ended::Otherwise(format!("not a status line: {first:?}")))?;
    let (mut length, mut last) = (None, false);
    loop {
        let line = line(reader)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "connection" => last |= value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        Some(length) => {
            body.resize(length, 0);
            reader.read_exact(&mut body).map_err(within_the_answer)?;
        }
        None => {
            last = true;
            reader.read_to_end(&mut body).map_err(within_the_answer)?;
        }
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), last })
}

fn line(reader: &mut BufReader<TcpStream>) -> Result<String, Ended> {
    let mut line = String::new();
    reader.read_line(&mut line).map_err(within_the_answer)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(Ended::Cut),
    }
}
