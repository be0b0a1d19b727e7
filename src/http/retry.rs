//! Whether a try that failed is followed by another: only when the server cannot have acted on the
//! request or may act on it twice, when the client has seen nothing, and within the budget of the
//! group. Called by `proxy` when a try ends badly.

use super::ctx::Ctx;
use super::forward::{self, judge};
use super::refusal::Phase;
use super::watchdog::{Bark, Limits};
use super::{answer, call, queue, trace, verdict};
use crate::config::plan;
use crate::observe::events;
use crate::upstream::caps::{Place, Slot};
use crate::upstream::{budget, latency, reason};
use http::StatusCode;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// Before a further try: waits, if the configuration says so.
///
/// # Errors
/// The client has gone: while a connection is being made, Pingora does not look.
pub async fn pause(session: &mut Session, ctx: &Ctx) -> Result<()> {
    let forward = &ctx.forward;
    if forward.attempts == 0 || forward.handover.is_some() {
        return Ok(());
    }
    if let Some(why) = queue::has_gone(session) {
        return Err(why);
    }
    let Some(plan::Backoff { base, max }) = forward.retry.and_then(|retry| retry.backoff) else {
        return Ok(());
    };
    tokio::select! {
        biased;
        why = queue::gone(session) => Err(why),
        () = tokio::time::sleep(budget::backoff(base, max, forward.attempts + 1, fastrand::f64())) => Ok(()),
    }
}

/// No connection was made, so nothing was sent: any request may be tried elsewhere.
pub fn connect_failed(ctx: &mut Ctx, peer: &HttpPeer, mut error: Box<Error>) -> Box<Error> {
    let mut allowed = peer.options.connection_timeout.unwrap_or_default();
    if *error.root_etype() == ErrorType::ConnectTimedout {
        (allowed, ctx.forward.late) = connect_took(ctx, allowed);
    }
    let retry = ctx.forward.retry.is_some_and(|r| r.on_connect) && another_try(ctx);
    // a connection that was there already has ended before the request was on it
    ctx.forward.stale |= *error.root_etype() == ErrorType::H2Error;
    error.set_retry(retry);
    let late = ctx.forward.late;
    if late == Some(Phase::Deadline) {
        // how patient a client is says nothing about the server
        return error;
    }
    judge(&ctx.forward, Instant::now(), latency::failed);
    tell(ctx, &error, retry, &|| match late {
        Some(Phase::Tls) => reason::no_handshake(allowed),
        Some(_) | None => reason::words(&error, allowed),
    });
    error
}

/// What connecting was allowed, and which deadline has passed.
fn connect_took(ctx: &Ctx, allowed: Duration) -> (Duration, Option<Phase>) {
    let forward = &ctx.forward;
    let Some(dialled) = &forward.dialled else { return (allowed, forward.connect_phase) };
    let now = Instant::now();
    let passed = |by: Option<(Instant, Duration)>| by.filter(|(at, _)| *at <= now).map(|(_, all)| all);
    let Limits { head_by, end_by, deadline, .. } = forward.limits;
    let all = [(deadline, Phase::Deadline), (end_by, Phase::Request), (head_by, Phase::Try)];
    let first = all.into_iter().find_map(|(by, phase)| Some((passed(by)?, phase)));
    let (allowed, phase) = first.unwrap_or(match dialled.stands() {
        true => (dialled.handshake, Phase::Tls),
        false => (dialled.connect, Phase::Connect),
    });
    (allowed, Some(phase))
}

/// It broke after the connection stood.
pub fn exchange_failed(
    session: &mut Session,
    ctx: &mut Ctx,
    error: Box<Error>,
    peer: &HttpPeer,
) -> Box<Error> {
    let reused = ctx.forward.was_kept();
    if *error.root_etype() == reason::NO_H2 {
        // nothing was sent
        return connect_failed(ctx, peer, error);
    }
    let (mut error, bark) = cause(session, ctx, error);
    let upstream = *error.esource() == ErrorSource::Upstream;
    let words = |error: &Error| match bark {
        Some(bark) => bark.words(),
        None => {
            reason::words(error, peer.options.read_timeout.or(peer.options.write_timeout).unwrap_or_default())
        }
    };
    ctx.forward.late = match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout if upstream => {
            Some(bark.and_then(|bark| bark.phase).unwrap_or(Phase::Silence))
        }
        _ => None,
    };
    if let Some(second) = second_takes_over(session, ctx, upstream) {
        error.set_retry(true);
        let now = Instant::now();
        if second.answered {
            // it would have taken longer than this
            let took = judge(&ctx.forward, now, latency::answered);
            verdict::overtaken(&ctx.forward, took, now);
            trace::overtaken(ctx);
        } else {
            judge(&ctx.forward, now, latency::failed);
            tell(ctx, &error, true, &|| words(&error));
        }
        first_is_over(ctx, second);
        return error;
    }
    if std::mem::take(&mut ctx.forward.bad_answer) {
        // `answered` has looked at everything
        error.set_retry(true);
        judge(&ctx.forward, Instant::now(), latency::failed);
        report(ctx, &error, true, &|| words(&error));
        return error;
    }
    let (retry, stale) = is_worth_another(session, ctx, &error, (bark, reused));
    ctx.forward.stale |= stale;
    if stale {
        verdict::stale(&mut ctx.forward);
        trace::try_failed(ctx, &error, &|| "the server had closed the connection".to_owned());
    }
    error.set_retry(retry);
    // nor does it say anything about the server how a WebSocket ends, or how patient the client of a call is
    let impatient = ctx.forward.late == Some(Phase::Deadline);
    if upstream && !stale && !session.was_upgraded() && !impatient {
        judge(&ctx.forward, Instant::now(), latency::failed);
        if reused && is_reset(error.etype()) && ctx.forward.answered.is_none() {
            // it may have been closed as idle, although the request may not be repeated
            verdict::stale_for_good(&mut ctx.forward);
        }
        tell(ctx, &error, retry, &|| words(&error));
    }
    error
}

