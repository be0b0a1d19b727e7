//! How the servers of a group are spoken to: plaintext or TLS, HTTP/1.1 or HTTP/2. Made with the
//! group; `http::forward` asks it for Pingora's description of a server at each try.
//!
//! Pingora keeps connections apart by address, name, verification and the serial numbers of client
//! certificates, but not by authorities, nor by protocol: [`HttpPeer::group_key`] carries a fingerprint
//! of all of it, so that no request goes over a connection that was not verified as its group wants.
//! See decision 021.

use super::dialer;
use super::server::Server;
use crate::config::file::{SendProxy, UpstreamProtocol};
use crate::config::plan::{self, Trust};
use crate::proxy_protocol::{self, Ends};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use x509_parser::parse_x509_certificate;

/// The most requests at once on one connection; a server may allow less.
const STREAMS: usize = 100;

/// How the servers of a group are spoken to.
pub struct Transport {
    tls: Option<Tls>,
    protocol: UpstreamProtocol,
    bind_to: Arc<[IpAddr]>,
    send_proxy: Option<SendProxy>,
    /// [`HttpPeer::group_key`] of connections over HTTP/1.1.
    h1_key: u64,
    /// The same where HTTP/2 is spoken or asked for.
    h2_key: u64,
}

/// A TLS connection as Pingora wants it described.
struct Tls {
    plan: plan::UpstreamTls,
    /// `None`: those of the system.
    authorities: Option<Arc<CaType>>,
    client: Option<Arc<CertKey>>,
}

/// What a try wants of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// It is to become another protocol, as for a WebSocket, which HTTP/1.1 can.
    pub upgrade: bool,
    /// It can be ended without ending the tries of others.
    pub alone: bool,
}

impl Transport {
    /// # Errors
    /// A sentence for the operator.
    pub fn build(plan: &plan::Upstream) -> Result<Transport, String> {
        let tls = plan.tls.clone().map(Tls::build).transpose()?;
        // the same in every group and after every reload
        let mut hasher = DefaultHasher::new();
        if let Some(tls) = &tls {
            tls.fingerprint(&mut hasher);
        }
        let fingerprint = hasher.finish();
        let protocol = plan.protocol;
        let key = |over: Option<UpstreamProtocol>| {
            let mut hasher = DefaultHasher::new();
            (fingerprint, over).hash(&mut hasher);
            hasher.finish()
        };
        let h1_key = if tls.is_some() { key(None) } else { 0 };
        let bind_to = plan.bind_to.clone();
        let send_proxy = plan.send_proxy;
        Ok(Transport { tls, protocol, bind_to, send_proxy, h1_key, h2_key: key(Some(protocol)) })
    }

    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether each connection carries one request at a time, in plaintext.
    pub fn is_plain_h1(&self) -> bool {
        !self.is_tls() && !self.may_be_h2()
    }

    /// Whether a connection may turn out to carry several requests at a time.
    pub fn may_be_h2(&self) -> bool {
        self.protocol.may_be_h2(self.is_tls())
    }

    /// Whether a server that does not speak HTTP/2 is of no use.
    pub fn must_be_h2(&self) -> bool {
        match self.protocol {
            UpstreamProtocol::H2 | UpstreamProtocol::H2c => true,
            UpstreamProtocol::H1 | UpstreamProtocol::Auto => false,
        }
    }

    /// What a connection for a client begins with, if the server is told of it: where it is from (`None`: nobody
    /// knows), what is spoken over its TLS (`h2`), and the name it has asked for there.
    pub fn announcement(
        &self,
        ends: Option<Ends>,
        alpn: Option<&str>,
        name: Option<&str>,
    ) -> Option<Arc<[u8]>> {
        let header = match self.send_proxy? {
            SendProxy::V1 => proxy_protocol::text(ends),
            SendProxy::V2 => proxy_protocol::binary(ends, alpn, name),
        };
        Some(header.into())
    }

    /// The address of this machine from which a server is connected to, if one is to be used.
    pub fn bind_to(&self, server: SocketAddr) -> Option<IpAddr> {
        dialer::own_address(&self.bind_to, server)
    }

    /// The server at `address` as Pingora wants it described. `server` is what is known of it. Boxed here, as it is large
    /// and goes a long way.
    pub fn peer(&self, address: SocketAddr, server: Option<&Server>, wanted: Wanted) -> Box<HttpPeer> {
        let h2 = self.may_be_h2() && !wanted.upgrade;
        let mut peer = Box::new(match &self.tls {
            Some(tls) => {
                let own = server.and_then(|server| server.host.as_deref());
                // an empty one would not be verified, and there is none
                let name = tls.plan.name(own, address.ip()).into_owned();
                let mut peer = HttpPeer::new(address, true, name);
                peer.options.ca.clone_from(&tls.authorities);
                peer.client_cert_key.clone_from(&tls.client);
                let verify = tls.plan.trust != Trust::Anyone;
                (peer.options.verify_cert, peer.options.verify_hostname) = (verify, verify);
                peer
            }
            None => HttpPeer::new(address, false, String::new()),
        });
        if h2 {
            peer.options.alpn = if self.must_be_h2() { ALPN::H2 } else { ALPN::H2H1 };
            peer.options.max_h2_streams = if wanted.alone { 1 } else { STREAMS };
        }
        peer.group_key = if h2 { self.h2_key } else { self.h1_key };
        peer
    }
}

