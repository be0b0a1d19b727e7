//! What asks the process, on a thread of its own: a look each second, and what keys have wished in between.

use super::answers::{Failure, Failures, Overview, Server};
use super::counts::{self, Page};
use super::way::Way;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    /// One of the threads has panicked: it has said why.
    Broken,
}

/// Where a thread tells what happens, until it ends; that it has panicked is told as well, so that nobody waits for it.
#[derive(Debug, Clone)]
pub struct Teller(Sender<Event>);

impl Teller {
    pub fn new(events: Sender<Event>) -> Teller {
        Teller(events)
    }

    /// Whether somebody listens.
    pub fn tell(&self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(Event::Broken);
        }
    }
}

/// The signals that end it. From the moment on when this is made they no longer end the process as it is.
pub struct Ends([Signal; 3]);

impl Ends {
    /// To be called in a runtime.
    ///
    /// # Errors
    /// The system has no room for them.
    pub fn new() -> io::Result<Ends> {
        let [end, hangup, interrupt] =
            [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
        Ok(Ends([end?, hangup?, interrupt?]))
    }

    /// Tells when one of them has come, whatever is being asked meanwhile.
    pub async fn watch(self, events: Teller) {
        let Ends([mut end, mut hangup, mut interrupt]) = self;
        tokio::select! {
            _ = end.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
        events.tell(Event::Over);
    }
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

    /// Tells what it sees until nobody listens.
    pub async fn watch(mut self, mut wishes: UnboundedReceiver<Wish>, events: Teller) {
        let mut pulse = interval(PAUSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
            };
            if !events.tell(event) {
                return;
            }
        }
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, String> {
    serde_json::from_slice(answer).map_err(|error| format!("its answer is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_that_panics_is_told_of_and_one_that_ends_is_not() {
        let (events, happening) = channel();
        for panics in [false, true] {
            let teller = Teller::new(events.clone());
            let thread = std::thread::spawn(move || {
                assert!(!panics, "on purpose");
                drop(teller);
            });
            assert_eq!(thread.join().is_err(), panics);
            assert_eq!(matches!(happening.try_recv(), Ok(Event::Broken)), panics);
        }
    }
}
