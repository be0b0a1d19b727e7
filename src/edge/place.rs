//! An address that is listened on, and the listener that is at work there now. The sockets stay
//! while the address does; the listener is exchanged. `commit` opens and closes places, `accept`
//! takes connections off their sockets.

use crate::config::plan;
use crate::config::words::ListenAddress;
use crate::edge::clients::{self, Clients};
use crate::edge::era::Era;
use crate::edge::head::HeadLimits;
use crate::edge::listener::{self, Opened};
use crate::edge::open::{Count, Slot};
use crate::edge::rates::Rates;
use crate::edge::tls::{self, Termination};
use crate::observe::{Throttle, events, metrics};
use crate::unix_socket::SocketFile;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use socket2::Socket;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often it is said that a client was cut off for what it did.
const ABUSE_TOLD: Duration = Duration::from_secs(10);

/// A listener at work, shared by the workers.
pub struct Listening {
    pub plan: Arc<plan::Listener>,
    /// With the port that the kernel chose for port 0.
    pub address: ListenAddress,
    /// The connections on this address, those under earlier plans included.
    pub count: Arc<Count>,
    /// What is counted of it.
    pub counted: Arc<metrics::Listener>,
    /// Whose they are.
    pub(super) clients: Arc<Clients>,
    /// How often they come.
    pub(super) rates: Arc<Rates>,
    pub(super) limits: HeadLimits,
    pub(super) tls: Option<Arc<Termination>>,
    pub(super) era: Arc<Era>,
    /// Log lines that must not become a flood.
    pub(super) full: Arc<Throttle>,
    pub(super) unannounced: Arc<Throttle>,
    pub(super) crowd: Arc<Throttle>,
    pub(super) rush: Arc<Throttle>,
    pub(super) hasty: Arc<Throttle>,
    pub(super) denied: Arc<Throttle>,
    pub(super) abuse: Arc<Throttle>,
    pub(super) trouble: Arc<Throttle>,
}

/// What a change of plan means for connections that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    Nothing,
    /// It concerns connections and handshakes to come, and requests on whichever connection.
    Ahead,
    /// It concerns connections: those that are open are retired.
    Terms,
}

impl Difference {
    pub fn between(old: &plan::Listener, new: &plan::Listener) -> Difference {
        if old == new {
            return Difference::Nothing;
        }
        let mut like_new = plan::Listener {
            id: new.id,
            filters: new.filters.clone(),
            trusted: new.trusted.clone(),
            ip: new.ip.clone(),
            ..old.clone()
        };
        if old.is_udp() && new.is_udp() {
            // sessions are as they were when they began
            like_new.udp.clone_from(&new.udp);
        }
        if old.tcp.is_some() && new.tcp.is_some() {
            // those that are open keep their servers
            like_new.tcp.clone_from(&new.tcp);
        }
        like_new.limits.connections = new.limits.connections;
        like_new.limits.connections_per_client = new.limits.connections_per_client;
        like_new.limits.connection_rate = new.limits.connection_rate;
        like_new.limits.connection_rate_per_client = new.limits.connection_rate_per_client;
        if let (Some(tls), Some(next)) = (&old.tls, &new.tls)
            && tls.same_terms(next)
        {
            like_new.tls = Some(next.clone());
        }
        if like_new == *new { Difference::Ahead } else { Difference::Terms }
    }
}

