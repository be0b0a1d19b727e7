//! Checks of `tcp` of a listener, and of what a listener has beside it: what concerns requests has nothing to act on.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Key, Listener, ListenerLimits, Tcp, Tls, Underscores, Unopened};
use crate::config::plan;
use crate::config::report::{Code, Span};
use crate::config::words::HostPattern;
use crate::filter::FilterSettings;
use crate::filter::ip::IpFilter;
use std::collections::HashMap;

/// The names that were met, each for a protocol or for all, and where.
type Seen = HashMap<(Option<HostPattern>, Option<String>), Span>;

impl Checker<'_> {
    /// Where its connections are passed on to, if they are.
    pub(super) fn tcp(&mut self, who: &str, listener: &Located<Listener>) -> Option<plan::Tcp> {
        if listener.passes_all() {
            self.no_requests(who, listener);
        }
        let tcp = listener.tcp.as_ref()?;
        if self.upstream_ref(who, &tcp.upstream).is_some() {
            self.fit_for_flows(who, "connections", &tcp.upstream);
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

    /// The connections that are passed on unopened.
    pub(super) fn passthrough(
        &mut self,
        who: &str,
        tls: &Located<Tls>,
        certificates: &[plan::Certificate],
    ) -> plan::Passthrough {
        let mut passthrough = plan::Passthrough::default();
        let mut seen = Seen::default();
        for unopened in &tls.passthrough.0 {
            if self.upstream_ref(who, &unopened.upstream).is_some() {
                self.fit_for_flows(who, "connections", &unopened.upstream);
                self.no_tls_twice(who, &unopened.upstream);
            }
            self.protocols_offered(who, unopened);
            let all = Located::new("*".to_string(), unopened.upstream.span);
            let names = if unopened.names.is_empty() { std::slice::from_ref(&all) } else { &unopened.names };
            for name in names {
                let Some(pattern) = self.name_to_pass(name) else { continue };
                let shown = |pattern| certificates.iter().any(|c| c.names.contains(pattern));
                if unopened.alpn.is_empty() && pattern.as_ref().is_some_and(shown) {
                    let message = format!(
                        "{who} passes \"{}\" on unopened, and has a certificate for it\nremove one of them",
                        name.value
                    );
                    self.error(Code::Conflict, name.span, &message);
                }
                self.passed_once(who, (name, &pattern), unopened, &mut seen);
                let alpn = unopened.alpn.iter().map(|protocol| protocol.value.as_str().into()).collect();
                let group = unopened.upstream.value.as_str().into();
                passthrough.insert(plan::Unopened { name: pattern, alpn, group });
            }
        }
        passthrough
    }

    /// `Some(None)`: all names that nothing else is for. `None`: it cannot be read, which was reported.
    #[expect(clippy::option_option, reason = "there may rightly be none")]
    fn name_to_pass(&mut self, name: &Located<String>) -> Option<Option<HostPattern>> {
        if name.value == "*" {
            return Some(None);
        }
        let pattern = name.value.parse();
        pattern.map_err(|why: String| self.error(Code::BadPattern, name.span, &why)).ok().map(Some)
    }

    /// What is written first would be found for every client of the second.
    fn passed_once(
        &mut self,
        who: &str,
        (name, pattern): (&Located<String>, &Option<HostPattern>),
        unopened: &Unopened,
        seen: &mut Seen,
    ) {
        let protocols = unopened.alpn.iter().map(|protocol| Some(protocol.value.as_str()));
        let whatever = unopened.alpn.is_empty().then_some(None);
        for protocol in protocols.chain(whatever) {
            let key = (pattern.clone(), protocol.map(str::to_string));
            let Some(first) = seen.insert(key, name.span) else { continue };
            let of = protocol.map(|protocol| format!(" for {protocol}")).unwrap_or_default();
            let message = format!("{who} passes \"{}\" on twice{of}", name.value);
            self.report.error(Code::DuplicateName, name.span, message).related(first, "the first is here");
        }
    }

    /// RFC 7301 §3.1: one to 255 bytes each.
    fn protocols_offered(&mut self, who: &str, unopened: &Unopened) {
        for protocol in unopened.alpn.iter().filter(|protocol| !(1..256).contains(&protocol.value.len())) {
            let message = format!(
                "{who} asks for a protocol of {} bytes (alpn)\nwrite 1 to 255, as in h2, http/1.1 or xmpp-client",
                protocol.value.len()
            );
            self.error(Code::InvalidValue, protocol.span, &message);
        }
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
            connection_rate: listener.limits.connection_rate,
            connection_rate_per_client: listener.limits.connection_rate_per_client,
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
            let what = if listener.udp.is_some() { "datagrams" } else { "connections" };
            let message = format!(
                "{who} passes {what} on unread, and has {key}\nremove one of them, or make two listeners of it"
            );
            self.error(Code::Conflict, listener.span, &message);
        }
    }

    /// A group that chooses by what only requests have would choose by chance.
    pub(super) fn fit_for_flows(&mut self, who: &str, what: &str, name: &Located<String>) {
        let Some(group) = self.file.upstreams.get(&name.value) else { return };
        let mut keys = group.balance.keys().peekable();
        if keys.peek().is_some() && !keys.any(|key| *key == Key::Client) {
            let message = format!(
                "{who} passes {what} on to upstream \"{}\", whose balance ({}) is by what only requests have\n\
                 add `fallback: client`, use ip_hash, or make another group for it",
                name.value, group.balance
            );
            self.error(Code::Conflict, name.span, &message);
        }
        if group.sticky.is_some() {
            let message = format!(
                "{who} passes {what} on to upstream \"{}\", whose sticky sessions are those of requests\n\
                 make another group for it: `balance: ip_hash` keeps clients with their servers",
                name.value
            );
            self.error(Code::Conflict, name.span, &message);
        }
    }
}
