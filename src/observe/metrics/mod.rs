//! What is counted and measured, for Prometheus: [`Metrics::render`] is the page that is scraped. `run` holds one for the
//! life of the process, so that counters go on across reloads. See decision 034 and docs/metrics.md.
//!
//! - Whoever has something to count asks once for the set of numbers of its route, upstream, server or listener
//!   ([`Metrics::route`] and so on, found by name in `kept`), keeps it, and adds to it: no name is looked up for a
//!   request. `cells` are the numbers, `histogram` the durations among them.
//! - [`requests`], [`upstream`], [`listener`] and `process` are what is counted of each; [`labels`] what labels may be.
//! - [`picture`] is what there is now; `render` writes the page from it, in the `text` format; [`families`] has the names.

mod cells;
pub mod families;
mod histogram;
mod kept;
pub mod labels;
pub mod listener;
pub mod picture;
mod process;
mod render;
pub mod requests;
mod text;
pub mod upstream;

pub use families::Family;
pub use kept::Counts;
pub use labels::{
    BreakerState, Fault, FlowEnd, HandshakeFailure, NotAdmitted, Protocol, Refused, Spans, TlsVersion,
    Transport,
};
pub use listener::Listener;
pub use picture::{Live, Picture};
pub use process::{Authority, Process};
pub use requests::{AtRoute, Request, Route};
pub use upstream::{Flow, Server, Try, Upstream};

use arc_swap::ArcSwapOption;
use kept::{Inherited, Named};
use std::fmt;
use std::sync::Arc;
use text::{Labels, Text};

/// The type of what [`Metrics::render`] returns: the text format of Prometheus, version 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that a process has counted. Clones are the same.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Default)]
struct Inner {
    listeners: Named<1, Listener>,
    routes: Named<1, Route>,
    upstreams: Named<1, Upstream>,
    /// By upstream and address.
    servers: Named<2, Server>,
    authorities: Named<1, Authority>,
    process: Process,
    inherited: Inherited,
    live: ArcSwapOption<Box<dyn Live>>,
}

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    pub fn listener(&self, name: &str) -> Arc<Listener> {
        self.0.listeners.get([name], &self.0.inherited)
    }

    pub fn route(&self, name: &str) -> Arc<Route> {
        self.0.routes.get([name], &self.0.inherited)
    }

    pub fn upstream(&self, name: &str) -> Arc<Upstream> {
        self.0.upstreams.get([name], &self.0.inherited)
    }

    /// `server` is its address.
    pub fn server(&self, upstream: &str, server: &str) -> Arc<Server> {
        self.0.servers.get([upstream, server], &self.0.inherited)
    }

    /// One that certificates are ordered from.
    pub fn authority(&self, name: &str) -> Arc<Authority> {
        self.0.authorities.get([name], &self.0.inherited)
    }

    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// What there is is known here, from now on.
    pub fn shows(&self, live: impl Live + 'static) {
        self.0.live.store(Some(Arc::new(Box::new(live))));
    }

    /// Forgets what was counted of things that nobody uses any more. To be called when a configuration has gone.
    pub fn prune(&self) {
        let Inner { listeners, routes, upstreams, servers, authorities, .. } = &*self.0;
        listeners.prune();
        routes.prune();
        upstreams.prune();
        servers.prune();
        authorities.prune();
    }

    /// All counts, for a process that takes the place of this one.
    pub fn counts(&self) -> Vec<Counts> {
        let Inner { listeners, routes, upstreams, servers, authorities, process, .. } = &*self.0;
        let mut all = vec![Counts::of(&[], process)];
        all.extend(listeners.counts());
        all.extend(routes.counts());
        all.extend(upstreams.counts());
        all.extend(servers.counts());
        all.extend(authorities.counts());
        all
    }

    /// Goes on from what another process has counted: each when somebody first asks for it. To be called before that.
    pub fn resume(&self, counts: Vec<Counts>) {
        self.0.inherited.add(counts);
        self.0.inherited.give(&[], &self.0.process);
    }

    /// What was handed over and nobody has asked for is not needed.
    pub fn forget_handed_over(&self) {
        self.0.inherited.forget();
    }

    /// All of it as it is now, as a body of [`CONTENT_TYPE`]. Walks through every server: for a scrape, not for a request.
    pub fn render(&self) -> String {
        let picture = self.0.live.load_full().map(|live| live.picture());
        let log_dropped = picture.as_ref().map_or(0, |picture| picture.log_dropped);
        let mut text = Text::default();
        if let Some(picture) = &picture {
            render::write(&mut text, picture);
        }
        let version = Labels::new(&[("version", env!("CARGO_PKG_VERSION"))]);
        text.family(&families::BUILD_INFO).sample(&version, 1);
        self.0.process.write(&mut text, log_dropped);
        text.into_string()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