impl Listening {
    /// Whether a client with this address may come in. Says so once a minute when not.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let admitted = self.plan.ip.as_ref().is_none_or(|ip| ip.admits(client));
        if !admitted {
            self.counted.refused(metrics::NotAdmitted::Ip);
            events::client_denied(&self.denied, &self.plan.name, client);
        }
        admitted
    }

    /// Whether another connection may come so soon. Says so once a minute when not.
    pub(super) fn in_turn(&self) -> bool {
        let Some(rate) = self.plan.limits.connection_rate else { return true };
        let admitted = self.rates.admit(rate, Instant::now());
        if !admitted {
            self.count.refuse();
            self.counted.refused(metrics::NotAdmitted::Rate);
            events::too_many_come(&self.rush, &self.plan.name, rate);
        }
        admitted
    }

    /// Whether this client may have another connection, which is counted as its own as long as there is the slot. Says so
    /// once a minute when not.
    pub(super) fn welcomes(&self, client: IpAddr, slot: &mut Slot) -> bool {
        let limits = &self.plan.limits;
        let Some(counted) = clients::counted(&self.plan, client) else { return true };
        if let Some(rate) = limits.connection_rate_per_client
            && !self.rates.admit_client(counted, rate, Instant::now())
        {
            self.count.refuse();
            self.counted.refused(metrics::NotAdmitted::ClientRate);
            events::client_too_often(&self.hasty, &self.plan.name, client, rate);
            return false;
        }
        let Some(most) = limits.connections_per_client else { return true };
        let ticket = self.clients.admit(counted, most);
        if ticket.is_none() {
            self.count.refuse();
            self.counted.refused(metrics::NotAdmitted::ClientLimit);
            events::client_full(&self.crowd, &self.plan.name, client, most.get());
        }
        slot.belongs(ticket)
    }

    /// The first at an address.
    pub(super) fn first(
        plan: &Arc<plan::Listener>,
        address: ListenAddress,
        count: Arc<Count>,
        era: Arc<Era>,
        common: &tls::Common,
    ) -> Result<Listening, String> {
        Ok(Listening {
            limits: head_limits(plan),
            tls: termination(plan, common)?,
            counted: common.metrics.listener(&plan.name),
            plan: plan.clone(),
            address,
            count,
            era,
            clients: Arc::default(),
            rates: Arc::default(),
            full: Arc::new(Throttle::every_minute()),
            unannounced: Arc::new(Throttle::every_minute()),
            crowd: Arc::new(Throttle::every_minute()),
            rush: Arc::new(Throttle::every_minute()),
            hasty: Arc::new(Throttle::every_minute()),
            denied: Arc::new(Throttle::every_minute()),
            abuse: Arc::new(Throttle::new(ABUSE_TOLD)),
            trouble: Arc::new(Throttle::every_minute()),
        })
    }

    /// The one that follows at the same address.
    pub(super) fn next(
        &self,
        plan: &Arc<plan::Listener>,
        era: Arc<Era>,
        common: &tls::Common,
    ) -> Result<Listening, String> {
        let same_tls = (&self.plan.tls, self.plan.h1, self.plan.h2) == (&plan.tls, plan.h1, plan.h2);
        Ok(Listening {
            limits: head_limits(plan),
            // the same one where nothing differs: sessions can be resumed
            tls: if same_tls { self.tls.clone() } else { termination(plan, common)? },
            counted: common.metrics.listener(&plan.name),
            plan: plan.clone(),
            address: self.address.clone(),
            count: self.count.clone(),
            era,
            clients: self.clients.clone(),
            rates: self.rates.clone(),
            full: self.full.clone(),
            unannounced: self.unannounced.clone(),
            crowd: self.crowd.clone(),
            rush: self.rush.clone(),
            hasty: self.hasty.clone(),
            denied: self.denied.clone(),
            abuse: self.abuse.clone(),
            trouble: self.trouble.clone(),
        })
    }
}

fn head_limits(plan: &plan::Listener) -> HeadLimits {
    HeadLimits::from(&plan.limits)
}

fn termination(plan: &plan::Listener, common: &tls::Common) -> Result<Option<Arc<Termination>>, String> {
    let Some(tls) = &plan.tls else { return Ok(None) };
    let built = Termination::build(tls, (plan.h1, plan.h2), common);
    built.map(|built| Some(Arc::new(built))).map_err(|e| format!("listener `{}`: {e}", plan.name))
}

/// How accepting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// Whoever the kernel has let in is accepted first.
    Served,
    /// The kernel lets nobody in any more; who was about to come in may for a moment, and is served.
    DoorShut,
    /// Who waits is left to another process that holds the same sockets.
    Left,
}

/// An address that is listened on.
pub(super) struct Place {
    /// As the configuration has it: port 0 stays 0.
    pub wanted: ListenAddress,
    /// For datagrams, and not for connections.
    pub udp: bool,
    pub now: ArcSwap<Listening>,
    /// Everybody who may still be connected; the present era is the last.
    eras: Mutex<Vec<Arc<Era>>>,
    closing: watch::Sender<Option<Closing>>,
    /// A second descriptor for each socket, to hand over. They go with the last accept loop.
    sockets: Mutex<Vec<Socket>>,
    /// Of a unix socket that is ours to remove.
    file: Mutex<Option<SocketFile>>,
    /// Another process has them, too: what is set on them is set for it as well.
    shared: AtomicBool,
}

