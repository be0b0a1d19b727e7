//! One socket of a listener and the sessions of the clients whose datagrams come to it. What comes is passed on by whoever
//! serves the socket, and each session has a task that waits for answers: all of them on one thread.

use super::batch::{self, Batch, Course};
use super::journal::{self, End};
use super::link::Link;
use super::session::Session;
use super::table::{Id, Over, Table};
use super::way::Way;
use super::{Common, Door};
use crate::config::file::OnServerDown;
use crate::proxy_protocol::Ends;
use crate::upstream::Group;
use parking_lot::Mutex;
use socket2::Socket;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// So many times in a row is the same socket read, when it is full.
const TURNS: usize = 4;
/// So often is it tried to send the same datagrams, to servers that are not there.
const TRIES: usize = 8;

/// That nobody is at a server is an error of the socket, and nothing to read.
const LOOKED_FOR: Interest = Interest::READABLE.add(Interest::ERROR);

/// What is taken from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    All,
    /// What belongs to sessions that have begun.
    Known,
    Nothing,
}

/// Which session a datagram belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    client: SocketAddr,
    /// The address that was asked, where the socket has several.
    asked: Option<IpAddr>,
}

/// What is to be done when nobody is at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The session stays with it.
    Stays,
    /// It is with another one.
    Moved,
    Over,
}

/// What is to be expected on the socket at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    More,
    Later,
    /// The session is over, or with another server.
    NoMore,
}