impl Tls {
    fn build(plan: plan::UpstreamTls) -> Result<Tls, String> {
        let authorities = match &plan.trust {
            Trust::System | Trust::Anyone => None,
            Trust::These(authorities) => {
                let parsed = authorities.iter().map(wrapped).collect::<Result<Box<[_]>, _>>()?;
                Some(Arc::from(parsed))
            }
        };
        let client = plan.client.as_deref().map(client).transpose()?;
        Ok(Tls { plan, authorities, client })
    }

    fn fingerprint(&self, hasher: &mut impl Hasher) {
        let der = |chain: &[CertificateDer<'_>], hasher: &mut _| {
            chain.iter().for_each(|certificate| certificate.as_ref().hash(hasher));
        };
        match &self.plan.trust {
            Trust::System => 0.hash(hasher),
            Trust::Anyone => 1.hash(hasher),
            Trust::These(authorities) => {
                2.hash(hasher);
                der(authorities, &mut *hasher);
            }
        }
        if let Some(client) = &self.plan.client {
            der(&client.chain, &mut *hasher);
            client.key.0.secret_der().hash(hasher);
        }
    }
}

/// Pingora panics at what is not a certificate.
fn parsable(der: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    match parse_x509_certificate(der) {
        Ok(_) => Ok(der.to_vec()),
        Err(_) => Err("a certificate for its tls is damaged".into()),
    }
}

fn wrapped(der: &CertificateDer<'static>) -> Result<WrappedX509, String> {
    Ok(WrappedX509::new(parsable(der)?, parse_x509))
}

fn client(client: &plan::ClientCertificate) -> Result<Arc<CertKey>, String> {
    let chain = client.chain.iter().map(parsable).collect::<Result<Vec<_>, _>>()?;
    let key = client.key.0.secret_der().to_vec();
    if chain.is_empty() || PrivateKeyDer::try_from(key.as_slice()).is_err() {
        return Err("its client certificate cannot be used".into());
    }
    Ok(Arc::new(CertKey::new(chain, key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::group;

    const ANY: Wanted = Wanted { upgrade: false, alone: false };

    fn transport(protocol: UpstreamProtocol, trust: Option<Trust>) -> Transport {
        let tls = trust.map(|trust| plan::UpstreamTls { sni: None, host: None, trust, client: None });
        Transport::build(&plan::Upstream { protocol, tls, ..group::tests::plan(&[1], None) }).unwrap()
    }

    fn key(transport: &Transport, wanted: Wanted) -> u64 {
        use pingora_core::upstreams::peer::Peer;
        transport.peer(([127, 0, 0, 1], 443).into(), None, wanted).reuse_hash()
    }

    fn authority(name: &str) -> Trust {
        let mut params = rcgen::CertificateParams::new(vec![name.to_string()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        Trust::These(vec![params.self_signed(&key).unwrap().der().clone()])
    }

    #[test]
    fn what_differs_before_the_first_request_shares_no_connection() {
        use UpstreamProtocol::{Auto, H1, H2, H2c};
        let (one, other) = (authority("one"), authority("other"));
        let all = [
            transport(H1, None),
            transport(H2c, None),
            transport(H1, Some(Trust::System)),
            transport(H1, Some(Trust::Anyone)),
            transport(H1, Some(one.clone())),
            transport(H1, Some(other)),
            transport(H2, Some(one.clone())),
            transport(Auto, Some(one.clone())),
        ];
        for (i, transport) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(key(transport, ANY) == key(other, ANY), i == j, "{i} and {j}");
            }
        }
        assert_eq!(key(&transport(H1, Some(one.clone())), ANY), key(&all[4], ANY), "after a reload");
        let upgrade = Wanted { upgrade: true, ..ANY };
        assert_eq!(key(&all[6], upgrade), key(&all[4], ANY), "an upgrade is asked for over HTTP/1.1");
        assert_ne!(key(&all[6], Wanted { alone: true, ..ANY }), key(&all[6], ANY));
        assert_eq!(key(&transport(Auto, None), ANY), key(&all[0], ANY), "nothing to agree on in plaintext");
    }

    #[test]
    fn what_is_asked_of_a_connection() {
        let address = SocketAddr::from(([127, 0, 0, 1], 443));
        let verified = transport(UpstreamProtocol::Auto, Some(Trust::System)).peer(address, None, ANY);
        assert!(verified.options.verify_cert && verified.options.verify_hostname);
        assert_eq!((verified.sni.as_str(), &verified.options.alpn), ("127.0.0.1", &ALPN::H2H1));
        let anyone = transport(UpstreamProtocol::H1, Some(Trust::Anyone)).peer(address, None, ANY);
        assert!(!anyone.options.verify_cert && !anyone.options.verify_hostname);
        assert_eq!(anyone.options.alpn, ALPN::H1);
        let plain = transport(UpstreamProtocol::H1, None);
        assert!(plain.is_plain_h1() && plain.bind_to(address).is_none());
        assert_eq!(plain.peer(address, None, ANY).group_key, 0);
    }
}
