//! The server of a try as Pingora is told of it: the way there, and how long each step may take. Called by `forward`
//! when the server is chosen.

use crate::clock;
use crate::config::plan::UpstreamTimeouts;
use crate::http::ctx::Ctx;
use crate::http::patrol;
use crate::http::refusal::Phase;
use crate::http::watchdog::{Limits, Who};
use crate::http::{dial, hop, kept};
use crate::upstream::transport::Wanted;
use crate::upstream::{Endpoint, Group};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::Session;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The shortest time for a timer of Pingora's, which cannot be set to none at all.
const AT_ONCE: Duration = Duration::from_millis(1);
/// How long a connection that is of use to one client only is kept for its next request.
const PRIVATE_IDLE: Duration = Duration::from_secs(5);

/// How long a try may take.
pub struct Allowed {
    /// It begins now.
    pub now: Instant,
    timeouts: UpstreamTimeouts,
    /// When the head of the answer must be here, and what the try is allowed.
    head_by: Option<(Instant, Duration)>,
    /// When the answer must be complete, and what the request is allowed.
    end_by: Option<(Instant, Duration)>,
    /// When the client of a call waits no longer, and how long it has. Connections are not ended for it, so that calls
    /// share them: nearly all have one.
    deadline: Option<(Instant, Duration)>,
}

impl Allowed {
    /// By the route of this request, and by the group that it goes to.
    pub fn by(ctx: &Ctx, group: &Group) -> Allowed {
        let now = clock::now();
        let of_route = ctx.route().and_then(|route| route.timeouts.as_deref());
        let timeouts = group.plan().timeouts.with(of_route);
        Allowed {
            now,
            head_by: timeouts.one_try.map(|all| (now + all, all)),
            end_by: ctx.request.as_ref().zip(timeouts.request).map(|(r, all)| (r.info.started + all, all)),
            deadline: ctx.call().and_then(|call| call.deadline),
            timeouts,
        }
    }

    /// The whole request has had its time.
    pub fn is_over(&self) -> Option<Phase> {
        let is_over = |by: Option<(Instant, Duration)>| by.is_some_and(|(at, _)| at <= self.now);
        match (is_over(self.deadline), is_over(self.end_by)) {
            (true, _) => Some(Phase::Deadline),
            (false, true) => Some(Phase::Request),
            (false, false) => None,
        }
    }

    fn until(&self, by: Option<(Instant, Duration)>) -> Option<Duration> {
        by.map(|(at, _)| at.saturating_duration_since(self.now))
    }

    /// The time to connect, and what it means when that is over: another deadline may come first.
    fn connect(&self) -> (Duration, Phase) {
        let mut first = (self.timeouts.connect, Phase::Connect);
        let others =
            [(self.head_by, Phase::Try), (self.end_by, Phase::Request), (self.deadline, Phase::Deadline)];
        for (by, phase) in others {
            if let Some(until) = self.until(by).filter(|until| *until < first.0) {
                first = (until.max(AT_ONCE), phase);
            }
        }
        first
    }

    /// For all that comes before a request can be sent.
    fn connect_and_handshake(&self) -> Option<Duration> {
        let left =
            [self.head_by, self.end_by, self.deadline].into_iter().filter_map(|by| self.until(by)).min();
        left.map(|left| left.max(AT_ONCE))
    }

    /// Pingora knows one deadline for all silences of the server; a watchdog sees to what is to be shorter.
    fn silence(&self, upgrade: bool) -> Duration {
        let UpstreamTimeouts { response, tunnel, first_byte, .. } = self.timeouts;
        let before_it = response.max(first_byte.unwrap_or_default());
        // what comes after the switch
        let longest = if upgrade { tunnel.max(before_it) } else { before_it };
        self.until(self.deadline).map_or(longest, |left| left.max(AT_ONCE).min(longest))
    }

    /// A watchdog ends the connection of the try, whatever kind of request it is.
    fn is_watched(&self) -> bool {
        self.timeouts.first_byte.is_some() || self.head_by.is_some() || self.end_by.is_some()
    }