/// What broke it: a deadline that was seen to here, or what Pingora found.
fn cause(session: &mut Session, ctx: &mut Ctx, error: Box<Error>) -> (Box<Error>, Option<Bark>) {
    let silence = ctx.forward.watched.take().and_then(|watched| watched.bark());
    let bark = ctx.forward.watchdog.take().and_then(|dog| dog.bark()).or(silence);
    let bark = bark.or_else(|| call::deadline_passed(ctx, &error));
    let mut error = bark.map_or(error, Bark::error);
    if bark == silence
        && *error.etype() == ErrorType::ReadTimedout
        && !session.is_body_done()
        && ctx.call().is_none()
    {
        // the server says nothing, and the client has not said all: it begins. In a call both may speak at any time
        error.as_down();
    }
    (error, bark)
}

/// Whether the request is sent again, and whether only because a kept connection turned out to be closed. That says nothing
/// about the server, and cost it nothing; of HTTP/2 it is known sooner, and a connection that breaks was in use.
fn is_worth_another(
    session: &Session,
    ctx: &Ctx,
    error: &Error,
    (bark, reused): (Option<Bark>, bool),
) -> (bool, bool) {
    let unread = bark.is_none() && is_unread(error);
    let wanted = ctx.forward.retry.is_some_and(|retry| match error.etype() {
        _ if unread => retry.on_connect,
        // who speaks nonsense has not answered either
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 | ErrorType::H2Downgrade => retry.on_reset,
        etype if is_reset(etype) => retry.on_reset,
        ErrorType::ReadTimedout => retry.on_timeout,
        _ => false,
    });
    let may = *error.esource() == ErrorSource::Upstream
        && wanted
        && ctx.reject.is_none()
        && is_repeatable(session, ctx, unread)
        && another_try(ctx);
    let closed = unread || is_reset(error.etype()) && reason::h2_cause(error).is_none();
    let stale = may && reused && closed;
    (may && (stale || within_budget(ctx)), stale)
}

/// A second try with which the request goes on.
struct Second {
    answered: bool,
    slot: Option<Slot>,
}

/// Sends the request on to where its second try is, if that is not over.
fn second_takes_over(session: &Session, ctx: &mut Ctx, upstream: bool) -> Option<Second> {
    let answered = ctx.forward.hedge.as_ref()?.second_answered();
    if !upstream || ctx.reject.is_some() || answer::begun(session) {
        forward::forget_hedge(ctx);
        return None;
    }
    let forward = &mut ctx.forward;
    let hedge = forward.hedge.take()?;
    let begun = hedge.has_begun();
    let Some((Place { server, slot }, handover)) = hedge.take_over() else {
        forward.hedged += u16::from(begun);
        return None;
    };
    forward.chosen = Some(server);
    forward.handover = Some(handover);
    Some(Second { answered, slot })
}

/// The first try has said what it has to say, and makes room.
fn first_is_over(ctx: &mut Ctx, second: Second) {
    if let Some(first) = &mut ctx.forward.endpoint {
        first.end();
    }
    if second.slot.is_some() {
        // that of the first try is for whoever waits
        ctx.forward.slot = second.slot;
    }
}

