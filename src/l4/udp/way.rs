//! The way of a session to a server: which one, and another when nobody is there. As `l4::journey`, but that nothing is
//! waited for: that somebody is there is known when something is answered. Called by `session`.

use super::batch::is_unreachable;
use super::link::Link;
use crate::config::file::Key;
use crate::http::Reject;
use crate::observe::events;
use crate::observe::metrics::Transport;
use crate::upstream::balance::ClientKey;
use crate::upstream::caps::{Ask, Place, Slot};
use crate::upstream::queue::Class;
use crate::upstream::{Endpoint, Group, InFlight, Outcome, Pass, Tried, latency, reason};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a session is, and where it has been.
pub struct Way {
    pub group: Arc<Group>,
    key: Option<ClientKey>,
    client: IpAddr,
    /// Since somebody has answered.
    tried: Tried,
    tries: u16,
    pub attempts: u16,
    /// The server, where the session counts as in flight.
    server: Option<InFlight>,
    /// And so it does in its group, if that has limits. After the server, so that it is let go first.
    slot: Option<Slot>,
    pass: Option<Pass>,
    /// When it came to its server.
    came: Instant,
    /// How long the first answer took.
    pub answer: Option<Duration>,
    /// Its present server has answered.
    answered: bool,
}

impl Way {
    pub fn new(group: &Arc<Group>, client: IpAddr, now: Instant) -> Way {
        Way {
            group: group.clone(),
            key: key(group, client),
            client,
            tried: Tried::default(),
            tries: 0,
            attempts: 0,
            server: None,
            slot: None,
            pass: None,
            came: now,
            answer: None,
            answered: false,
        }
    }

    /// The server that it is with, or was with last.
    pub fn server(&self) -> Option<&Arc<Endpoint>> {
        self.server.as_ref().map(InFlight::endpoint)
    }

    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// A socket at a server, the first one.
    ///
    /// # Errors
    /// Why there is none.
    pub fn begin(&mut self, now: Instant) -> Result<Link, Reject> {
        self.pass = self.group.enter(now).map_err(|left| Reject::CircuitOpen { left })?;
        let begun = self.next(now);
        if let Err(reject) = &begun {
            self.give_up(*reject, now);
        }
        begun
    }

    /// A socket at a server that was not tried yet.
    ///
    /// # Errors
    /// Why there is none. Where it has been until now it still is, if nobody else could be asked.
    pub fn next(&mut self, now: Instant) -> Result<Link, Reject> {
        let mut last = Reject::Unavailable;
        loop {
            let Place { server, slot } = self.choose().map_err(|reject| match reject {
                // whoever is up has been tried
                Reject::Unavailable => last,
                other => other,
            })?;
            let endpoint = server.endpoint().clone();
            self.attempts += 1;
            self.tries += 1;
            self.tried.push(&endpoint);
            self.server = Some(server);
            self.slot = slot;
            (self.came, self.answered) = (now, false);
            let bind_to = self.group.transport().bind_to(endpoint.address());
            let opened = match endpoint.at().is_unix() {
                true => Err(io::Error::other("it is at a unix socket, which takes no datagrams")),
                false => Link::open(endpoint.address(), bind_to),
            };
            let error = match opened {
                Ok(link) => return Ok(link),
                Err(error) => error,
            };
            last = Reject::BadGateway;
            let again = self.may_go_on();
            self.failed(&error, again, now);
            if !again {
                return Err(last);
            }
        }
    }

    /// Another group has taken the place of its own, or the present one is to be chosen from anew.
    pub fn anew(&mut self, group: &Arc<Group>) {
        self.group = group.clone();
        self.key = key(group, self.client);
        self.tried = Tried::default();
        self.tries = 0;
    }

    fn choose(&mut self) -> Result<Place, Reject> {
        let key = self.key.as_deref();
        let Some(caps) = self.group.caps() else {
            let server = self.group.begin_any(&self.tried, key).ok_or(Reject::Unavailable)?;
            return Ok(Place { server, slot: None });
        };
        // nobody waits for a datagram
        let ask = Ask { class: Class::Normal, home: None, key, tried: &self.tried };
        self.slot = None;
        if let Some(place) = caps.enter_free(&self.group, &ask) {
            return Ok(place);
        }
        if !self.group.any_left(&self.tried) {
            return Err(Reject::Unavailable);
        }
        events::queue_full(caps.full(), self.group.name());
        Err(Reject::QueueFull)
    }

    /// Something came from the server.
    pub fn answered(&mut self, now: Instant) {
        if self.answered {
            return;
        }
        self.answered = true;
        let took = now.saturating_duration_since(self.came);
        self.answer.get_or_insert(took);
        if let Some(pass) = self.pass.take() {
            self.group.left(pass, Outcome::Connected, now);
        }
        let Some(server) = &mut self.server else { return };
        let endpoint = server.endpoint().clone();
        latency::answered(&self.group.plan().balance, &endpoint, took);
        endpoint.counted().flow_tried(Transport::Udp, true, None);
        if let Some(watch) = server.watch.take() {
            self.group.ended(&endpoint, watch, Outcome::Connected, now);
        }
        self.tries = 0;
        self.tried = Tried::default();
        self.tried.push(&endpoint);
    }

    /// Nobody is at the server. `again`: another one is tried.
    pub fn failed(&mut self, error: &io::Error, again: bool, now: Instant) {
        let Some(server) = &mut self.server else { return };
        let endpoint = server.endpoint().clone();
        endpoint.counted().flow_tried(Transport::Udp, false, None);
        latency::failed(&self.group.plan().balance, &endpoint, now.saturating_duration_since(self.came));
        let why = || words(error);
        // it is not the server's fault that we have no socket to spare
        if is_unreachable(error) {
            let watch = server.watch.take().unwrap_or_default();
            self.group.ended(&endpoint, watch, Outcome::Failed(&why), now);
        }
        events::try_failed(endpoint.failures(), self.group.name(), endpoint.name(), &why(), again);
        if again {
            server.end();
        }
    }

    /// It ends without a server.
    pub fn give_up(&mut self, reject: Reject, now: Instant) {
        let Some(pass) = self.pass.take() else { return };
        let why = || "no server is there".to_owned();
        if let Reject::BadGateway = reject {
            self.group.left(pass, Outcome::Failed(&why), now);
        }
    }

    /// Whether another server may be tried.
    pub fn may_go_on(&self) -> bool {
        let retry = &self.group.plan().retry;
        retry.on_connect && self.tries < retry.attempts
    }
}

/// By which a client is told from others, if the group asks.
fn key(group: &Group, client: IpAddr) -> Option<ClientKey> {
    let wanted = group.plan().balance.keys().any(|key| *key == Key::Client);
    wanted.then(|| ClientKey::of(client))
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => reason::NO_DATAGRAMS.to_owned(),
        io::ErrorKind::HostUnreachable => "its host cannot be reached".to_owned(),
        io::ErrorKind::NetworkUnreachable => "its network cannot be reached".to_owned(),
        _ => error.to_string(),
    }
}
