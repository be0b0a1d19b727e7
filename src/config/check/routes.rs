//! Checks of `routes`: conditions, the one action, names, and routes that others hide.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, Redirect, Respond, Route, Split, Table};
use crate::config::plan::{self, Action, ListenerId, Matcher, PathMatch, Pattern, ValueMatch};
use crate::config::report::{Code, Span};
use crate::http::{path, route};
use http::HeaderName;
use std::collections::HashMap;
use std::sync::Arc;

impl<'a> Checker<'a> {
    pub(super) fn routes(&mut self, listeners: &[Arc<plan::Listener>]) -> Vec<Arc<plan::Route>> {
        let file = self.file;
        self.route_names();
        let mut routes = Vec::with_capacity(file.routes.len());
        let mut spans = Vec::with_capacity(file.routes.len());
        for route in &file.routes {
            if let Some(planned) = self.route(route, listeners) {
                routes.push(Arc::new(planned));
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
        let who = format!("route \"{name}\"");
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
            timeouts: timeouts.into(),
            max_body_bytes: route.limits.max_body_bytes.map(|s| s.0),
            retry: route.retry.as_deref().map(plan::Retry::from),
            priority_class: route.priority_class,
            name,
        })
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

    fn matcher(&mut self, who: &str, route: &Located<Route>, listeners: &[Arc<plan::Listener>]) -> Matcher {
        let header = |name: &str| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is not the name of a header"))
        };
        let text = |name: &str| Ok::<_, String>(name.to_string());
        Matcher {
            listeners: route.listeners.iter().filter_map(|l| self.listener_ref(who, l, listeners)).collect(),
            hosts: route.host.iter().flat_map(|h| &h.0).map(|h| h.value.clone()).collect(),
            path: self.path_match(who, route),
            methods: route.methods.iter().map(|m| m.value.0.clone()).collect(),
            headers: self.values(&route.headers, header),
            query: self.values(&route.query, text),
            cookies: self.values(&route.cookies, text),
            client: route.client.iter().map(|c| c.value.0).collect(),
            certificate: self.certificate_match(who, route),
        }
    }

    fn listener_ref(
        &mut self,
        who: &str,
        name: &Located<String>,
        listeners: &[Arc<plan::Listener>],
    ) -> Option<ListenerId> {
        let found = listeners.iter().find(|l| l.name == name.value);
        if found.is_none() {
            let names: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
            self.unknown_name(
                name.span,
                format!("{who} uses unknown listener"),
                &name.value,
                names.into_iter(),
            );
        }
        found.map(|l| l.id)
    }