/// The head of an answer is here, which is `judged` by this status: an error when the request is to be tried elsewhere instead. The
/// last try's answer goes to the client whatever it is.
pub fn answered(session: &Session, ctx: &mut Ctx, judged: StatusCode) -> Result<()> {
    let status = judged.as_u16();
    let wanted = ctx.forward.retry.is_some_and(|retry| retry.on_status.contains(status));
    decide_race(session, ctx, judged, wanted)?;
    if !wanted
        || !is_repeatable(session, ctx, false)
        || !another_try(ctx)
        || !another_server(ctx)
        || !within_budget(ctx)
    {
        return Ok(());
    }
    ctx.forward.bad_answer = true;
    verdict::passed_over(&mut ctx.forward, status);
    Err(Error::explain(ErrorType::HTTPStatus(status), "status is tried again").into_up())
}

/// The first try is answered: it wins, if the second has not won already, or may do better than a
/// status that is `wanted` to be tried again.
fn decide_race(session: &Session, ctx: &mut Ctx, status: StatusCode, wanted: bool) -> Result<()> {
    let Some(hedge) = ctx.forward.hedge.as_ref().filter(|_| !status.is_informational()) else {
        return Ok(());
    };
    if wanted
        && hedge.goes_on()
        && let Some(second) = second_takes_over(session, ctx, true)
    {
        ctx.forward.bad_answer = true;
        verdict::passed_over(&mut ctx.forward, status.as_u16());
        first_is_over(ctx, second);
        let status = ErrorType::HTTPStatus(status.as_u16());
        return Err(Error::explain(status, "status is tried again").into_up());
    }
    if ctx.forward.hedge.as_ref().is_some_and(|hedge| !hedge.first_answered()) {
        return Err(Error::explain(ErrorType::ConnectionClosed, "the second try was quicker").into_up());
    }
    forward::forget_hedge(ctx);
    Ok(())
}

/// The connection ended, as against a server that is slow or speaks nonsense.
fn is_reset(etype: &ErrorType) -> bool {
    use ErrorType::{ConnectionClosed, H2Error, ReadError, WriteError};
    matches!(etype, ConnectionClosed | ReadError | WriteError | H2Error)
}

/// The server says that it has not looked at the request: it refuses the stream, or goes away in peace
/// (RFC 9113 §8.7).
fn is_unread(error: &Error) -> bool {
    reason::h2_cause(error).is_some_and(|h2| {
        let peace = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
        let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        h2.is_remote() && (peace || refused)
    })
}

/// Nobody notices that the request is sent again: the client has seen nothing, its body is still
/// there, and the method may be repeated (RFC 9110 §9.2.2), the configuration says it may, or the
/// request is `unread`.
fn is_repeatable(session: &Session, ctx: &Ctx, unread: bool) -> bool {
    let unseen = !answer::begun(session);
    let replayable = !session.as_ref().retry_buffer_truncated();
    let repeatable = unread
        || session.req_header().method.is_idempotent()
        || ctx.forward.retry.is_some_and(|retry| retry.non_idempotent);
    unseen && replayable && repeatable
}

fn another_try(ctx: &Ctx) -> bool {
    let forward = &ctx.forward;
    forward.retry.is_some_and(|retry| forward.attempts < retry.attempts) && may_begin_in(ctx, Duration::ZERO)
}

/// Whether a further try may begin after this time: within `retry.within` and `timeouts.request`.
pub(super) fn may_begin_in(ctx: &Ctx, time: Duration) -> bool {
    let begins = Instant::now() + time;
    let within = ctx.forward.retry.and_then(|retry| retry.within).zip(ctx.request.as_ref());
    let too_late = within.is_some_and(|(within, request)| begins >= request.info.started + within);
    let Limits { end_by, deadline, .. } = ctx.forward.limits;
    !too_late && [end_by, deadline].into_iter().flatten().all(|(end, _)| begins < end)
}

/// Whether anybody is left to be asked: a bad answer is better than none.
fn another_server(ctx: &Ctx) -> bool {
    let forward = &ctx.forward;
    forward.group.as_ref().is_some_and(|group| group.any_left(&forward.tried))
}

fn within_budget(ctx: &Ctx) -> bool {
    let forward = &ctx.forward;
    let Some(group) = &forward.group else { return false };
    let granted = group.budget().retry(Instant::now());
    if !granted {
        group.counted().budget_exhausted();
        events::budget_spent(group.budget().spent(), group.name());
    }
    granted
}

/// Says that a try failed: to the machines that judge servers, and in the log.
fn tell(ctx: &mut Ctx, error: &Error, retry: bool, why: &dyn Fn() -> String) {
    verdict::failed(&mut ctx.forward, error, why);
    report(ctx, error, retry, why);
}

fn report(ctx: &mut Ctx, error: &Error, retry: bool, why: &dyn Fn() -> String) {
    trace::try_failed(ctx, error, why);
    let forward = &ctx.forward;
    if let (Some(group), Some(try_on)) = (&forward.group, &forward.endpoint) {
        let endpoint = try_on.endpoint();
        events::try_failed(endpoint.failures(), group.name(), endpoint.name(), &why(), retry);
    }
}
