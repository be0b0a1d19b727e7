//! What a route is for: the conditions of a request that it takes.

use crate::config::check::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, Route, Table};
use crate::config::plan::{self, ListenerId, Matcher, PathMatch, Pattern, ValueMatch};
use crate::config::report::Code;
use crate::http::path;
use http::HeaderName;
use std::sync::Arc;

impl Checker<'_> {
    /// All conditions of a route.
    pub(super) fn matcher(
        &mut self,
        who: &str,
        route: &Located<Route>,
        listeners: &[Arc<plan::Listener>],
    ) -> Matcher {
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
        if found.is_some_and(|listener| !listener.has_requests()) {
            let message = format!(
                "{who} is for listener \"{}\", which passes connections on unread\nname another listener",
                name.value
            );
            self.error(Code::Conflict, name.span, &message);
        }
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
        let named = given.iter().filter(|(_, v)| v.is_some()).map(|(k, _)| *k);
        if named.clone().count() > 1 {
            let named: Vec<_> = named.collect();
            let message = format!("{who} has {}\nkeep one of them", named.join(" and "));
            self.error(Code::Conflict, route.span, &message);
        }
        if let Some(path) = &route.path {
            let mut prefix = self.normal_path(who, path);
            prefix.truncate(prefix.trim_end_matches('/').len());
            return if prefix.is_empty() { PathMatch::Any } else { PathMatch::Prefix(prefix) };
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
        let configured = match path::configured(&written.value) {
            Ok(path) if path == written.value => return path,
            other => other,
        };
        if let Some(c) = written.chars().find(|c| matches!(c, '?' | '#')) {
            let message = format!(
                "`{}` of {who} holds `{c}`, which no path has\nuse `query:` for query parameters",
                written.value
            );
            self.error(Code::InvalidValue, written.span, &message);
        }
        match configured {
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

    pub(in crate::config::check) fn pattern(
        &mut self,
        text: &Located<String>,
        whole: bool,
    ) -> Option<Pattern> {
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
}

/// Fingerprints are compared by their digits, in lower case.
fn digits(value: ValueMatch) -> ValueMatch {
    let bare = |text: String| text.replace(':', "").to_ascii_lowercase();
    match value {
        ValueMatch::Is(text) => ValueMatch::Is(bare(text)),
        ValueMatch::Prefix(text) => ValueMatch::Prefix(bare(text)),
        value @ (ValueMatch::Regex(_) | ValueMatch::Present(_)) => value,
    }
}