    /// For the watchdog.
    fn limits(&self, upgrade: bool) -> Limits {
        let UpstreamTimeouts { response, first_byte, .. } = self.timeouts;
        Limits {
            // with another deadline for the first byte, silence counts from there
            silence: (upgrade && first_byte.is_none()).then_some((Who::Server, response)),
            client_rate: 0,
            gaps: Some(response).filter(|gap| *gap < self.silence(upgrade)),
            first_byte,
            head_by: self.head_by,
            end_by: self.end_by,
            deadline: self.deadline,
        }
    }
}

/// The way to this server.
pub fn to(
    session: &mut Session,
    ctx: &mut Ctx,
    group: &Group,
    (endpoint, allowed): (&Endpoint, &Allowed),
) -> Box<HttpPeer> {
    let (upgrade, timeouts) = (ctx.forward.upgrade, &allowed.timeouts);
    let mut peer = group.peer(endpoint, Wanted { upgrade, alone: allowed.is_watched() });
    let (connect, phase) = allowed.connect();
    ctx.forward.connect_phase = Some(phase);
    peer.options.connection_timeout = Some(connect);
    peer.options.idle_timeout = Some(timeouts.idle);
    dial_ourselves(session, ctx, group, (endpoint.address(), &mut peer), (connect, timeouts.handshake()));
    if group.transport().is_tls() {
        peer.options.total_connection_timeout = allowed.connect_and_handshake();
    }
    peer.options.read_timeout = Some(allowed.silence(upgrade));
    peer.options.write_timeout = Some(timeouts.response);
    peer.options.http_upstream_request_policy = hop::policy(&session.req_header().headers);
    ctx.forward.limits = allowed.limits(upgrade);
    ctx.forward.socket = None;
    if let Some(second) = ctx.forward.handover.take() {
        ctx.forward.socket = Some(second.socket());
        peer.options.custom_l4 = Some(Arc::new(second));
        // it has been asked already: no kept connection will do, nor can this one be kept
        peer.group_key = fastrand::u64(1..);
        peer.options.idle_timeout = Some(AT_ONCE);
    }
    if patrol(ctx, group, &mut peer) {
        kept::keep(&mut peer, !session.as_mut().is_body_empty());
    }
    peer
}

/// Leaves the two deadlines that nearly every try has, and nearly none needs, to the patrol instead of Pingora's
/// timers: where there are no others, and the connection is for one request at a time and for anybody. Whether it did.
fn patrol(ctx: &mut Ctx, group: &Group, peer: &mut HttpPeer) -> bool {
    let forward = &mut ctx.forward;
    let ordinary = !forward.upgrade
        && forward.limits.is_none()
        && forward.announcement.is_none()
        && forward.socket.is_none()
        && !group.transport().may_be_h2();
    let both = peer.options.read_timeout.zip(peer.options.idle_timeout);
    forward.patrolled = both.filter(|(silence, idle)| ordinary && patrol::can_see_to(*silence, *idle));
    if forward.patrolled.is_some() {
        (peer.options.read_timeout, peer.options.idle_timeout) = (None, None);
    }
    forward.patrolled.is_some()
}

/// Opens the connection to the server in a way of our own, where its two deadlines have to be told apart or the server
/// is told of the client. Such a connection is for the requests of one connection of a client only.
fn dial_ourselves(
    session: &Session,
    ctx: &mut Ctx,
    group: &Group,
    (server, peer): (SocketAddr, &mut HttpPeer),
    (connect, handshake): (Duration, Duration),
) {
    let transport = group.transport();
    let connection = ctx.request.as_ref().map(|request| &request.info.connection);
    let announcement =
        connection.and_then(|from| dial::announcement(transport, from, session.req_header().version));
    ctx.forward.dialled = None;
    if let Some(announcement) = &announcement {
        peer.group_key = dial::key_with(peer.group_key, announcement);
        // others have no use for it, and it takes a place in the pool
        peer.options.idle_timeout = peer.options.idle_timeout.map(|idle| idle.min(PRIVATE_IDLE));
    }
    if transport.is_tls() || announcement.is_some() {
        let (tcp, progress) = dial::tcp(transport, server, announcement.clone(), (connect, handshake));
        peer.options.custom_l4 = Some(tcp);
        if transport.is_tls() {
            ctx.forward.dialled = Some(progress);
            peer.options.connection_timeout = Some(handshake);
        }
    }
    ctx.forward.announcement = announcement;
}