/// The socket, the door that is before it, and who has come in.
pub struct Reader {
    common: Arc<Common>,
    door: Box<dyn Door>,
    socket: UdpSocket,
    bound: SocketAddr,
    table: Mutex<Table<Key, Session>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Rung when sessions are cut, and when the last one is over. All of them wake the one task that serves the socket.
#[derive(Default)]
struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Reader {
    /// # Errors
    /// What the system says.
    pub fn open(
        common: &Arc<Common>,
        socket: Socket,
        door: Box<dyn Door>,
    ) -> Result<Reader, (Box<dyn Door>, io::Error)> {
        let opened = || {
            let address = socket.local_addr()?.as_socket();
            let bound = address.ok_or_else(|| io::Error::other("the socket has no internet address"))?;
            if bound.ip().is_unspecified() {
                batch::name_addresses(&socket, bound.is_ipv6())?;
            }
            Ok((bound, UdpSocket::from_std(socket.into())?))
        };
        let (bound, socket) = match opened() {
            Ok(opened) => opened,
            Err(error) => return Err((door, error)),
        };
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        Ok(Reader { common: common.clone(), door, socket, bound, table: Mutex::default(), bell, waker })
    }

    pub fn is_empty(&self) -> bool {
        self.table.lock().is_empty()
    }

    /// When [`Reader::expire`] is to be called next.
    pub fn next_look(&self) -> Option<Instant> {
        self.table.lock().next_look()
    }

    /// Returns when there is something to look at: sessions may have been cut, or be over.
    pub async fn rung(&self) {
        self.bell.0.notified().await;
    }

    /// Ends the sessions that nothing came through for too long.
    pub fn expire(&self, now: Instant) {
        loop {
            let idle = self.table.lock().idle(now);
            let Some(id) = idle else { return };
            self.end(id, End::IdleTimeout, now);
        }
    }

    /// Ends those that are cut.
    pub fn cut(&self) {
        let cut: Vec<Id> = {
            let table = self.table.lock();
            let is_cut = |id: &Id| table.get(*id).is_some_and(|flow| flow.value.room.is_cut());
            table.ids().into_iter().filter(is_cut).collect()
        };
        let now = Instant::now();
        for id in cut {
            self.end(id, End::Cut, now);
        }
    }

    /// Waits for datagrams and passes them on; whether there may be more.
    pub async fn take_in(self: &Arc<Self>, takes: Takes) -> bool {
        if self.socket.ready(LOOKED_FOR).await.is_err() {
            return false;
        }
        for _ in 0..TURNS {
            let mut batch = self.common.batch.lock();
            let received = receive(&self.socket, &mut batch, true);
            self.pass(&batch, takes);
            match received {
                Ok(()) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.door.failed(&error);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// What was received, client by client.
    fn pass(self: &Arc<Self>, batch: &Batch, takes: Takes) {
        let now = Instant::now();
        let mut start = 0;
        while let Some(first) = batch.arrived().get(start) {
            let same = |other: &&batch::Arrived| (other.from, other.to) == (first.from, first.to);
            let count = batch.arrived().iter().skip(start).take_while(same).count();
            if let Some(client) = first.from {
                self.pass_one(Key { client, asked: first.to }, (batch, start..start + count), takes, now);
            }
            start += count;
        }
    }

    /// What one client has sent.
    fn pass_one(
        self: &Arc<Self>,
        key: Key,
        (batch, which): (&Batch, Range<usize>),
        takes: Takes,
        now: Instant,
    ) {
        if !self.door.admits(key.client.ip().to_canonical()) {
            return;
        }
        let mut next = which.start;
        while next < which.end {
            let found = self.table.lock().find(&key);
            let id = match found {
                None if takes == Takes::All => self.begin(key, now),
                found => found,
            };
            let Some(id) = id else { return };
            let room = usize::try_from(self.table.lock().room(id)).unwrap_or(usize::MAX).max(1);
            let end = next.saturating_add(room).min(which.end);
            self.forward(id, (batch, next..end), now);
            next = end;
        }
    }

    /// A session for a client that has none.
    fn begin(self: &Arc<Self>, key: Key, now: Instant) -> Option<Id> {
        let client = key.client.ip().to_canonical();
        let room = self.door.enter(client)?;
        let listener = self.door.listener();
        let udp = listener.udp.as_ref()?;
        let site = self.common.live.load();
        let target = site.target(listener.id, &udp.upstream)?;
        let mut way = Way::new(&target.group, client, now);
        let link = match way.begin(now) {
            Ok(link) => link,
            Err(reject) => {
                journal::count_refused(&way, reject);
                if let Some(log) = &site.access_log {
                    journal::refused(log, &listener, client, &way, reject);
                }
                return None;
            }
        };
        room.taken_by(&self.waker);
        let rules = udp.sessions;
        let session = Session::new(listener.clone(), room, (way, link), self.ends(key), now);
        let mut table = self.table.lock();
        let id = table.begin(key, rules, session, now);
        self.attend(&mut table, id);
        Some(id)
    }

    fn ends(&self, key: Key) -> Ends {
        let asked = key.asked.unwrap_or(self.bound.ip()).to_canonical();
        let client = SocketAddr::new(key.client.ip().to_canonical(), key.client.port());
        Ends { client, to: SocketAddr::new(asked, self.bound.port()) }
    }

    /// Has answers of its present server passed back, and no more of the one before.
    fn attend(self: &Arc<Self>, table: &mut Table<Key, Session>, id: Id) {
        let Some(flow) = table.get_mut(id) else { return };
        let task = tokio::spawn(answers(self.clone(), id, flow.value.link.clone()));
        if let Some(before) = flow.value.task.replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// Sends datagrams of its client to the server of a session.
    fn forward(self: &Arc<Self>, id: Id, (batch, which): (&Batch, Range<usize>), now: Instant) {
        self.leave_server_that_is_down(id, now);
        let mut next = which.start;
        let mut over = None;
        for _ in 0..TRIES + which.len() {
            let mut table = self.table.lock();
            let Some(flow) = table.get_mut(id).filter(|_| next < which.end) else { break };
            let (prefix, most) = flow.value.prefix(flow.rules.proxy_header);
            let end = next.saturating_add(most).min(which.end);
            let course = Course { prefix, ..Course::default() };
            let sent = batch.send(flow.value.link.socket.as_fd(), next..end, &course);
            let done = sent.unreachable.as_ref().map_or(end, |(before, _)| next + before);
            flow.value.sent(batch, next..done, flow.rules.responses);
            over = table.forwarded(id, (sent.datagrams, sent.bytes), now);
            next = done;
            drop(table);
            if let Some((_, error)) = sent.unreachable
                && self.unreachable(id, &error, now) == After::Over
            {
                return;
            }
        }
        if let Some(Over::Answered) = over {
            self.end(id, End::ResponsesComplete, now);
        }
    }

    /// Takes what the server of a session has answered, and passes it back.
    fn answer(self: &Arc<Self>, id: Id, link: &Link) -> Answers {
        let now = Instant::now();
        let mut batch = self.common.batch.lock();
        let received = receive(&link.socket, &mut batch, false);
        let count = batch.arrived().len();
        if count > 0 {
            let mut table = self.table.lock();
            let Some(flow) = table.get_mut(id) else { return Answers::NoMore };
            let course = Course { to: Some(flow.key.client), from: flow.key.asked, prefix: &[] };
            let sent = batch.send(self.socket.as_fd(), 0..count, &course);
            flow.value.answered(now);
            let over = table.answered(id, (count as u64, sent.bytes), now);
            drop((table, batch));
            if let Some(Over::Answered) = over {
                self.end(id, End::ResponsesComplete, now);
                return Answers::NoMore;
            }
        } else {
            drop(batch);
        }
        match received {
            Ok(()) => Answers::More,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Answers::Later,
            Err(error) if batch::is_unreachable(&error) => match self.unreachable(id, &error, now) {
                After::Stays => Answers::More,
                After::Moved | After::Over => Answers::NoMore,
            },
            Err(error) => {
                self.door.failed(&error);
                Answers::More
            }
        }
    }

    /// Nobody is at the server of a session. One that has not answered yet was never there: the next one is asked. One that
    /// has is left when that is wanted.
    fn unreachable(self: &Arc<Self>, id: Id, error: &io::Error, now: Instant) -> After {
        let mut table = self.table.lock();
        let Some(flow) = table.get_mut(id) else { return After::Over };
        let (rules, session) = (flow.rules, &mut flow.value);
        let stays = session.way.has_answered() && rules.on_server_down == OnServerDown::Keep;
        let again = !stays && session.way.may_go_on();
        session.way.failed(error, again, now);
        if stays {
            return After::Stays;
        }
        let next = if again { session.way.next(now).ok() } else { None };
        if let Some(link) = next {
            session.moved(link, rules.proxy_header);
            self.attend(&mut table, id);
            return After::Moved;
        }
        session.way.give_up(crate::http::Reject::BadGateway, now);
        drop(table);
        self.end(id, End::ServerUnreachable, now);
        After::Over
    }

    /// Where that is wanted, a session whose server is found down, or has left the group, goes to another one, if there is
    /// one.
    fn leave_server_that_is_down(self: &Arc<Self>, id: Id, now: Instant) {
        let mut table = self.table.lock();
        let Some(flow) = table.get_mut(id) else { return };
        if flow.rules.on_server_down == OnServerDown::Keep {
            return;
        }
        let session = &mut flow.value;
        let Some(group) = self.group_of(session) else { return };
        if session.way.server().is_some_and(|server| group.kept(server.address()).is_some()) {
            return;
        }
        session.way.anew(&group);
        if let Ok(link) = session.way.next(now) {
            session.moved(link, flow.rules.proxy_header);
            self.attend(&mut table, id);
        }
    }

    /// The group as it is now: another one may have taken its place under the same name.
    fn group_of(&self, session: &Session) -> Option<Arc<Group>> {
        let udp = session.listener.udp.as_ref()?;
        let site = self.common.live.load();
        Some(site.target(session.listener.id, &udp.upstream)?.group.clone())
    }

    fn end(&self, id: Id, why: End, now: Instant) {
        let ended = self.table.lock().end(id);
        let Some(flow) = ended else { return };
        if let Some(task) = &flow.value.task {
            task.abort();
        }
        journal::count(&flow.value.way, why.into(), flow.bytes);
        if let Some(log) = &self.common.live.load().access_log {
            journal::ended(log, flow.key.client, &flow, why, now);
        }
        drop(flow);
        if self.is_empty() {
            self.bell.0.notify_one();
        }
    }
}

/// Passes back what a server answers, for as long as the session is with it.
async fn answers(reader: Arc<Reader>, id: Id, link: Arc<Link>) {
    while link.socket.ready(LOOKED_FOR).await.is_ok() {
        match reader.answer(id, &link) {
            Answers::More => tokio::task::yield_now().await,
            Answers::Later => {}
            Answers::NoMore => return,
        }
    }
}

/// Takes what waits on a socket. Where that is not a whole batch, nothing waits any more, and the runtime is told so without
/// asking the kernel again.
fn receive(socket: &UdpSocket, batch: &mut Batch, named: bool) -> io::Result<()> {
    batch.forget();
    let received = receive_when(Interest::READABLE, socket, batch, named);
    match received {
        // an error of the socket is nothing to read
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && batch.arrived().is_empty() => {
            receive_when(Interest::ERROR, socket, batch, named)
        }
        received => received,
    }
}

fn receive_when(interest: Interest, socket: &UdpSocket, batch: &mut Batch, named: bool) -> io::Result<()> {
    socket.try_io(interest, || match batch.receive(socket.as_fd(), named)? {
        batch::MOST => Ok(()),
        _ => Err(io::ErrorKind::WouldBlock.into()),
    })
}
