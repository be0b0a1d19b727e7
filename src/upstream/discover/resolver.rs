//! One question to DNS and its answer, by hickory. Nothing is cached here: a [`Source`](super::Source) asks when the last
//! answer is over, and not before.

use crate::config::plan::{Dns, Families};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

/// What an administrator changes while the gate runs, a container's network even without one.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// A lost packet is asked for again after a part of the time: the first try and two more.
const RETRIES: usize = 2;

/// The resolvers of a process: one for each set of name servers, however many names are asked of it.
#[derive(Default)]
pub struct Resolvers(HashMap<(Vec<SocketAddr>, Duration), Arc<Resolver>>);

impl Resolvers {
    pub fn get(&mut self, dns: &Dns) -> Arc<Resolver> {
        let key = (dns.resolvers.clone(), dns.timeout);
        let new = || Resolver { servers: key.0.clone(), timeout: dns.timeout, current: Mutex::default() };
        self.0.entry(key.clone()).or_insert_with(|| Arc::new(new())).clone()
    }
}

/// Asks one set of name servers.
pub struct Resolver {
    /// Empty: those of the system.
    servers: Vec<SocketAddr>,
    timeout: Duration,
    current: Mutex<Option<Current>>,
}

/// Made from the system's files as they were.
#[derive(Clone)]
struct Current {
    stamp: Stamp,
    client: TokioResolver,
    hosts: Arc<Hosts>,
    /// Why there are no name servers to ask.
    trouble: Option<Arc<str>>,
}

/// What changes when one of [`SYSTEM_FILES`] does.
type Stamp = [Option<(u64, u64, i64, i64)>; SYSTEM_FILES.len()];

/// The records of an answer, of all types, and for how long they may be used.
#[derive(Debug, Clone)]
pub struct Found {
    pub records: Vec<RData>,
    pub ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// DNS says that there is no such record; in words.
    Nothing(String),
    /// DNS does not say; in words.
    Failed(String),
}

impl Why {
    pub fn into_words(self) -> String {
        match self {
            Why::Nothing(words) | Why::Failed(words) => words,
        }
    }
}

impl Resolver {
    /// The records of `name`, aliases followed.
    pub async fn ask(&self, name: &str, records: RecordType) -> Result<Found, Why> {
        let Current { client, hosts, trouble, .. } = self.current()?;
        let asked = Name::from_ascii(name).map_err(|error| Why::Failed(error.to_string()))?;
        if let Some(found) = in_hosts(&hosts, &asked, records) {
            return found;
        }
        match tokio::time::timeout(self.timeout, client.lookup(asked, records)).await {
            Ok(Ok(lookup)) => {
                let answers = lookup.answers();
                let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
                let records = answers.iter().map(|record| record.data.clone()).collect();
                Ok(Found { records, ttl: Duration::from_secs(ttl.into()) })
            }
            Ok(Err(error)) => Err(self.why(&error, records, trouble.as_deref())),
            Err(_) => Err(Why::Failed(self.silence())),
        }
    }

    /// The addresses of `name`, by family.
    pub async fn addresses(&self, name: &str, families: Families) -> Addresses {
        let v4 = self.family(families.v4, name, RecordType::A);
        let v6 = self.family(families.v6, name, RecordType::AAAA);
        let (v4, v6) = tokio::join!(v4, v6);
        Addresses { v4, v6 }
    }

    async fn family(&self, wanted: bool, name: &str, records: RecordType) -> Option<Family> {
        if !wanted {
            return None;
        }
        Some(self.ask(name, records).await.map(|found| (ips(&found), found.ttl)))
    }

    /// What to ask with, made anew when the system's files have changed.
    fn current(&self) -> Result<Current, Why> {
        let mut current = self.current.lock();
        let stamp = self.stamp();
        match &*current {
            Some(current) if current.stamp == stamp => Ok(current.clone()),
            Some(_) | None => Ok(current.insert(self.build(stamp)?).clone()),
        }
    }

