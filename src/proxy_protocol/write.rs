//! From what is to be announced to its bytes.

use super::{ALPN, AUTHORITY, Ends, SIGNATURE, TEXT};
use std::net::{IpAddr, Ipv6Addr};

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UDP4: u8 = 0x12;
const UDP6: u8 = 0x22;

/// Version 1 for a connection from there; `None`: nobody knows.
pub fn text(ends: Option<Ends>) -> Vec<u8> {
    let Some(Ends { client, to }) = ends else { return unknown().to_vec() };
    let (family, from, at) = match (client.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(at)) => ("TCP4", IpAddr::V4(from), IpAddr::V4(at)),
        (from, at) => ("TCP6", IpAddr::V6(wide(from)), IpAddr::V6(wide(at))),
    };
    let mut header = TEXT.to_vec();
    header.extend(format!("{family} {from} {at} {} {}\r\n", client.port(), to.port()).into_bytes());
    header
}

/// Version 1 for a connection of our own, such as that of a health check.
pub fn unknown() -> &'static [u8] {
    b"PROXY UNKNOWN\r\n"
}

/// Version 2 for a connection from there (`None`: nobody knows), over which this is spoken (`h2`, `http/1.1`) with
/// this name, if it is TLS.
pub fn binary(ends: Option<Ends>, alpn: Option<&str>, authority: Option<&str>) -> Vec<u8> {
    let (family, mut body) = match ends {
        None => (UNSPECIFIED, Vec::new()),
        Some(ends) => addresses(ends, (TCP4, TCP6)),
    };
    if ends.is_some() {
        for (kind, value) in [(ALPN, alpn), (AUTHORITY, authority)] {
            extend(&mut body, kind, value);
        }
    }
    whole(PROXY, family, &body)
}

/// Version 2 for a datagram from there.
pub fn datagram(ends: Ends) -> Vec<u8> {
    let (family, body) = addresses(ends, (UDP4, UDP6));
    whole(PROXY, family, &body)
}

/// The family, of these two, and the addresses in it.
fn addresses(Ends { client, to }: Ends, (four, six): (u8, u8)) -> (u8, Vec<u8>) {
    let (family, mut body) = match (client.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(at)) => (four, [from.octets(), at.octets()].concat()),
        (from, at) => (six, [wide(from).octets(), wide(at).octets()].concat()),
    };
    body.extend([client.port(), to.port()].map(u16::to_be_bytes).concat());
    (family, body)
}

/// Version 2 for a connection of our own, such as that of a health check.
pub fn local() -> Vec<u8> {
    whole(LOCAL, UNSPECIFIED, &[])
}

fn extend(body: &mut Vec<u8>, kind: u8, value: Option<&str>) {
    // both are names of at most 255 bytes
    let Some(value) = value.filter(|value| !value.is_empty()) else { return };
    let Ok(length) = u16::try_from(value.len()) else { return };
    body.push(kind);
    body.extend(length.to_be_bytes());
    body.extend(value.as_bytes());
}

fn whole(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend(body);
    header
}

/// Where one end has IPv6, the other must, too.
fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
