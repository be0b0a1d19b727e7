//! What there is now, for metrics: the listeners, routes, groups and certificates of the configuration in use. Looked at
//! when somebody scrapes; put up by `server`.

use super::reload::Running;
use super::status::Status;
use crate::acme;
use crate::config::plan::{Certificate, Listener, Plan};
use crate::edge::Edge;
use crate::http;
use crate::observe::Metrics;
use crate::observe::metrics::picture::{AuthorityNow, CertificateNow, ListenerNow, RouteNow};
use crate::observe::metrics::{Live, Picture};
use arc_swap::ArcSwap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where it is looked up.
struct Sources {
    metrics: Metrics,
    edge: Edge,
    site: Arc<http::Live>,
    current: Arc<ArcSwap<Plan>>,
    status: Arc<Status>,
    certificates: acme::Registry,
}

/// Metrics show what there is from now on, for as long as the process lives.
pub fn show(running: &Running, edge: &Edge, status: &Arc<Status>, certificates: &acme::Registry) {
    running.metrics.shows(Sources {
        metrics: running.metrics.clone(),
        edge: edge.clone(),
        site: running.site.clone(),
        current: running.current.clone(),
        status: status.clone(),
        certificates: certificates.clone(),
    });
}

impl Live for Sources {
    fn picture(&self) -> Picture {
        let (plan, site, now) = (self.current.load(), self.site.load(), Instant::now());
        let flows: HashSet<&str> =
            plan.listeners.iter().flat_map(|listener| listener.passes_to()).map(AsRef::as_ref).collect();
        let route = |name: &str| RouteNow { name: name.to_owned(), counted: self.metrics.route(name) };
        let authorities: HashSet<&str> = plan.ordered().map(|plan| plan.authority.name.as_str()).collect();
        let authority =
            |name: &str| AuthorityNow { name: name.to_owned(), counted: self.metrics.authority(name) };
        Picture {
            listeners: self.edge.listeners().iter().map(|listening| listener(listening)).collect(),
            routes: plan.routes.iter().map(|plan| route(&plan.name)).collect(),
            upstreams: site
                .groups
                .iter()
                .map(|group| group.picture(flows.contains(group.name()), now))
                .collect(),
            certificates: plan.listeners.iter().flat_map(|listener| self.certificates(listener)).collect(),
            authorities: authorities.into_iter().map(authority).collect(),
            config_hash: self.status.loaded().hash.clone(),
            log_dropped: site.access_log.as_ref().map_or(0, |log| log.dropped()),
        }
    }
}

fn listener(listening: &crate::edge::Listening) -> ListenerNow {
    ListenerNow {
        name: listening.plan.name.clone(),
        counted: listening.counted.clone(),
        open: listening.count.open(),
        tls: listening.plan.tls.is_some(),
        requests: listening.plan.has_requests(),
    }
}

impl Sources {
    /// Those that a listener shows, when there is something to show.
    fn certificates(&self, listener: &Listener) -> Vec<CertificateNow> {
        let all = listener.tls.iter().flat_map(|tls| &tls.certificates);
        let now = all.filter_map(|certificate| {
            let (certificate, expires) = match certificate.files() {
                Some(files) => (files.cert_file.display().to_string(), time(files.not_after)),
                None => self.ordered(certificate)?,
            };
            Some(CertificateNow { listener: listener.name.clone(), certificate, expires })
        });
        now.collect()
    }

    fn ordered(&self, certificate: &Certificate) -> Option<(String, SystemTime)> {
        let plan = certificate.ordered()?;
        let expires = self.certificates.managed(plan).standing().expires?;
        Some((plan.names.join(","), expires))
    }
}

/// Seconds since 1970; what is before is long ago.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
