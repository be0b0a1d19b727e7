//! Checks of `tcp` of a listener, and of what a listener has beside it: what concerns requests has nothing to act on.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Key, Listener, ListenerLimits, Tcp, Tls, Underscores};
use crate::config::plan;
use crate::config::report::Code;
use crate::config::words::HostPattern;
use crate::filter::FilterSettings;
use crate::filter::ip::IpFilter;
use std::collections::HashMap;

impl Checker<'_> {
    /// Where its connections are passed on to, if they are.
    pub(super) fn tcp(&mut self, who: &str, listener: &Located<Listener>) -> Option<plan::Tcp> {
        if listener.passes_all() {
            self.no_requests(who, listener);
        }
        let tcp = listener.tcp.as_ref()?;
        if self.upstream_ref(who, &tcp.upstream).is_some() {
            self.fit_for_flows(who, &tcp.upstream);
        }
        self.flow_times(who, tcp);
        Some(plan::Tcp {
            upstream: tcp.upstream.value.as_str().into(),
            flows: plan::Flows::new(&tcp.timeouts, &tcp.keepalive),
        })
    }

    /// Who may connect, if not everybody.
    pub(super) fn listener_ip(&mut self, who: &str, listener: &Listener) -> Option<IpFilter> {
        let ip = listener.ip.as_ref()?;
        match ip.value.build() {
            Ok(filter) => Some(filter),
            Err(_) => {
                let message = format!("ip of {who} names nobody\nwrite `allow`, `deny`, or both");
                self.error(Code::InvalidValue, ip.span, &message);
                None
            }
        }
    }

    /// The names that are passed on unopened.
    pub(super) fn passthrough(
        &mut self,
        who: &str,
        tls: &Located<Tls>,
        certificates: &[plan::Certificate],
    ) -> plan::Passthrough {
        let mut passthrough = plan::Passthrough::default();
        let mut seen = HashMap::new();
        for (name, group) in tls.passthrough.iter() {
            let pattern = match name.value.as_str() {
                "*" => None,
                text => match text.parse::<HostPattern>() {
                    Ok(pattern) => Some(pattern),
                    Err(why) => {
                        self.error(Code::BadPattern, name.span, &why);
                        continue;
                    }
                },
            };
            let shown = certificates.iter().any(|c| pattern.as_ref().is_some_and(|p| c.names.contains(p)));
            if shown {
                let message = format!(
                    "{who} passes \"{}\" on unopened, and has a certificate for it\nremove one of them",
                    name.value
                );
                self.error(Code::Conflict, name.span, &message);
            }
            if let Some(first) = seen.insert(pattern.clone(), name.span) {
                let message = format!("{who} passes \"{}\" on twice", name.value);
                self.report
                    .error(Code::DuplicateName, name.span, message)
                    .related(first, "the first is here");
            }
            if self.upstream_ref(who, group).is_some() {
                self.fit_for_flows(who, group);
                self.no_tls_twice(who, group);
            }
            passthrough.insert(pattern.as_ref(), &group.value);
        }
        passthrough
    }

    fn no_tls_twice(&mut self, who: &str, name: &Located<String>) {
        if self.file.upstreams.get(&name.value).is_some_and(|group| group.tls.is_some()) {
            let message = format!(
                "{who} passes TLS on unopened to upstream \"{}\", which has tls: it would be spoken within TLS\n\
                 remove `tls` from the group, or make another group for it",
                name.value
            );
            self.error(Code::Conflict, name.span, &message);
        }
    }

    fn flow_times(&mut self, who: &str, tcp: &Located<Tcp>) {
        let timeouts = &tcp.timeouts;
        let keepalive = tcp.keepalive.on().copied();
        for (key, time) in [
            ("timeouts.connect", timeouts.connect),
            ("timeouts.idle", Some(timeouts.idle)),
            ("timeouts.total", timeouts.total),
            ("keepalive", keepalive),
        ] {
            if let Some(time) = time {
                self.positive(tcp.span, &format!("tcp.{key} of {who}"), time);
            }
        }
        if let Some(keepalive) = keepalive.filter(|time| time.0.subsec_nanos() != 0) {
            let message =
                format!("tcp.keepalive of {who} is {keepalive}\nthe system counts in whole seconds");
            self.error(Code::InvalidValue, tcp.span, &message);
        }
    }

    /// What would be written in vain beside `tcp`.
    fn no_requests(&mut self, who: &str, listener: &Located<Listener>) {
        let defaults = ListenerLimits::default();
        let flows = ListenerLimits {
            connections: listener.limits.connections,
            connections_per_client: listener.limits.connections_per_client,
            tls_handshake_timeout: listener.limits.tls_handshake_timeout,
            header_timeout: listener.limits.header_timeout,
            ..defaults
        };
        let vain = [
            ("protocols", listener.protocols.is_some()),
            ("redirect_https", listener.redirect_https.enabled),
            ("filters", !listener.filters.is_empty()),
            ("underscores_in_headers", listener.underscores_in_headers != Underscores::default()),
            ("limits of requests", listener.limits != flows),
        ];
        for (key, _) in vain.into_iter().filter(|(_, written)| *written) {
            let message = format!(
                "{who} passes connections on unread, and has {key}\nremove one of them, or make two listeners of it"
            );
            self.error(Code::Conflict, listener.span, &message);
        }
    }

    /// A group that chooses by what only requests have would choose by chance.
    fn fit_for_flows(&mut self, who: &str, name: &Located<String>) {
        let Some(group) = self.file.upstreams.get(&name.value) else { return };
        let mut keys = group.balance.keys().peekable();
        if keys.peek().is_some() && !keys.any(|key| *key == Key::Client) {
            let message = format!(
                "{who} passes connections on to upstream \"{}\", whose balance ({}) is by what only requests have\n\
                 add `fallback: client`, use ip_hash, or make another group for it",
                name.value, group.balance
            );
            self.error(Code::Conflict, name.span, &message);
        }
        if group.sticky.is_some() {
            let message = format!(
                "{who} passes connections on to upstream \"{}\", whose sticky sessions are those of requests\n\
                 make another group for it: `balance: ip_hash` keeps clients with their servers",
                name.value
            );
            self.error(Code::Conflict, name.span, &message);
        }
    }
}