impl Place {
    /// `sockets` are second descriptors of those that were opened.
    pub fn new(first: Listening, opened: &mut Opened, sockets: Vec<Socket>) -> Place {
        Place {
            wanted: first.plan.address.clone(),
            udp: first.plan.is_udp(),
            eras: Mutex::new(vec![first.era.clone()]),
            now: ArcSwap::from_pointee(first),
            closing: watch::Sender::new(None),
            sockets: Mutex::new(sockets),
            file: Mutex::new(opened.file.take()),
            shared: AtomicBool::new(opened.shared),
        }
    }

    /// New connections are served by `next`; those under other terms are retired.
    pub fn change(&self, next: Arc<Listening>) {
        next.count.set_limit(next.plan.limits.connections);
        let old = self.now.swap(next.clone());
        let mut eras = self.eras.lock();
        if !Arc::ptr_eq(&old.era, &next.era) {
            old.era.retire();
            eras.push(next.era.clone());
        }
        drop(old);
        // nobody else knows it: its last connection is closed
        eras.retain(|era| Arc::strong_count(era) > 1);
    }

    /// Accepts no more and retires its connections; those, to be cut at a deadline.
    pub fn close(&self, how: Closing) -> Vec<Arc<Era>> {
        let file = self.file.lock().take();
        let connects = self.wanted.ip().is_some() && !self.udp;
        let shuts = how == Closing::Served && connects && !self.is_shared();
        let shut = shuts && self.sockets.lock().iter().all(|socket| listener::shut_door(socket).is_ok());
        if how == Closing::Left {
            self.sockets.lock().clear();
            file.into_iter().for_each(SocketFile::leave);
        } else {
            // nobody finds a unix socket any more, while those who have are served
            drop(file);
        }
        self.closing.send_replace(Some(if shut { Closing::DoorShut } else { how }));
        let eras = self.eras.lock().clone();
        for era in &eras {
            era.retire();
        }
        eras
    }

    /// Returns when no more is to be accepted.
    pub fn closed(&self) -> impl Future<Output = Closing> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // an error says that the place has gone
            closing.wait_for(Option::is_some).await.ok().and_then(|how| *how).unwrap_or(Closing::Served)
        }
    }

    /// Another descriptor of each socket while this place is being closed, for one that is opened
    /// at the same address meanwhile.
    pub fn take_back(&self) -> std::io::Result<Vec<Socket>> {
        self.sockets.lock().iter().map(Socket::try_clone).collect()
    }

    /// As [`Place::closed`], when it is left to another process, or to the place that follows.
    pub fn left(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            closing.wait_for(|how| *how == Some(Closing::Left)).await.ok();
        }
    }

    /// Whether this listener belongs here.
    pub fn is_for(&self, plan: &plan::Listener) -> bool {
        self.wanted == plan.address && self.udp == plan.is_udp()
    }

    /// The place that is opened with those: whoever is still let in here is served by `next`.
    pub fn followed_by(&self, next: Arc<Listening>) {
        if self.udp {
            // a datagram has one reader: sessions are answered, and what comes is for the next
            self.closing.send_replace(Some(Closing::Left));
            return;
        }
        for socket in self.sockets.lock().iter() {
            listener::open_door(socket);
        }
        self.now.store(next);
    }

    /// The file of a unix socket that was handed over is ours from now on.
    pub fn claim_file(&self) {
        self.file.lock().iter_mut().for_each(SocketFile::claim);
    }

    /// Whether the file of a unix socket is that of another process.
    pub fn is_lent(&self) -> bool {
        self.wanted.ip().is_none() && self.file.lock().is_none()
    }

    /// Whether another process has the sockets, too.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    /// Lets sockets of this process on an address that overlaps this one be bound.
    pub fn allow_beside(&self) -> std::io::Result<()> {
        self.sockets.lock().iter().try_for_each(|socket| socket.set_reuse_port(true))
    }

    /// A descriptor of each socket, for another process.
    pub fn hand_out(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.shared.store(true, Ordering::Release);
        self.sockets.lock().iter().map(|socket| Ok(OwnedFd::from(socket.try_clone()?))).collect()
    }
}
