//! Checks of how servers are spoken to: `tls` and `protocol` of a group, and `tls` of its health check.
//! Certificates and keys are read, so that nothing is left to fail when a connection is made.

use super::Checker;
use super::certificate::{fit, read_chain};
use crate::config::decode::Located;
use crate::config::file::{
    self, CheckTls, HealthCheck, OrOff, Retry, Route, Upstream, UpstreamHost, UpstreamProtocol,
};
use crate::config::plan::{self, ClientCertificate, Trust, UpstreamTls};
use crate::config::report::{Code, Span};
use crate::config::words::{HostName, ServerAddress};
use rustls_pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;

impl Checker<'_> {
    /// How TLS is spoken to the servers of a group, if it is.
    pub(super) fn upstream_tls(&mut self, who: &str, upstream: &Upstream) -> Option<UpstreamTls> {
        self.upstream_protocol(who, upstream);
        let tls = upstream.tls.as_ref()?;
        let host = match &upstream.host {
            UpstreamHost::Name(name) => Some(without_port(name)),
            UpstreamHost::Preserve | UpstreamHost::Server => None,
        };
        Some(UpstreamTls {
            sni: tls.sni.as_ref().map(|sni| self.sni(sni)),
            // what is no name in a certificate is still fit for a Host
            host: host.filter(|host| ServerName::try_from(host.as_str()).is_ok()),
            trust: self.trust(who, tls.span, tls.ca.as_ref(), tls.verify).unwrap_or(Trust::System),
            client: self.client_certificate(who, tls),
        })
    }

    fn upstream_protocol(&mut self, who: &str, upstream: &Upstream) {
        let (protocol, tls) = (&upstream.protocol, upstream.tls.as_ref());
        let (message, help) = match (protocol.value, tls) {
            // what it has may have been cut out because of a mistake
            (UpstreamProtocol::H2, None) if self.whole => (
                format!("{who} speaks h2, which is agreed on within TLS, but has no tls"),
                "add `tls: {}`, or write `protocol: h2c` for HTTP/2 in plaintext",
            ),
            (UpstreamProtocol::H2c, Some(_)) => (
                format!("{who} has tls, but h2c is HTTP/2 without it"),
                "write `protocol: h2`, or remove `tls`",
            ),
            (UpstreamProtocol::H1 | UpstreamProtocol::H2 | UpstreamProtocol::Auto, _)
            | (UpstreamProtocol::H2c, None) => return,
        };
        let report = self.report.error(Code::Conflict, protocol.span, message).help(help);
        if let Some(tls) = tls {
            report.related(tls.span, "tls is here");
        }
    }

    /// What servers at unix sockets cannot do without or cannot have.
    pub(super) fn at_unix_sockets(
        &mut self,
        who: &str,
        upstream: &Upstream,
        tls: Option<&UpstreamTls>,
        check: Option<&plan::HealthCheck>,
    ) {
        if !upstream.servers.iter().any(|server| matches!(server.value.address, ServerAddress::Unix(_))) {
            return;
        }
        let nameless = |tls: &UpstreamTls| tls.name_of(None).is_none() && tls.trust != Trust::Anyone;
        let of_check = upstream.health_check.as_ref().map(|check| check.span);
        let checked = check.and_then(|check| check.tls.as_ref()).zip(of_check);
        let spoken = tls.zip(upstream.tls.as_ref().map(|tls| tls.span));
        if let Some((_, span)) = spoken.or(checked).filter(|(tls, _)| nameless(tls)) {
            let message = format!(
                "tls of {who} wants a name in the certificate of a server at a unix socket, which has no name\nadd `sni: app.internal`, the name in its certificate"
            );
            self.error(Code::MissingKey, span, &message);
        }
        if let Some(span) = of_check.filter(|_| check.is_some_and(|check| check.port.is_some())) {
            let message = format!(
                "the health_check of {who} has a port, and a server of it is at a unix socket\nremove `port`, or put the server into a group of its own"
            );
            self.error(Code::Conflict, span, &message);
        }
    }

    /// Second tries have connections of their own, which speak HTTP/1.1 in plaintext.
    pub(super) fn hedge_over(&mut self, who: &str, retry: &Retry, upstream: &Upstream) {
        let Some(hedge) = &retry.hedge else { return };
        if speaks_plain_h1(upstream) {
            return;
        }
        let how = if upstream.tls.is_some() { "over TLS" } else { "over HTTP/2" };
        let message = format!(
            "retry.hedge of {who} is for HTTP/1.1 in plaintext, but these servers are spoken to {how}\nremove `hedge`, or bound a try with `timeouts: {{ try: 1s }}` and `when: [connect, reset, timeout]`"
        );
        self.error(Code::Conflict, hedge.span, &message);
    }

    /// As [`hedge_over`](Checker::hedge_over), for each group to which a route sends requests.
    pub(super) fn hedge_of_route(&mut self, who: &str, route: &Route, retry: &Retry) {
        let one = route.upstream.iter().map(|name| &name.value);
        let several = route.split.iter().flat_map(|split| &split.value.groups);
        let names = one.chain(several.map(|group| &group.value.upstream.value));
        let groups = &self.file.upstreams;
        let named =
            |name: &String| groups.iter().find(|(group, _)| group.value == *name).map(|(_, group)| group);
        // one is enough: the mistake is that of the route
        let over = names.filter_map(named).find(|group| !speaks_plain_h1(group));
        if let Some(group) = over {
            self.hedge_over(who, retry, group);
        }
    }

    /// How the checks of a group speak TLS, if they do.
    pub(super) fn check_tls(
        &mut self,
        who: &str,
        check: &Located<HealthCheck>,
        group: Option<&UpstreamTls>,
    ) -> Option<UpstreamTls> {
        let tls = match &check.tls {
            None => return group.cloned(),
            Some(OrOff::Off) => return None,
            Some(OrOff::On(tls)) => tls,
        };
        let CheckTls { sni, ca, verify } = tls;
        let asked = check.http.as_ref().and_then(|http| http.host.as_ref());
        let asked = asked.or_else(|| check.grpc.as_ref().and_then(|grpc| grpc.authority.as_ref()));
        let sni = sni.as_ref().map(|sni| self.sni(sni));
        let of_group = || group.and_then(|group| group.sni.clone());
        let who = format!("the health_check of {who}");
        let trust = self.trust(&who, check.span, ca.as_ref(), *verify);
        Some(UpstreamTls {
            sni: sni.or_else(of_group).or_else(|| asked.map(without_port)),
            host: group.and_then(|group| group.host.clone()),
            trust: trust.or_else(|| group.map(|group| group.trust.clone())).unwrap_or(Trust::System),
            client: group.and_then(|group| group.client.clone()),
        })
    }

    fn sni(&mut self, sni: &Located<HostName>) -> String {
        let name = without_port(&sni.value);
        if ServerName::try_from(name.as_str()).is_err() {
            let message = format!("`{}` is not a name that a certificate can have", sni.value);
            self.error(Code::InvalidValue, sni.span, &message);
        }
        name
    }

    /// Whose certificates are believed, if that is said.
    pub(super) fn trust(
        &mut self,
        who: &str,
        span: Span,
        ca: Option<&Located<PathBuf>>,
        verify: bool,
    ) -> Option<Trust> {
        match ca {
            Some(ca) if !verify => {
                let message =
                    "authorities are named, but no certificate is looked at\nremove `ca`, or `verify: false`";
                self.error(Code::Conflict, ca.span, message);
                Some(Trust::Anyone)
            }
            None if !verify => {
                self.report
                    .warning(Code::VerificationOff, span, format!("{who} takes any certificate"))
                    .help("name the authorities with `tls: { ca: ... }` instead");
                Some(Trust::Anyone)
            }
            None => None,
            Some(ca) => match read_chain(&ca.value).and_then(|authorities| fit(&ca.value, authorities)) {
                Ok(authorities) => Some(Trust::These(authorities)),
                Err(why) => {
                    self.error(Code::BadCertificate, ca.span, &why);
                    None
                }
            },
        }
    }

    /// What we show to servers. `None` when it cannot be used; that was reported.
    fn client_certificate(
        &mut self,
        who: &str,
        tls: &Located<file::UpstreamTls>,
    ) -> Option<Arc<ClientCertificate>> {
        let (cert, key) = match (&tls.cert, &tls.key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => return None,
            (Some(alone), None) => {
                self.half(who, alone.span, ("cert", "key"));
                return None;
            }
            (None, Some(alone)) => {
                self.half(who, alone.span, ("key", "cert"));
                return None;
            }
        };
        let (chain, key) = self.pair(cert, key)?;
        Some(Arc::new(ClientCertificate { chain, key }))
    }

    fn half(&mut self, who: &str, span: Span, (there, missing): (&str, &str)) {
        if self.whole {
            let message = format!("tls of {who} has `{there}` without `{missing}`\nadd `{missing}: FILE`");
            self.error(Code::MissingKey, span, &message);
        }
    }
}

fn speaks_plain_h1(upstream: &Upstream) -> bool {
    upstream.tls.is_none()
        && match upstream.protocol.value {
            UpstreamProtocol::H1 | UpstreamProtocol::Auto => true,
            UpstreamProtocol::H2 | UpstreamProtocol::H2c => false,
        }
}

/// The name or address alone: brackets of IPv6 are of the notation with a port.
fn without_port(host: &HostName) -> String {
    let host = host.0.as_str();
    let bare = match host.rsplit_once(':') {
        Some((before, _)) if !host.ends_with(']') => before,
        _ => host,
    };
    bare.trim_start_matches('[').trim_end_matches(']').to_string()
}
