//! The page: family by family, as the format wants it.

use super::cells::Cells;
use super::families::{self as f, Family};
use super::histogram::Sums;
use super::kept::Kept;
use super::labels::{
    BreakerState, CODES, DIRECTIONS, Fault, FlowEnd, HandshakeFailure, NotAdmitted, Protocol, Refused,
    Success, TlsVersion, Transport,
};
use super::listener::{self, RESUMED};
use super::picture::{AuthorityNow, ListenerNow, Picture, RouteNow, ServerNow, UpstreamNow};
use super::requests;
use super::text::{Labels, Text};
use super::upstream::{self, server};
use std::collections::HashSet;
use std::fmt::Display;
use std::time::UNIX_EPOCH;

/// All that is in the picture.
pub fn write(text: &mut Text, picture: &Picture) {
    listeners(text, &labelled(&picture.listeners, ["listener"], |now| [&now.name]));
    routes(text, &labelled(&picture.routes, ["route"], |now| [&now.name]));
    let all = labelled(&picture.upstreams, ["upstream"], |now| [&now.name]);
    upstreams(text, &all);
    servers(text, &all.iter().flat_map(|(_, upstream)| servers_of(upstream)).collect::<Vec<_>>());
    let certificates =
        labelled(&picture.certificates, ["listener", "certificate"], |now| [&now.listener, &now.certificate]);
    value(text, &f::CERTIFICATE_EXPIRY, &certificates, |now| {
        now.expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    });
    let authorities = labelled(&picture.authorities, ["acme"], |now| [&now.name]);
    each(text, &f::ACME_ORDERS, &authorities, ("result", Success::WORDS), 0);
    let config = Labels::new(&[("hash", &picture.config_hash)]);
    text.family(&f::CONFIG_INFO).sample(&config, 1);
}

fn listeners(text: &mut Text, all: &[(Labels, &ListenerNow)]) {
    let asked = only(all, |now| now.requests);
    pairs(text, &f::REQUESTS, &asked, (("protocol", Protocol::WORDS), ("code", CODES)), listener::REQUESTS);
    value(text, &f::CONNECTIONS_OPEN, all, |now| now.open);
    one(text, &f::CONNECTIONS_ACCEPTED, all, listener::ACCEPTED);
    each(text, &f::CONNECTIONS_REFUSED, all, ("reason", NotAdmitted::WORDS), listener::REFUSED);
    let tls = only(all, |now| now.tls);
    let labels = (("version", TlsVersion::WORDS), ("resumed", RESUMED));
    pairs(text, &f::HANDSHAKES, &tls, labels, listener::HANDSHAKES);
    each(text, &f::HANDSHAKES_FAILED, &tls, ("reason", HandshakeFailure::WORDS), listener::FAILED);
}

fn routes(text: &mut Text, all: &[(Labels, &RouteNow)]) {
    each(text, &f::ROUTE_REQUESTS, all, ("code", CODES), requests::CODE);
    // wrapped around for a moment, where the end of a request is seen before its beginning
    value(text, &f::ROUTE_IN_FLIGHT, all, |now| now.counted.in_flight() as i64);
    histogram(text, &f::ROUTE_DURATION, all, requests::TOTAL);
    histogram(text, &f::ROUTE_QUEUE, all, requests::QUEUE);
    histogram(text, &f::ROUTE_CONNECT, all, requests::CONNECT);
    histogram(text, &f::ROUTE_FIRST_BYTE, all, requests::FIRST_BYTE);
    one(text, &f::ROUTE_RECEIVED, all, requests::RECEIVED);
    one(text, &f::ROUTE_SENT, all, requests::SENT);
    one(text, &f::ROUTE_RETRIES, all, requests::RETRIES);
}

