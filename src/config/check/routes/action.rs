//! What a route does with its requests: the one action, and the groups that it names.

use crate::config::check::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, Redirect, Respond, Route, Split};
use crate::config::plan::{self, Action};
use crate::config::report::Code;
use http::HeaderName;

impl Checker<'_> {
    /// `None` when there is no usable one; that was reported.
    pub(super) fn action(&mut self, who: &str, route: &Located<Route>) -> Option<Action> {
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

    pub(in crate::config::check) fn upstream_ref(
        &mut self,
        who: &str,
        name: &Located<String>,
    ) -> Option<plan::UpstreamId> {
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
}
