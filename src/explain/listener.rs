//! Which listener a request would come in at: the one that is named, or the one that fits the URL.

use super::question::{Question, Target};
use super::{Entrance, Passed};
use crate::config::plan::{Listener, Member, Plan};
use std::sync::Arc;

/// # Errors
/// When there is none of this name, or none that speaks the scheme.
pub(super) fn choose<'a>(
    plan: &'a Plan,
    question: &Question,
    target: &Target,
) -> Result<(&'a Arc<Listener>, Entrance), String> {
    if let Some(name) = &question.listener {
        let Some(named) = plan.listeners.iter().find(|listener| listener.name == *name) else {
            return Err(format!("there is no listener \"{name}\"; there are {}", names(&plan.listeners)));
        };
        let other = target
            .https
            .filter(|https| named.tcp.is_none() && !named.is_udp() && *https != named.tls.is_some());
        let note = other.map(|https| match https {
            true => "the URL says https, and this listener has no tls".to_string(),
            false => "the URL says http, and this listener speaks TLS only".to_string(),
        });
        return Ok((named, entrance((plan, target), named, &[], note)));
    }
    let speaks = |listener: &&Arc<Listener>| {
        listener.has_requests() && target.https.is_none_or(|https| https == listener.tls.is_some())
    };
    let all: Vec<&Arc<Listener>> = plan.listeners.iter().filter(speaks).collect();
    let here = |listener: &&&Arc<Listener>| {
        // a unix socket is at no port
        let Some(address) = listener.address.ip() else {
            return target.port().is_none() && target.address().is_none();
        };
        target.port().is_none_or(|port| port == address.port())
            && target.address().is_none_or(|asked| address.ip().is_unspecified() || address.ip() == asked)
    };
    let fitting: Vec<&Arc<Listener>> = all.iter().filter(here).copied().collect();
    // what is at this port reads no URL, and does not ask for one
    let unread = plan.listeners.iter().filter(|l| !l.has_requests() && target.port().is_some());
    let mut passing: Vec<&Arc<Listener>> = unread.filter(|l| here(&l)).collect();
    // a URL is connected to
    passing.sort_by_key(|listener| listener.is_udp());
    if let ([], Some(passing)) = (fitting.as_slice(), passing.first()) {
        return Ok((passing, entrance((plan, target), passing, &[], None)));
    }
    match (fitting.as_slice(), all.as_slice()) {
        ([first, others @ ..], _) => Ok((first, entrance((plan, target), first, others, None))),
        ([], [first, others @ ..]) => {
            // a forwarded port, or a proxy in front, is nothing that a configuration knows of
            let port = target.port().map(|port| format!("no listener is at port {port}"));
            let note = port.unwrap_or_else(|| "no listener is at this address".to_string());
            let note = format!("{note}; asked of {}", first.name);
            Ok((first, entrance((plan, target), first, others, Some(note))))
        }
        ([], []) => {
            let scheme = if target.https == Some(true) { "https" } else { "http" };
            Err(format!("no listener speaks {scheme}; there are {}", described(&plan.listeners)))
        }
    }
}

fn entrance(
    (plan, target): (&Plan, &Target),
    listener: &Listener,
    others: &[&Arc<Listener>],
    note: Option<String>,
) -> Entrance {
    let unopened = || listener.tls.as_ref()?.passes(Some(&target.host()?), &offered());
    let whole = listener.tcp.as_ref().map(|tcp| &tcp.upstream);
    let datagrams = listener.udp.as_ref().map(|udp| &udp.upstream);
    let upstream = whole.or(datagrams).or_else(unopened);
    let passes_to = upstream.and_then(|upstream| {
        let group = plan.upstreams.iter().find(|group| *group.name == **upstream)?;
        Some(Passed {
            upstream: group.name.clone(),
            balance: group.balance.to_string(),
            servers: group.servers.iter().map(Member::place).collect(),
        })
    });
    let notes: Vec<String> = note.into_iter().chain(by_protocol(listener, target)).collect();
    Entrance {
        passes_to,
        name: listener.name.clone(),
        address: listener.address.to_string(),
        tls: listener.tls.is_some(),
        udp: listener.is_udp(),
        others: others.iter().map(|other| other.name.clone()).collect(),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// Where others are passed on to that ask for the same name.
fn by_protocol(listener: &Listener, target: &Target) -> Vec<String> {
    let (Some(tls), Some(host)) = (&listener.tls, target.host()) else { return Vec::new() };
    let passthrough = &tls.settings.passthrough;
    let mut protocols: Vec<&str> =
        passthrough.all().iter().flat_map(|unopened| unopened.alpn.iter().map(|one| &**one)).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let words = |protocol: &str| {
        let group = passthrough.by_protocol(Some(&host), &[protocol.as_bytes().into()])?;
        Some(format!("clients that offer {protocol} are passed on to {group} unopened"))
    };
    protocols.into_iter().filter_map(words).collect()
}

/// What clients that speak HTTP offer.
fn offered() -> [Box<[u8]>; 2] {
    [b"h2"[..].into(), b"http/1.1"[..].into()]
}

fn names(listeners: &[Arc<Listener>]) -> String {
    listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn described(listeners: &[Arc<Listener>]) -> String {
    let one = |listener: &Arc<Listener>| {
        let scheme = match (&listener.tcp, &listener.tls) {
            _ if listener.is_udp() => "udp",
            (Some(_), _) => "tcp",
            (None, Some(_)) => "https",
            (None, None) => "http",
        };
        format!("{} ({scheme}, {})", listener.name, listener.address)
    };
    listeners.iter().map(one).collect::<Vec<_>>().join(", ")
}
