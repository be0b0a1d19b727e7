//! The access log as messages to a syslog server (RFC 5424): datagrams to a unix socket or over UDP (RFC 5426), or a
//! stream over TCP with the length before each message (RFC 6587 §3.4.1). Made by [`super::access_log`], driven by
//! [`super::writer`] on its thread, which holds lines back while the server is not there.

use super::sink::{PATIENCE_MS, Sink};
use super::stamp::Stamp;
use super::text::push_number;
use crate::config::file::{Syslog, SyslogProtocol};
use crate::config::words::ServerAddress;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, SystemTime};

/// How long a connection over TCP may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Severity: informational (RFC 5424 §6.2.1).
const INFORMATIONAL: u8 = 6;

/// What a datagram may hold, addresses of a lower layer left aside. Halved when the system says that it is too much.
const MOST: usize = 65_000;

/// What every receiver of UDP takes (RFC 5426 §3.2): less is not tried.
const LEAST: usize = 480;

/// So many bytes of messages are handed to a stream at once.
const BATCH: usize = 64 * 1024;

pub(super) struct SyslogSink {
    server: ServerAddress,
    protocol: SyslogProtocol,
    /// PRI and VERSION: `<190>1 `.
    opening: String,
    app_name: String,
    /// Behind the time: ` HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA `. Known when it is connected, which is after a
    /// daemon has become another process.
    middle: String,
    way: Option<Way>,
    stamp: Stamp,
    /// The longest message that a datagram takes.
    most: usize,
    frames: Frames,
}

/// A socket that never blocks.
enum Way {
    Unix(UnixDatagram),
    /// Not connected: a server that is not there would be an error of the next message.
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream),
}

/// Messages on their way into a stream.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// So many bytes the system has taken.
    sent: usize,
    /// So many bytes of lines they are made of.
    of: usize,
}

impl SyslogSink {
    pub(super) fn new(plan: &Syslog) -> Self {
        let priority = plan.facility as u8 * 8 + INFORMATIONAL;
        SyslogSink {
            server: plan.address.value.clone(),
            protocol: plan.protocol.as_deref().copied().unwrap_or_default(),
            opening: format!("<{priority}>1 "),
            app_name: plan.app_name.value.clone(),
            middle: String::new(),
            way: None,
            stamp: Stamp::default(),
            most: MOST,
            frames: Frames::default(),
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        self.middle = format!(" {} {} {} access - ", host_name(), self.app_name, std::process::id());
        self.frames.rewind();
        let way = match (&self.server, self.protocol) {
            (ServerAddress::Unix(path), _) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Way::Unix(socket)
            }
            (ServerAddress::Ip(address), protocol) => over_ip(&[*address], protocol)?,
            (ServerAddress::Name(name, port), protocol) => {
                let found: Vec<_> = (name.0.as_str(), port.get()).to_socket_addrs()?.collect();
                over_ip(&found, protocol)?
            }
        };
        self.way = Some(way);
        Ok(())
    }

