//! What a process hands to the one that takes its place, and how: packets over a pair of connected sockets, of
//! which the new process finds its own as standard input. Listening sockets go in batches, as the kernel takes
//! no more than 253 descriptors at once (`SCM_MAX_FD`).

use super::notify;
use crate::config::plan::TicketKey;
use crate::config::words::ListenAddress;
use crate::edge::Inherited;
use crate::observe::metrics::Counts;
use crate::upstream::registry::ServerState;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::cmsg_space;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, sockopt,
};
use nix::sys::time::TimeVal;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// How long one process waits for the other.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Descriptors in one packet.
const SOCKETS: usize = 64;
/// Servers whose state is in one packet.
const SERVERS: usize = 100;
/// Things whose counts are in one packet: each has at most a hundred numbers.
const COUNTS: usize = 20;
/// The longest packet, in bytes.
const LONGEST: usize = 128 * 1024;
/// The environment variable that says that standard input is such a socket, and from whom: a process id.
pub const VARIABLE: &str = "WEIRGATE_TAKES_OVER_FROM";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Packet {
    /// To the new process; the descriptors are with it, in this order.
    Sockets(Vec<ListenAddress>),
    /// As [`Packet::Sockets`], for datagrams.
    Datagrams(Vec<ListenAddress>),
    /// Of these the files stay when the listener goes. Comes before them, where there are such.
    Lent(Vec<ListenAddress>),
    Servers(Vec<ServerState>),
    Counts(Vec<Counts>),
    /// The secrets of session tickets, in base64, and when they were made.
    Tickets(Vec<(u64, String)>),
    End,
    /// From the new process: it serves.
    Ready {
        pid: u32,
    },
    /// It cannot.
    Failed(String),
}

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

/// What is handed over.
#[derive(Debug, Default)]
pub struct Goods {
    pub sockets: Vec<Inherited>,
    /// Descriptors that were of no use, with why: to be said once there is a log.
    pub closed: Vec<(RawFd, &'static str)>,
    pub servers: Vec<ServerState>,
    /// What has been counted.
    pub counts: Vec<Counts>,
    /// The secrets of session tickets, and when they were made.
    pub tickets: Vec<(u64, TicketKey)>,
}

impl Line {
    /// Both ends. Whoever waits in vain for so long gives up.
    pub fn pair(patience: Duration) -> io::Result<(Line, OwnedFd)> {
        let (ours, theirs) =
            socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let line = Line(ours);
        line.wait_for(patience)?;
        Ok((line, theirs))
    }

    fn wait_for(&self, patience: Duration) -> io::Result<()> {
        let time = TimeVal::new(i64::try_from(patience.as_secs()).unwrap_or(i64::MAX), 0);
        socket::setsockopt(&self.0, sockopt::ReceiveTimeout, &time)?;
        Ok(socket::setsockopt(&self.0, sockopt::SendTimeout, &time)?)
    }

