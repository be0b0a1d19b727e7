//! The server behind every proxy: answers made once at start. Run as `compare origin`.
//!
//! `/` is 13 bytes, as is the answer to whatever is uploaded; `/1k`, `/100k` and `/10m` are so large (KB = 1,024
//! bytes); `/echo` gives back the request head as it arrived.

use std::borrow::Cow;
use std::net::SocketAddr;

use anyhow::Result;

use crate::common::origin::{self, answer};

pub const LARGE_BODY: usize = 100 * 1024;

struct Answers {
    small: Vec<u8>,
    /// By the path that asks for them.
    bodies: [(&'static [u8], Vec<u8>); 3],
}

impl origin::Answers for Answers {
    fn to(&self, head: &[u8]) -> Cow<'_, [u8]> {
        if head.starts_with(b"GET /echo ") {
            return Cow::Owned(answer(head));
        }
        let body = self.bodies.iter().find(|(start, _)| head.starts_with(start));
        Cow::Borrowed(body.map_or(&self.small, |(_, whole)| whole))
    }
}

pub fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let body = |length: usize| answer(&vec![b'x'; length]);
    let answers = Answers {
        small: answer(b"hello, world\n"),
        bodies: [
            (b"GET /1k ", body(1024)),
            (b"GET /100k ", body(LARGE_BODY)),
            (b"GET /10m ", body(10 * 1024 * 1024)),
        ],
    };
    runtime.block_on(origin::serve(address, answers))
}
