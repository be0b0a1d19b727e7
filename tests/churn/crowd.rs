//! The clients. Each asks for one thing over and over until it is told to stop, and then finishes what it has begun.

use super::server::{self, PAUSE, PIECES, SMALL, body, piece, sum};
use super::websockets::{self, Conversations};
use crate::harness::{Client, ClientTls, H2Client, H2Failure, Request, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client waits for something to come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two requests of a client.
const PACE: Duration = Duration::from_millis(3);
/// A client that has failed so often gives up.
const ENOUGH: usize = 20;

/// What the clients of one kind saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub kind: &'static str,
    pub clients: usize,
    pub done: u64,
    pub failed: Vec<String>,
}

/// Where they ask.
#[derive(Clone)]
pub struct Target {
    pub plain: SocketAddr,
    pub secure: SocketAddr,
    pub tls: ClientTls,
    pub websockets: usize,
}

pub struct Crowd {
    stop: Arc<AtomicBool>,
    members: Vec<Member>,
    conversations: JoinHandle<Conversations>,
    echoes: Arc<AtomicU64>,
}

struct Member {
    kind: &'static str,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

/// What went wrong, in words.
type Failure = String;

impl Crowd {
    pub fn gather(target: &Target) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let mut members = Vec::new();
        let mut join =
            |kind, pace, clients, client: &dyn Fn() -> Box<dyn FnMut() -> Result<(), Failure> + Send>| {
                members.extend((0..clients).map(|_| Member::start(kind, pace, &stop, client())));
            };
        let (plain, secure, tls) = (target.plain, target.secure, &target.tls);
        join("HTTP/1.1, kept", PACE, 4, &|| Box::new(kept(plain)));
        join("HTTP/1.1, a connection each", PACE, 1, &|| Box::new(move || small(&fresh(plain, "/small")?)));
        join("HTTP/2 over TLS", PACE, 2, &|| Box::new(multiplexed(secure, tls.clone())));
        join("download", Duration::ZERO, 1, &|| Box::new(move || download(plain)));
        join("upload", Duration::ZERO, 1, &|| Box::new(move || upload(plain)));
        let echoes = Arc::new(AtomicU64::new(0));
        let (count, stopped, counted) = (target.websockets, stop.clone(), echoes.clone());
        let conversations =
            std::thread::spawn(move || websockets::converse(plain, count, &stopped, &counted));
        Crowd { stop, members, conversations, echoes }
    }

    /// Whether everybody is at it; a download or an upload has at least begun then.
    pub fn is_busy(&self, websockets: usize) -> bool {
        let is_short = |member: &&Member| !["download", "upload"].contains(&member.kind);
        self.members.iter().filter(is_short).all(|member| member.done.load(Ordering::SeqCst) >= 20)
            && self.echoes.load(Ordering::SeqCst) >= 2 * websockets as u64
    }

    /// Everybody finishes what is begun, and goes.
    pub fn disperse(self) -> (Vec<Seen>, Conversations) {
        self.stop.store(true, Ordering::SeqCst);
        let mut all: Vec<Seen> = Vec::new();
        for member in self.members {
            let done = member.done.clone();
            let failed = member.thread.join().unwrap_or_else(|_| vec!["the client panicked".into()]);
            let done = done.load(Ordering::SeqCst);
            match all.last_mut().filter(|last| last.kind == member.kind) {
                Some(last) => {
                    last.clients += 1;
                    last.done += done;
                    last.failed.extend(failed);
                }
                None => all.push(Seen { kind: member.kind, clients: 1, done, failed }),
            }
        }
        let lost =
            |_| Conversations { failed: vec!["the client panicked".into()], ..Conversations::default() };
        (all, self.conversations.join().unwrap_or_else(lost))
    }
}

