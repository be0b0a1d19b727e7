//! A deadline that costs nothing to move to a later time. Used by whatever waits on a connection.
//!
//! The runtime's timer is registered once and left where it is; when it fires too early, it is
//! set again. A keep-alive connection moves its idle deadline with every request: no timer is
//! touched for that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::task::coop::has_budget_remaining;
use tokio::time::Sleep;

#[derive(Debug, Default)]
pub struct Timer {
    /// Allocated at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Who is woken when it fires: they need not ask the runtime again.
    waits: Option<Waker>,
}

/// Who is woken by what was just asked and is pending: nobody when the task has used up its turn, as then nothing was asked
/// of it.
pub fn registered(cx: &Context<'_>) -> Option<Waker> {
    has_budget_remaining().then(|| cx.waker().clone())
}

impl Timer {
    /// Whether the task is to be woken after this time: it need not be polled before.
    pub fn is_set_beyond(&self, now: Instant) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.deadline().into_std() > now)
    }

    /// Ready once `deadline` has passed; else the task is woken then, or before.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
            self.waits = None;
        }
        if !sleep.is_elapsed() && self.waits.as_ref().is_some_and(|waits| waits.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                self.waits = registered(cx);
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline || tokio::time::Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::task::coop::consume_budget;

    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn it_fires_when_it_is_moved_to_either_side() {
        let (mut timer, start, mut polls) = (Timer::default(), Instant::now(), 0);
        poll_fn(|cx| {
            polls += 1;
            // first far away, then near, then in between, asked twice each time
            let after = [100 * MOMENT, MOMENT, 3 * MOMENT][polls.min(3) - 1];
            assert!(timer.poll(cx, start + after).is_pending() || polls > 2 && start.elapsed() >= after);
            let poll = timer.poll(cx, start + after);
            if polls < 3 {
                cx.waker().wake_by_ref();
            }
            poll
        })
        .await;
        assert!(start.elapsed() >= 3 * MOMENT);
        assert!(polls >= 3);
    }

    #[tokio::test]
    async fn a_task_that_has_used_up_its_turn_is_woken_all_the_same() {
        let waiting = tokio::spawn(async {
            let (mut timer, end) = (Timer::default(), Instant::now() + MOMENT);
            while has_budget_remaining() {
                consume_budget().await;
            }
            poll_fn(|cx| timer.poll(cx, end)).await;
            assert!(Instant::now() >= end);
        });
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("never woken").unwrap();
    }
}