    fn stamp(&self) -> Stamp {
        SYSTEM_FILES.map(|path| {
            let file = self.servers.is_empty().then(|| std::fs::metadata(path).ok()).flatten()?;
            Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        })
    }

    fn build(&self, stamp: Stamp) -> Result<Current, Why> {
        let mut trouble = None;
        let (config, mut options) = match self.servers.is_empty() {
            false => (name_servers(&self.servers), ResolverOpts::default()),
            true => system_conf::read_system_conf().unwrap_or_else(|error| {
                trouble = Some(Arc::from(format!("no name server to ask: {}: {error}", SYSTEM_FILES[0])));
                Default::default()
            }),
        };
        options.cache_size = 0;
        options.timeout = self.timeout / (1 + u32::try_from(RETRIES).unwrap_or(0));
        options.attempts = RETRIES;
        // `in_hosts` looks there itself: hickory does so for the first of the search domains only
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let client = builder.build().map_err(|error| Why::Failed(error.to_string()))?;
        let hosts = match self.servers.is_empty() {
            true => Hosts::from_system().unwrap_or_default(),
            false => Hosts::default(),
        };
        Ok(Current { stamp, client, hosts: Arc::new(hosts), trouble })
    }

    fn why(&self, error: &NetError, records: RecordType, trouble: Option<&str>) -> Why {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
                Why::Nothing("the name does not exist (NXDOMAIN)".into())
            }
            NetError::Dns(DnsError::NoRecordsFound(_)) => {
                Why::Nothing(format!("the name has no {records} records"))
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Why::Failed(format!("the name server answers {}", format!("{code:?}").to_uppercase()))
            }
            NetError::Timeout => Why::Failed(self.silence()),
            other => Why::Failed(match trouble {
                Some(trouble) => trouble.to_owned(),
                None => format!("asking {} failed: {other}", self.whom()),
            }),
        }
    }

    fn silence(&self) -> String {
        format!("no answer from {} within {} ms", self.whom(), self.timeout.as_millis())
    }

    fn whom(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        match servers.is_empty() {
            true => "the system's name servers".into(),
            false => servers.join(", "),
        }
    }
}

fn name_servers(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let on_port = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port).to_vec();
        NameServerConfig::new(address.ip(), true, connections)
    };
    ResolverConfig::from_name_servers(servers.iter().map(server).collect())
}

/// What the file of hosts says. A name that stands there is asked of nobody else, for either family.
fn in_hosts(hosts: &Hosts, name: &Name, records: RecordType) -> Option<Result<Found, Why>> {
    let look = |records| hosts.lookup_static_host(&Query::query(name.clone(), records));
    let (v4, v6) = (look(RecordType::A), look(RecordType::AAAA));
    let found = match records {
        RecordType::A => v4.as_ref(),
        RecordType::AAAA => v6.as_ref(),
        _ => return None,
    };
    match found {
        Some(lookup) => {
            let records = lookup.answers().iter().map(|record| record.data.clone()).collect();
            Some(Ok(Found { records, ttl: Duration::MAX }))
        }
        None if v4.is_some() || v6.is_some() => {
            Some(Err(Why::Nothing(format!("the name has no {records} records in {}", SYSTEM_FILES[1]))))
        }
        None => None,
    }
}

/// Without those that no server can have: filtering name servers answer 0.0.0.0, which would be ourselves.
fn ips(found: &Found) -> Vec<IpAddr> {
    let possible = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    let mut ips: Vec<_> = found.records.iter().filter_map(RData::ip_addr).filter(possible).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

/// What was learnt of the addresses of a name; `None` for a family that was not asked for.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub v4: Option<Family>,
    pub v6: Option<Family>,
}

/// The addresses of one family, in order, and for how long they may be used.
pub type Family = Result<(Vec<IpAddr>, Duration), Why>;
