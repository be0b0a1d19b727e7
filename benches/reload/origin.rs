//! The server behind all programs: it says the same to everybody. Run as `reload origin ADDRESS`.

use std::borrow::Cow;
use std::net::SocketAddr;

use anyhow::Result;

use crate::common::origin::{self, answer};

struct Same(Vec<u8>);

impl origin::Answers for Same {
    fn to(&self, _: &[u8]) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0)
    }
}

/// Serves until it cannot.
pub fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(origin::serve(address, Same(answer(b"origin"))))
}
