//! Checks of `sticky` of an upstream.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Learn, SameSite, Secure, Sticky, StickyCookie};
use crate::config::plan::{self, Action, LearnFrom, Route};
use crate::config::report::{Code, Span};
use crate::config::secret::Secret;
use http::HeaderName;
use std::sync::Arc;
use std::time::Duration;

/// Less than this can be guessed.
const LEAST_SECRET: usize = 16;

impl Checker<'_> {
    /// `None` when it cannot be used; that was reported.
    pub(super) fn sticky(&mut self, who: &str, sticky: &Located<Sticky>) -> Option<plan::Sticky> {
        match (&sticky.cookie, &sticky.learn) {
            (Some(cookie), None) => self.sticky_cookie(who, cookie).map(plan::Sticky::Cookie),
            (None, Some(learn)) => self.learn(who, learn).map(plan::Sticky::Learn),
            (Some(_), Some(_)) => {
                let message = format!(
                    "sticky of {who} has both cookie and learn\nkeep one: learn where the servers set a cookie of their own"
                );
                self.error(Code::Conflict, sticky.span, &message);
                None
            }
            // what it had was cut out because of a mistake
            (None, None) if !self.whole => None,
            (None, None) => {
                let message = format!(
                    "sticky of {who} does not say how\nadd `cookie: {{ secret: \"${{STICKY_SECRET}}\" }}` or `learn: {{ cookie: JSESSIONID }}`"
                );
                self.error(Code::MissingKey, sticky.span, &message);
                None
            }
        }
    }

    fn sticky_cookie(&mut self, who: &str, cookie: &Located<StickyCookie>) -> Option<plan::StickyCookie> {
        self.cookie_name(&format!("the sticky cookie of {who}"), &cookie.name);
        self.cookie_scope(who, cookie);
        self.only_by_https(who, cookie);
        if let Some(ttl) = cookie.ttl {
            self.whole_second(who, ttl);
        }
        for secret in [&cookie.secret, &cookie.previous_secret].into_iter().flatten() {
            self.long_enough(who, secret);
        }
        if cookie.secret.is_none() && self.whole {
            let message = format!(
                "the sticky cookie of {who} has no secret\nadd `secret: \"${{STICKY_SECRET}}\"`, made with `openssl rand -hex 32`"
            );
            self.error(Code::MissingKey, cookie.span, &message);
        }
        let secret = |secret: &Located<Secret>| secret.value.clone();
        Some(plan::StickyCookie {
            name: cookie.name.value.clone(),
            secret: cookie.secret.as_ref().map(secret)?,
            previous_secret: cookie.previous_secret.as_ref().map(secret),
            ttl: cookie.ttl.map(|ttl| ttl.value.0),
            path: cookie.path.value.clone(),
            domain: cookie.domain.as_ref().map(|domain| domain.value.clone()),
            same_site: cookie.same_site,
            // browsers refuse such a cookie without Secure, so there is nothing to find out
            secure: if must_be_secure(cookie) { Secure::Always } else { cookie.secure.value },
            http_only: cookie.http_only,
        })
    }

    fn long_enough(&mut self, who: &str, secret: &Located<Secret>) {
        if secret.reveal().len() < LEAST_SECRET {
            let message = format!(
                "a secret of the sticky cookie of {who} is shorter than {LEAST_SECRET} bytes and can be guessed\nmake one with `openssl rand -hex 32`"
            );
            self.error(Code::InvalidValue, secret.span, &message);
        }
    }

    /// RFC 6265 §4.1.1: the name of a cookie is a token.
    fn cookie_name(&mut self, what: &str, name: &Located<String>) {
        // the name of a header is a token too
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!(
                "`{}` cannot be the name of {what}\nuse letters, digits and any of !#$%&'*+-.^_`|~",
                name.value
            );
            self.error(Code::InvalidValue, name.span, &message);
        }
    }

    fn cookie_scope(&mut self, who: &str, cookie: &StickyCookie) {
        let path = &cookie.path;
        if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b';') {
            let message =
                format!("the path of the sticky cookie of {who} is not a path\nwrite it as / or /app");
            self.error(Code::InvalidValue, path.span, &message);
        }
        if let Some(domain) = &cookie.domain
            && !is_domain(domain)
        {
            let message = format!(
                "the domain of the sticky cookie of {who} is not a domain\nwrite it as example.com; every host below it gets the cookie"
            );
            self.error(Code::InvalidValue, domain.span, &message);
        }
        if cookie.name.starts_with("__Host-") && (cookie.path.value != "/" || cookie.domain.is_some()) {
            let message = format!(
                "browsers refuse the sticky cookie of {who}: a name in `__Host-` goes with `path: /` and without a domain\nuse `__Secure-`, or remove path and domain"
            );
            self.error(Code::Conflict, cookie.name.span, &message);
        }
    }

    fn only_by_https(&mut self, who: &str, cookie: &Located<StickyCookie>) {
        let why = match cookie.same_site {
            SameSite::None => "`same_site: none`",
            SameSite::Lax | SameSite::Strict if has_secure_name(&cookie.name) => "this prefix of its name",
            SameSite::Lax | SameSite::Strict => "`secure: true`",
        };
        match cookie.secure.value {
            Secure::Never if must_be_secure(cookie) => {
                let message = format!(
                    "browsers refuse the sticky cookie of {who}: {why} goes with `secure: true` only\nremove `secure`"
                );
                self.error(Code::Conflict, cookie.secure.span, &message);
            }
            Secure::Auto if !must_be_secure(cookie) => {}
            Secure::Never => {}
            Secure::Auto | Secure::Always => {
                let file = self.file;
                let https =
                    file.listeners.iter().any(|l| l.tls.is_some()) || !file.trusted_proxies.is_empty();
                if !https && self.whole {
                    let message = format!(
                        "browsers refuse the sticky cookie of {who}: {why} needs https, and there is neither a listener with tls nor one of trusted_proxies"
                    );
                    self.report
                        .warning(Code::NoEffect, cookie.span, message)
                        .help("add tls to a listener, or leave `secure` and `same_site` to their defaults");
                }
            }
        }
    }

    fn whole_second(&mut self, who: &str, ttl: Located<crate::units::Time>) {
        if ttl.value.0 < Duration::from_secs(1) {
            let message =
                format!("the ttl of sticky of {who} is shorter than a second\nwrite a time such as 1h");
            self.error(Code::InvalidValue, ttl.span, &message);
        }
    }

    fn learn(&mut self, who: &str, learn: &Located<Learn>) -> Option<plan::Learn> {
        self.whole_second(who, learn.ttl);
        let from = match (&learn.cookie, &learn.header) {
            (Some(cookie), None) => {
                self.cookie_name(&format!("the cookie to learn of {who}"), cookie);
                LearnFrom::Cookie(cookie.value.clone())
            }
            (None, Some(header)) => LearnFrom::Header(self.header_to_learn(who, header)?),
            (None, None) if !self.whole => return None,
            (both, _) => {
                let problem =
                    if both.is_some() { "both cookie and header" } else { "neither cookie nor header" };
                let code = if both.is_some() { Code::Conflict } else { Code::MissingKey };
                let message = format!(
                    "sticky.learn of {who} has {problem}\nname the one that the servers set, such as `cookie: JSESSIONID`"
                );
                self.error(code, learn.span, &message);
                return None;
            }
        };
        Some(plan::Learn { from, ttl: learn.ttl.value.0, entries: learn.entries.get() })
    }

    fn header_to_learn(&mut self, who: &str, header: &Located<String>) -> Option<HeaderName> {
        let Ok(name) = HeaderName::from_bytes(header.as_bytes()) else {
            let message = format!("`{}` is not the name of a header", header.value);
            self.error(Code::BadHeader, header.span, &message);
            return None;
        };
        if name == http::header::COOKIE || name == http::header::SET_COOKIE {
            let message = format!(
                "sticky.learn of {who} names `{name}`, which holds every cookie\nname one of them: `cookie: JSESSIONID`"
            );
            self.error(Code::InvalidValue, header.span, &message);
        }
        Some(name)
    }

    /// Two groups that set the same cookie at one host take each other's clients away: a cookie of
    /// one means nothing to the other, which sets its own over it.
    pub(super) fn sticky_cookies_apart(&mut self, routes: &[Arc<Route>], upstreams: &[Arc<plan::Upstream>]) {
        let cookie = |id: plan::UpstreamId| match &upstreams.get(id.0)?.sticky {
            Some(plan::Sticky::Cookie(cookie)) => Some((id, cookie)),
            Some(plan::Sticky::Learn(_)) | None => None,
        };
        let set: Vec<_> = routes
            .iter()
            .flat_map(|route| {
                groups_of(route).filter_map(cookie).map(move |(id, cookie)| (route, id, cookie))
            })
            .collect();
        let mut told = Vec::new();
        for (i, (route, id, cookie)) in set.iter().enumerate() {
            for (other_route, other, other_cookie) in set.iter().take(i) {
                let pair = (id.min(other), id.max(other));
                if id != other && same_cookie(cookie, other_cookie) && share_a_host(route, other_route) {
                    if !told.contains(&pair) {
                        self.cookie_of_two(*pair.0, *pair.1, &cookie.name);
                    }
                    told.push(pair);
                }
            }
        }
    }

    fn cookie_of_two(&mut self, one: plan::UpstreamId, two: plan::UpstreamId, cookie: &str) {
        let file = self.file;
        let name = |id: plan::UpstreamId| file.upstreams.names().nth(id.0).unwrap_or_default();
        let (first, second) = (name(one), name(two));
        let place = |name: &str| -> Span {
            let cookie = file.upstreams.get(name).and_then(|u| u.sticky.as_ref()?.cookie.as_ref());
            cookie.map(|cookie| cookie.span).unwrap_or_default()
        };
        let message = format!(
            "upstreams \"{first}\" and \"{second}\" set the same sticky cookie `{cookie}` at one host, each over the other's"
        );
        self.report
            .warning(Code::SharedCookie, place(second), message)
            .help("give each group a cookie `name` (or a `path`) of its own")
            .related(place(first), "the other is here");
    }
}

