//! Checks of `upstreams`.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Balance, HedgeAfter, Key, Retry, Upstream, UpstreamLimits};
use crate::config::plan;
use crate::config::report::{Code, Span};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

impl Checker<'_> {
    pub(super) fn upstreams(&mut self) -> Vec<Arc<plan::Upstream>> {
        let file = self.file;
        file.upstreams.iter().map(|(name, upstream)| Arc::new(self.upstream(name, upstream))).collect()
    }

    fn upstream(&mut self, name: &Located<String>, upstream: &Upstream) -> plan::Upstream {
        let who = format!("upstream \"{}\"", name.value);
        // servers that were cut out because of a mistake are not missing
        if upstream.servers.is_empty() && upstream.discover.0.is_empty() && self.whole {
            self.error(
                Code::NoServers,
                name.span,
                &format!("{who} has no servers\nadd `servers: [127.0.0.1:3001]`, or `discover`"),
            );
        }
        self.repeated(&who, upstream);
        let tls = self.upstream_tls(&who, upstream);
        let checks = upstream.health_check.as_ref();
        let health_check = checks.and_then(|check| self.health_check(&who, check, tls.as_ref()));
        let health_check =
            health_check.map(|check| plan::HealthCheck { send_proxy: upstream.send_proxy, ..check });
        self.fit_for_udp_check(&who, upstream);
        self.at_unix_sockets(&who, upstream, tls.as_ref(), health_check.as_ref());
        if let Some(limits) = &upstream.limits {
            self.upstream_limits(&who, limits);
        }
        self.hedge(&who, &upstream.retry);
        self.hedge_over(&who, &upstream.retry, upstream);
        self.balance(name.span, &who, &upstream.balance);
        let timeouts = &upstream.timeouts;
        for (key, time) in [
            ("connect", Some(timeouts.connect)),
            ("tls", timeouts.tls),
            ("response", Some(timeouts.response)),
            ("first_byte", timeouts.first_byte),
            ("try", timeouts.one_try),
            ("request", timeouts.request),
            ("tunnel", Some(timeouts.tunnel)),
            ("idle", Some(timeouts.idle)),
        ] {
            if let Some(time) = time {
                self.positive(name.span, &format!("timeouts.{key} of {who}"), time);
            }
        }
        if let Some(time) = upstream.slow_start {
            self.positive(name.span, &format!("slow_start of {who}"), time);
        }
        let discover = self.discovery(&who, upstream);
        let member = |m: &Located<crate::config::file::Member>| plan::Member::listed(&m.value);
        let outlier = upstream.outlier.as_ref().map(|outlier| self.outlier(&who, outlier));
        let breaker =
            upstream.breaker.as_ref().map(|breakers| self.breakers(&who, breakers)).unwrap_or_default();
        let panic = self.panic(&who, &upstream.panic);
        let sticky = upstream.sticky.as_ref().and_then(|sticky| self.sticky(&who, sticky));
        plan::Upstream {
            name: name.value.clone(),
            balance: upstream.balance.clone(),
            servers: upstream.servers.iter().filter_map(member).collect(),
            discover,
            health_check,
            sticky,
            retry: plan::Retry::from(&upstream.retry),
            retry_budget: upstream.retry.budget.as_ref().map(|budget| budget.value).unwrap_or_default(),
            outlier,
            breaker,
            panic,
            timeouts: timeouts.into(),
            host: upstream.host.clone(),
            protocol: upstream.protocol.value,
            tls,
            bind_to: self.bind_to(),
            zone: self.file.server.zone.as_ref().map(|zone| Arc::from(zone.value.as_str())),
            slow_start: upstream.slow_start.map(|time| time.0),
            spill_over: upstream.spill_over,
            drain_timeout: upstream.drain_timeout.0.0,
            limits: upstream.limits.as_ref().map(|limits| plan::UpstreamLimits::from(&limits.value)),
            send_proxy: upstream.send_proxy,
        }
    }

    fn bind_to(&self) -> Arc<[IpAddr]> {
        let server = &self.file.server;
        server.client_bind_to_ipv4.iter().chain(&server.client_bind_to_ipv6).copied().collect()
    }

    fn repeated(&mut self, who: &str, upstream: &Upstream) {
        let mut seen: HashMap<_, Span> = HashMap::new();
        for server in &upstream.servers {
            if let Some(first) = seen.insert(&server.value.address, server.span) {
                let message = format!("{who} names server {} twice", server.value.address);
                self.report
                    .error(Code::DuplicateName, server.span, message)
                    .help("name it once, and give it a weight to send it more")
                    .related(first, "named here first");
            }
        }
    }

    fn balance(&mut self, span: Span, who: &str, balance: &Balance) {
        for key in balance.keys() {
            self.key(span, &format!("balance of {who}"), key);
        }
        if let Balance::LeastTime(settings) = balance {
            for (key, time) in [("decay", settings.decay), ("failure_penalty", settings.failure_penalty)] {
                self.positive(span, &format!("balance.least_time.{key} of {who}"), time);
            }
        }
    }

    /// A key that no request can have would be taken for one that this request lacks.
    pub(super) fn key(&mut self, span: Span, what: &str, key: &Key) {
        let wrong = match key {
            Key::Header(name) => http::HeaderName::from_bytes(name.as_bytes())
                .err()
                .map(|_| format!("`{name}` is not the name of a header\nwrite it as x-user")),
            Key::Cookie(name) if name.is_empty() => Some("the name of a cookie is empty\nname it".into()),
            Key::Query(name) if name.is_empty() => {
                Some("the name of a query parameter is empty\nname it".into())
            }
            Key::Client | Key::Path | Key::Host | Key::Cookie(_) | Key::Query(_) => None,
        };
        if let Some(wrong) = wrong {
            self.error(Code::InvalidValue, span, &format!("the key of the {what}: {wrong}"));
        }
    }

    pub(super) fn hedge(&mut self, who: &str, retry: &Retry) {
        let Some(hedge) = &retry.hedge else { return };
        if retry.attempts.get() < 2 {
            let message = format!(
                "retry.hedge of {who} needs a second try, and `attempts` is 1\nwrite `attempts: 2` or more, or remove `hedge`"
            );
            self.error(Code::Conflict, hedge.span, &message);
        }
        if let HedgeAfter::Time(time) = hedge.after {
            self.positive(hedge.span, &format!("retry.hedge.after of {who}"), time);
        }
    }

    fn upstream_limits(&mut self, who: &str, limits: &Located<UpstreamLimits>) {
        let UpstreamLimits { connections, requests, per_server, .. } = limits.value;
        if [connections, requests, per_server.connections, per_server.requests] == [None; 4] && self.whole {
            let message = format!("the limits of {who} limit nothing\nadd `requests: 1000`, or remove them");
            self.error(Code::MissingKey, limits.span, &message);
        }
        self.positive(limits.span, &format!("limits.queue_timeout of {who}"), limits.queue_timeout);
    }

    /// A deadline of zero would have passed before anything began.
    pub(super) fn positive(&mut self, span: Span, what: &str, time: crate::units::Time) {
        if time.0.is_zero() {
            self.error(Code::InvalidValue, span, &format!("{what} is 0\nwrite a time such as 5s"));
        }
    }
}