    /// Sends the first line; the bytes it has.
    fn datagram(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (line, taken) = first_line(lines);
        let mut message = Vec::with_capacity(self.opening.len() + self.middle.len() + line.len() + 32);
        self.header(&mut message);
        message.extend_from_slice(line);
        loop {
            let fit = message.get(..end_of_text(&message, self.most)).unwrap_or(&message);
            let sent = match &self.way {
                Some(Way::Unix(socket)) => ready(socket.as_raw_fd()).and_then(|()| socket.send(fit)),
                Some(Way::Udp(socket, to)) => {
                    ready(socket.as_raw_fd()).and_then(|()| socket.send_to(fit, to))
                }
                Some(Way::Tcp(_)) | None => Err(io::ErrorKind::NotConnected.into()),
            };
            match sent {
                Ok(_) => return Ok(taken),
                Err(e) if e.raw_os_error() == Some(libc::EMSGSIZE) && fit.len() > LEAST => {
                    self.most = (fit.len() / 2).max(LEAST);
                }
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends as many lines as make a batch; the bytes they have, once all of them are with the system.
    fn stream(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.frames.of == 0 {
            self.fill(lines);
        }
        let Some(Way::Tcp(socket)) = &mut self.way else { return Err(io::ErrorKind::NotConnected.into()) };
        while let Some(rest) = self.frames.bytes.get(self.frames.sent..).filter(|rest| !rest.is_empty()) {
            ready(socket.as_raw_fd())?;
            match socket.write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.frames.sent += n,
            }
        }
        let taken = self.frames.of;
        self.frames.clear();
        Ok(taken)
    }

    /// Makes messages of lines.
    fn fill(&mut self, lines: &[u8]) {
        let mut header = Vec::new();
        self.header(&mut header);
        let Frames { bytes, ends, of, .. } = &mut self.frames;
        while let Some(rest) = lines.get(*of..).filter(|rest| !rest.is_empty() && bytes.len() < BATCH) {
            let (line, taken) = first_line(rest);
            push_number(bytes, (header.len() + line.len()) as u64);
            bytes.push(b' ');
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(line);
            ends.push(bytes.len());
            *of += taken;
        }
    }

    /// What stands before a line (RFC 5424 §6.2).
    fn header(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.opening.as_bytes());
        self.stamp.rfc3339(SystemTime::now(), out);
        out.extend_from_slice(self.middle.as_bytes());
    }
}

impl Sink for SyslogSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.way.is_none() {
            self.connect()?;
        }
        let sent = match &self.way {
            Some(Way::Tcp(_)) => self.stream(lines),
            Some(Way::Unix(_) | Way::Udp(..)) | None => self.datagram(lines),
        };
        let waits =
            |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
        if sent.as_ref().is_err_and(|e| !waits(e)) {
            // another one is made the next time
            self.way = None;
        }
        sent
    }

    /// The server may be another one by now, under the same name; what is on its way gets there first.
    fn reopen(&mut self) -> io::Result<()> {
        if self.frames.of == 0 {
            self.way = None;
        }
        Ok(())
    }

    fn comes_back(&self) -> bool {
        true
    }

    fn forget(&mut self) {
        if self.frames.sent > 0 {
            // half a message would be taken for the beginning of the next one
            self.way = None;
        }
        self.frames.clear();
    }
}

impl Frames {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.sent, self.of) = (0, 0);
    }

    /// On another connection: from the first message that has not been sent whole.
    fn rewind(&mut self) {
        self.sent = self.ends.iter().copied().take_while(|end| *end <= self.sent).last().unwrap_or(0);
    }
}

/// Without its newline, and how many bytes it has with it.
fn first_line(lines: &[u8]) -> (&[u8], usize) {
    match memchr::memchr(b'\n', lines) {
        Some(end) => (lines.get(..end).unwrap_or_default(), end + 1),
        None => (lines, lines.len()),
    }
}

/// Where a text of UTF-8 is to be cut to have `most` bytes, if it has more.
fn end_of_text(text: &[u8], most: usize) -> usize {
    let is_middle = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = most.min(text.len());
    (0..4).filter_map(|back| end.checked_sub(back)).find(|at| !is_middle(*at)).unwrap_or(end)
}

fn over_ip(addresses: &[SocketAddr], protocol: SyslogProtocol) -> io::Result<Way> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        let made = match protocol {
            SyslogProtocol::Udp => udp(*address),
            SyslogProtocol::Tcp => tcp(*address),
        };
        match made {
            Ok(way) => return Ok(way),
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

fn udp(to: SocketAddr) -> io::Result<Way> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from)?;
    socket.set_nonblocking(true)?;
    Ok(Way::Udp(socket, to))
}

fn tcp(to: SocketAddr) -> io::Result<Way> {
    let socket = TcpStream::connect_timeout(&to, CONNECT)?;
    socket.set_nonblocking(true)?;
    Ok(Way::Tcp(socket))
}

/// Waits a moment until there is room. A server never answers: one that has closed is gone.
fn ready(fd: RawFd) -> io::Result<()> {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT | libc::POLLRDHUP, revents: 0 };
    // SAFETY: one pollfd, alive during the call.
    match unsafe { libc::poll(&mut poll, 1, PATIENCE_MS) } {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        n if n < 0 => Err(io::Error::last_os_error()),
        _ if poll.revents & (libc::POLLRDHUP | libc::POLLHUP) != 0 => {
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server has closed the connection"))
        }
        _ => Ok(()),
    }
}

