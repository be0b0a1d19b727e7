//! A name server that answers as told, counts what it is asked, and can fail in every usual way. Only
//! test files that need it include this module.

use super::harness::{ServerAddress, own_loopback};
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the server says about a name.
#[derive(Clone, Debug)]
pub enum Says {
    /// These records; a type that is not among them gets an empty answer.
    Records(u32, Vec<RData>),
    NxDomain,
    ServFail,
    /// Nothing at all.
    Silence,
}

/// What fits into a packet; a longer answer is cut short, and asked for again over TCP (RFC 1035 §4.2).
const LONGEST_PACKET: usize = 1232;

/// A running name server. Names it was told nothing about do not exist.
pub struct DnsServer {
    label: String,
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Zone {
    names: HashMap<Name, Says>,
    asked: Vec<(Name, RecordType)>,
}

impl DnsServer {
    pub fn start(label: &str) -> Self {
        // the address is this test's own, so that the port is free for UDP too
        let listener = TcpListener::bind((own_loopback(), 0)).expect("a name server's address");
        listener.set_nonblocking(true).expect("a socket that does not wait");
        let socket = UdpSocket::bind(listener.local_addr().expect("address")).expect("the same for UDP");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let address = socket.local_addr().expect("address");
        let (zone, stop) = (Arc::new(Mutex::new(Zone::default())), Arc::new(AtomicBool::new(false)));
        let (known, seen) = (zone.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while !seen.load(Ordering::SeqCst) {
                if let Ok((length, client)) = socket.recv_from(&mut packet)
                    && let Some(answer) = answer(&packet[..length], &known, LONGEST_PACKET)
                {
                    let _ = socket.send_to(&answer, client);
                }
                if let Ok((stream, _)) = listener.accept() {
                    let _ = answer_stream(stream, &known);
                }
            }
        });
        Self { label: label.to_owned(), address, zone, stop, thread: Some(thread) }
    }

    pub fn says(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().names.insert(fqdn(name), says);
    }

    /// `name` has these addresses, of either family.
    pub fn addresses(&self, name: &str, ttl: u32, addresses: &[IpAddr]) {
        self.says(name, Says::Records(ttl, addresses.iter().copied().map(RData::from).collect()));
    }

    /// `name` has these SRV records: priority, weight, port, target.
    pub fn srv(&self, name: &str, ttl: u32, records: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, fqdn(target)))
        };
        self.says(name, Says::Records(ttl, records.iter().map(record).collect()));
    }

    /// How often `name` was asked for, under this type.
    pub fn asked(&self, name: &str, record_type: RecordType) -> usize {
        let question = (fqdn(name), record_type);
        self.zone.lock().unwrap().asked.iter().filter(|asked| **asked == question).count()
    }
}

impl ServerAddress for DnsServer {
    fn label(&self) -> &str {
        &self.label
    }

    fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fqdn(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    name
}

/// Answers one question over TCP, where each message has its length before it.
fn answer_stream(mut stream: TcpStream, zone: &Mutex<Zone>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut question)?;
    if let Some(answer) = answer(&question, zone, usize::MAX) {
        let length = u16::try_from(answer.len()).expect("a message that fits");
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())?;
    }
    Ok(())
}

/// The answer to a question, cut short when it is longer; `None` for silence.
fn answer(packet: &[u8], zone: &Mutex<Zone>, longest: usize) -> Option<Vec<u8>> {
    let question = Message::from_vec(packet).ok()?;
    let query = question.queries.first()?.clone();
    let mut zone = zone.lock().unwrap();
    zone.asked.push((query.name().to_lowercase(), query.query_type()));
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    match zone.names.get(query.name()) {
        Some(Says::Silence) => return None,
        Some(Says::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
        Some(Says::NxDomain) | None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(Says::Records(ttl, records)) => {
            let wanted = records.iter().filter(|record| record.record_type() == query.query_type());
            answer
                .add_answers(wanted.map(|data| Record::from_rdata(query.name().clone(), *ttl, data.clone())));
        }
    }
    let whole = answer.to_vec().ok()?;
    if whole.len() <= longest {
        return Some(whole);
    }
    answer.answers.clear();
    answer.metadata.truncation = true;
    answer.to_vec().ok()
}
