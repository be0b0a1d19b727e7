//! The wait for a turn in a group with limits: for as long as there is room in the queue, the client
//! is there, and the time for waiting is not over. Called by `forward` and `retry` in place of the
//! plain choice of a server; whose turn it is is for `upstream::caps`.

use super::connection::Connection;
use super::ctx::Ctx;
use super::forward::nobody_left;
use super::refusal::{Phase, Reject};
use super::{key, sticky};
use crate::config::file::PriorityClass;
use crate::observe::events;
use crate::upstream::caps::{Admission, Answer, Ask, Caps, Place};
use crate::upstream::queue::Class;
use crate::upstream::{Group, Tried};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// How often is looked whether a client has gone whose body is not read yet.
const LOOK: Duration = Duration::from_millis(100);

/// Why a request goes no further.
#[derive(Debug)]
pub enum Stop {
    Refuse(Reject),
    /// There is nobody to answer.
    Gone(Box<Error>),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Stop::Refuse(reject)
    }
}

/// The server for the first try, and a slot in the group, at once or after a wait.
///
/// # Errors
/// No server is up, the queue is full, no turn came in time, or the client has gone.
pub async fn first(session: &mut Session, ctx: &mut Ctx, group: &Arc<Group>) -> Result<(), Stop> {
    let class = match ctx.route().map(|route| route.priority_class).unwrap_or_default() {
        PriorityClass::High => Class::High,
        PriorityClass::Normal => Class::Normal,
        PriorityClass::Low => Class::Low,
    };
    enter(session, ctx, group, class).await
}

/// The server for a further try. The request keeps its slot in the group, and the server that has
/// failed it is free for others.
///
/// # Errors
/// Every server that is up has been tried, or those left are at their caps for too long.
pub async fn again(session: &mut Session, ctx: &mut Ctx, group: &Arc<Group>) -> Result<(), Stop> {
    if let Some(failed) = &mut ctx.forward.endpoint {
        failed.end();
    }
    match enter(session, ctx, group, Class::Admitted).await {
        Err(Stop::Refuse(Reject::Unavailable)) if std::mem::take(&mut ctx.forward.stale) => {
            // nobody else is left, and the last server only closed an idle connection: ask it again
            ctx.forward.tried = Tried::default();
            enter(session, ctx, group, Class::Admitted).await
        }
        other => other,
    }
    .map_err(|stop| match stop {
        Stop::Refuse(Reject::Unavailable) => Stop::Refuse(nobody_left(&ctx.forward)),
        stop => stop,
    })
}

async fn enter(session: &mut Session, ctx: &mut Ctx, group: &Arc<Group>, class: Class) -> Result<(), Stop> {
    let Some(caps) = group.caps() else { return Err(Reject::Internal.into()) };
    let mut turn = match ask(session, ctx, group, caps, class) {
        Admission::Now(place) => {
            take(ctx, place);
            return Ok(());
        }
        Admission::Nobody => return Err(Reject::Unavailable.into()),
        Admission::Full => return Err(full(group, caps)),
        Admission::Later(turn) => turn,
    };
    let since = Instant::now();
    let longest = group.plan().limits.map_or(Duration::ZERO, |limits| limits.queue_timeout);
    let longest = ctx.patience().map_or(longest, |left| left.min(longest));
    let answer = tokio::select! {
        biased;
        answer = turn.answer() => Ok(Some(answer)),
        why = gone(session) => Err(Stop::Gone(why)),
        () = tokio::time::sleep(longest) => Ok(None),
    };
    *ctx.forward.queued.get_or_insert_default() += since.elapsed();
    match answer? {
        Some(Answer::Go(place)) => {
            take(ctx, place);
            Ok(())
        }
        Some(Answer::PushedOut) => Err(full(group, caps)),
        Some(Answer::Nobody) => Err(Reject::Unavailable.into()),
        None if ctx.out_of_patience().is_some() => Err(Reject::GatewayTimeout(Phase::Deadline).into()),
        None => Err(Reject::QueuedTooLong.into()),
    }
}

fn ask(session: &Session, ctx: &mut Ctx, group: &Arc<Group>, caps: &Arc<Caps>, class: Class) -> Admission {
    let head = session.req_header();
    let home = sticky::server(group, head, &mut ctx.forward).map(|endpoint| endpoint.address());
    let info = ctx.request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), head, info));
    caps.enter(group, &Ask { class, home, key: key.as_deref(), tried: &ctx.forward.tried })
}

fn take(ctx: &mut Ctx, Place { server, slot }: Place) {
    ctx.forward.chosen = Some(server);
    if slot.is_some() {
        ctx.forward.slot = slot;
    }
}

fn full(group: &Group, caps: &Caps) -> Stop {
    events::queue_full(caps.full(), group.name());
    Reject::QueueFull.into()
}

/// Comes to an end when the client has gone, or has closed its side, which counts as gone everywhere
/// else too. Nothing of the request's body is read.
pub(super) async fn gone(session: &mut Session) -> Box<Error> {
    let http: &mut ServerSession = session.as_mut();
    if let Some(reset) = http.watch_h2_stream_close() {
        // whether it was reset or broke
        drop(reset.await);
        return closed();
    }
    if http.is_body_done() {
        return match http.read_body_or_idle(true).await {
            Err(error) => error.into_down(),
            Ok(_) => std::future::pending().await,
        };
    }
    let Some(fd) = socket(http) else {
        return std::future::pending().await;
    };
    while !hung_up(fd) {
        tokio::time::sleep(LOOK).await;
    }
    closed()
}

fn closed() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client has gone while no server had its request")
        .into_down()
}

/// Whether the client has gone by now, as [`gone`] has it.
pub(super) fn has_gone(session: &mut Session) -> Option<Box<Error>> {
    let http: &mut ServerSession = session.as_mut();
    let left = match http.watch_h2_stream_close() {
        Some(reset) => {
            let mut context = Context::from_waker(Waker::noop());
            std::pin::pin!(reset).poll(&mut context).is_ready()
        }
        None => socket(http).is_some_and(hung_up),
    };
    left.then(closed)
}

fn socket(http: &ServerSession) -> Option<RawFd> {
    Connection::of(http.digest())?.socket
}

/// Whether the other side has closed this connection, or its half of it.
fn hung_up(fd: RawFd) -> bool {
    let hang_up = PollFlags::from_bits_retain(libc::POLLRDHUP);
    // SAFETY: the session that is borrowed meanwhile owns the connection and keeps it open.
    let connection = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut fds = [PollFd::new(connection, hang_up)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}
