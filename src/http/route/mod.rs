//! Which route a request takes. Pure. [`Router::build`] is called by `run::snapshot` for each
//! configuration, [`Router::find`] by `http::proxy` for each request.
//!
//! # The rule
//!
//! The most specific route wins. Routes are compared by these, in this order:
//!
//! 1. **Host.** An exact name, then the wildcard with the longest name (`*.a.example.com` before
//!    `*.example.com`), then routes without `host`. A wildcard is for every name below its own, at
//!    any depth, and not for the name itself.
//! 2. **Path.** `exact`; then the longest `path` prefix, which ends at a segment boundary (`/api` is
//!    for `/api`, `/api/` and `/api/x`, never for `/apix`); then `regex`, in the order in which each
//!    pattern first stands in the file; then `path: /` or no path at all. A `regex` must match the
//!    whole path. (The root prefix comes last because nothing could be reached behind it.)
//! 3. **Number of conditions.** Each header, query parameter, cookie and part of a certificate counts one; `methods`,
//!    `client` and `listeners` count one each, however many they list.
//! 4. **The order in the file.**
//!
//! A route is taken only when all of its conditions hold. When none of the routes for the best host
//! and path is taken, the search goes on with the next shorter path, and after the last path with
//! the next wider host. So conditions *select*: a request that misses them falls through to a wider
//! route. They do not *protect*; filters do.
//!
//! # Conditions
//!
//! - `methods`: `GET` includes `HEAD`.
//! - `headers`, `cookies`, `query`: a text must be equal; `prefix` must be how the value starts;
//!   `regex` matches anywhere unless anchored; `present: true` asks for one with any value,
//!   `present: false` for none. Of several values under one name, one that matches is enough. Query
//!   parameters are compared decoded (`+` is a space), cookies as sent.
//! - `client`: the address of the client is in one of the networks; an IPv4 address that came in as
//!   IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
//! - `client_certificate`: the certificate that the client has shown and that was believed. Without one, `verified:
//!   false` and `present: false` hold, and nothing else.
//!
//! The path is matched as [`super::path::normalise`] gives it, patterns included.
//!
//! # What a lookup costs
//!
//! A hash lookup per label of the host (for wildcards) and per segment of the path, whatever the
//! number of routes; and one look at each pattern of the host, and at each condition of the routes
//! that share one host and path.

mod analysis;
mod conditions;
mod explain;
mod index;
mod words;

pub use analysis::{falls_through, hidden};
pub use explain::{Explained, Held, Lost, Why};
pub use words::{Condition, action_words, conditions, host_words, path_words, precedence};

use crate::config::plan::{ListenerId, Route};
use crate::http::ClientCertificate;
use index::{Hosts, Search, Take};
use std::net::IpAddr;
use std::sync::Arc;

/// What of a request decides its route.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    pub listener: ListenerId,
    /// Lower case, without port or trailing dot; empty when the request named none.
    pub host: &'a str,
    /// Normalised.
    pub path: &'a str,
    pub method: &'a http::Method,
    pub headers: &'a http::HeaderMap,
    /// What stands behind the `?`, as sent.
    pub query: Option<&'a str>,
    /// The client, or whom a trusted proxy names as the client.
    pub client: IpAddr,
    /// What the client has shown on its connection.
    pub certificate: Option<&'a ClientCertificate>,
}

/// All routes of a configuration, indexed.
#[derive(Debug)]
pub struct Router {
    routes: Box<[Arc<Route>]>,
    hosts: Arc<Hosts>,
}

impl Router {
    /// `routes` in file order.
    pub fn build(routes: &[Arc<Route>]) -> Router {
        Router { routes: routes.into(), hosts: Arc::new(Hosts::build(routes)) }
    }

    /// As [`Router::build`], for routes that follow those of this router: where the conditions are all as they were, the index
    /// is the same.
    #[must_use]
    pub fn followed_by(&self, routes: &[Arc<Route>]) -> Router {
        let alike =
            |(old, new): (&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(old, new) || old.matcher == new.matcher;
        match routes.len() == self.routes.len() && self.routes.iter().zip(routes).all(alike) {
            true => Router { routes: routes.into(), hosts: self.hosts.clone() },
            false => Router::build(routes),
        }
    }

    /// As they were given to [`Router::build`].
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route that a request takes; `None` is answered with 404. Allocates nothing, but where a
    /// condition needs an encoded query parameter decoded, or a host has more than eight patterns.
    pub fn find(&self, request: &RouteQuery<'_>) -> Option<&Arc<Route>> {
        self.route(self.position(request)?)
    }

    /// The route at this place among those given to [`Router::build`].
    pub fn route(&self, position: usize) -> Option<&Arc<Route>> {
        self.routes.get(position)
    }

    /// As [`Router::find`]: the place of the route among those given to [`Router::build`].
    pub fn position(&self, request: &RouteQuery<'_>) -> Option<usize> {
        // an IPv4 client of an IPv6 socket is judged by its IPv4 address
        let request = RouteQuery { client: request.client.to_canonical(), ..*request };
        self.hosts.find(&mut Search { routes: &self.routes, request: &request, watch: Take })
    }
}

#[cfg(test)]
mod tests;
