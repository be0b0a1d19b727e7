//! Takes care of one certificate for as long as it is wanted: orders it when there is none, renews it when it is
//! time, waits when that fails, and sees what other processes with the same storage have done. A task in the
//! background, begun and ended by `keepers`.

use super::http::Carrier;
use super::managed::Managed;
use super::order::{Errand, Failure};
use super::store::Lock;
use super::timing::{self, Window};
use super::{Registry, account};
use crate::observe::events;
use crate::observe::metrics::Authority;
use instant_acme::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often the storage is looked at for what another process has stored.
const PACE: Duration = Duration::from_secs(2);

/// How long to wait while another process orders the certificate.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// The least time from one certificate to the next, however short they live.
const BREATH: Duration = Duration::from_secs(60);

/// An authority is asked when to renew as often as it says, but within these (RFC 9773 §4.3.2).
const ASK: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// And after so long when that failed.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);

pub struct Keeper {
    managed: Arc<Managed>,
    registry: Registry,
    counted: Arc<Authority>,
    failures: u32,
    /// It is not ordered before this. By a clock that nobody sets.
    earliest: Instant,
    /// From 0 to 1, drawn for each certificate: where within its span of time it is renewed.
    chance: f64,
    /// When the authority wants it to be renewed, and when to ask it the next time.
    window: Option<Window>,
    ask: Instant,
}

impl Keeper {
    pub fn new(managed: Arc<Managed>, registry: Registry) -> Keeper {
        let now = Instant::now();
        let counted = registry.metrics().authority(&managed.plan().authority.name);
        Keeper {
            managed,
            registry,
            counted,
            failures: 0,
            earliest: now,
            chance: fastrand::f64(),
            window: None,
            ask: now,
        }
    }

    /// Does not end by itself.
    pub async fn keep(mut self) {
        let standing = self.managed.standing();
        match (standing.expires, standing.last_error) {
            (Some(expires), _) => events::acme::found(self.which(), expires),
            (None, Some((_, why))) => events::acme::unusable(self.which(), &why),
            (None, None) => {}
        }
        loop {
            self.look().await;
            self.ask_when().await;
            let wait = self.wait();
            self.managed.stands(|standing| standing.next = Some(SystemTime::now() + wait));
            match wait.is_zero() {
                true => self.order().await,
                false => tokio::time::sleep(wait.min(PACE)).await,
            }
        }
    }

