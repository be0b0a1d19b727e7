//! `health_check: { udp: ... }`: a datagram that a healthy server answers. Called by the watch through Pingora's
//! `HealthCheck`, which gives it its time.

use super::Thresholds;
use crate::config::plan::{UdpAnswer, UdpCheck};
use crate::upstream::reason::{self, UNEXPECTED};
use async_trait::async_trait;
use memchr::memmem;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// More than fits in a datagram.
const LONGEST: usize = 64 * 1024;

/// What is sent, and what the answer must be like.
pub struct UdpHealthCheck {
    datagram: Vec<u8>,
    expect: Option<UdpAnswer>,
    thresholds: Thresholds,
}

impl UdpHealthCheck {
    /// `header` goes in front, for servers that wait for one of the PROXY protocol.
    pub fn new(check: &UdpCheck, header: &[u8], thresholds: Thresholds) -> UdpHealthCheck {
        let datagram = [header, &check.send].concat();
        UdpHealthCheck { datagram, expect: check.expect.clone(), thresholds }
    }

    fn judge(&self, answer: &[u8]) -> Result<()> {
        let (good, wanted) = match &self.expect {
            None => return Ok(()),
            Some(UdpAnswer::Contains(bytes)) => (memmem::find(answer, bytes).is_some(), "contain"),
            Some(UdpAnswer::Regex(regex)) => (regex.0.is_match(&String::from_utf8_lossy(answer)), "match"),
        };
        match good {
            true => Ok(()),
            false => Error::e_explain(UNEXPECTED, format!("the answer does not {wanted} what is expected")),
        }
    }
}

/// What the network says of a datagram.
fn unreachable(error: io::Error) -> Box<Error> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::explain(UNEXPECTED, reason::NO_DATAGRAMS),
        _ => reason::not_connected(error),
    }
}

#[async_trait]
impl HealthCheck for UdpHealthCheck {
    async fn check(&self, backend: &Backend) -> Result<()> {
        let PingoraAddress::Inet(server) = &backend.addr else {
            return Error::e_explain(UNEXPECTED, "it is at a unix socket, which takes no datagrams");
        };
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // one of its own for each check: a late answer to the one before is not for this one
        let socket = UdpSocket::bind((any, 0)).await.or_err(ErrorType::SocketError, "no socket")?;
        // from then on it takes nothing from anybody else, and hears when nobody is there (ICMP)
        socket.connect(server).await.map_err(reason::not_connected)?;
        socket.send(&self.datagram).await.map_err(unreachable)?;
        let mut answer = vec![0; LONGEST];
        let length = socket.recv(&mut answer).await.map_err(unreachable)?;
        self.judge(answer.get(..length).unwrap_or_default())
    }

    fn health_threshold(&self, success: bool) -> usize {
        self.thresholds.of(success)
    }
}
