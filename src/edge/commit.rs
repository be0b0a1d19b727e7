//! From the listeners that are wanted to those that are at work, in two steps: [`Edge::prepare`] does
//! everything that can fail and nothing that can be seen, [`Edge::commit`] cannot fail. Called by
//! `run` at the start and at every reload, one after the other.

use crate::config::check::overlap;
use crate::config::plan;
use crate::config::words::ListenAddress;
use crate::edge::datagrams;
use crate::edge::era::Era;
use crate::edge::listener::{self, BindError, Inherited, Opened};
use crate::edge::open::Count;
use crate::edge::place::{Closing, Difference, Listening, Place};
use crate::edge::worker::Order;
use crate::edge::{Edge, Places};
use crate::observe::events;
use crate::unix_socket::{Inode, SocketFile};
use socket2::Socket;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Listeners that are ready to work. Dropped, it closes what was opened for them.
pub struct Prepared {
    /// In the order of the configuration.
    steps: Vec<Step>,
}

enum Step {
    Keep(Arc<Place>),
    Change {
        place: Arc<Place>,
        next: Arc<Listening>,
        difference: Difference,
    },
    /// `follows` are being closed at the same address.
    Open {
        place: Arc<Place>,
        opened: Opened,
        follows: Vec<Arc<Place>>,
    },
}

/// What a commit did, in the order of the configuration.
#[derive(Default)]
pub struct Changes {
    pub opened: Vec<Arc<Listening>>,
    pub changed: Vec<Changed>,
    pub closed: Vec<Arc<Listening>>,
    /// How many went on as they were.
    pub kept: usize,
}

/// A listener that has another plan at the same address.
pub struct Changed {
    pub before: Arc<Listening>,
    pub now: Arc<Listening>,
    /// Connections that were open are closed after their request; else they go on.
    pub retired: bool,
}

impl Edge {
    /// Opens sockets for addresses that nobody listens on yet and gets TLS ready.
    ///
    /// # Errors
    /// Every address that cannot be had and every certificate that cannot be used, with the fix.
    /// Nothing has changed then.
    pub fn prepare(&self, listeners: &[Arc<plan::Listener>]) -> Result<Prepared, BindError> {
        let places = self.0.places.lock();
        if places.ended {
            return Err(BindError(vec![
                "the process is ending: its listeners do not change any more".to_string(),
            ]));
        }
        let preparing = Preparing { edge: self, places: &places, wanted: listeners };
        let mut steps = Vec::with_capacity(listeners.len());
        let mut errors = Vec::new();
        for plan in listeners {
            match preparing.step(plan) {
                Ok(step) => steps.push(step),
                Err(e) => errors.push(e),
            }
        }
        if errors.is_empty() { Ok(Prepared { steps }) } else { Err(BindError(errors)) }
    }

    /// New listeners accept, changed ones serve new connections by their new plan, those that are
    /// not wanted any more stop: their connections are closed after the request in flight, and
    /// broken off when that takes longer than `grace`.
    pub fn commit(&self, prepared: Prepared, grace: Duration) -> Changes {
        let mut places = self.0.places.lock();
        let mut changes = Changes::default();
        if places.ended {
            return changes;
        }
        let mut now = Vec::with_capacity(prepared.steps.len());
        for step in prepared.steps {
            now.push(self.take(step, &mut changes));
        }
        let before = std::mem::replace(&mut places.now, now);
        places.leaving.retain(|era| Arc::strong_count(era) > 1);
        places.closing.retain(|place| place.strong_count() > 0);
        let mut leaving = Vec::new();
        for place in before {
            if !places.now.iter().any(|now| Arc::ptr_eq(now, &place)) {
                let listening = place.now.load_full();
                events::listener_closed(
                    &listening.plan.name,
                    &listening.address,
                    listening.count.open(),
                    grace,
                );
                leaving.extend(place.close(Closing::Served));
                places.closing.push(Arc::downgrade(&place));
                changes.closed.push(listening);
            }
        }
        places.running = true;
        for unused in std::mem::take(&mut places.inherited) {
            let takes =
                |place: &Arc<Place>| place.udp == unused.udp && place.now.load().address == unused.address;
            if !places.now.iter().any(takes) {
                events::socket_not_wanted(&unused.address);
            }
        }
        if !leaving.is_empty() {
            places.leaving.extend(leaving.iter().cloned());
            self.order(0, Order::CutAt(Instant::now() + grace, leaving));
        }
        changes
    }

    fn take(&self, step: Step, changes: &mut Changes) -> Arc<Place> {
        match step {
            Step::Keep(place) => {
                changes.kept += 1;
                place
            }
            Step::Change { place, next, difference } => {
                let before = place.now.load_full();
                let retired = difference == Difference::Terms;
                // what is passed on is never at the end of a request
                let ends = retired && before.plan.tcp.is_none() && !before.plan.is_udp();
                events::listener_changed(&next.plan.name, &next.address, ends);
                place.change(next.clone());
                changes.changed.push(Changed { before, now: next, retired });
                place
            }
            Step::Open { place, opened, follows } => {
                changes.opened.push(place.now.load_full());
                self.begin(&place, opened, &follows);
                place
            }
        }
    }

