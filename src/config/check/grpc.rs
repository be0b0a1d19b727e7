//! A warning about gRPC-Web for servers that cannot be called: gRPC needs HTTP/2.

use super::Checker;
use super::sticky::groups_of;
use crate::config::plan::{Route, Upstream};
use crate::filter::FilterSettings;
use crate::filter::grpc_web::GrpcWeb;
use std::sync::Arc;

impl Checker<'_> {
    /// Where there are errors, routes may be missing.
    pub(super) fn grpc_web(&mut self, routes: &[Arc<Route>], upstreams: &[Arc<Upstream>]) {
        if self.report.has_errors() {
            return;
        }
        for (written, route) in self.file.routes.iter().zip(routes) {
            if !route.filters.iter().any(|filter| filter.key == GrpcWeb::KEY) {
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
