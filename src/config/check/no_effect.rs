//! Warnings about settings for servers that fail or are full, where what they act on is absent.

use super::Checker;
use crate::config::file::{PriorityClass, Route};
use crate::config::report::{Code, Span};
use crate::units::Time;

impl Checker<'_> {
    /// Where there are errors, the mistake may be in what is missing here.
    pub(super) fn no_effect(&mut self) {
        if self.report.has_errors() {
            return;
        }
        let file = self.file;
        for (name, upstream) in file.upstreams.iter() {
            let who = format!("upstream \"{}\"", name.value);
            let breaks = upstream.breaker.as_ref().is_some_and(|breaker| breaker.server.on().is_some());
            if let Some(panic) = upstream.panic.on()
                && upstream.health_check.is_none()
                && upstream.outlier.is_none()
                && !breaks
            {
                self.without_effect(
                    panic.span,
                    format!("panic of {who} is never needed: nothing finds a server unhealthy"),
                    "add `health_check` or `outlier`, or remove `panic`",
                );
            }
            let timeouts = &upstream.timeouts;
            self.try_within_request(name.span, &who, timeouts.one_try, timeouts.request);
        }
        for route in &file.routes {
            let timeouts = &route.value.timeouts;
            self.try_within_request(route.span, "a route", timeouts.one_try, timeouts.request);
            if route.value.priority_class != PriorityClass::default() && !self.may_queue(&route.value) {
                self.without_effect(
                    route.span,
                    "this route has a priority_class, but nobody waits where its requests go".into(),
                    "add `limits` to the upstream, or remove `priority_class`",
                );
            }
        }
    }

    /// Whether requests of this route go to a group in which they may have to wait.
    fn may_queue(&self, route: &Route) -> bool {
        let one = route.upstream.iter().map(|name| &name.value);
        let several = route.split.iter().flat_map(|split| &split.value.groups);
        let mut named = one.chain(several.map(|group| &group.value.upstream.value));
        let upstreams = &self.file.upstreams;
        named
            .any(|named| upstreams.iter().any(|(name, group)| name.value == *named && group.limits.is_some()))
    }

    /// One try has no more time than all of them.
    fn try_within_request(&mut self, span: Span, who: &str, one: Option<Time>, all: Option<Time>) {
        if let (Some(one), Some(all)) = (one, all)
            && one.0 >= all.0
        {
            self.without_effect(
                span,
                format!("timeouts.try of {who} is {one}, but the whole request has {all} (timeouts.request)"),
                "write a shorter time for `try`, or remove it",
            );
        }
    }

    pub(super) fn without_effect(&mut self, span: Span, message: String, help: &str) {
        self.report.warning(Code::NoEffect, span, message).help(help);
    }
}