impl Member {
    fn start(
        kind: &'static str,
        pace: Duration,
        stop: &Arc<AtomicBool>,
        mut once: impl FnMut() -> Result<(), Failure> + Send + 'static,
    ) -> Member {
        let done = Arc::new(AtomicU64::new(0));
        let (stop, counted) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let mut failed = Vec::new();
            while !stop.load(Ordering::SeqCst) && failed.len() < ENOUGH {
                match once() {
                    Ok(()) => _ = counted.fetch_add(1, Ordering::SeqCst),
                    Err(why) => failed.push(why),
                }
                std::thread::sleep(pace);
            }
            failed
        });
        Member { kind, done, thread }
    }
}

fn small(response: &Response) -> Result<(), Failure> {
    match (response.status, response.text()) {
        (200, text) if text == SMALL => Ok(()),
        (status, text) => Err(format!("{status} {text:?}")),
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}

/// On a connection that is kept for as long as the gate keeps it.
fn kept(address: SocketAddr) -> impl FnMut() -> Result<(), Failure> {
    let mut connection: Option<Client> = None;
    move || {
        let (mut client, is_new) = match connection.take() {
            Some(client) => (client, false),
            None => (Client::try_connect(address).map_err(failure)?, true),
        };
        client.try_send(Request::get("/small").bytes()).map_err(failure)?;
        let response = client.try_response_to("GET");
        let response = response.map_err(|error| format!("{error}; the connection was new: {is_new}"))?;
        let closes = response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        connection = (!closes).then_some(client);
        small(&response)
    }
}

/// On a connection of its own.
fn fresh(address: SocketAddr, path: &str) -> Result<Response, Failure> {
    let mut client = Client::try_connect(address).map_err(failure)?;
    client.try_send(Request::get(path).header("Connection", "close").bytes()).map_err(failure)?;
    client.try_response_to("GET").map_err(failure)
}

fn download(address: SocketAddr) -> Result<(), Failure> {
    let response = fresh(address, "/download")?;
    let (got, wanted) = (sum(&response.body), sum(&body()));
    if response.status == 200 && got == wanted {
        return Ok(());
    }
    Err(format!("{}: {} bytes with the sum {got}, not {wanted}", response.status, response.body.len()))
}

fn upload(address: SocketAddr) -> Result<(), Failure> {
    let mut client = Client::try_connect(address).map_err(failure)?;
    let length = PIECES * server::PIECE;
    let head = format!("POST /upload HTTP/1.1\r\nHost: gate.test\r\nContent-Length: {length}\r\n\r\n");
    client.try_send(head).map_err(failure)?;
    for number in 0..PIECES {
        std::thread::sleep(PAUSE);
        client.try_send(piece(number)).map_err(|error| format!("after {number} pieces: {error}"))?;
    }
    let response = client.try_response_to("POST").map_err(failure)?;
    let (got, wanted) = (response.text(), sum(&body()));
    if response.status == 200 && got == wanted { Ok(()) } else { Err(format!("{}: {got}", response.status)) }
}

/// On a connection of HTTP/2, until the gate says that there will be no more requests on it.
fn multiplexed(address: SocketAddr, tls: ClientTls) -> impl FnMut() -> Result<(), Failure> {
    let mut connection: Option<H2Client> = None;
    move || {
        let client = match &mut connection {
            Some(client) => client,
            None => connection.insert(H2Client::try_connect(address, &tls).map_err(failure)?),
        };
        match client.try_ask(&Request::get("/small")) {
            Ok(response) => small(&response),
            Err(error) if was_not_taken(&error) => {
                let client = connection.insert(H2Client::try_connect(address, &tls).map_err(failure)?);
                small(&client.try_ask(&Request::get("/small")).map_err(failure)?)
            }
            Err(error) => {
                connection = None;
                Err(failure(error))
            }
        }
    }
}

/// The gate has said GOAWAY, and that it has not begun with this request: it is to be sent elsewhere (RFC 9113 §6.8).
fn was_not_taken(error: &H2Failure) -> bool {
    let error = error.downcast_ref::<h2::Error>();
    error.is_some_and(|error| {
        error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
    })
}
