//! The key of a client: its address, for those who choose by it.

use std::net::IpAddr;
use std::ops::Deref;

/// The bytes of it. IPv6 by /64: a client may use any address of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    bytes: [u8; 8],
    length: usize,
}

impl ClientKey {
    pub fn of(ip: IpAddr) -> ClientKey {
        let mut bytes = [0; 8];
        let mut fill = |octets: &[u8]| {
            bytes.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
            octets.len().min(bytes.len())
        };
        let length = match ip.to_canonical() {
            IpAddr::V4(ip) => fill(&ip.octets()),
            IpAddr::V6(ip) => fill(&ip.octets()),
        };
        ClientKey { bytes, length }
    }
}

impl Deref for ClientKey {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_ipv6_network_are_one() {
        let key = |ip: &str| ClientKey::of(ip.parse().unwrap()).to_vec();
        assert_eq!(key("192.0.2.7"), [192, 0, 2, 7]);
        assert_eq!(key("::ffff:192.0.2.7"), [192, 0, 2, 7]);
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("2001:db8::1").len(), 8);
    }
}
