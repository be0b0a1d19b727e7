//! Work that takes a while, done where nothing else waits for it: reading a large configuration, building what is
//! made of it, taking apart what was replaced. Called by `reload`.

use crate::memory;
use tokio::sync::oneshot;

/// How much such work stands back behind requests, where both want the same core (nice(2)): it gets a tenth as
/// much. Not less, as a reload is to end on a busy machine, too.
const NICENESS: libc::c_int = 10;

/// Does it on a thread of its own, which ends with it, as a priority can be lowered, but not raised again.
///
/// # Errors
/// In words for the operator: it broke off.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
        stand_back();
        // nobody may be waiting
        done.send(work()).ok();
        memory::give_back();
    });
    thread.map_err(|why| format!("no thread for the reload: {why}"))?;
    result.await.map_err(|_| "the reload broke off".to_owned())
}

/// Of this thread alone. Where that is refused it goes on as it is.
fn stand_back() {
    // SAFETY: takes and returns plain integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
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

    #[tokio::test]
    async fn work_that_breaks_is_told_of() {
        let broken: Result<(), String> = aside(|| assert_eq!(1, 2)).await;
        assert!(broken.is_err());
    }
}
