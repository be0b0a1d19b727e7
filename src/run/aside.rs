//! Work that takes a while, done where nothing else waits for it: reading a large configuration, building what is
//! made of it, taking apart what was replaced. Called by `reload`.

use crate::memory;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// How much such work stands back behind requests, where both want the same core (nice(2)): it gets a tenth as
/// much. Not less, as a reload is to end on a busy machine, too.
const NICENESS: libc::c_int = 10;

/// How long it asks to keep a core at a time, in nanoseconds: a little more than what everybody gets who asks for nothing
/// (0.7 to 3 ms, by the number of cores). Linux 6.12 and later take the core from it as soon as somebody wakes who asks for
/// less (sched_setattr(2), `sched_runtime` of `SCHED_OTHER`); else a request would wait until its turn is over. Not much
/// more: a worker that never sleeps is not woken either, and may have to wait for that long.
#[cfg(target_os = "linux")]
const TURN: u64 = 4_000_000;

/// A thread for work that is done one piece after the other. It ends when this is dropped, as a priority can be lowered,
/// but not raised again. What a piece has freed the next one uses: memory goes back to the system at the end only.
pub struct Aside(mpsc::Sender<Piece>);

type Piece = Box<dyn FnOnce() + Send>;

impl Aside {
    /// # Errors
    /// In words for the operator: there is no thread to be had.
    pub fn begin() -> Result<Aside, String> {
        let (ask, pieces) = mpsc::channel::<Piece>();
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            stand_back();
            pieces.into_iter().for_each(|work| work());
            memory::give_back();
        });
        thread.map_err(|why| format!("no thread for the reload: {why}"))?;
        Ok(Aside(ask))
    }

    /// Does it when what was asked for before is done.
    ///
    /// # Errors
    /// In words for the operator: it, or what was before it, broke off.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let (done, result) = oneshot::channel();
        // nobody may be waiting
        let piece = Box::new(move || drop(done.send(work())));
        self.0.send(piece).map_err(|_| BROKEN_OFF)?;
        result.await.map_err(|_| BROKEN_OFF.to_owned())
    }
}

const BROKEN_OFF: &str = "the reload broke off";

/// Does one piece.
///
/// # Errors
/// As [`Aside::run`].
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    Aside::begin()?.run(work).await
}

/// Of this thread alone. Where that is refused it goes on as it is.
fn stand_back() {
    // SAFETY: takes and returns plain integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    take_turns();
}

#[cfg(target_os = "linux")]
fn take_turns() {
    let Some(mut wanted) = scheduling() else { return };
    wanted.sched_runtime = TURN;
    // SAFETY: the structure says its size, and is only read.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
}

#[cfg(not(target_os = "linux"))]
fn take_turns() {}

/// How the kernel treats this thread.
#[cfg(target_os = "linux")]
fn scheduling() -> Option<libc::sched_attr> {
    // SAFETY: plain integers, of which zeros are values.
    let mut now: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = libc::c_uint::try_from(size_of_val(&now)).ok()?;
    // SAFETY: no more is written than `size` bytes.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) };
    (got == 0).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_aside_stands_back_and_nothing_else_does() {
        // SAFETY: takes and returns plain integers.
        let mine = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = mine();
        assert_eq!(aside(mine).await, Ok(NICENESS.max(before)));
        assert_eq!(mine(), before);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_is_done_aside_asks_for_a_longer_turn_and_nothing_else_does() {
        // before 6.12 nobody has a turn of their own, and nothing is said of it
        let turn = || scheduling().map(|now| now.sched_runtime).unwrap_or_default();
        let usual = turn();
        assert_eq!(aside(turn).await, Ok(if usual == 0 { 0 } else { TURN }));
        assert_eq!(turn(), usual);
    }

    #[tokio::test]
    async fn pieces_are_done_on_one_thread() {
        let aside = Aside::begin().unwrap();
        let thread = || std::thread::current().id();
        let first = aside.run(thread).await;
        assert_eq!(aside.run(thread).await, first);
        assert_ne!(Ok(thread()), first);
    }

    #[tokio::test]
    async fn work_that_breaks_is_told_of() {
        let broken: Result<(), String> = aside(|| assert_eq!(1, 2)).await;
        assert!(broken.is_err());
        let aside = Aside::begin().unwrap();
        assert_eq!(aside.run(|| 1).await, Ok(1));
        assert!(aside.run(|| assert_eq!(1, 2)).await.is_err());
        assert!(aside.run(|| 1).await.is_err(), "what comes after it is not done");
    }
}
