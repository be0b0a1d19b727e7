//! Signals: SIGTERM and SIGQUIT let requests end first, SIGINT does not. SIGHUP asks for a reload, SIGUSR1 opens
//! the access log anew. Another process that has taken over is the end as well.

use super::notify;
use super::overseer::Standing;
use super::reload::Ask;
use crate::config::plan::Plan;
use crate::edge::Edge;
use crate::http::Live;
use crate::observe::events;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{info, warn};
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Tells the edge to drain, and Pingora's server to stop when that is done.
pub struct Signals {
    pub edge: Edge,
    /// Where a reload is asked for.
    pub asks: mpsc::Sender<Ask>,
    /// Which process has taken over, if one has.
    pub succeeded: watch::Receiver<Option<u32>>,
    pub site: Arc<Live>,
    /// How long things may take.
    pub current: Arc<ArcSwap<Plan>>,
    pub ending: Arc<Ending>,
    pub standing: Standing,
}

/// How the process ends.
#[derive(Debug, Default)]
pub struct Ending {
    at_once: AtomicBool,
    cut: AtomicUsize,
}

impl Ending {
    /// Nothing is to be waited for any more.
    pub fn is_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    /// How many connections did not end in time.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Acquire)
    }
}

/// How long connections that were cut may take to go: they have a last word to say.
const LAST_WORD: Duration = Duration::from_secs(1);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut quit), Ok(mut int), Ok(mut hup), Ok(mut usr1)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::quit()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
            signal(SignalKind::user_defined1()),
        ) else {
            warn!("signals cannot be handled here: only kill -9 will stop this process");
            return std::future::pending().await;
        };
        mask(libc::SIG_UNBLOCK);
        let mut succeeded = self.succeeded.clone();
        loop {
            tokio::select! {
                _ = term.recv() => return self.end(&mut int, "SIGTERM").await,
                _ = quit.recv() => return self.end(&mut int, "SIGQUIT").await,
                _ = int.recv() => {
                    info!("SIGINT: stopping at once");
                    return self.fast();
                }
                () = taken_over(&mut succeeded) => return self.give_way(&mut int).await,
                _ = hup.recv() => self.ask(),
                _ = usr1.recv() => self.reopen(),
            }
        }
    }
}

impl Signals {
    /// One that is asked for already is enough.
    fn ask(&self) {
        self.reopen();
        self.asks.try_send(Ask::Reload { by: "SIGHUP".into(), answer: None }).ok();
    }

    fn reopen(&self) {
        if let Some(log) = &self.site.load().access_log {
            log.reopen();
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.current.load().server.grace_period_seconds)
    }

    async fn end(&self, int: &mut Signal, name: &str) -> ShutdownSignal {
        self.standing.draining();
        notify::stopping();
        tokio::select! {
            () = self.leave(name) => ShutdownSignal::GracefulTerminate,
            _ = int.recv() => self.interrupted(),
        }
    }

    /// Another process accepts now, and this one no more.
    async fn give_way(&self, int: &mut Signal) -> ShutdownSignal {
        tokio::select! {
            () = self.drain() => ShutdownSignal::GracefulTerminate,
            _ = int.recv() => self.interrupted(),
        }
    }

    fn interrupted(&self) -> ShutdownSignal {
        warn!("told to stop: {} connections are closed at once", self.edge.open().count());
        self.fast()
    }

    /// As soon as the last connection is closed, at the latest when the grace period is over.
    async fn leave(&self, name: &str) {
        let delay = self.current.load().server.shutdown_delay.0;
        if !delay.is_zero() {
            events::about_to_drain(name, delay);
            tokio::time::sleep(delay).await;
        }
        events::draining(name, self.grace());
        self.edge.shut_down();
        self.drain().await;
    }

    async fn drain(&self) {
        let open = self.edge.open();
        if tokio::time::timeout(self.grace(), open.drained()).await.is_err() {
            self.ending.cut.store(self.edge.cut(), Ordering::Release);
            let _ = tokio::time::timeout(LAST_WORD, open.drained()).await;
        }
    }

    fn fast(&self) -> ShutdownSignal {
        self.ending.at_once.store(true, Ordering::Release);
        self.edge.shut_down();
        self.ending.cut.store(self.edge.open().count(), Ordering::Release);
        ShutdownSignal::FastShutdown
    }
}

/// Another process has taken over.
async fn taken_over(succeeded: &mut watch::Receiver<Option<u32>>) {
    if succeeded.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Keeps signals waiting from before the first socket is bound until [`Signals`] listens for them, so that one that
/// comes in between ends the process as it should and not at once. Threads started meanwhile leave them to ours.
pub fn hold() -> Held {
    // SAFETY: no handler is installed. A file that has grown to the limit of the process (setrlimit(2)) is an error of
    // the write to it, not the end of the gate.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
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
        for signal in [libc::SIGTERM, libc::SIGQUIT, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        // fails only for an unknown `how`
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}