    /// The end that this process was given when it was started to take the place of another; `None` when it
    /// was not. To be called once.
    pub fn given(patience: Duration) -> io::Result<Option<Line>> {
        let parent = std::os::unix::process::parent_id().to_string();
        if std::env::var(VARIABLE).ok().as_deref() != Some(parent.as_str()) {
            return Ok(None);
        }
        let stdin = io::stdin();
        let line = Line(stdin.as_fd().try_clone_to_owned()?);
        let null = std::fs::File::open("/dev/null")?;
        // what is read from standard input later on is nothing
        // SAFETY: both descriptors are open.
        if unsafe { libc::dup2(null.as_raw_fd(), stdin.as_raw_fd()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        line.wait_for(patience)?;
        Ok(Some(line))
    }

    /// Hands everything to the new process.
    pub fn give(&self, goods: &Goods) -> io::Result<()> {
        let lent = goods.sockets.iter().filter(|inherited| inherited.lent);
        let lent: Vec<_> = lent.map(|inherited| inherited.address.clone()).collect();
        if !lent.is_empty() {
            self.send(&Packet::Lent(lent), &[])?;
        }
        let (datagrams, streams): (Vec<_>, Vec<_>) =
            goods.sockets.iter().partition(|inherited| inherited.udp);
        for (all, packet) in
            [(streams, Packet::Sockets as fn(_) -> _), (datagrams, Packet::Datagrams as fn(_) -> _)]
        {
            for batch in all.chunks(SOCKETS) {
                let addresses = batch.iter().map(|inherited| inherited.address.clone()).collect();
                let sockets: Vec<RawFd> =
                    batch.iter().map(|inherited| inherited.socket.as_raw_fd()).collect();
                self.send(&packet(addresses), &sockets)?;
            }
        }
        for batch in goods.servers.chunks(SERVERS) {
            self.send(&Packet::Servers(batch.to_vec()), &[])?;
        }
        for batch in goods.counts.chunks(COUNTS) {
            self.send(&Packet::Counts(batch.to_vec()), &[])?;
        }
        let encode = |(made, key): &(u64, TicketKey)| (*made, STANDARD.encode(key.secret()));
        self.send(&Packet::Tickets(goods.tickets.iter().map(encode).collect()), &[])?;
        self.send(&Packet::End, &[])
    }

    /// Takes what the old process hands over.
    pub fn take(&self) -> io::Result<Goods> {
        let mut goods = Goods::default();
        let mut all_lent = Vec::new();
        loop {
            let (packet, sockets) = self.receive()?;
            match packet {
                Packet::Sockets(addresses) if addresses.len() == sockets.len() => {
                    goods.sockets.extend(addresses.into_iter().zip(sockets).map(|(address, socket)| {
                        let lent = all_lent.contains(&address);
                        Inherited { address, udp: false, socket, lent }
                    }));
                }
                Packet::Datagrams(addresses) if addresses.len() == sockets.len() => {
                    let all = addresses.into_iter().zip(sockets);
                    goods.sockets.extend(all.map(|(address, socket)| Inherited {
                        address,
                        udp: true,
                        socket,
                        lent: false,
                    }));
                }
                Packet::Lent(lent) => all_lent.extend(lent),
                Packet::Servers(servers) => goods.servers.extend(servers),
                Packet::Counts(counts) => goods.counts.extend(counts),
                Packet::Tickets(tickets) => {
                    let decode =
                        |(made, key)| Some((made, TicketKey::new(&STANDARD.decode::<String>(key).ok()?)));
                    goods.tickets.extend(tickets.into_iter().filter_map(decode));
                }
                Packet::End => return Ok(goods),
                Packet::Sockets(_) | Packet::Datagrams(_) | Packet::Ready { .. } | Packet::Failed(_) => {
                    return Err(unexpected());
                }
            }
        }
    }

    /// Whether the other end is.
    fn is_closed(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        // nothing is sent this way any more, so that what can be read is the end
        !matches!(socket::recv(self.0.as_raw_fd(), &mut byte, flags), Err(nix::Error::EAGAIN))
    }

    /// Says that this process serves now.
    pub fn ready(&self) -> io::Result<()> {
        self.send(&Packet::Ready { pid: std::process::id() }, &[])
    }

    /// Says that it cannot.
    pub fn failed(&self, why: &str) -> io::Result<()> {
        let short: String = why.chars().take(LONGEST / 16).collect();
        self.send(&Packet::Failed(short), &[])
    }

    /// Waits until the new process serves; its process id.
    pub fn wait(&self) -> io::Result<Result<u32, String>> {
        match self.receive()?.0 {
            Packet::Ready { pid } => Ok(Ok(pid)),
            Packet::Failed(why) => Ok(Err(why)),
            Packet::Sockets(_)
            | Packet::Datagrams(_)
            | Packet::Lent(_)
            | Packet::Servers(_)
            | Packet::Counts(_)
            | Packet::Tickets(_)
            | Packet::End => Err(unexpected()),
        }
    }

    fn send(&self, packet: &Packet, sockets: &[RawFd]) -> io::Result<()> {
        let text = serde_json::to_vec(packet)?;
        let rights = [ControlMessage::ScmRights(sockets)];
        let with = if sockets.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(&text)];
        // signal(7): a call with a time limit is not begun again after a process stood still
        loop {
            match socket::sendmsg::<()>(self.0.as_raw_fd(), &parts, with, MsgFlags::MSG_NOSIGNAL, None) {
                Err(nix::Error::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    fn receive(&self) -> io::Result<(Packet, Vec<OwnedFd>)> {
        let mut text = vec![0; LONGEST];
        let mut control = cmsg_space!([RawFd; SOCKETS]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match socket::recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Err(nix::Error::EINTR) => {}
                received => break received?,
            }
        };
        let mut sockets = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = part {
                // SAFETY: the kernel has just made them for this process, and nobody else knows them.
                sockets.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let packet = serde_json::from_slice(text.get(..length).unwrap_or_default())?;
        Ok((packet, sockets))
    }
}

/// How a process was started: by itself, or to take the place of another. Clones are the same.
#[derive(Debug, Clone)]
pub struct Takeover(Arc<Start>);

#[derive(Debug)]
struct Start {
    takes_over: bool,
    /// Until everything is said.
    line: Mutex<Option<Line>>,
    goods: Mutex<Goods>,
}

impl Takeover {
    /// Takes what the other process, or the service manager, has for this one. To be called once, at the start.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn given() -> Result<Takeover, String> {
        let cannot = |why: io::Error| format!("nothing can be taken over: {why}");
        let line = Line::given(PATIENCE).map_err(cannot)?;
        let goods = match &line {
            // at once: what is not read is lost, and with it what this process says, when it cannot serve
            Some(line) => line.take().map_err(cannot)?,
            None => {
                let (sockets, closed) = notify::sockets();
                Goods { sockets, closed, ..Goods::default() }
            }
        };
        let (takes_over, line) = (line.is_some(), Mutex::new(line));
        Ok(Takeover(Arc::new(Start { takes_over, line, goods: Mutex::new(goods) })))
    }

    pub fn is_one(&self) -> bool {
        self.0.takes_over
    }

    /// What was handed over, the first time.
    pub fn goods(&self) -> Goods {
        std::mem::take(&mut self.0.goods.lock())
    }

    /// Whether the other process waits no more: it goes on, and this one is to end.
    pub fn is_given_up(&self) -> bool {
        self.0.line.lock().as_ref().is_some_and(Line::is_closed)
    }

    /// This process serves; says so, and that is all there is to say.
    ///
    /// # Errors
    /// The other process is not there to be told, or goes on because this one took too long.
    pub fn ready(&self) -> io::Result<()> {
        let line = self.0.line.lock().take();
        line.map_or(Ok(()), |line| line.ready())
    }

    /// This process cannot serve.
    pub fn failed(&self, why: &str) {
        if let Some(line) = self.0.line.lock().take() {
            // the other one sees the end of this one, too
            line.failed(why).ok();
        }
    }
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a packet that does not belong here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn hundreds_of_sockets_arrive_in_order() {
        let (ours, theirs) = Line::pair(PATIENCE).unwrap();
        let listeners: Vec<_> = (0..150).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sockets = listeners
            .iter()
            .enumerate()
            .map(|(i, l)| Inherited {
                address: l.local_addr().unwrap().into(),
                udp: i >= 145,
                socket: OwnedFd::from(l.try_clone().unwrap()),
                lent: i == 139,
            })
            .collect();
        let goods = Goods { sockets, tickets: vec![(7, TicketKey::new(&[7; 32]))], ..Goods::default() };
        let taking = std::thread::spawn(move || {
            let line = Line(theirs);
            let goods = line.take().unwrap();
            line.ready().unwrap();
            goods
        });
        ours.give(&goods).unwrap();
        assert_eq!(ours.wait().unwrap(), Ok(std::process::id()));
        let taken = taking.join().unwrap();
        assert_eq!(taken.sockets.len(), 150);
        assert_eq!(taken.tickets, [(7, TicketKey::new(&[7; 32]))]);
        for (i, (inherited, listener)) in taken.sockets.into_iter().zip(&listeners).enumerate() {
            let address = listener.local_addr().unwrap();
            let known = (inherited.address, inherited.udp, inherited.lent);
            assert_eq!(known, (address.into(), i >= 145, i == 139));
            assert_eq!(TcpListener::from(inherited.socket).local_addr().unwrap(), address);
        }
    }

    /// A process that was stopped and goes on is told so in the middle of the wait.
    #[test]
    fn signals_do_not_end_the_wait() {
        use nix::sys::{pthread, signal};
        let nothing = signal::SigHandler::Handler(ignore);
        let action = signal::SigAction::new(nothing, signal::SaFlags::empty(), signal::SigSet::empty());
        // SAFETY: the handler does nothing, and nobody else here uses this signal.
        unsafe { signal::sigaction(signal::Signal::SIGUSR2, &action) }.unwrap();
        let (ours, theirs) = Line::pair(PATIENCE).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let taking = std::thread::spawn(move || {
            tell.send(pthread::pthread_self()).unwrap();
            Line(theirs).take().map(|goods| goods.closed.len())
        });
        let waiting = told.recv().unwrap();
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            // the thread has not been joined: there is one of this name
            if !taking.is_finished() {
                pthread::pthread_kill(waiting, signal::Signal::SIGUSR2).unwrap();
            }
        }
        ours.give(&Goods::default()).unwrap();
        assert_eq!(taking.join().unwrap().unwrap(), 0);
    }

    extern "C" fn ignore(_: libc::c_int) {}

    #[test]
    fn a_new_process_that_fails_or_vanishes_is_known() {
        let (ours, theirs) = Line::pair(PATIENCE).unwrap();
        let theirs = Line(theirs);
        theirs.failed("no such file").unwrap();
        assert_eq!(ours.wait().unwrap(), Err("no such file".to_string()));
        drop(theirs);
        assert_eq!(ours.wait().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (ours, _theirs) = Line::pair(Duration::from_secs(1)).unwrap();
        assert_eq!(ours.wait().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
