//! A deadline that costs nothing to move to a later time. Used by whatever waits on a connection.
//!
//! The runtime's timer is registered once and left where it is; when it fires too early, it is
//! set again. A keep-alive connection moves its idle deadline with every request: no timer is
//! touched for that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::time::Sleep;

/// Allocated at the first wait.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Whether the task is to be woken after this time: it need not be polled before.
    pub fn is_set_beyond(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|sleep| sleep.deadline().into_std() > now)
    }

    /// Ready once `deadline` has passed; else the task is woken then, or before.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline || tokio::time::Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