    fn path_match(&mut self, who: &str, route: &Located<Route>) -> PathMatch {
        let given = [("path", &route.path), ("exact", &route.exact), ("regex", &route.regex)];
        let named: Vec<_> = given.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| *k).collect();
        if named.len() > 1 {
            let message = format!("{who} has {}\nkeep one of them", named.join(" and "));
            self.error(Code::Conflict, route.span, &message);
        }
        if let Some(path) = &route.path {
            return match self.normal_path(who, path).trim_end_matches('/') {
                "" => PathMatch::Any,
                prefix => PathMatch::Prefix(prefix.to_string()),
            };
        }
        if let Some(exact) = &route.exact {
            return PathMatch::Exact(self.normal_path(who, exact));
        }
        let pattern = route.regex.as_ref().and_then(|regex| self.pattern(regex, true));
        pattern.map_or(PathMatch::Any, PathMatch::Regex)
    }

    /// Requests are matched by their normalised path, so a path that is not normal never matches.
    fn normal_path(&mut self, who: &str, written: &Located<String>) -> String {
        let bad = |why: &str| format!("`{}` of {who} is not a path: {why}\nwrite it as /api", written.value);
        if !written.starts_with('/') {
            self.error(Code::InvalidValue, written.span, &bad("it does not begin with /"));
            return written.value.clone();
        }
        if let Some(c) = written.chars().find(|c| matches!(c, '?' | '#')) {
            let message = format!(
                "`{}` of {who} holds `{c}`, which no path has\nuse `query:` for query parameters",
                written.value
            );
            self.error(Code::InvalidValue, written.span, &message);
        }
        match path::configured(&written.value) {
            Ok(path) if path == written.value => path,
            Ok(path) => {
                let message = format!(
                    "`{}` of {who} never matches: requests are matched by their normalised path\nwrite {path}",
                    written.value
                );
                self.error(Code::InvalidValue, written.span, &message);
                path
            }
            Err(why) => {
                self.error(Code::InvalidValue, written.span, &bad(why.reason()));
                written.value.clone()
            }
        }
    }

    pub(super) fn pattern(&mut self, text: &Located<String>, whole: bool) -> Option<Pattern> {
        let source = if whole { format!("^(?:{})$", text.value) } else { text.value.clone() };
        // the pattern alone first, so that the message shows what the user wrote
        match regex::Regex::new(&text.value).and_then(|_| regex::Regex::new(&source)) {
            Ok(regex) => Some(Pattern(regex)),
            Err(error) => {
                let why = error.to_string();
                let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                let message = format!("`{}` is not a regular expression: {last}", text.value);
                self.error(Code::BadPattern, text.span, &message);
                None
            }
        }
    }

    fn values<N>(
        &mut self,
        table: &Table<file::ValueMatch>,
        parse: impl Fn(&str) -> Result<N, String>,
    ) -> Vec<(N, ValueMatch)> {
        let mut out = Vec::new();
        for (name, value) in table.iter() {
            let value = self.value(value);
            match (parse(&name.value), value) {
                (Ok(name), Some(value)) => out.push((name, value)),
                (Err(why), _) => self.error(Code::BadHeader, name.span, &why),
                (Ok(_), None) => {}
            }
        }
        out
    }

    fn value(&mut self, value: &file::ValueMatch) -> Option<ValueMatch> {
        match value {
            file::ValueMatch::Is(text) => Some(ValueMatch::Is(text.clone())),
            file::ValueMatch::Prefix(text) => Some(ValueMatch::Prefix(text.clone())),
            file::ValueMatch::Regex(regex) => self.pattern(regex, false).map(ValueMatch::Regex),
            file::ValueMatch::Present(present) => Some(ValueMatch::Present(*present)),
        }
    }

    fn certificate_match(
        &mut self,
        who: &str,
        route: &Located<Route>,
    ) -> Vec<(plan::CertificatePart, ValueMatch)> {
        use plan::CertificatePart::{Fingerprint, San, Subject, Verified};
        let Some(wanted) = &route.client_certificate else { return Vec::new() };
        let shown = |listener: &&Located<file::Listener>| {
            let tls = listener.tls.as_ref();
            tls.is_some_and(|tls| {
                tls.client_auth.is_some()
                    || tls.certificates.iter().any(|c| matches!(c.client_auth, Some(file::OrOff::On(_))))
            })
        };
        if self.whole && !self.file.listeners.iter().any(|listener| shown(&listener)) {
            let message =
                format!("{who} looks at the certificates of clients, and no listener asks for them");
            self.report
                .warning(Code::NoEffect, wanted.span, message)
                .help("add `client_auth: { ca: FILE }` to the `tls` of a listener");
        }
        let mut out = Vec::new();
        out.extend(wanted.verified.map(|verified| (Verified, ValueMatch::Present(verified))));
        let parts = [(Subject, &wanted.subject), (San, &wanted.san), (Fingerprint, &wanted.fingerprint)];
        for (part, value) in parts {
            let value = value.as_ref().and_then(|value| self.value(value));
            out.extend(value.map(|value| (part, if part == Fingerprint { digits(value) } else { value })));
        }
        if out.is_empty() && self.whole {
            let message = format!(
                "client_certificate of {who} says nothing\nadd one of verified, subject, san, fingerprint"
            );
            self.error(Code::MissingKey, wanted.span, &message);
        }
        out
    }

    fn action(&mut self, who: &str, route: &Located<Route>) -> Option<Action> {
        let mut actions = Vec::new();
        actions.extend(route.upstream.as_ref().map(|_| "upstream"));
        actions.extend(route.split.as_ref().map(|_| "split"));
        actions.extend(route.redirect.as_ref().map(|_| "redirect"));
        actions.extend(route.respond.as_ref().map(|_| "respond"));
        if actions.len() != 1 {
            let message = match actions.is_empty() {
                // what it had was cut out because of a mistake
                true if !self.whole => return None,
                true => format!("{who} has no action\nadd one of upstream, split, redirect, respond"),
                false => format!("{who} has several actions: {}\nkeep one of them", actions.join(", ")),
            };
            self.error(Code::RouteAction, route.span, &message);
        }
        if let Some(name) = &route.upstream {
            return self.upstream_ref(who, name).map(Action::Upstream);
        }
        if let Some(split) = &route.split {
            return self.split(who, split).map(Action::Split);
        }
        if let Some(redirect) = &route.redirect {
            return self.redirect_action(who, redirect);
        }
        route.respond.as_ref().and_then(|respond| self.respond(respond)).map(Action::Respond)
    }

    fn upstream_ref(&mut self, who: &str, name: &Located<String>) -> Option<plan::UpstreamId> {
        let found = self.upstreams.get(name.value.as_str()).copied();
        match found {
            Some(id) => {
                self.used_upstreams.insert(id);
            }
            None => {
                let file = self.file;
                let names: Vec<&str> = file.upstreams.names().collect();
                self.unknown_name(
                    name.span,
                    format!("{who} uses unknown upstream"),
                    &name.value,
                    names.into_iter(),
                );
            }
        }
        found
    }

    fn split(&mut self, who: &str, split: &Located<Split>) -> Option<plan::Split> {
        let Some(total) = file::total_weight(split) else {
            let message = format!(
                "the split of {who} has no group with a weight, or weights beyond 4294967295\ngive at least one group a weight"
            );
            self.error(Code::InvalidValue, split.span, &message);
            return None;
        };
        if let Some(key) = &split.key {
            self.key(split.span, &format!("split of {who}"), key);
        }
        let mut sum = 0;
        let mut groups = Vec::new();
        for group in &split.groups {
            let id = self.upstream_ref(who, &group.upstream);
            sum += group.weight;
            if let Some(id) = id.filter(|_| group.weight > 0) {
                groups.push((sum, id));
            }
        }
        Some(plan::Split { key: split.key.clone(), groups, total: total.get() })
    }

    fn redirect_action(&mut self, who: &str, redirect: &Located<Redirect>) -> Option<Action> {
        let to = &redirect.to;
        let text = to.to_string();
        let fits = text.starts_with('/') || text.contains("://") || text.starts_with('{');
        if !fits || text.bytes().any(|b| b <= b' ' || b == 0x7f) {
            let message = format!(
                "`{text}` of {who} is not a place to redirect to\nwrite a path such as /new, or https://{{host}}{{uri}}"
            );
            self.error(Code::InvalidValue, to.span, &message);
        }
        Some(Action::Redirect { to: to.value.clone(), status: redirect.status.0 })
    }

    fn respond(&mut self, respond: &Located<Respond>) -> Option<plan::Respond> {
        let mut headers = Vec::new();
        for (name, value) in respond.headers.iter() {
            let parsed = HeaderName::from_bytes(name.value.as_bytes());
            let fine = value.as_text().is_none_or(|text| http::HeaderValue::from_str(text).is_ok());
            match parsed {
                Ok(parsed) if fine && parsed != http::header::CONTENT_LENGTH => {
                    headers.push((bytes::Bytes::copy_from_slice(name.value.as_bytes()), value.value.clone()));
                }
                Ok(_) if fine => {
                    let message = "content-length follows from the body\nremove it";
                    self.error(Code::BadHeader, name.span, message);
                }
                Ok(_) => {
                    let message = format!("the value of header `{}` has a control character", name.value);
                    self.error(Code::BadHeader, value.span, &message);
                }
                Err(_) => {
                    let message = format!("`{}` is not the name of a header", name.value);
                    self.error(Code::BadHeader, name.span, &message);
                }
            }
        }
        Some(plan::Respond { status: respond.status.0, body: respond.body.clone(), headers })
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
        for listener in listeners.iter().filter(|l| l.redirect_https.is_none()) {
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
/// Fingerprints are compared by their digits, in lower case.
fn digits(value: ValueMatch) -> ValueMatch {
    let bare = |text: String| text.replace(':', "").to_ascii_lowercase();
    match value {
        ValueMatch::Is(text) => ValueMatch::Is(bare(text)),
        ValueMatch::Prefix(text) => ValueMatch::Prefix(bare(text)),
        value @ (ValueMatch::Regex(_) | ValueMatch::Present(_)) => value,
    }
}

fn name_of(route: &Route) -> String {
    if let Some(name) = &route.name {
        return name.value.clone();
    }
    let host = route.host.as_ref().and_then(|h| h.0.first()).map(|h| h.value.to_string()).unwrap_or_default();
    let path = match (&route.path, &route.exact, &route.regex) {
        (Some(path), _, _) => path.value.clone(),
        (None, Some(exact), _) => format!("= {}", exact.value),
        (None, None, Some(regex)) => format!("~ {}", regex.value),
        (None, None, None) => "/".to_string(),
    };
    format!("{host}{path}")
}