    fn begin(&self, place: &Arc<Place>, opened: Opened, follows: &[Arc<Place>]) {
        place.claim_file();
        let listening = place.now.load_full();
        let name = &listening.plan.name;
        for old in follows {
            old.followed_by(listening.clone());
        }
        if let Err(e) = opened.listen() {
            events::listener_failed(name, &listening.address, &e);
        }
        let kind = match &listening.plan {
            udp if udp.is_udp() => " (UDP)",
            tls if tls.tls.is_some() => " (TLS)",
            _ => "",
        };
        events::listening(name, &listening.address, kind);
        for (index, socket) in opened.sockets.into_iter().enumerate() {
            let hold = self.0.open.hold();
            self.order(index, Order::Accept { place: place.clone(), socket, hold });
        }
    }
}

/// What a step depends on.
struct Preparing<'a> {
    edge: &'a Edge,
    places: &'a Places,
    wanted: &'a [Arc<plan::Listener>],
}

impl Preparing<'_> {
    fn step(&self, plan: &Arc<plan::Listener>) -> Result<Step, String> {
        let Some(place) = self.places.now.iter().find(|place| place.is_for(plan)) else {
            return self.open(plan);
        };
        let now = place.now.load();
        let difference = Difference::between(&now.plan, plan);
        let era = match difference {
            Difference::Nothing => return Ok(Step::Keep(place.clone())),
            Difference::Ahead => now.era.clone(),
            Difference::Terms => Era::new(self.edge.0.workers),
        };
        let next = Arc::new(now.next(plan, era, &self.edge.0.common)?);
        Ok(Step::Change { place: place.clone(), next, difference })
    }

    fn open(&self, plan: &Arc<plan::Listener>) -> Result<Step, String> {
        let explain = |e: std::io::Error| listener::explain(plan, &e, self.places.running);
        let closing: Vec<_> = self.places.closing.iter().filter_map(Weak::upgrade).collect();
        let follows: Vec<_> = closing.iter().filter(|place| place.is_for(plan)).cloned().collect();
        let mut opened = match follows.last() {
            // the file of a unix socket has gone, and nobody finds it any more
            Some(place) if plan.address.ip().is_some() => place
                .take_back()
                .and_then(|sockets| self.adopt(plan, sockets, place.is_shared()))
                .map_err(explain)?,
            Some(_) => listener::open(plan, self.edge.0.workers).map_err(explain)?,
            None => self.sockets(plan, &closing)?,
        };
        let doubles = opened.doubles().map_err(explain)?;
        let count = Count::new(self.edge.0.open.clone(), plan.limits.connections);
        let address = opened.address.clone();
        let era = Era::new(self.edge.0.workers);
        let listening = Listening::first(plan, address, count, era, &self.edge.0.common)?;
        let place = Place::new(listening, &mut opened, doubles);
        Ok(Step::Open { place: Arc::new(place), opened, follows })
    }

    fn sockets(&self, plan: &plan::Listener, closing: &[Arc<Place>]) -> Result<Opened, String> {
        let workers = self.edge.0.workers;
        let explain = |e: std::io::Error| listener::explain(plan, &e, self.places.running);
        if let Some(opened) = self.inherited(plan).map_err(explain)? {
            return Ok(opened);
        }
        let overlaps = |place: &&Arc<Place>| {
            place.udp == plan.is_udp() && overlap(&place.now.load().address, &plan.address)
        };
        let stays = |place: &Arc<Place>| self.wanted.iter().any(|plan| place.is_for(plan));
        if self.places.now.iter().filter(overlaps).any(stays) {
            return Err(explain(std::io::ErrorKind::AddrInUse.into()));
        }
        let going: Vec<_> = self.places.now.iter().chain(closing).filter(overlaps).collect();
        if going.is_empty() {
            return listener::open(plan, workers).map_err(explain);
        }
        let Some(address) = plan.address.ip() else { return listener::open(plan, workers).map_err(explain) };
        let allowed = going.iter().try_for_each(|place| place.allow_beside());
        let beside = || match plan.is_udp() {
            true => datagrams::open(address, workers, true),
            false => listener::open_beside(address, workers),
        };
        allowed.and_then(|()| beside()).map_err(|e| {
            let old: Vec<_> = going.iter().map(|place| place.now.load().address.to_string()).collect();
            format!(
                "listener `{}`: cannot listen on {} while this process still listens on {} ({e}); reload \
                 twice (without the old address first, then with the new one), or restart",
                plan.name,
                plan.address,
                old.join(", ")
            )
        })
    }

    /// With sockets that are open already.
    fn adopt(&self, plan: &plan::Listener, sockets: Vec<Socket>, shared: bool) -> std::io::Result<Opened> {
        match plan.is_udp() {
            true => datagrams::adopt(sockets, self.edge.0.workers, shared),
            false => listener::adopt(&plan.address, sockets, self.edge.0.workers, shared),
        }
    }

    /// With those that another process has opened on this address, if there are any.
    fn inherited(&self, plan: &plan::Listener) -> std::io::Result<Option<Opened>> {
        let address = &plan.address;
        let is_it = |inherited: &&Inherited| inherited.udp == plan.is_udp() && inherited.address == *address;
        let on_it = || self.places.inherited.iter().filter(is_it);
        let sockets: Vec<_> = on_it()
            .map(|inherited| Ok(Socket::from(inherited.socket.try_clone()?)))
            .collect::<std::io::Result<_>>()?;
        if sockets.is_empty() {
            return Ok(None);
        }
        let mut opened = self.adopt(plan, sockets, true)?;
        if let ListenAddress::Unix(path) = address
            && !on_it().any(|inherited| inherited.lent)
        {
            opened.file = Inode::of(path).map(|inode| SocketFile::handed(path, inode));
        }
        Ok(Some(opened))
    }
}
