//! Checks of `discover` and of the servers that are names.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{self, Discover, DnsRecords, File};
use crate::config::plan::{self, Families, Records};
use crate::config::report::{Code, Report, Sources, Span};
use crate::config::servers_file;
use crate::config::words::ServerAddress;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

impl Checker<'_> {
    /// The sources of a group: first its servers that are names, then `discover`, in file order.
    pub(super) fn discovery(&mut self, who: &str, upstream: &file::Upstream) -> Vec<plan::Discovery> {
        let names = upstream.servers.iter().filter_map(|server| self.by_name(&server.value));
        let mut sources: Vec<_> = names.collect();
        for discover in &upstream.discover.0 {
            sources.extend(self.discover(who, discover));
        }
        sources
    }

    fn by_name(&self, server: &file::Member) -> Option<plan::Discovery> {
        let ServerAddress::Name(name, port) = &server.address else { return None };
        let like = plan::Member::new(server, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.get())));
        Some(plan::Discovery::Dns(plan::DnsDiscovery {
            name: name.0.clone(),
            records: Records::Addresses { families: Families::BOTH, server: like },
            dns: plan::Dns::from(&self.file.dns.value),
        }))
    }

    fn discover(&mut self, who: &str, discover: &Located<Discover>) -> Option<plan::Discovery> {
        match (&discover.dns, &discover.file) {
            (Some(dns), None) => self.discover_dns(who, discover.span, dns).map(plan::Discovery::Dns),
            (None, Some(file)) => {
                self.positive(file.path.span, &format!("discover.file.interval of {who}"), file.interval);
                let name = file.path.value.clone();
                // fails for an empty path, and where there is no working directory
                let path = std::path::absolute(&name).unwrap_or_else(|_| PathBuf::from(&name));
                Some(plan::Discovery::File(plan::FileDiscovery { name, path, interval: file.interval.0 }))
            }
            // what was cut out because of a mistake is not missing
            (None, None) if !self.whole => None,
            (None, None) => {
                let message = format!(
                    "discover of {who} does not say where to look\nadd `dns: {{ name: api.internal, port: 3001 }}` or `file: servers.yaml`"
                );
                self.error(Code::MissingKey, discover.span, &message);
                None
            }
            (Some(_), Some(_)) => {
                let message = format!(
                    "discover of {who} has both dns and file in one source\nmake it a list: [{{ dns: ... }}, {{ file: ... }}]"
                );
                self.error(Code::Conflict, discover.span, &message);
                None
            }
        }
    }

    fn discover_dns(
        &mut self,
        who: &str,
        span: Span,
        dns: &file::DnsDiscovery,
    ) -> Option<plan::DnsDiscovery> {
        let settings = dns.settings(&self.file.dns);
        self.dns_settings(&format!("discover.dns of {who}"), span, &settings);
        let families = match dns.records() {
            DnsRecords::AAaaa => Some(Families::BOTH),
            DnsRecords::A => Some(Families { v4: true, v6: false }),
            DnsRecords::Aaaa => Some(Families { v4: false, v6: true }),
            DnsRecords::Srv => None,
        };
        let records = match (families, &dns.port) {
            (Some(families), Some(port)) => {
                let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.value.get()));
                Records::Addresses { families, server: plan::Member::at(address).named(&dns.name.0) }
            }
            (None, None) => Records::Srv,
            (Some(_), None) => {
                let message = format!(
                    "discover.dns of {who} has no port\nadd `port: 3001`, the port the servers listen on"
                );
                self.error(Code::MissingKey, dns.name.span, &message);
                return None;
            }
            (None, Some(port)) => {
                let message = format!(
                    "discover.dns of {who} has a port, which SRV records bring themselves\nremove `port`, or add `type: a_aaaa`"
                );
                self.error(Code::Conflict, port.span, &message);
                return None;
            }
        };
        Some(plan::DnsDiscovery { name: dns.name.0.clone(), records, dns: plan::Dns::from(&settings) })
    }

    pub(super) fn dns_settings(&mut self, who: &str, span: Span, dns: &file::Dns) {
        for (key, time) in
            [("min_interval", dns.min_interval), ("max_interval", dns.max_interval), ("timeout", dns.timeout)]
        {
            self.positive(span, &format!("{key} of {who}"), time);
        }
        if dns.max_interval.0 < dns.min_interval.0 {
            let message = format!(
                "max_interval of {who} is less than min_interval\nwrite at least {}",
                dns.min_interval
            );
            self.error(Code::InvalidValue, span, &message);
        }
    }
}

impl From<&file::Dns> for plan::Dns {
    fn from(dns: &file::Dns) -> Self {
        plan::Dns {
            resolvers: dns.resolvers.iter().map(|resolver| resolver.0).collect(),
            min_interval: dns.min_interval.0,
            max_interval: dns.max_interval.0,
            timeout: dns.timeout.0,
        }
    }
}

/// Reads the files of servers that the configuration names. One that does not exist may come to be.
pub(super) fn files(file: &File, sources: &mut Sources, report: &mut Report) {
    let discovers = file.upstreams.iter().flat_map(|(_, upstream)| &upstream.discover.0);
    for path in discovers.filter_map(|discover| discover.file.as_ref()).map(|file| &file.path) {
        let name = path.value.as_str();
        match servers_file::read(Path::new(name)) {
            Ok(bytes) => {
                servers_file::parse(name, bytes, sources, report);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                report
                    .warning(Code::DiscoveryMissing, path.span, format!("{name} does not exist yet"))
                    .help("the group has no servers from it until it does");
            }
            Err(error) => {
                report.error(Code::BadFile, path.span, format!("{name} cannot be read: {error}"));
            }
        }
    }
}
