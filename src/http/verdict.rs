//! What a try says about its server, and a request about its group: told once, when it is known. A
//! client that goes away says nothing, nor does an idle connection that the server had closed, nor the
//! end of a WebSocket. Called by `forward`, `retry` and `journal`; what follows is for
//! [`Group`](crate::upstream::Group) to say.

use super::call;
use super::ctx::{Ctx, Forward};
use super::refusal::{Phase, Reject};
use crate::clock;
use crate::config::plan;
use crate::upstream::{Group, Outcome, Watch, reason};
use http::StatusCode;
use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// Asks the breaker of the group.
///
/// # Errors
/// It is open.
pub fn enter(ctx: &mut Ctx, group: &Group) -> Result<(), Reject> {
    if group.plan().breaker.group.is_none() {
        return Ok(());
    }
    ctx.forward.pass = group.enter(clock::now()).map_err(|left| Reject::CircuitOpen { left })?;
    Ok(())
}

/// The head of an answer is here, which took this long. A bad one is a verdict; a good one is when its
/// body has come as well.
pub fn answered(forward: &mut Forward, status: StatusCode, took: Duration, now: Instant) {
    forward.answered = Some(status.as_u16());
    let (Some(group), Some(try_on)) = (&forward.group, &forward.endpoint) else { return };
    if try_on.watch.is_none() && forward.pass.is_none() {
        return;
    }
    let bad = group.finds_bad(status.as_u16());
    if !bad && try_on.watch.is_some() {
        group.answered(try_on.endpoint(), took, now);
    }
    if bad || status == StatusCode::SWITCHING_PROTOCOLS {
        settle(forward, Outcome::Answered(status.as_u16()), now);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        settle_request(forward, Outcome::Answered(status.as_u16()), now);
    }
}

/// The answer is that of a try that is followed by another.
pub fn passed_over(forward: &mut Forward, status: u16) {
    settle(forward, Outcome::Answered(status), clock::now());
}

/// Another server was quicker, after this long. That it would have answered is not known, nor that it
/// would not.
pub fn overtaken(forward: &Forward, took: Duration, now: Instant) {
    if let (Some(group), Some(try_on)) = (&forward.group, &forward.endpoint)
        && try_on.watch.is_some()
    {
        group.answered(try_on.endpoint(), took, now);
    }
}

/// A piece of an answer has come. A trial that goes on and on has succeeded.
pub fn answering(forward: &mut Forward) {
    let of_server = watch(forward).is_some_and(Watch::is_trial);
    let of_group = forward.pass.as_ref().is_some_and(|pass| pass.is_trial());
    if !of_server && !of_group {
        return;
    }
    let (Some(group), Some(started), Some(status)) = (&forward.group, forward.try_started, forward.answered)
    else {
        return;
    };
    let (now, breaker) = (clock::now(), group.plan().breaker);
    let long = |rules: Option<plan::Breaker>| rules.is_some_and(|rules| now - started >= rules.open);
    if of_group && long(breaker.group) {
        settle_request(forward, Outcome::Answered(status), now);
    }
    if of_server && long(breaker.server) {
        settle(forward, Outcome::Answered(status), now);
    }
}

/// The try failed. `why` is asked only when it is told.
pub fn failed(forward: &mut Forward, error: &Error, why: &dyn Fn() -> String) {
    if reason::is_servers(error) {
        settle(forward, Outcome::Failed(why), clock::now());
    }
}

fn watch(forward: &Forward) -> Option<&Watch> {
    forward.endpoint.as_ref()?.watch.as_ref()
}

/// Tells how the request went, if nobody has.
fn settle_request(forward: &mut Forward, outcome: Outcome<'_>, now: Instant) {
    if let (Some(pass), Some(group)) = (forward.pass.take(), &forward.group) {
        group.left(pass, outcome, now);
    }
}

/// Tells how the try went, if nobody has.
fn settle(forward: &mut Forward, outcome: Outcome<'_>, now: Instant) {
    if let (Some(group), Some(try_on)) = (&forward.group, &mut forward.endpoint)
        && let Some(watch) = try_on.watch.take()
    {
        group.ended(try_on.endpoint(), watch, outcome, now);
    }
}

/// The try met a connection that the server had closed as idle: it says nothing.
pub fn stale(forward: &mut Forward) {
    if let Some(try_on) = &mut forward.endpoint {
        try_on.watch = None;
    }
}

/// And nor does the request, as it may not be repeated.
pub fn stale_for_good(forward: &mut Forward) {
    stale(forward);
    forward.pass = None;
}

/// The request is over: what has no verdict yet gets one, if there is one.
pub fn ended(session: &Session, ctx: &mut Ctx, error: Option<&Error>) {
    let whole = error.is_none_or(|error| call::had_ended(ctx, error));
    let forward = &mut ctx.forward;
    if watch(forward).is_none() && forward.pass.is_none() {
        return;
    }
    let now = clock::now();
    if let Some(status) = forward.answered.filter(|_| whole) {
        settle(forward, Outcome::Answered(status), now);
    }
    let reason = || "no answer".to_owned();
    // it was settled at the switch
    let upgraded = session.was_upgraded();
    let outcome = match (ctx.reject, error.filter(|_| !whole).map(|error| error.esource())) {
        // nor is it the server's fault that a client has little patience
        (Some(Reject::GatewayTimeout(Phase::Deadline)), _) => None,
        (Some(Reject::BadGateway | Reject::GatewayTimeout(_)), _) => Some(Outcome::Failed(&reason)),
        // nobody was asked, or the client is to blame
        (Some(_), _) => None,
        (None, Some(ErrorSource::Upstream)) if !upgraded => Some(Outcome::Failed(&reason)),
        (None, Some(ErrorSource::Downstream | ErrorSource::Internal | ErrorSource::Unset)) if !upgraded => {
            None
        }
        (None, Some(_) | None) => forward.answered.map(Outcome::Answered),
    };
    match outcome {
        Some(outcome) => settle_request(&mut ctx.forward, outcome, now),
        None => ctx.forward.pass = None,
    }
}
