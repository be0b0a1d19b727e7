//! TLS to servers, resolved: names are names, files are read. For requests and for health checks.

use super::PrivateKey;
use rustls_pki_types::CertificateDer;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

/// How TLS is spoken to the servers of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// The name of every server: a DNS name or an address, without port.
    pub sni: Option<String>,
    /// The name of servers that have none of their own, where `sni` is not given.
    pub host: Option<String>,
    pub trust: Trust,
    /// What we show to servers that ask for a certificate.
    pub client: Option<Arc<ClientCertificate>>,
}

impl UpstreamTls {
    /// The name looked for in a server's certificate, and sent to it if it is not an address.
    pub fn name<'a>(&'a self, own: Option<&'a str>, address: IpAddr) -> Cow<'a, str> {
        match self.name_of(own) {
            // that a name in DNS is complete is not part of it in a certificate
            Some(name) => Cow::Borrowed(name.strip_suffix('.').unwrap_or(name)),
            None => Cow::Owned(address.to_string()),
        }
    }

    /// The name of a server with a name of its `own`, or without.
    pub fn name_of<'a>(&'a self, own: Option<&'a str>) -> Option<&'a str> {
        self.sni.as_deref().or(own).or(self.host.as_deref())
    }
}

/// Whose certificates are believed.
#[derive(Clone, PartialEq)]
pub enum Trust {
    /// Of the authorities that the system trusts.
    System,
    /// Of these authorities (DER).
    These(Vec<CertificateDer<'static>>),
    Anyone,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trust::System => f.write_str("System"),
            Trust::These(authorities) => write!(f, "These({})", authorities.len()),
            Trust::Anyone => f.write_str("Anyone"),
        }
    }
}

/// A certificate chain (DER, our own first) and its key, which belong together.
#[derive(Clone, PartialEq)]
pub struct ClientCertificate {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKey,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCertificate({})", self.chain.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_server() {
        let tls = |sni: Option<&str>, host: Option<&str>| UpstreamTls {
            sni: sni.map(String::from),
            host: host.map(String::from),
            trust: Trust::System,
            client: None,
        };
        let address = "2001:db8::1".parse().unwrap();
        for (tls, own, name) in [
            (tls(Some("sni"), Some("host")), Some("own"), "sni"),
            (tls(None, Some("host")), Some("own"), "own"),
            (tls(None, None), Some("own.internal."), "own.internal"),
            (tls(None, Some("host")), None, "host"),
            (tls(None, None), None, "2001:db8::1"),
        ] {
            assert_eq!(tls.name(own, address), name);
        }
    }
}
