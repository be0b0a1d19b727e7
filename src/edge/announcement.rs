//! The PROXY protocol at the beginning of a connection: which of its clients have to send a header, and who of them
//! is believed. Called by `connection` before anything else is read. See decision 026.

use crate::config::file::ProxyProtocol;
use crate::edge::Listening;
use crate::link::Link;
use crate::proxy_protocol::{Announced, LONGEST, Malformed, Seen, read};
use bytes::{Buf, BytesMut};
use std::net::IpAddr;
use tokio::io::AsyncReadExt;

/// As much is read at first: a header, and as a rule all of a request behind it.
const READ: usize = 2 * 1024;

/// Why a connection ends before it has begun.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Without a single byte, as when somebody looks whether the port is open.
    Silent,
    Malformed(Malformed),
}

/// Whether a connection from there begins with a header; `None`: it cannot, nothing is looked for.
pub fn asked_of(listening: &Listening, peer: IpAddr) -> Option<ProxyProtocol> {
    let wanted = listening.plan.proxy_protocol?;
    match wanted {
        ProxyProtocol::Required => Some(wanted),
        ProxyProtocol::Optional => {
            listening.plan.trusted.iter().any(|net| net.contains(&peer)).then_some(wanted)
        }
    }
}

/// Reads what a proxy announces. What is read beyond it is put back. Returns nothing where there need be none.
///
/// # Errors
/// There is none where there has to be one, or it is malformed.
pub async fn expect(wanted: ProxyProtocol, link: &mut Link) -> Result<Option<Announced>, Ended> {
    let mut bytes = BytesMut::with_capacity(READ);
    loop {
        match read(&bytes).map_err(Ended::Malformed)? {
            Seen::Header(announced, length) => {
                bytes.advance(length);
                link.unread(bytes.freeze());
                return Ok(Some(announced));
            }
            Seen::Other => {
                return match wanted {
                    ProxyProtocol::Optional => {
                        link.unread(bytes.freeze());
                        Ok(None)
                    }
                    ProxyProtocol::Required => Err(Ended::Malformed("there is none")),
                };
            }
            Seen::Partial => {}
        }
        // it would have been refused before
        debug_assert!(bytes.len() < LONGEST + READ);
        bytes.reserve(READ);
        match link.read_buf(&mut bytes).await {
            Ok(0) | Err(_) if bytes.is_empty() => return Err(Ended::Silent),
            Ok(0) | Err(_) => return Err(Ended::Malformed("the connection ended within it")),
            Ok(_) => {}
        }
    }
}
