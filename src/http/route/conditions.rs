//! Conditions of a route: whether they hold for a request, how many there are, and which follow
//! from which.

use super::RouteQuery;
use crate::config::plan::{CertificatePart, ListenerId, Matcher, ValueMatch};
use crate::http::{ClientCertificate, cookie, query};
use http::{HeaderName, Method};
use ipnet::IpNet;

/// One condition of a route, besides host and path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition<'a> {
    Listeners(&'a [ListenerId]),
    Methods(&'a [Method]),
    Client(&'a [IpNet]),
    Header(&'a HeaderName, &'a ValueMatch),
    Cookie(&'a str, &'a ValueMatch),
    Query(&'a str, &'a ValueMatch),
    Certificate(CertificatePart, &'a ValueMatch),
}

/// The conditions of a route, the cheapest first.
pub(super) fn each(matcher: &Matcher) -> impl Iterator<Item = Condition<'_>> {
    let Matcher { listeners, methods, client, certificate, headers, cookies, query, .. } = matcher;
    let lists = [
        (!listeners.is_empty()).then_some(Condition::Listeners(listeners)),
        (!methods.is_empty()).then_some(Condition::Methods(methods)),
        (!client.is_empty()).then_some(Condition::Client(client)),
    ];
    let certificate = certificate.iter().map(|(part, wanted)| Condition::Certificate(*part, wanted));
    let headers = headers.iter().map(|(name, wanted)| Condition::Header(name, wanted));
    let cookies = cookies.iter().map(|(name, wanted)| Condition::Cookie(name, wanted));
    let query = query.iter().map(|(name, wanted)| Condition::Query(name, wanted));
    lists.into_iter().flatten().chain(certificate).chain(headers).chain(cookies).chain(query)
}

impl Condition<'_> {
    pub(super) fn holds(&self, request: &RouteQuery<'_>) -> bool {
        match self {
            Condition::Listeners(listeners) => listeners.contains(&request.listener),
            Condition::Methods(methods) => method_holds(methods, request.method),
            Condition::Client(networks) => networks.iter().any(|net| net.contains(&request.client)),
            Condition::Certificate(part, wanted) => {
                value_holds(wanted, part_of(request.certificate, *part).map(str::as_bytes))
            }
            Condition::Header(name, wanted) => {
                value_holds(wanted, request.headers.get_all(*name).into_iter().map(|v| v.as_bytes()))
            }
            Condition::Cookie(name, wanted) => value_holds(wanted, cookie::values(request.headers, name)),
            Condition::Query(name, wanted) => {
                value_holds(wanted, query::values(request.query.unwrap_or_default(), name))
            }
        }
    }
}

/// What a certificate says of itself; nothing when there is none.
pub(super) fn part_of(
    certificate: Option<&ClientCertificate>,
    part: CertificatePart,
) -> impl Iterator<Item = &str> {
    let (one, several) = match (certificate, part) {
        (None, _) => (None, &[][..]),
        (Some(_), CertificatePart::Verified) => (Some("verified"), &[][..]),
        (Some(certificate), CertificatePart::Subject) => (Some(certificate.subject.as_str()), &[][..]),
        (Some(certificate), CertificatePart::San) => (None, certificate.san.as_slice()),
        (Some(certificate), CertificatePart::Fingerprint) => {
            (Some(certificate.fingerprint.as_str()), &[][..])
        }
    };
    one.into_iter().chain(several.iter().map(String::as_str))
}

/// How many conditions a route has, besides host and path.
pub(super) fn count(matcher: &Matcher) -> usize {
    each(matcher).count()
}

/// Whether all conditions hold, besides host and path.
pub(super) fn hold(matcher: &Matcher, request: &RouteQuery<'_>) -> bool {
    each(matcher).all(|condition| condition.holds(request))
}

fn method_holds(wanted: &[Method], method: &Method) -> bool {
    wanted.is_empty() || wanted.contains(method) || (*method == Method::HEAD && wanted.contains(&Method::GET))
}

fn value_holds<V: AsBytes>(wanted: &ValueMatch, mut values: impl Iterator<Item = V>) -> bool {
    match wanted {
        ValueMatch::Is(text) => values.any(|v| v.bytes() == text.as_bytes()),
        ValueMatch::Prefix(text) => values.any(|v| v.bytes().starts_with(text.as_bytes())),
        // borrowed when it is UTF-8, as nearly all values are
        ValueMatch::Regex(pattern) => values.any(|v| pattern.0.is_match(&String::from_utf8_lossy(v.bytes()))),
        ValueMatch::Present(wanted) => values.next().is_some() == *wanted,
    }
}

/// Headers and cookies come as bytes, query parameters as text.
trait AsBytes {
    fn bytes(&self) -> &[u8];
}

impl AsBytes for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl AsBytes for std::borrow::Cow<'_, str> {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Whether every request that meets the conditions of `narrow` meets those of `wide`, host and path
/// aside. A `false` may be wrong: what regular expressions match is not compared.
pub(super) fn implied(wide: &Matcher, narrow: &Matcher) -> bool {
    covers(&wide.listeners, &narrow.listeners, |wide, narrow| wide.contains(narrow))
        && covers(&wide.methods, &narrow.methods, method_holds)
        && covers(&wide.client, &narrow.client, |wide, narrow| wide.iter().any(|net| net.contains(narrow)))
        && values_implied(&wide.certificate, &narrow.certificate)
        && values_implied(&wide.headers, &narrow.headers)
        && values_implied(&wide.query, &narrow.query)
        && values_implied(&wide.cookies, &narrow.cookies)
}

/// Lists of alternatives; an empty one holds always.
fn covers<T>(wide: &[T], narrow: &[T], accepts: impl Fn(&[T], &T) -> bool) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|alternative| accepts(wide, alternative))
}

