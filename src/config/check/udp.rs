//! Checks of `udp` of a listener, and of what is beside it and behind it: what concerns connections has nothing to act on.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Listener, ListenerLimits, SendProxy};
use crate::config::plan;
use crate::config::report::Code;
use crate::config::words::ServerAddress;

impl Checker<'_> {
    /// Where its datagrams are passed on to, if they are.
    pub(super) fn udp(&mut self, who: &str, listener: &Located<Listener>) -> Option<plan::Udp> {
        let udp = listener.udp.as_ref()?;
        self.no_connections(who, listener);
        if self.upstream_ref(who, &udp.upstream).is_some() {
            self.fit_for_flows(who, "datagrams", &udp.upstream);
            self.fit_for_datagrams(who, &udp.upstream);
        }
        self.positive(udp.span, &format!("udp.timeouts.idle of {who}"), udp.timeouts.idle);
        Some(plan::Udp::from(&udp.value))
    }

    /// What would be written in vain beside `udp`.
    fn no_connections(&mut self, who: &str, listener: &Located<Listener>) {
        let defaults = ListenerLimits::default();
        let limits = &listener.limits;
        let vain = [
            ("tls", listener.tls.is_some()),
            ("tcp", listener.tcp.is_some()),
            ("proxy_protocol", listener.proxy_protocol.is_some()),
            ("limits.tls_handshake_timeout", limits.tls_handshake_timeout != defaults.tls_handshake_timeout),
            ("limits.header_timeout", limits.header_timeout != defaults.header_timeout),
        ];
        for (key, _) in vain.into_iter().filter(|(_, written)| *written) {
            let message = format!(
                "{who} passes datagrams on, and has {key}\nremove one of them, or make two listeners of it: one for TCP may be at \
                 the same address"
            );
            self.error(Code::Conflict, listener.span, &message);
        }
        if listener.address.value.ip().is_none() {
            let message = format!("{who} passes datagrams on, and listens at a unix socket\nwrite IP:PORT");
            self.error(Code::Conflict, listener.address.span, &message);
        }
    }

    /// A group whose servers no datagram can be sent to as it says.
    fn fit_for_datagrams(&mut self, who: &str, name: &Located<String>) {
        let Some(group) = self.file.upstreams.get(&name.value) else { return };
        let unix = group.servers.iter().any(|server| matches!(server.address, ServerAddress::Unix(_)));
        let unfit = [
            (group.tls.is_some(), "tls", "DTLS is not spoken here: remove it, or make another group for it"),
            (
                group.send_proxy == Some(SendProxy::V1),
                "send_proxy: v1",
                "only version 2 can be sent with datagrams: write `send_proxy: v2`",
            ),
            (unix, "a server at a unix socket", "make another group for it"),
        ];
        for (_, what, fix) in unfit.into_iter().filter(|(unfit, ..)| *unfit) {
            let message =
                format!("{who} passes datagrams on to upstream \"{}\", which has {what}\n{fix}", name.value);
            self.error(Code::Conflict, name.span, &message);
        }
    }
}