fn upstreams(text: &mut Text, all: &[(Labels, &UpstreamNow)]) {
    each(text, &f::UPSTREAM_REQUESTS, all, ("code", CODES), requests::CODE);
    value(text, &f::UPSTREAM_IN_FLIGHT, all, |now| now.in_flight);
    histogram(text, &f::UPSTREAM_DURATION, all, requests::TOTAL);
    histogram(text, &f::UPSTREAM_QUEUE, all, requests::QUEUE);
    histogram(text, &f::UPSTREAM_CONNECT, all, requests::CONNECT);
    histogram(text, &f::UPSTREAM_FIRST_BYTE, all, requests::FIRST_BYTE);
    one(text, &f::UPSTREAM_RECEIVED, all, requests::RECEIVED);
    one(text, &f::UPSTREAM_SENT, all, requests::SENT);
    one(text, &f::UPSTREAM_RETRIES, all, requests::RETRIES);
    one(text, &f::UPSTREAM_HEDGES, all, requests::HEDGES);
    each(text, &f::UPSTREAM_REFUSED, all, ("reason", Refused::WORDS), upstream::REFUSED);
    flows(text, all);
    value(text, &f::BUDGET_USED, all, |UpstreamNow { budget: (used, allowed), .. }| match allowed {
        0.0 => 0.0,
        allowed => used / allowed,
    });
    one(text, &f::BUDGET_EXHAUSTED, all, upstream::BUDGET);
    value(text, &f::QUEUE_LENGTH, &only(all, |now| now.waiting.is_some()), |now| {
        now.waiting.unwrap_or_default()
    });
    let breakers = only(all, |now| now.breaker.is_some());
    breaker(text, &f::UPSTREAM_BREAKER, &breakers, |now| now.breaker);
    one(text, &f::UPSTREAM_BREAKER_OPENED, &breakers, upstream::OPENED);
    value(text, &f::PANIC, all, |now| u8::from(now.panics));
    value(text, &f::SERVERS, all, |now| now.servers.len());
    value(text, &f::SERVERS_USABLE, all, |now| now.servers.iter().filter(|server| server.usable).count());
}

fn flows(text: &mut Text, all: &[(Labels, &UpstreamNow)]) {
    let all = only(all, |now| now.flows);
    let transport = ("protocol", Transport::WORDS);
    pairs(text, &f::UPSTREAM_FLOWS, &all, (transport, ("end", FlowEnd::WORDS)), upstream::FLOWS);
    pairs(text, &f::UPSTREAM_FLOW_BYTES, &all, (transport, ("direction", DIRECTIONS)), upstream::FLOW_BYTES);
}

fn servers(text: &mut Text, all: &[(Labels, &ServerNow)]) {
    each(text, &f::SERVER_REQUESTS, all, ("code", CODES), server::CODE);
    value(text, &f::SERVER_IN_FLIGHT, all, |now| now.in_flight);
    histogram(text, &f::SERVER_CONNECT, all, server::CONNECT);
    histogram(text, &f::SERVER_FIRST_BYTE, all, server::FIRST_BYTE);
    one(text, &f::SERVER_RECEIVED, all, server::RECEIVED);
    one(text, &f::SERVER_SENT, all, server::SENT);
    let labels = (("protocol", Transport::WORDS), ("result", Success::WORDS));
    pairs(text, &f::SERVER_FLOWS, &only(all, |now| now.flows), labels, server::FLOWS);
    value(text, &f::SERVER_HEALTHY, all, |now| u8::from(now.healthy));
    value(text, &f::SERVER_USABLE, all, |now| u8::from(now.usable));
    value(text, &f::SERVER_DRAINING, all, |now| u8::from(now.draining));
    let ejected = only(all, |now| now.ejected.is_some());
    value(text, &f::SERVER_EJECTED, &ejected, |now| u8::from(now.ejected.unwrap_or_default()));
    each(text, &f::SERVER_EJECTIONS, &ejected, ("reason", Fault::WORDS), server::EJECTIONS);
    let breakers = only(all, |now| now.breaker.is_some());
    breaker(text, &f::SERVER_BREAKER, &breakers, |now| now.breaker);
    one(text, &f::SERVER_BREAKER_OPENED, &breakers, server::OPENED);
    value(text, &f::SERVER_WEIGHT, all, |now| now.weight);
    each(text, &f::SERVER_CHECKS, &only(all, |now| now.checked), ("result", Success::WORDS), server::CHECKS);
}

