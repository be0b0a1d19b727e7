//! gRPC-Web that cannot work: translated twice, or for servers that cannot be called, as gRPC needs HTTP/2.

use super::Checker;
use super::sticky::groups_of;
use crate::config::plan::{Listener, Route, Upstream};
use crate::config::report::Code;
use crate::filter::grpc_web::GrpcWeb;
use crate::filter::{FilterPlan, FilterSettings};
use std::sync::Arc;

impl Checker<'_> {
    /// Where there are errors, routes may be missing.
    pub(super) fn grpc_web(
        &mut self,
        listeners: &[Arc<Listener>],
        routes: &[Arc<Route>],
        upstreams: &[Arc<Upstream>],
    ) {
        if self.report.has_errors() {
            return;
        }
        for (written, route) in self.file.routes.iter().zip(routes) {
            let own = count(&route.filters);
            let named = &route.matcher.listeners;
            let before = listeners.iter().filter(|one| named.is_empty() || named.contains(&one.id));
            let most = before.map(|one| count(&one.filters)).max().unwrap_or_default();
            if own + most > 1 {
                let message = format!(
                    "requests of route \"{}\" pass grpc_web more than once\nwrite it once: on the route, or on the listener",
                    route.name
                );
                self.error(Code::Conflict, written.span, &message);
            }
            if own == 0 {
                continue;
            }
            for group in groups_of(route).filter_map(|id| upstreams.get(id.0)) {
                if !group.protocol.may_be_h2(group.tls.is_some()) {
                    self.without_effect(
                        written.span,
                        format!(
                            "grpc_web of route \"{}\" calls nobody in upstream \"{}\", which is spoken to over HTTP/1.1",
                            route.name, group.name
                        ),
                        "write `protocol: h2c` in the upstream, or `protocol: h2` beside `tls`",
                    );
                }
            }
        }
    }
}

fn count(filters: &[FilterPlan]) -> usize {
    filters.iter().filter(|filter| filter.key == GrpcWeb::KEY).count()
}
