//! What would be done with a request, by the steps that the running gate takes, but without a
//! connection. Called by `explain` (the command); nothing is sent.

use super::ClientCertificate;
use super::answer::{self, Reply};
use super::connection::{Connection, NOWHERE, TlsFacts};
use super::refusal::Reject;
use super::request_id::RequestId;
use super::route::{Explained, Held, RouteQuery, Router};
use super::{forwarded, intake, path, tidy};
use crate::config::plan::{Action, Listener, Plan};
use crate::filter::RequestInfo;
use pingora_http::RequestHeader;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What becomes of a request.
pub struct Prospect {
    pub client: forwarded::Client,
    /// Lower case, without port.
    pub host: String,
    /// Normalised; empty for a path that is refused.
    pub path: String,
    /// The spelling that servers see, when it is not the client's.
    pub rewritten: Option<String>,
    /// It does not come as far as a route.
    pub refused: Option<Reject>,
    pub routed: Explained,
    /// The conditions of the route that is taken.
    pub held: Vec<Held>,
    /// Sent to https first, whatever the route says.
    pub to_https: bool,
    /// The answer of the gate itself: a redirect, or what the route responds.
    pub reply: Option<Reply>,
}

impl Prospect {
    /// What the edge refuses is not looked at any further.
    pub fn refused(reject: Reject, peer: IpAddr) -> Prospect {
        Prospect {
            client: forwarded::Client { addr: peer.to_canonical(), https: false, trusted: false },
            host: String::new(),
            path: String::new(),
            rewritten: None,
            refused: Some(reject),
            routed: Explained { taken: None, lost: Vec::new() },
            held: Vec::new(),
            to_https: false,
            reply: None,
        }
    }
}

/// The request with this head, which came from `peer` to `listener`, on a connection on which that has shown a
/// `certificate`.
pub fn explain(
    plan: &Plan,
    router: &Router,
    listener: &Arc<Listener>,
    head: &RequestHeader,
    (peer, certificate): (IpAddr, Option<&ClientCertificate>),
) -> Prospect {
    let mut head = head.clone();
    let tidied = tidy::request(&mut head, listener.underscores);
    let head = &head;
    let https_here = listener.tls.is_some();
    let client = forwarded::resolve(peer, &head.headers, &plan.trusted_proxies, https_here);
    let host = intake::requested_host(head);
    let normal = path::normalise(head.uri.path().as_bytes());
    let mut prospect = Prospect {
        client,
        host: host.as_deref().unwrap_or_default().to_string(),
        path: normal.as_deref().unwrap_or_default().to_string(),
        rewritten: None,
        refused: None,
        routed: Explained { taken: None, lost: Vec::new() },
        held: Vec::new(),
        to_https: false,
        reply: None,
    };
    prospect.refused = tidied.err().or(intake::refused(head, &listener.limits, &host, &normal));
    let (None, Ok(host), Ok(normal)) = (prospect.refused, &host, &normal) else { return prospect };
    if let path::Forward::Rewritten(path) = path::forwarded(head.uri.path().as_bytes(), normal) {
        prospect.rewritten = Some(path);
    }
    let query = RouteQuery {
        listener: listener.id,
        host,
        path: normal,
        method: &head.method,
        headers: &head.headers,
        query: head.uri.query(),
        client: client.addr,
        certificate: certificate.filter(|_| https_here),
    };
    prospect.routed = router.explain(&query, &plan.listeners);
    let route = prospect.routed.taken.and_then(|at| router.route(at));
    if let Some(route) = route {
        prospect.held = router.held(route, &query, &plan.listeners);
    }
    let info = info(listener, head, &prospect, route.cloned());
    answered(&mut prospect, head, &info);
    prospect
}

/// What the filters would see.
fn info(
    listener: &Arc<Listener>,
    head: &RequestHeader,
    prospect: &Prospect,
    route: Option<Arc<crate::config::plan::Route>>,
) -> RequestInfo {
    let Prospect { client, host, path, .. } = prospect;
    let peer = SocketAddr::from((client.addr, 0));
    let tls = listener.tls.is_some().then_some(TlsFacts {
        version: "TLSv1.3",
        cipher: "",
        sni: None,
        policy: 0,
        certificate: None,
    });
    RequestInfo {
        connection: Arc::new(Connection::new(
            listener.clone(),
            peer,
            listener.address.ip().unwrap_or(NOWHERE),
            tls,
        )),
        client: peer,
        https: client.https,
        host: host.clone(),
        normalised_path: (path != head.uri.path()).then(|| path.clone()),
        request_id: RequestId::of(&head.headers, client.trusted),
        route,
        started: Instant::now(),
    }
}

/// What the gate answers itself, as `intake` decides it.
fn answered(prospect: &mut Prospect, head: &RequestHeader, info: &RequestInfo) {
    let listener = &info.connection.listener;
    let route = info.route.as_deref();
    let reply = match intake::to_https(listener, route) {
        Some(redirect) => {
            prospect.to_https = true;
            answer::to_https(head, info, redirect).map(Some)
        }
        None => match route.map(|route| &route.action) {
            Some(action @ (Action::Redirect { .. } | Action::Respond(_))) => {
                answer::of_action(head, info, action)
            }
            Some(Action::Upstream(_) | Action::Split(_)) => Ok(None),
            None => Err(Reject::NotFound),
        },
    };
    match reply {
        Ok(reply) => prospect.reply = reply,
        Err(reject) => prospect.refused = Some(reject),
    }
}