fn servers_of(upstream: &UpstreamNow) -> Vec<(Labels, &ServerNow)> {
    labelled(&upstream.servers, ["upstream", "server"], |server| [&upstream.name, &server.name])
}

/// Each with its labels, and each once: a page with the same sample twice is refused.
fn labelled<'a, T, const N: usize>(
    all: &'a [T],
    names: [&str; N],
    of: impl Fn(&'a T) -> [&'a str; N],
) -> Vec<(Labels, &'a T)> {
    let mut seen = HashSet::new();
    let label = |one| {
        let pairs: Vec<_> = names.iter().copied().zip(of(one)).collect();
        (Labels::new(&pairs), one)
    };
    all.iter().filter(|one| seen.insert(of(one))).map(label).collect()
}

fn only<'a, T>(all: &[(Labels, &'a T)], keep: impl Fn(&T) -> bool) -> Vec<(Labels, &'a T)> {
    all.iter().filter(|(_, now)| keep(now)).map(|(labels, now)| (labels.clone(), *now)).collect()
}

/// What there is of something that is counted.
trait Now {
    fn cells(&self) -> &Cells;
}

macro_rules! counted {
    ($($now:ty),*) => { $(impl Now for $now {
        fn cells(&self) -> &Cells {
            self.counted.cells()
        }
    })* };
}

counted!(ListenerNow, RouteNow, UpstreamNow, ServerNow, AuthorityNow);

fn value<T, V: Display>(text: &mut Text, family: &Family, all: &[(Labels, &T)], of: impl Fn(&T) -> V) {
    let mut samples = text.family(family);
    for (labels, now) in all {
        samples.sample(labels, of(now));
    }
}

fn one<T: Now>(text: &mut Text, family: &Family, all: &[(Labels, &T)], place: usize) {
    value(text, family, all, |now| now.cells().sum(place));
}

/// The name of a label and its values.
type Words<'a> = (&'a str, &'a [&'a str]);

fn each<T: Now>(
    text: &mut Text,
    family: &Family,
    all: &[(Labels, &T)],
    (label, words): Words<'_>,
    first: usize,
) {
    let mut samples = text.family(family);
    for (labels, now) in all {
        for (place, word) in words.iter().enumerate() {
            samples.with(labels, &[(label, word)], now.cells().sum(first + place));
        }
    }
}

/// The second label runs faster.
fn pairs<T: Now>(
    text: &mut Text,
    family: &Family,
    all: &[(Labels, &T)],
    ((label, words), (second, more)): (Words<'_>, Words<'_>),
    first: usize,
) {
    let mut samples = text.family(family);
    for (labels, now) in all {
        for (outer, word) in words.iter().enumerate() {
            for (inner, other) in more.iter().enumerate() {
                let count = now.cells().sum(first + outer * more.len() + inner);
                samples.with(labels, &[(label, word), (second, other)], count);
            }
        }
    }
}

fn histogram<T: Now>(text: &mut Text, family: &Family, all: &[(Labels, &T)], first: usize) {
    let mut samples = text.family(family);
    for (labels, now) in all {
        samples.histogram(labels, &Sums::of(now.cells(), first));
    }
}

fn breaker<T>(
    text: &mut Text,
    family: &Family,
    all: &[(Labels, &T)],
    of: impl Fn(&T) -> Option<BreakerState>,
) {
    let mut samples = text.family(family);
    for (labels, now) in all {
        for (place, state) in BreakerState::WORDS.iter().enumerate() {
            let is = of(now).is_some_and(|now| now.place() == place);
            samples.with(labels, &[("state", state)], u8::from(is));
        }
    }
}
