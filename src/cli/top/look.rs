//! What asks the process, on a thread of its own: a look each second, and what keys have wished in between.

use super::answers::{Failure, Failures, Overview, Server};
use super::counts::{self, Page};
use super::way::Way;
use serde::de::DeserializeOwned;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};

const PAUSE: Duration = Duration::from_secs(1);

/// What the process has told.
#[derive(Debug)]
pub struct Look {
    pub overview: Overview,
    pub page: Page,
    /// Those that were not told before.
    pub failures: Vec<Failure>,
    pub at: Instant,
}

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The group of the server.
    pub upstream: String,
    pub path: String,
    pub body: String,
}

/// What happens, for the loop that draws.
#[derive(Debug)]
pub enum Event {
    Key(crossterm::event::KeyEvent),
    Resized,
    Look(Box<Result<Look, String>>),
    /// A wish was fulfilled: the group and the server as it is now; or why not.
    Done(Result<(String, Server), String>),
    /// The terminal or the program is at its end.
    Over,
}

/// What asks.
pub struct Looker {
    way: Way,
    /// The failure that was told last.
    seen: u64,
}

impl Looker {
    pub fn new(way: Way) -> Looker {
        Looker { way, seen: 0 }
    }

    /// Everything that is shown.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn look(&mut self) -> Result<Look, String> {
        let overview: Overview = read(&self.way.get("/v1/overview").await?)?;
        let metrics = self.way.get("/metrics").await?;
        let page = counts::read(&String::from_utf8_lossy(&metrics));
        if overview.last_failure < self.seen {
            // another process counts from the beginning
            self.seen = 0;
        }
        let mut failures = Vec::new();
        if overview.last_failure > self.seen {
            let path = format!("/v1/errors?after={}", self.seen);
            failures = read::<Failures>(&self.way.get(&path).await?)?.failures;
            self.seen = failures.last().map_or(self.seen, |failure| failure.number);
        }
        Ok(Look { overview, page, failures, at: Instant::now() })
    }

    async fn fulfil(&mut self, wish: Wish) -> Result<(String, Server), String> {
        Ok((wish.upstream, read(&self.way.post(&wish.path, &wish.body).await?)?))
    }

    /// Tells what it sees until nobody listens, or a signal says that it is over.
    pub async fn watch(mut self, mut wishes: UnboundedReceiver<Wish>, events: Sender<Event>) {
        let mut pulse = interval(PAUSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let signals = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
        let [Ok(mut end), Ok(mut hangup), Ok(mut interrupt)] = signals else {
            events.send(Event::Over).ok();
            return;
        };
        loop {
            let event = tokio::select! {
                _ = pulse.tick() => Event::Look(Box::new(self.look().await)),
                wish = wishes.recv() => match wish {
                    Some(wish) => {
                        pulse.reset_immediately();
                        Event::Done(self.fulfil(wish).await)
                    }
                    None => return,
                },
                _ = end.recv() => Event::Over,
                _ = hangup.recv() => Event::Over,
                _ = interrupt.recv() => Event::Over,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    serde_json::from_slice(answer).map_err(|error| format!("its answer is not understood: {error}"))
}