    fn which(&self) -> events::acme::Which<'_> {
        let plan = self.managed.plan();
        events::acme::Which { authority: &plan.authority.name, names: &plan.names }
    }

    /// How long until it is to be ordered.
    fn wait(&self) -> Duration {
        let renewal = self.renewal().and_then(|renewal| renewal.duration_since(SystemTime::now()).ok());
        renewal.unwrap_or_default().max(self.earliest.saturating_duration_since(Instant::now()))
    }

    /// When it is to be ordered.
    fn next(&self) -> SystemTime {
        SystemTime::now() + self.wait()
    }

    /// When it is time for another one.
    fn renewal(&self) -> Option<SystemTime> {
        let held = self.managed.held()?;
        let before = self.managed.plan().authority.renew_before;
        Some(timing::renewal((held.not_before, held.not_after), before, self.window, self.chance))
    }

    /// Another process may have stored a certificate.
    async fn look(&mut self) {
        let managed = self.managed.clone();
        match blocking(move || managed.look()).await {
            Ok(Ok(true)) => {
                self.begin_anew();
                if let Some(held) = self.managed.held() {
                    events::acme::taken_over(self.which(), held.not_after);
                }
            }
            Ok(Ok(false)) => {}
            Ok(Err(why)) | Err(why) => {
                // it is ordered anew if there is nothing to show, and stays as it is if there is
                log::debug!("{}: {why}", self.which());
            }
        }
    }

    /// Another certificate is shown.
    fn begin_anew(&mut self) {
        let now = Instant::now();
        self.failures = 0;
        self.chance = fastrand::f64();
        (self.window, self.ask) = (None, now);
        self.earliest = now + BREATH;
        self.managed.stands(|standing| (standing.failures, standing.last_error) = (0, None));
    }

    async fn order(&mut self) {
        let registry = self.registry.clone();
        // an error would mean that it was closed, which it never is
        let Ok(_turn) = registry.turns().acquire().await else { return };
        let lock = match self.lock().await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                self.earliest = Instant::now() + ELSEWHERE;
                return;
            }
            Err(failure) => return self.failed(&failure),
        };
        // whoever had the lock may have been faster
        self.look().await;
        if !self.wait().is_zero() {
            return;
        }
        self.managed.stands(|standing| standing.ordering = true);
        let became = self.obtain().await;
        self.counted.ordered(became.is_ok());
        self.managed.stands(|standing| standing.ordering = false);
        drop(lock);
        if let Err(failure) = became {
            self.failed(&failure);
        }
    }

    async fn lock(&self) -> Result<Option<Lock>, Failure> {
        let managed = self.managed.clone();
        let locked = blocking(move || managed.store().lock(managed.id())).await.map_err(Failure::new)?;
        locked.map_err(|why| Failure::storage(self.managed.store(), &why))
    }

    /// Orders it, stores it and shows it.
    async fn obtain(&mut self) -> Result<(), Failure> {
        let before = self.managed.held();
        events::acme::ordered(self.which(), before.as_ref().map(|held| held.not_after));
        let begun = Instant::now();
        let carrier = self.carrier().await?;
        let errand = Errand {
            plan: self.managed.plan(),
            store: self.managed.store(),
            carrier: &carrier,
            challenges: self.registry.challenges(),
        };
        let (pem, held) = errand.obtain(before.as_deref()).await?;
        let expires = held.not_after;
        let managed = self.managed.clone();
        let stored = blocking(move || managed.replace(&pem, held)).await.map_err(Failure::new)?;
        self.begin_anew();
        events::acme::obtained(self.which(), expires, begun.elapsed(), self.next());
        // shown all the same; the next process will have to order it again
        stored.map_err(|why| Failure::storage(self.managed.store(), &why))
    }

    async fn carrier(&self) -> Result<Carrier, Failure> {
        let (registry, plan) = (self.registry.clone(), self.managed.plan().clone());
        let made = blocking(move || registry.carrier(&plan.authority.trust)).await;
        made.and_then(|made| made).map_err(Failure::new)
    }

    fn failed(&mut self, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let retry = self.managed.plan().authority.retry;
        let wait = timing::wait(self.failures, retry, failure.retry_after, fastrand::f64());
        self.earliest = Instant::now() + wait;
        let (now, next) = (SystemTime::now(), self.next());
        self.managed.stands(|standing| {
            standing.failures = self.failures;
            standing.last_error = Some((now, failure.why.clone()));
            standing.next = Some(next);
        });
        let shown = self.managed.held().map(|held| held.not_after);
        events::acme::failed(self.which(), &failure.why, next, shown);
    }

    /// Asks the authority when it wants the certificate to be renewed (RFC 9773), when it is time to ask.
    async fn ask_when(&mut self) {
        let now = Instant::now();
        let Some(held) = self.managed.held().filter(|_| self.ask <= now) else { return };
        self.ask = now + ASK_AGAIN;
        let (Some(known), Ok(carrier)) = (held.identifier(), self.carrier().await) else { return };
        let registry = self.registry.clone();
        let Ok(_turn) = registry.turns().acquire().await else { return };
        let Some(account) = account::existing(self.managed.store(), &carrier).await else { return };
        match account.renewal_info(&known).await {
            Ok((info, wait)) => {
                let planned = self.renewal();
                let (start, end) = (info.suggested_window.start, info.suggested_window.end);
                self.window = Some(Window { start: start.into(), end: end.into() });
                self.ask = Instant::now() + wait.clamp(ASK.0, ASK.1);
                if let Some(renewal) = self.renewal().filter(|renewal| Some(*renewal) < planned) {
                    events::acme::rescheduled(self.which(), renewal);
                }
            }
            Err(Error::Unsupported(_)) => (self.window, self.ask) = (None, now + ASK.1),
            Err(why) => log::debug!("{}: when to renew it is not known: {why}", self.which()),
        }
    }
}

/// Does what touches the disk where nothing else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}
