//! The way of a flow to a server: which one, when there is room for it, and another when it cannot be reached. Called by
//! [`serve`](super::serve).

use super::journal::End;
use super::relay::Ended;
use super::site::Target;
use super::stream::Stream;
use crate::config::file::Key;
use crate::config::plan;
use crate::http::{Connection, Phase, Reject};
use crate::observe::events;
use crate::observe::metrics::Transport;
use crate::proxy_protocol::Ends;
use crate::upstream::balance::ClientKey;
use crate::upstream::caps::{Admission, Answer, Ask, Caps, Place, Slot};
use crate::upstream::dialer::Failed;
use crate::upstream::queue::Class;
use crate::upstream::{Group, InFlight, Outcome, Pass, Tried, budget, latency};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked whether a client that waits for its turn has gone.
const LOOK: Duration = Duration::from_millis(100);

/// Where a flow is, and where it has been.
pub struct Journey {
    pub group: Arc<Group>,
    tried: Tried,
    pub attempts: u16,
    /// How long it has waited for its turn, if it had to.
    pub queued: Option<Duration>,
    /// How long the connection to its server took.
    pub connect: Option<Duration>,
    /// The server of the last try, where the flow counts as in flight.
    pub server: Option<InFlight>,
    /// And so it does in its group, if that has limits. After the server, so that it is let go first.
    slot: Option<Slot>,
    began: Instant,
}

impl Journey {
    pub fn new(target: &Target) -> Journey {
        Journey {
            group: target.group.clone(),
            tried: Tried::default(),
            attempts: 0,
            queued: None,
            connect: None,
            server: None,
            slot: None,
            began: Instant::now(),
        }
    }

    /// A connection to a server for this client, which has asked for this name.
    ///
    /// # Errors
    /// How it ends without one.
    pub async fn reach(
        &mut self,
        target: &Target,
        (facts, name): (&Connection, Option<&str>),
        client: &Stream,
    ) -> Result<Stream, End> {
        let entered = self.group.enter(Instant::now());
        let pass = entered.map_err(|left| End::Refused(Reject::CircuitOpen { left }))?;
        let reached = self.tries(target, (facts, name), client).await;
        self.leave(pass, reached.as_ref().err());
        reached
    }

    /// Tells the breaker of the group how it went.
    fn leave(&self, pass: Option<Pass>, end: Option<&End>) {
        let Some(pass) = pass else { return };
        let why = || "no connection".to_owned();
        match end {
            None => self.group.left(pass, Outcome::Connected, Instant::now()),
            Some(End::Refused(Reject::BadGateway | Reject::GatewayTimeout(_))) => {
                self.group.left(pass, Outcome::Failed(&why), Instant::now());
            }
            // nobody was asked
            Some(_) => {}
        }
    }

