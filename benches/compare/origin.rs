//! The server behind every proxy: answers made once at start. Run as `compare origin`.
//!
//! `/` is 13 bytes, `/100k` is 100 KB (102,400 bytes), `/echo` gives back the request head as it arrived.

use std::borrow::Cow;
use std::net::SocketAddr;

use anyhow::Result;

use crate::common::origin::{self, answer};

pub const LARGE_BODY: usize = 100 * 1024;

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

impl origin::Answers for Answers {
    fn to(&self, head: &[u8]) -> Cow<'_, [u8]> {
        if head.starts_with(b"GET /100k ") {
            Cow::Borrowed(&self.large)
        } else if head.starts_with(b"GET /echo ") {
            Cow::Owned(answer(head))
        } else {
            Cow::Borrowed(&self.small)
        }
    }
}

pub fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let answers = Answers { small: answer(b"hello, world\n"), large: answer(&vec![b'x'; LARGE_BODY]) };
    runtime.block_on(origin::serve(address, answers))
}
