//! What the http room needs to know to serve requests: the compiled part of a configuration.
//! Built whole by `run::snapshot`, swapped whole on reload, read by every request once.

use super::route::Router;
use crate::config::file::ProxyHeaders;
use crate::config::plan::{self, ListenerId, UpstreamId};
use crate::filter::Chain;
use crate::observe::AccessLog;
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
    /// For requests whose route has none that fits; `None` when there is none at all.
    pub error_pages: Option<Arc<[Arc<plan::ErrorPage>]>>,
    chains: Chains,
}

/// The chain of each listener and route, and of each listener for requests without a route.
struct Chains {
    without_route: Vec<Arc<Chain>>,
    /// By listener, then by route. Listeners without filters of their own share theirs.
    by_listener: Vec<Arc<[Arc<Chain>]>>,
}

impl Site {
    /// Compiles the plan; the groups come from the registry that outlives it.
    pub fn build(plan: &plan::Plan, groups: Vec<Arc<Group>>, access_log: Option<Arc<AccessLog>>) -> Site {
        Site {
            router: Router::build(&plan.routes),
            groups,
            trusted_proxies: plan.trusted_proxies.clone(),
            proxy_headers: plan.proxy_headers,
            access_log,
            error_pages: Some(plan.error_pages.clone()).filter(|pages| !pages.is_empty()),
            chains: Chains::build(plan),
        }
    }

    pub fn group(&self, id: UpstreamId) -> Option<&Arc<Group>> {
        self.groups.get(id.0)
    }

    /// The listener's filters, then the route's.
    pub fn chain(&self, listener: ListenerId, route: Option<usize>) -> Arc<Chain> {
        let chain = match route {
            Some(route) => self.chains.by_listener.get(listener.0).and_then(|routes| routes.get(route)),
            None => self.chains.without_route.get(listener.0),
        };
        chain.cloned().unwrap_or_else(|| Arc::new(Chain::new(std::iter::empty())))
    }
}

impl Chains {
    fn build(plan: &plan::Plan) -> Chains {
        let of = |listener: &[crate::filter::FilterPlan]| -> Arc<[Arc<Chain>]> {
            let own = Arc::new(Chain::new(listener.iter()));
            let chain = |route: &Arc<plan::Route>| match route.filters.is_empty() {
                true => own.clone(),
                false => Arc::new(Chain::new(listener.iter().chain(&route.filters))),
            };
            plan.routes.iter().map(chain).collect()
        };
        let plain = of(&[]);
        let by_listener = plan.listeners.iter().map(|l| match l.filters.is_empty() {
            true => plain.clone(),
            false => of(&l.filters),
        });
        Chains {
            by_listener: by_listener.collect(),
            without_route: plan.listeners.iter().map(|l| Arc::new(Chain::new(l.filters.iter()))).collect(),
        }
    }
}