    async fn tries(
        &mut self,
        target: &Target,
        (facts, name): (&Connection, Option<&str>),
        client: &Stream,
    ) -> Result<Stream, End> {
        let key = self.key(facts);
        let ends = Ends { client: facts.peer, to: facts.local };
        let ends = (!ends.client.ip().is_unspecified()).then_some(ends);
        let announcement = self.group.transport().announcement(ends, None, name);
        let timeouts = self.group.plan().timeouts;
        let times = (target.flows.connect.unwrap_or(timeouts.connect), timeouts.handshake());
        let mut last = Reject::Unavailable;
        loop {
            let server = self.choose(key.as_deref(), client).await.map_err(|end| match end {
                // whoever is up has been tried
                End::Refused(Reject::Unavailable) => End::Refused(last),
                other => other,
            })?;
            self.attempts += 1;
            self.tried.push(server.endpoint());
            let began = Instant::now();
            let endpoint = server.endpoint().clone();
            // in flight from before the connect, so that a slow one weighs too
            self.server = Some(server);
            match target.dialer.connect(&self.group, &endpoint, announcement.as_deref(), times).await {
                Ok(wire) => {
                    self.connected(began.elapsed());
                    return Ok(wire.into());
                }
                Err(failed) => {
                    last = match &failed {
                        _ if !failed.is_timeout() => Reject::BadGateway,
                        Failed::Connecting(_) => Reject::GatewayTimeout(Phase::Connect),
                        Failed::Handshake(_) => Reject::GatewayTimeout(Phase::Tls),
                    };
                    let again = self.another_try();
                    self.failed(&failed, began.elapsed(), (again, times));
                    if !again {
                        return Err(End::Refused(last));
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// By which it is told from others, if the group asks.
    fn key(&self, facts: &Connection) -> Option<ClientKey> {
        let wanted = self.group.plan().balance.keys().any(|key| *key == Key::Client);
        wanted.then(|| ClientKey::of(facts.peer.ip()))
    }

    /// A server for the next try, at once or when it is its turn.
    async fn choose(&mut self, key: Option<&[u8]>, client: &Stream) -> Result<InFlight, End> {
        let group = self.group.clone();
        let Some(caps) = group.caps() else {
            return group.begin_any(&self.tried, key).ok_or(End::Refused(Reject::Unavailable));
        };
        let class = if self.slot.is_some() { Class::Admitted } else { Class::Normal };
        let ask = Ask { class, home: None, key, tried: &self.tried };
        let place = match caps.enter(&group, &ask) {
            Admission::Now(place) => place,
            Admission::Nobody => return Err(End::Refused(Reject::Unavailable)),
            Admission::Full => return Err(full(&group, caps)),
            Admission::Later(mut turn) => {
                let since = Instant::now();
                let longest = group.plan().limits.map_or(Duration::ZERO, |limits| limits.queue_timeout);
                let answer = tokio::select! {
                    biased;
                    answer = turn.answer() => Some(answer),
                    () = gone(client) => return Err(End::Passed(Ended::ClientReset)),
                    () = tokio::time::sleep(longest) => None,
                };
                *self.queued.get_or_insert_default() += since.elapsed();
                match answer {
                    Some(Answer::Go(place)) => place,
                    Some(Answer::PushedOut) => return Err(full(&group, caps)),
                    Some(Answer::Nobody) => return Err(End::Refused(Reject::Unavailable)),
                    None => return Err(End::Refused(Reject::QueuedTooLong)),
                }
            }
        };
        let Place { server, slot } = place;
        if slot.is_some() {
            self.slot = slot;
        }
        Ok(server)
    }

    fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
        let Some(server) = &mut self.server else { return };
        server.endpoint().counted().flow_tried(Transport::Tcp, true, Some(took));
        latency::answered(&self.group.plan().balance, server.endpoint(), took);
        if let Some(watch) = server.watch.take() {
            self.group.ended(server.endpoint(), watch, Outcome::Connected, Instant::now());
        }
    }

    /// Says that a try failed: to the machines that judge servers, and in the log.
    fn failed(&mut self, failed: &Failed, took: Duration, (again, times): (bool, (Duration, Duration))) {
        let Some(server) = &mut self.server else { return };
        let endpoint = server.endpoint().clone();
        endpoint.counted().flow_tried(Transport::Tcp, false, None);
        latency::failed(&self.group.plan().balance, &endpoint, took);
        let why = || failed.words(times);
        if let Some(watch) = server.watch.take().filter(|_| failed.is_servers()) {
            self.group.ended(&endpoint, watch, Outcome::Failed(&why), Instant::now());
        }
        events::try_failed(endpoint.failures(), self.group.name(), endpoint.name(), &why(), again);
        server.end();
    }

    fn another_try(&self) -> bool {
        let retry = &self.group.plan().retry;
        let in_time = retry.within.is_none_or(|within| self.began.elapsed() < within);
        retry.on_connect && self.attempts < retry.attempts && in_time
    }

    async fn pause(&self) {
        if let Some(plan::Backoff { base, max }) = self.group.plan().retry.backoff {
            tokio::time::sleep(budget::backoff(base, max, self.attempts + 1, fastrand::f64())).await;
        }
    }
}

fn full(group: &Group, caps: &Caps) -> End {
    events::queue_full(caps.full(), group.name());
    End::Refused(Reject::QueueFull)
}

/// Comes to an end when the client has gone.
async fn gone(client: &Stream) {
    while !client.has_gone() {
        tokio::time::sleep(LOOK).await;
    }
}
