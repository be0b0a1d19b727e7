//! From the first bytes of a connection to what they announce.

use super::{AUTHORITY, Announced, CRC32C, Ends, LONGEST, OVER_TLS, SIGNATURE, SSL, TEXT};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header of version 1 (§2.1), with its line end.
const LONGEST_TEXT: usize = 107;
/// What every header of version 2 begins with: signature, command, family and length.
const FIXED: usize = 16;
/// The longest name of a host.
const LONGEST_NAME: usize = 255;

/// Why a header is refused, in a few words.
pub type Malformed = &'static str;

/// What the bytes at the beginning of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// They may be the beginning of a header: more are needed.
    Partial,
    /// A header of this many bytes.
    Header(Announced, usize),
    /// Something else.
    Other,
}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// They begin like a header and cannot become one.
pub fn read(bytes: &[u8]) -> Result<Seen, Malformed> {
    if bytes.starts_with(SIGNATURE) {
        binary(bytes)
    } else if let Some(rest) = bytes.strip_prefix(TEXT) {
        text(rest)
    } else if SIGNATURE.starts_with(bytes) || TEXT.starts_with(bytes) {
        Ok(Seen::Partial)
    } else {
        Ok(Seen::Other)
    }
}

/// Version 1, after its first word.
fn text(rest: &[u8]) -> Result<Seen, Malformed> {
    let most = LONGEST_TEXT - TEXT.len();
    let within = rest.get(..most).unwrap_or(rest);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if rest.len() < most { Ok(Seen::Partial) } else { Err("its line does not end") };
    };
    let line = within.get(..end).unwrap_or_default();
    let length = TEXT.len() + end + 2;
    let known = |ends| Ok(Seen::Header(Announced { ends, ..Announced::default() }, length));
    // what else it says is to be ignored, whatever it is
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return known(None);
    }
    let words = std::str::from_utf8(line).map_err(|_| "its line is not text")?;
    let words: Vec<&str> = words.split(' ').collect();
    match words.as_slice() {
        ["TCP4", ends @ ..] => known(ends_of::<Ipv4Addr>(ends)?),
        ["TCP6", ends @ ..] => known(ends_of::<Ipv6Addr>(ends)?),
        _ => Err("it is for an unknown protocol"),
    }
}

fn ends_of<A: FromStr + Into<IpAddr>>(words: &[&str]) -> Result<Option<Ends>, Malformed> {
    let [client, to, client_port, port] = words else { return Err("it has not four addresses and ports") };
    let socket = |address: &str, port: &str| -> Option<SocketAddr> {
        // without a sign or leading zeros, which `parse` would take
        let plain = port == "0" || !port.starts_with(['0', '+']);
        Some(SocketAddr::new(address.parse::<A>().ok()?.into(), port.parse().ok().filter(|_| plain)?))
    };
    match (socket(client, client_port), socket(to, port)) {
        (Some(client), Some(to)) => Ok(known(client, to)),
        _ => Err("an address or port is none"),
    }
}

/// The ends of a connection, IPv4 addresses as such; `None` when the client has none.
fn known(client: SocketAddr, to: SocketAddr) -> Option<Ends> {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let ends = Ends { client: plain(client), to: plain(to) };
    (!ends.client.ip().is_unspecified()).then_some(ends)
}

/// Version 2 (§2.2).
fn binary(bytes: &[u8]) -> Result<Seen, Malformed> {
    let Some([command, protocol, high, low]) = bytes.get(SIGNATURE.len()..FIXED) else {
        return Ok(Seen::Partial);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONGEST {
        return Err("it is longer than 16 KB");
    }
    let (family, transport) = (protocol >> 4, protocol & 0x0f);
    let is_local = match command {
        0x20 => true,
        0x21 if family > 3 || transport > 2 => return Err("it is for an unknown protocol"),
        0x21 => false,
        _ => return Err("its version or command is unknown"),
    };
    let Some(header) = bytes.get(..length) else { return Ok(Seen::Partial) };
    let mut announced = Announced::default();
    // of a connection of the proxy's own, and of one without addresses, everything is to be ignored
    if !is_local && family != 0 {
        let rest = addresses(header.get(FIXED..).unwrap_or_default(), (family, transport), &mut announced)?;
        extras(header, rest, &mut announced)?;
    }
    Ok(Seen::Header(announced, length))
}

/// Takes the addresses; what follows them is returned.
fn addresses<'a>(
    body: &'a [u8],
    (family, transport): (u8, u8),
    announced: &mut Announced,
) -> Result<&'a [u8], Malformed> {
    const SHORT: Malformed = "it is too short for its addresses";
    const STREAM: u8 = 1;
    let (ends, rest) = match family {
        1 => {
            let (block, rest) = body.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *block;
            (sockets(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports), rest)
        }
        2 => {
            let (client, rest) = body.split_first_chunk::<16>().ok_or(SHORT)?;
            let (to, rest) = rest.split_first_chunk::<16>().ok_or(SHORT)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
            (sockets(Ipv6Addr::from(*client).into(), Ipv6Addr::from(*to).into(), *ports), rest)
        }
        // paths of unix sockets
        _ => (None, body.split_first_chunk::<216>().ok_or(SHORT)?.1),
    };
    announced.ends = ends.filter(|_| transport == STREAM);
    Ok(rest)
}

fn sockets(client: IpAddr, to: IpAddr, [a, b, c, d]: [u8; 4]) -> Option<Ends> {
    let port = |high, low| u16::from_be_bytes([high, low]);
    known(SocketAddr::new(client, port(a, b)), SocketAddr::new(to, port(c, d)))
}

/// What stands behind the addresses: those that we know are taken, all others left out.
fn extras(header: &[u8], mut rest: &[u8], announced: &mut Announced) -> Result<(), Malformed> {
    const SHORT: Malformed = "an extension is cut short";
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<2>().ok_or(SHORT)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, after) = after.split_at_checked(length).ok_or(SHORT)?;
        match *kind {
            CRC32C => verify(header, value, header.len() - after.len())?,
            AUTHORITY => announced.authority = name(value),
            SSL => announced.tls = value.first().is_some_and(|client| client & OVER_TLS != 0),
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

/// A name that may be shown and passed on.
fn name(value: &[u8]) -> Option<Box<str>> {
    let fits = (1..=LONGEST_NAME).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    Some(std::str::from_utf8(value).ok().filter(|_| fits)?.into())
}

/// The checksum, which ends at `end`, is over the whole header with zeros in its place (§2.2.5).
fn verify(header: &[u8], value: &[u8], end: usize) -> Result<(), Malformed> {
    const WRONG: Malformed = "its checksum is wrong";
    let sent = <[u8; 4]>::try_from(value).map_err(|_| WRONG)?;
    let before = header.get(..end - sent.len()).unwrap_or_default();
    let after = header.get(end..).unwrap_or_default();
    let sum = [before, &[0; 4], after].into_iter().fold(!0, crc32c);
    if !sum == u32::from_be_bytes(sent) { Ok(()) } else { Err(WRONG) }
}

/// Castagnoli's polynomial, reflected (RFC 3720 §12.1), bit by bit: a header is short, and one that long is rare.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 0 { 0 } else { 0x82f6_3b78 })
    })
}

#[cfg(test)]
mod tests;
