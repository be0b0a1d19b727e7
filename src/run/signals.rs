//! Signals: SIGTERM and SIGQUIT let requests end first, SIGINT does not. SIGHUP does nothing yet
//! but say so: without a handler it would end the process.

use crate::edge::Edge;
use crate::observe::events;
use async_trait::async_trait;
use log::{info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Tells the edge to drain, and Pingora's server to stop when that is done.
pub struct Signals {
    pub edge: Edge,
    /// How long to serve on as before, so that whoever sends clients here notices first.
    pub delay: Duration,
    /// How long requests in flight may take to end.
    pub grace: Duration,
    /// Set when nothing is to be waited for any more.
    pub at_once: Arc<AtomicBool>,
    /// How many connections did not end in time.
    pub cut: Arc<AtomicUsize>,
}

/// How long connections that were cut may take to go: they have a last word to say.
const LAST_WORD: Duration = Duration::from_secs(1);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut quit), Ok(mut int), Ok(mut hup)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) else {
            warn!("signals cannot be handled here: only kill -9 will stop this process");
            return std::future::pending().await;
        };
        mask(libc::SIG_UNBLOCK);
        loop {
            tokio::select! {
                _ = term.recv() => return self.end(&mut int, "SIGTERM").await,
                _ = quit.recv() => return self.end(&mut int, "SIGQUIT").await,
                _ = int.recv() => {
                    info!("SIGINT: stopping at once");
                    return self.fast();
                }
                _ = hup.recv() => warn!("SIGHUP: reloading is not supported yet; restart to change the configuration"),
            }
        }
    }
}

impl Signals {
    async fn end(&self, int: &mut Signal, name: &str) -> ShutdownSignal {
        tokio::select! {
            () = self.leave(name) => ShutdownSignal::GracefulTerminate,
            _ = int.recv() => {
                warn!("SIGINT: {} connections are closed at once", self.edge.open().count());
                self.fast()
            }
        }
    }

    /// As soon as the last connection is closed, at the latest when the grace period is over.
    async fn leave(&self, name: &str) {
        if !self.delay.is_zero() {
            events::about_to_drain(name, self.delay);
            tokio::time::sleep(self.delay).await;
        }
        events::draining(name, self.grace);
        self.edge.shut_down();
        let open = self.edge.open();
        if tokio::time::timeout(self.grace, open.drained()).await.is_err() {
            self.cut.store(self.edge.cut(), Ordering::Release);
            let _ = tokio::time::timeout(LAST_WORD, open.drained()).await;
        }
    }

    fn fast(&self) -> ShutdownSignal {
        self.at_once.store(true, Ordering::Release);
        self.edge.shut_down();
        self.cut.store(self.edge.open().count(), Ordering::Release);
        ShutdownSignal::FastShutdown
    }
}

/// Keeps signals waiting from before the first socket is bound until [`Signals`] listens for them, so that one that
/// comes in between ends the process as it should and not at once. Threads started meanwhile leave them to ours.
pub fn hold() -> Held {
    mask(libc::SIG_BLOCK);
    Held
}

/// Signals are handled as before when this goes.
pub struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        mask(libc::SIG_UNBLOCK);
    }
}

fn mask(how: libc::c_int) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is initialised by sigemptyset before it is used, and outlives the calls.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGQUIT, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        // fails only for an unknown `how`
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}