fn values_implied<N: PartialEq>(wide: &[(N, ValueMatch)], narrow: &[(N, ValueMatch)]) -> bool {
    wide.iter().all(|(name, wide)| narrow.iter().any(|(n, narrow)| n == name && value_implied(wide, narrow)))
}

fn value_implied(wide: &ValueMatch, narrow: &ValueMatch) -> bool {
    match (wide, narrow) {
        (ValueMatch::Present(true), ValueMatch::Is(_) | ValueMatch::Prefix(_) | ValueMatch::Regex(_)) => true,
        (ValueMatch::Prefix(wide), ValueMatch::Is(narrow) | ValueMatch::Prefix(narrow)) => {
            narrow.starts_with(wide)
        }
        (ValueMatch::Regex(wide), ValueMatch::Is(narrow)) => wide.0.is_match(narrow),
        (wide, narrow) => wide == narrow,
    }
}

/// Whether a request can meet the listeners and methods of both.
pub(super) fn overlap(a: &Matcher, b: &Matcher) -> bool {
    let listeners = a.listeners.is_empty()
        || b.listeners.is_empty()
        || a.listeners.iter().any(|listener| b.listeners.contains(listener));
    let methods = a.methods.is_empty()
        || b.methods.is_empty()
        || a.methods.iter().any(|m| method_holds(&b.methods, m))
        || b.methods.iter().any(|m| method_holds(&a.methods, m));
    listeners && methods
}

/// Whether this client's address or anything it sends besides host, path and method matters.
pub(super) fn selects(matcher: &Matcher) -> bool {
    !matcher.client.is_empty()
        || !matcher.certificate.is_empty()
        || !matcher.headers.is_empty()
        || !matcher.query.is_empty()
        || !matcher.cookies.is_empty()
}

/// The same route without the conditions that [`selects`] is about.
pub(super) fn relaxed(matcher: &Matcher) -> Matcher {
    Matcher {
        client: Vec::new(),
        certificate: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        ..matcher.clone()
    }
}