/// Browsers keep such a cookie only if it is `Secure`.
fn must_be_secure(cookie: &StickyCookie) -> bool {
    cookie.same_site == SameSite::None || has_secure_name(&cookie.name)
}

/// RFC 6265bis §4.1.3.
fn has_secure_name(name: &str) -> bool {
    name.starts_with("__Secure-") || name.starts_with("__Host-")
}

fn is_domain(domain: &str) -> bool {
    !domain.is_empty()
        && domain.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

/// The groups that requests of this route go to.
pub(super) fn groups_of(route: &Route) -> impl Iterator<Item = plan::UpstreamId> {
    let (one, several) = match &route.action {
        Action::Upstream(id) => (Some(*id), &[][..]),
        Action::Split(split) => (None, &split.groups[..]),
        Action::Redirect { .. } | Action::Respond(_) => (None, &[][..]),
    };
    one.into_iter().chain(several.iter().map(|(_, id)| *id))
}

fn same_cookie(one: &plan::StickyCookie, other: &plan::StickyCookie) -> bool {
    (&one.name, &one.path, &one.domain) == (&other.name, &other.path, &other.domain)
}

fn share_a_host(one: &Route, other: &Route) -> bool {
    let (one, other) = (&one.matcher.hosts, &other.matcher.hosts);
    one.is_empty() || other.is_empty() || one.iter().any(|host| other.contains(host))
}
