//! Checks of `routes`: names, and routes that others hide. Their conditions are checked in `matcher`, what they do in
//! `action`.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::Route;
use crate::config::plan;
use crate::config::report::{Code, Span};
use crate::http::route;
use std::collections::HashMap;
use std::sync::Arc;

mod action;
mod matcher;

impl<'a> Checker<'a> {
    pub(super) fn routes(&mut self, listeners: &[Arc<plan::Listener>]) -> Vec<Arc<plan::Route>> {
        let file = self.file;
        self.route_names();
        let mut routes = Vec::with_capacity(file.routes.len());
        let mut spans = Vec::with_capacity(file.routes.len());
        for (place, route) in file.routes.iter().enumerate() {
            if let Some(planned) = self.route(route, listeners) {
                routes.push(self.shared(planned, place));
                spans.push(route.span);
            }
        }
        self.overlaps(&routes, &spans);
        self.unreached(listeners, &routes);
        routes
    }

    /// `None` when the route has no usable action; that was reported.
    fn route(&mut self, route: &'a Located<Route>, listeners: &[Arc<plan::Listener>]) -> Option<plan::Route> {
        let name = name_of(route);
        let who = ["route \"", &name, "\""].concat();
        let matcher = self.matcher(&who, route, listeners);
        let action = self.action(&who, route);
        let filters = self.chain(&route.value.filters, &who);
        let error_pages = self.error_pages(&who, &route.error_pages);
        let timeouts = &route.timeouts;
        for (key, time) in [
            ("connect", timeouts.connect),
            ("tls", timeouts.tls),
            ("response", timeouts.response),
            ("first_byte", timeouts.first_byte),
            ("try", timeouts.one_try),
            ("request", timeouts.request),
            ("tunnel", timeouts.tunnel),
        ] {
            if let Some(time) = time {
                self.positive(route.span, &format!("timeouts.{key} of {who}"), time);
            }
        }
        if let Some(retry) = &route.retry {
            self.hedge(&who, retry);
            self.hedge_of_route(&who, route, retry);
        }
        if let Some(budget) = route.retry.as_ref().and_then(|retry| retry.budget.as_ref()) {
            let message = format!(
                "{who} has a budget for retries\nthe budget is that of a group: write it under `retry` of the upstream"
            );
            self.error(Code::Conflict, budget.span, &message);
        }
        Some(plan::Route {
            matcher,
            action: action?,
            filters,
            error_pages,
            timeouts: plan::RouteTimeouts::boxed(timeouts),
            max_body_bytes: route.limits.max_body_bytes.map(|s| s.0),
            retry: route.retry.as_deref().map(|retry| Box::new(retry.into())),
            priority_class: route.priority_class,
            sampling: route.tracing.as_ref().map(|tracing| tracing.sampling).unwrap_or_default(),
            logged: route.access_log.map(|share| share.0),
            name,
        })
    }

    /// The one in use, if it is the same. What has filters, or is for some listeners, is compared when these are known
    /// ([`Plan::succeed`](plan::Plan::succeed)).
    fn shared(&self, planned: plan::Route, place: usize) -> Arc<plan::Route> {
        let known = match planned.filters.is_empty() && planned.matcher.listeners.is_empty() {
            true => plan::like(self.before, (place, self.file.routes.len()), &planned).cloned(),
            false => None,
        };
        known.unwrap_or_else(|| Arc::new(planned))
    }

    fn route_names(&mut self) {
        let file = self.file;
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for name in file.routes.iter().filter_map(|r| r.name.as_ref()) {
            if let Some(first) = seen.insert(&name.value, name.span) {
                self.report
                    .error(Code::DuplicateName, name.span, format!("two routes are named \"{}\"", name.value))
                    .help("rename one of them")
                    .related(first, "the first is here");
            }
        }
    }

    /// Warnings about routes that others hide, and conditions that do not protect.
    fn overlaps(&mut self, routes: &[Arc<plan::Route>], spans: &[Span]) {
        let at = |i: usize| spans.get(i).copied().unwrap_or_default();
        let name = |i: usize| routes.get(i).map_or("", |r| r.name.as_str());
        for (hidden, by) in route::hidden(routes) {
            let message = format!(
                "route \"{}\" can never be chosen: \"{}\" takes its requests",
                name(hidden),
                name(by)
            );
            self.report
                .warning(Code::HiddenRoute, at(hidden), message)
                .help("remove it, or give it a condition of its own")
                .related(at(by), "this route is preferred");
        }
        for (narrow, wide) in route::falls_through(routes) {
            let message = format!(
                "a request that misses the conditions of route \"{}\" goes on to \"{}\"",
                name(narrow),
                name(wide)
            );
            self.report
                .warning(Code::ConditionFallsThrough, at(narrow), message)
                .help("conditions select, they do not protect: to refuse such requests, use the `ip` filter, or a route that answers them")
                .related(at(wide), "this route takes them");
        }
    }

    fn unreached(&mut self, listeners: &[Arc<plan::Listener>], routes: &[Arc<plan::Route>]) {
        if !self.whole || routes.is_empty() {
            return;
        }
        for listener in listeners.iter().filter(|l| l.redirect_https.is_none() && l.has_requests()) {
            let reached = |r: &Arc<plan::Route>| {
                r.matcher.listeners.is_empty() || r.matcher.listeners.contains(&listener.id)
            };
            if !routes.iter().any(reached) {
                let span = self.file.listeners.get(listener.id.0).map(|l| l.span).unwrap_or_default();
                let message = format!("no route is for listener \"{}\"", listener.name);
                self.report
                    .warning(Code::UnreachedListener, span, message)
                    .help("add a route for it, or remove it: it answers 404 to everything");
            }
        }
    }
}

/// The name given, or what it matches, in nginx's signs: `= /exact`, `~ regex`.
fn name_of(route: &Route) -> String {
    if let Some(name) = &route.name {
        return name.value.clone();
    }
    let mut name =
        route.host.as_ref().and_then(|h| h.0.first()).map(|h| h.value.to_string()).unwrap_or_default();
    match (&route.path, &route.exact, &route.regex) {
        (Some(path), _, _) => name.push_str(&path.value),
        (None, Some(exact), _) => name.extend(["= ", &exact.value]),
        (None, None, Some(regex)) => name.extend(["~ ", &regex.value]),
        (None, None, None) => name.push('/'),
    }
    name
}
