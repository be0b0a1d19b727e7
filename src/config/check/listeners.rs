//! Checks of `listeners`.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Listener, ListenerLimits, Protocol, ProxyProtocol};
use crate::config::plan::{self, ListenerId};
use crate::config::report::{Code, Span};
use crate::config::words::ListenAddress;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Pingora reads at most so many headers, and heads up to this size.
const MOST_HEADERS: usize = 256;
const LARGEST_HEAD: u64 = 1024 * 1024;

impl<'a> Checker<'a> {
    pub(super) fn listeners(&mut self) -> Vec<Arc<plan::Listener>> {
        let file = self.file;
        self.listener_names();
        self.listener_addresses();
        let all = file.listeners.iter().enumerate();
        all.map(|(i, listener)| Arc::new(self.listener(ListenerId(i), listener))).collect()
    }

    fn listener(&mut self, id: ListenerId, listener: &'a Located<Listener>) -> plan::Listener {
        let name = name_of(listener);
        let who = format!("listener \"{name}\"");
        let (h1, h2) = self.protocols(&who, listener);
        let tls = listener.tls.as_ref().and_then(|tls| self.tls(&who, tls)).map(Arc::new);
        self.limits(&who, listener.span, &listener.limits);
        self.socket_mode(&who, listener);
        plan::Listener {
            id,
            address: listener.address.value.clone(),
            socket_mode: listener.socket_mode.as_ref().map(|mode| mode.value),
            proxy_protocol: listener.proxy_protocol,
            trusted: self.believed_by(listener),
            h1,
            h2,
            tls,
            tcp: self.tcp(&who, listener),
            udp: self.udp(&who, listener),
            ip: self.listener_ip(&who, listener),
            redirect_https: self.redirect(&who, listener),
            limits: listener.limits.clone(),
            underscores: listener.underscores_in_headers,
            logged: listener.access_log.map(|share| share.0),
            filters: self.chain(&listener.value.filters, &who),
            name,
        }
    }

    /// Whose header of the PROXY protocol an `optional` listener looks for, and whose connections are not counted by client.
    /// Listeners that do neither need not know, and are not changed when `trusted_proxies` are.
    fn believed_by(&mut self, listener: &Located<Listener>) -> Arc<[IpNet]> {
        let optional = listener.proxy_protocol == Some(ProxyProtocol::Optional);
        let limits = &listener.limits;
        let by_client =
            limits.connections_per_client.is_some() || limits.connection_rate_per_client.is_some();
        if !optional && !by_client {
            return Arc::default();
        }
        let file = self.file;
        if optional && file.trusted_proxies.is_empty() {
            let message = "proxy_protocol is optional, and there are no trusted_proxies whose header could be believed\n\
                           name them, or make it required";
            self.error(Code::Conflict, listener.span, message);
        }
        file.trusted_proxies.iter().map(|network| network.value.0).collect()
    }

    fn socket_mode(&mut self, who: &str, listener: &Located<Listener>) {
        if let (Some(mode), Some(_)) = (&listener.socket_mode, listener.address.value.ip()) {
            let message = format!(
                "{who} has a socket_mode, and no unix socket\nremove it, or listen on unix:/run/weirgate.sock"
            );
            self.error(Code::Conflict, mode.span, &message);
        }
    }

    fn listener_names(&mut self) {
        let file = self.file;
        let mut seen: HashMap<String, Span> = HashMap::new();
        for listener in &file.listeners {
            let Some(name) = &listener.name else { continue };
            if let Some(first) = seen.insert(name.value.clone(), name.span) {
                self.report
                    .error(
                        Code::DuplicateName,
                        name.span,
                        format!("two listeners are named \"{}\"", name.value),
                    )
                    .help("rename one of them")
                    .related(first, "the first is here");
            }
        }
    }

    fn listener_addresses(&mut self) {
        let file = self.file;
        for (i, listener) in file.listeners.iter().enumerate() {
            let address = &listener.address;
            // ports of TCP and of UDP are others
            let alike = |l: &&Located<Listener>| l.udp.is_some() == listener.udp.is_some();
            let mut earlier = file.listeners.iter().take(i).filter(alike);
            let earlier = earlier.find(|l| overlap(&l.address.value, &address.value));
            if let Some(earlier) = earlier {
                let message = if earlier.address.value == address.value {
                    format!("two listeners are on address {}", address.value)
                } else {
                    format!("addresses {} and {} overlap", address.value, earlier.address.value)
                };
                let other = if address.value.ip().is_some() { "port" } else { "path" };
                self.report
                    .error(Code::AddressConflict, address.span, message)
                    .help(format!("choose another {other}, or join the two listeners"))
                    .related(earlier.address.span, "the first is here");
            }
        }
    }