/// That of this machine, or `-` (RFC 5424 §6.2.4).
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    const TIMED: &str = r"<134>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ gate \d+ access - ";

    fn sink(address: &str, protocol: SyslogProtocol) -> SyslogSink {
        SyslogSink::new(&Syslog {
            address: address.parse::<ServerAddress>().unwrap().into(),
            protocol: Some(protocol.into()),
            facility: crate::config::file::Facility::Local0,
            app_name: "gate".to_owned().into(),
        })
    }

    /// All of it, as the writer does.
    fn write(sink: &mut SyslogSink, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let n = sink.write(rest).unwrap();
            rest = &rest[n..];
        }
    }

    fn is_like(message: &[u8], pattern: &str) {
        let text = std::str::from_utf8(message).unwrap();
        assert!(regex::Regex::new(&format!("^{pattern}$")).unwrap().is_match(text), "{text}");
    }

    #[test]
    fn each_line_is_a_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let unix = UnixDatagram::bind(&path).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut buffer = [0; 70_000];
        let mut to_unix = sink(&format!("unix:{}", path.display()), SyslogProtocol::Udp);
        write(&mut to_unix, "one\ntwo \u{e9}\n");
        for line in ["one", "two \u{e9}"] {
            let n = unix.recv(&mut buffer).unwrap();
            is_like(&buffer[..n], &format!("{TIMED}{line}"));
        }
        let mut to_udp = sink(&udp.local_addr().unwrap().to_string(), SyslogProtocol::Udp);
        write(&mut to_udp, "one\ntwo \u{e9}\n");
        for line in ["one", "two \u{e9}"] {
            let n = udp.recv(&mut buffer).unwrap();
            is_like(&buffer[..n], &format!("{TIMED}{line}"));
        }
    }

    #[test]
    fn a_line_too_long_for_a_datagram_is_cut_between_characters() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sink = sink(&udp.local_addr().unwrap().to_string(), SyslogProtocol::Udp);
        write(&mut sink, &("\u{e9}".repeat(40_000) + "\nnext\n"));
        let mut buffer = vec![0; 70_000];
        let n = udp.recv(&mut buffer).unwrap();
        assert!((MOST - 1..=MOST).contains(&n), "{n}");
        is_like(&buffer[..n], &format!("{TIMED}\u{e9}+"));
        let n = udp.recv(&mut buffer).unwrap();
        is_like(&buffer[..n], &format!("{TIMED}next"));
    }

    #[test]
    fn a_stream_has_lengths_and_goes_on_with_a_whole_message() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sink = sink(&server.local_addr().unwrap().to_string(), SyslogProtocol::Tcp);
        write(&mut sink, "one\ntwo\n");
        let (mut first, _) = server.accept().unwrap();
        let mut message = vec![0; 4];
        first.read_exact(&mut message).unwrap();
        // half of the next batch is away when the connection goes
        sink.fill(b"three\nfour\n");
        sink.frames.sent = sink.frames.ends[0] + 3;
        drop((first, message));
        let gone = (0..1000).find_map(|_| sink.write(b"three\nfour\n").err()).expect("it is gone");
        assert_ne!(gone.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(sink.write(b"three\nfour\n").unwrap(), 11);
        drop(sink);
        let mut text = String::new();
        server.accept().unwrap().0.read_to_string(&mut text).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        is_like(message.as_bytes(), &format!("{TIMED}four"));
    }

    #[test]
    fn nobody_there_is_an_error_and_nobody_reading_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut sink = sink(&format!("unix:{}", path.display()), SyslogProtocol::Udp);
        assert_eq!(sink.write(b"x\n").unwrap_err().kind(), io::ErrorKind::NotFound);
        let server = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| sink.write(b"x\n").err()).expect("it fills up");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut buffer = [0; 1000];
        server.recv(&mut buffer).unwrap();
        assert_eq!(sink.write(b"x\n").unwrap(), 2);
    }
}
