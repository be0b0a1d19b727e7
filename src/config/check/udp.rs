//! Checks of `udp` of a listener, and of what is beside it and behind it: what concerns connections has nothing to act on.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Expected, Listener, ListenerLimits, OrOff, SendProxy, UdpCheck, Upstream};
use crate::config::plan::{self, UdpAnswer};
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

    /// What a check by datagrams says and waits for.
    pub(super) fn udp_check(&mut self, who: &str, check: &Located<UdpCheck>) -> plan::UdpCheck {
        let send = &check.send;
        if send.value.bytes().is_empty() {
            let message =
                format!("the health_check of {who} sends nothing\nwrite what a healthy server answers");
            self.error(Code::InvalidValue, send.span, &message);
        }
        let expect = match &check.expect {
            None => None,
            Some(Expected::Contains(bytes)) if bytes.bytes().is_empty() => None,
            Some(Expected::Contains(bytes)) => Some(UdpAnswer::Contains(bytes.bytes().to_vec())),
            Some(Expected::Regex(regex)) => self.pattern(regex, false).map(UdpAnswer::Regex),
        };
        plan::UdpCheck { send: send.value.bytes().to_vec(), expect }
    }

    /// What a group has that its check by datagrams cannot be sent with or to.
    pub(super) fn fit_for_udp_check(&mut self, who: &str, group: &Upstream) {
        let Some(check) = &group.health_check else { return };
        let Some(udp) = &check.udp else { return };
        if let Some(OrOff::On(_)) = &check.tls {
            let message = format!(
                "the health_check of {who} sends datagrams, and has tls\nremove it: DTLS is not spoken here"
            );
            self.error(Code::Conflict, udp.span, &message);
        }
        // TLS of the group may be for connections to the same servers
        for (what, fix) in unfit_for_datagrams(group) {
            let message =
                format!("the health_check of {who} sends datagrams, and the group has {what}\n{fix}");
            self.error(Code::Conflict, udp.span, &message);
        }
    }

    /// A group whose servers no datagram can be sent to as it says.
    fn fit_for_datagrams(&mut self, who: &str, name: &Located<String>) {
        let Some(group) = self.file.upstreams.get(&name.value) else { return };
        let tls = "DTLS is not spoken here: remove it, or make another group for it";
        for (what, fix) in group.tls.iter().map(|_| ("tls", tls)).chain(unfit_for_datagrams(group)) {
            let message =
                format!("{who} passes datagrams on to upstream \"{}\", which has {what}\n{fix}", name.value);
            self.error(Code::Conflict, name.span, &message);
        }
    }
}

/// What servers have that no datagram can be sent with or to, and what to do about it.
fn unfit_for_datagrams(group: &Upstream) -> impl Iterator<Item = (&'static str, &'static str)> {
    let unix = group.servers.iter().any(|server| matches!(server.address, ServerAddress::Unix(_)));
    let unfit = [
        (
            group.send_proxy == Some(SendProxy::V1),
            "send_proxy: v1",
            "only version 2 can be sent with datagrams: write `send_proxy: v2`",
        ),
        (unix, "a server at a unix socket", "make another group for it"),
    ];
    unfit.into_iter().filter(|(unfit, ..)| *unfit).map(|(_, what, fix)| (what, fix))
}