    fn protocols(&mut self, who: &str, listener: &Listener) -> (bool, bool) {
        let Some(protocols) = &listener.protocols else {
            // nothing is agreed on for others
            let read = listener.tcp.is_none() && listener.udp.is_none();
            return (read, read && listener.tls.is_some());
        };
        if protocols.is_empty() {
            let message = format!("{who} speaks no protocol\nwrite h1, h2 or both, or remove the key");
            self.error(Code::InvalidValue, protocols.span, &message);
        }
        (protocols.contains(&Protocol::H1), protocols.contains(&Protocol::H2))
    }

    /// `redirect_https: true` sends clients to the port of the first TLS listener.
    fn redirect(&mut self, who: &str, listener: &Located<Listener>) -> Option<plan::RedirectHttps> {
        let redirect = &listener.redirect_https;
        if !redirect.enabled {
            return None;
        }
        if listener.tls.is_some() {
            let message = format!(
                "{who} redirects to https and has tls itself, which would never end\nremove redirect_https"
            );
            self.error(Code::Conflict, listener.span, &message);
            return None;
        }
        let mut with_tls = self.file.listeners.iter().filter(|l| l.tls.is_some() && !l.passes_all());
        let port = redirect.port.or_else(|| with_tls.find_map(|l| l.address.value.port()));
        if port.is_none() {
            let message = format!(
                "{who} redirects to https and no listener has tls\nadd a listener with tls, or say `redirect_https: {{ port: 443 }}` when something else serves it"
            );
            self.error(Code::Conflict, listener.span, &message);
        }
        Some(plan::RedirectHttps { port: port?, status: redirect.status.unwrap_or(308) })
    }

    fn limits(&mut self, who: &str, span: Span, limits: &ListenerLimits) {
        let times = [
            ("tls_handshake_timeout", limits.tls_handshake_timeout),
            ("header_timeout", limits.header_timeout),
            ("idle_timeout", limits.idle_timeout),
            ("body_timeout", limits.body_timeout),
            ("send_timeout", limits.send_timeout),
        ];
        for (key, time) in times {
            self.positive(span, &format!("limits.{key} of {who}"), time);
        }
        let mut bad = |message: String| self.error(Code::InvalidValue, span, &message);
        if limits.connections == 0 {
            bad(format!("limits.connections of {who} is 0\nremove the listener to accept no connections"));
        }
        if limits.max_headers == 0 || limits.max_headers > MOST_HEADERS {
            bad(format!("limits.max_headers of {who} is {}\nuse 1 to {MOST_HEADERS}", limits.max_headers));
        }
        if limits.max_header_bytes.0 < 256 || limits.max_header_bytes.0 > LARGEST_HEAD {
            bad(format!("limits.max_header_bytes of {who} is {}\nuse 256B to 1MB", limits.max_header_bytes));
        }
        if limits.max_uri_bytes.0 == 0 || limits.max_uri_bytes.0 > limits.max_header_bytes.0 {
            bad(format!(
                "limits.max_uri_bytes of {who} is {}\nuse 1B to max_header_bytes ({})",
                limits.max_uri_bytes, limits.max_header_bytes
            ));
        }
        if limits.max_streams == 0 {
            bad(format!("limits.max_streams of {who} is 0\nto switch HTTP/2 off, write `protocols: [h1]`"));
        }
    }
}

/// The name given, or the address. Of two at the same one, only one takes datagrams.
pub(super) fn name_of(listener: &Listener) -> String {
    match &listener.name {
        Some(name) => name.value.clone(),
        None if listener.udp.is_some() => format!("udp:{}", listener.address.value),
        None => listener.address.value.to_string(),
    }
}

/// Whether binding both would fail: the same port, and one address covers the other. `[::]` covers
/// IPv4 too, because sockets on it are dual-stack.
pub(crate) fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    let (Some(a), Some(b)) = (a.ip(), b.ip()) else { return a == b };
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_their_port() {
        let overlap = |a: &str, b: &str| overlap(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(overlap("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlap("0.0.0.0:80", "127.0.0.1:80"));
        assert!(overlap("127.0.0.1:80", "[::]:80"));
        assert!(overlap("[::1]:80", "[::]:80"));
        assert!(!overlap("0.0.0.0:80", "[::1]:80"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.1:81"));
    }
}
