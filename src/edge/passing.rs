//! Connections of a listener with TLS that are passed on unopened, by the name and the protocols in their ClientHello. Called by `connection`
//! before the handshake, on listeners that pass some names on; what was read is read again by whoever gets the connection.

use crate::config::plan;
use crate::edge::hello::{self, Hello, Seen};
use crate::link::Link;
use bytes::BytesMut;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// As much is read at first: what most clients send.
const READ: usize = 2 * 1024;

/// A connection that stays unopened.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub upstream: Arc<str>,
    /// What the client has asked for.
    pub name: Option<Box<str>>,
}

impl Passed {
    /// One whose listener passes all on, opened or not.
    pub fn by(tcp: &plan::Tcp) -> Passed {
        Passed { upstream: tcp.upstream.clone(), name: None }
    }
}

/// Where the connection goes; `None`: it is opened here.
///
/// # Errors
/// The client has gone before it was known.
pub async fn look(tls: &plan::Tls, link: &mut Link) -> io::Result<Option<Passed>> {
    let mut bytes = BytesMut::with_capacity(READ);
    let hello = loop {
        match hello::read(&bytes) {
            Seen::Hello(hello) => break Some(hello),
            // who terminates TLS says what is wrong with it
            Seen::Other => break None,
            Seen::Partial => {}
        }
        bytes.reserve(READ);
        if link.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    link.unread(bytes.freeze());
    Ok(hello.and_then(|Hello { name, alpn }| {
        let upstream = tls.passes(name.as_deref(), &alpn)?.clone();
        Some(Passed { upstream, name })
    }))
}
