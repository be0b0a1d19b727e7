//! The servers behind every proxy, three in one process: each says its number, one of them late.
//! Run as `effect origins ADDRESS=MILLISECONDS ...`.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};

use crate::common::origin::{self, answer};

/// Where a server listens and how long it takes.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    pub address: SocketAddr,
    pub delay: Duration,
}

impl Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.address, self.delay.as_millis())
    }
}

impl FromStr for Server {
    type Err = Error;

    fn from_str(text: &str) -> Result<Server> {
        let (address, millis) = text.split_once('=').context("expected ADDRESS=MILLISECONDS")?;
        Ok(Server { address: address.parse()?, delay: Duration::from_millis(millis.parse()?) })
    }
}

struct Numbered {
    answer: Vec<u8>,
    delay: Duration,
}

impl origin::Answers for Numbered {
    fn to(&self, _: &[u8]) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.answer)
    }

    fn delay(&self) -> Duration {
        self.delay
    }
}

/// Serves until one of them cannot.
pub fn run(servers: &[Server]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for (number, server) in servers.iter().enumerate() {
            let numbered = Numbered { answer: answer(number.to_string().as_bytes()), delay: server.delay };
            all.spawn(origin::serve(server.address, numbered));
        }
        all.join_next().await.context("no servers")??
    })
}
