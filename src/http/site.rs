//! What the http room needs to know to serve requests: the compiled part of a configuration.
//! Built whole by `run::snapshot`, swapped whole on reload, read by every request once.

use super::route::Router;
use crate::config::file::ProxyHeaders;
use crate::config::plan::{self, ListenerId, UpstreamId};
use crate::filter::Chain;
use crate::observe::{AccessLog, Metrics, Tracer, metrics};
use crate::upstream::Group;
use ipnet::IpNet;
use std::sync::Arc;

/// The site that is served now.
pub type Live = arc_swap::ArcSwap<Site>;

/// Everything a request is held against.
pub struct Site {
    pub router: Router,
    pub groups: Vec<Arc<Group>>,
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_headers: ProxyHeaders,
    pub access_log: Option<Arc<AccessLog>>,
    /// `None`: traces are not looked at.
    pub tracer: Option<Arc<Tracer>>,
    /// For requests whose route has none that fits; `None` when there is none at all.
    pub error_pages: Option<Arc<[Arc<plan::ErrorPage>]>>,
    chains: Chains,
    /// What is counted of each route. Empty where nobody asks.
    counted: Vec<Arc<metrics::Route>>,
}

/// The chain of each listener and route, and of each listener for requests without a route.
#[derive(Default)]
struct Chains {
    /// By the id of the listener.
    of: Vec<Option<ListenerChains>>,
}

/// Those of one listener. Listeners without filters of their own share the chains of the routes.
struct ListenerChains {
    without_route: Arc<Chain>,
    by_route: Arc<[Arc<Chain>]>,
}

impl Site {
    /// Compiles the plan; the groups come from the registry that outlives it, and the router is that of its routes. On
    /// listeners that have `departed` there may be requests still, which are to pass their filters.
    pub fn build(
        plan: &plan::Plan,
        departed: &[Arc<plan::Listener>],
        groups: Vec<Arc<Group>>,
        router: Router,
    ) -> Site {
        Site {
            router,
            groups,
            trusted_proxies: plan.trusted_proxies.clone(),
            proxy_headers: plan.proxy_headers,
            access_log: None,
            tracer: None,
            error_pages: Some(plan.error_pages.clone()).filter(|pages| !pages.is_empty()),
            chains: Chains::build(plan, departed),
            counted: Vec::new(),
        }
    }

    /// With the counts of its routes, which outlive it. Those of the site `before` are known without looking for them.
    #[must_use]
    pub fn counting(self, metrics: &Metrics, before: Option<&Site>) -> Site {
        let counted = |(place, route): (usize, &Arc<plan::Route>)| {
            let known = before.and_then(|before| before.counted_as(place, &route.name));
            known.unwrap_or_else(|| metrics.route(&route.name))
        };
        Site { counted: self.router.routes().iter().enumerate().map(counted).collect(), ..self }
    }

    /// What is counted of the route at this place, if this is its name.
    fn counted_as(&self, place: usize, name: &str) -> Option<Arc<metrics::Route>> {
        let route = self.router.route(place).filter(|route| route.name == name);
        route.and_then(|_| self.counted(place)).cloned()
    }

    /// With the log of its requests.
    #[must_use]
    pub fn logging(self, access_log: Option<Arc<AccessLog>>) -> Site {
        Site { access_log, ..self }
    }

    /// With what is done about traces.
    #[must_use]
    pub fn tracing(self, tracer: Option<Arc<Tracer>>) -> Site {
        Site { tracer, ..self }
    }

    /// What is counted of a route.
    pub fn counted(&self, route: usize) -> Option<&Arc<metrics::Route>> {
        self.counted.get(route)
    }

    pub fn group(&self, id: UpstreamId) -> Option<&Arc<Group>> {
        self.groups.get(id.0)
    }

    /// The listener's filters, then the route's; `None` for a listener that is not of this site.
    pub fn chain(&self, listener: ListenerId, route: Option<usize>) -> Option<Arc<Chain>> {
        let chain = self.chains.of.get(listener.0).and_then(Option::as_ref).and_then(|chains| match route {
            Some(route) => chains.by_route.get(route),
            None => Some(&chains.without_route),
        });
        chain.cloned()
    }
}

impl Chains {
    fn build(plan: &plan::Plan, departed: &[Arc<plan::Listener>]) -> Chains {
        let of = |listener: &[crate::filter::FilterPlan]| -> Arc<[Arc<Chain>]> {
            let own = Arc::new(Chain::new(listener.iter()));
            let chain = |route: &Arc<plan::Route>| match route.filters.is_empty() {
                true => own.clone(),
                false => Arc::new(Chain::new(listener.iter().chain(&route.filters))),
            };
            plan.routes.iter().map(chain).collect()
        };
        let plain = of(&[]);
        let mut chains = Chains::default();
        // those of the plan last: one that has changed may be here twice
        for listener in departed.iter().chain(&plan.listeners) {
            if chains.of.len() <= listener.id.0 {
                chains.of.resize_with(listener.id.0 + 1, || None);
            }
            let by_route = match listener.filters.is_empty() {
                true => plain.clone(),
                false => of(&listener.filters),
            };
            if let Some(place) = chains.of.get_mut(listener.id.0) {
                let without_route = Arc::new(Chain::new(listener.filters.iter()));
                *place = Some(ListenerChains { without_route, by_route });
            }
        }
        chains
    }
}
