//! The head that the server of a try will see, and a second try that may follow the first with the same. Called by
//! `forward` when the connection stands.

use crate::config::file::{HedgeAfter, UpstreamHost};
use crate::filter::Phases;
use crate::http::ctx::{Ctx, Forward, Matched};
use crate::http::hedge::{self, Hedge};
use crate::http::{call, cookie, forwarded, key, path, retry, sticky, trace, valid_authority};
use crate::upstream::reason::NO_H2;
use http::{Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;

/// The head that the server will see: path as `path::forwarded` says, `Host`, who asks, the filters.
pub fn request_head(session: &mut Session, ctx: &mut Ctx, head: &mut RequestHeader) -> Result<()> {
    let Some(Matched { info, headers, .. }) = &ctx.request else {
        return Ok(());
    };
    set_path(head, info.normalised_path.as_deref())?;
    // the edge has told the client to go on, or will
    head.remove_header(&header::EXPECT);
    sticky::keep_to_ourselves(&ctx.forward, head);
    if session.req_header().version == Version::HTTP_2 {
        cookie::join(head);
    }
    let host = head.headers.get(header::HOST).cloned();
    set_host(head, &ctx.forward)?;
    let facts = forwarded::Facts {
        peer: info.connection.forwarded(),
        trusted: headers.trusted,
        https: info.https,
        host: host.as_ref(),
        request_id: &info.request_id,
    };
    forwarded::apply(head, &facts, &headers.config)?;
    call::tell_deadline(ctx, head)?;
    trace::tell(ctx, head)?;
    if ctx.forward.attempts > 1 {
        head.insert_header("X-Weirgate-Attempts", ctx.forward.attempts)?;
    }
    if let Some((chain, mut exchange)) = ctx.exchange(session)
        && chain.has(Phases::UPSTREAM_REQUEST)
    {
        chain.upstream_request(&mut exchange, head);
        sound_host(head)?;
    }
    hedge(session, ctx, head);
    if let Some(watchdog) = &ctx.forward.watchdog
        && head.version == Version::HTTP_2
        && session.as_mut().is_body_empty()
    {
        // there is no body of which the end would be told
        watchdog.request_sent();
    }
    h2_where_wanted(ctx, head)
}

/// A filter of somebody's own may have put anything where the host is: what no server could read in one way only is not
/// sent (RFC 9112 §3.2). Pingora looks at what came over HTTP/2 only.
fn sound_host(head: &RequestHeader) -> Result<()> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let sound = match (hosts.next(), hosts.next()) {
        (Some(host), None) => valid_authority(host.as_bytes()),
        (None, _) => head.uri.authority().is_some(),
        (Some(_), Some(_)) => false,
    };
    let why = "a filter has left a request without a host, with two, or with one that is none";
    if sound { Ok(()) } else { Err(Error::explain(ErrorType::InvalidHTTPHeader, why)) }
}

/// Pingora falls back to HTTP/1.1 where TLS was agreed on without a word about protocols.
fn h2_where_wanted(ctx: &Ctx, head: &RequestHeader) -> Result<()> {
    let wanted = ctx.forward.group.as_ref().is_some_and(|group| group.transport().must_be_h2());
    if wanted && !ctx.forward.upgrade && head.version != Version::HTTP_2 {
        return Err(Error::explain(NO_H2, "TLS: the server does not speak HTTP/2").into_up());
    }
    Ok(())
}

/// Prepares a second try beside the first, if the configuration wants one and this request can be
/// sent twice.
fn hedge(session: &Session, ctx: &mut Ctx, head: &RequestHeader) {
    let forward = &mut ctx.forward;
    let (Some(dialled), Some(after)) = (forward.connection.take(), forward.retry.and_then(|r| r.hedge))
    else {
        return;
    };
    let bound = forward.sticky.as_ref().is_some_and(sticky::Brought::is_bound);
    let Some(group) = forward.group.clone().filter(|_| !bound && hedge::is_for(head)) else {
        return;
    };
    forward.timed = forward.try_started;
    let after = match after {
        HedgeAfter::Time(after) => Some(after.0),
        HedgeAfter::Percentile(percent) => group.times().within(percent),
    };
    let Some(after) = after.filter(|after| retry::may_begin_in(ctx, *after)) else { return };
    let mut head = head.clone();
    if trace::tell_second(ctx, &mut head).is_err() {
        return;
    }
    let info = ctx.request.as_ref().map(|request| &request.info);
    let key = info.and_then(|info| key::first(group.plan().balance.keys(), session.req_header(), info));
    let order = hedge::Order {
        tried: ctx.forward.tried.clone(),
        key: key.as_deref().map(Box::from),
        head,
        announcement: ctx.forward.announcement.clone(),
        after,
        connect_timeout: dialled.connect_timeout,
        response_timeout: dialled.response_timeout,
        group,
    };
    // without a file descriptor to spare there is none
    ctx.forward.hedge = Hedge::set(order, dialled.fd).ok();
}

fn set_path(head: &mut RequestHeader, normalised: Option<&str>) -> Result<()> {
    let absolute = !head.raw_path().starts_with(b"/") && head.raw_path() != b"*";
    let target = match (normalised, absolute) {
        (None, false) => return Ok(()),
        (normalised, _) => {
            let original = head.uri.path();
            let path = match normalised.map(|normal| path::forwarded(original.as_bytes(), normal)) {
                Some(path::Forward::Rewritten(path)) => Cow::Owned(path),
                Some(path::Forward::Original) if !absolute => return Ok(()),
                Some(path::Forward::Original) | None => Cow::Borrowed(original),
            };
            match head.uri.query() {
                Some(query) => format!("{path}?{query}"),
                None => path.into_owned(),
            }
        }
    };
    head.set_raw_path(target.as_bytes())
}

fn set_host(head: &mut RequestHeader, forward: &Forward) -> Result<()> {
    let Some(group) = &forward.group else {
        return Ok(());
    };
    match &group.plan().host {
        UpstreamHost::Preserve
            if head.headers.contains_key(header::HOST) || head.uri.authority().is_some() =>
        {
            Ok(())
        }
        // HTTP/1.0 may have none, HTTP/1.1 has one (RFC 9112 §3.2)
        UpstreamHost::Preserve | UpstreamHost::Server => match &forward.endpoint {
            Some(try_on) => head.insert_header(header::HOST, try_on.endpoint().at().authority()),
            None => Ok(()),
        },
        UpstreamHost::Name(name) => head.insert_header(header::HOST, name.0.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_and_can_be_one() {
        let with = |target: &str, hosts: &[&str]| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            head.set_uri(target.parse().unwrap());
            for host in hosts {
                head.append_header(header::HOST, *host).unwrap();
            }
            sound_host(&head).is_ok()
        };
        assert!(with("/", &["a.example:80"]) && with("https://a/", &[]));
        for hosts in [&[][..], &["a", "a"], &[""], &["a b"], &["u@a"]] {
            assert!(!with("/", hosts), "{hosts:?}");
        }
    }
}
