//! Numbers that many threads add to. Each thread has a shard of its own for each set, which is made when it first adds to
//! it, so that workers do not take cache lines from each other and what is never used costs next to nothing. As nobody
//! else writes there, adding is a load and a store: an atomic addition would take twenty times as long. Threads for which
//! there is none share the last one, and add atomically.

use crate::observe::access_log::thread_number;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};

/// Numbers in a line.
const LINE: usize = 16;

/// One for each core, up to so many, some for what goes on beside requests, and the last. Asked for once: the answer takes
/// files to be read, and there may be a set for each of ten thousand servers.
static SHARDS: LazyLock<usize> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(64) + 4
});

/// Two cache lines, as neighbours are fetched in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// A set of numbers, each at a place that its owner knows it by.
pub struct Cells {
    lines: usize,
    /// By number of the thread; the last is for all that are left. None until somebody adds: of ten thousand routes most
    /// may have nothing to count.
    shards: OnceLock<Box<[Own]>>,
}

/// The numbers of a thread, once it has added to one.
type Own = OnceLock<Box<[Line]>>;

/// The shard of this thread, for several additions. It does not leave the thread.
#[derive(Clone, Copy)]
pub struct Shard<'a> {
    lines: &'a [Line],
    is_own: bool,
    _stays: PhantomData<*const ()>,
}

impl Cells {
    /// For as many numbers, all 0.
    pub fn new(places: usize) -> Cells {
        Cells { lines: places.div_ceil(LINE), shards: OnceLock::new() }
    }

    pub fn shard(&self) -> Shard<'_> {
        let shards = self.shards.get_or_init(Self::nobodys);
        let (number, last) = (thread_number(), shards.len() - 1);
        let shard = shards.get(number.min(last));
        let lines = shard.map_or(&[][..], |shard| shard.get_or_init(|| self.line_up()));
        Shard { lines, is_own: number < last, _stays: PhantomData }
    }

    #[cold]
    fn nobodys() -> Box<[Own]> {
        (0..*SHARDS).map(|_| Own::new()).collect()
    }

    #[cold]
    fn line_up(&self) -> Box<[Line]> {
        (0..self.lines).map(|_| Line::default()).collect()
    }

    /// Adds to one number.
    pub fn add(&self, place: usize, count: u64) {
        self.shard().add(place, count);
    }

    /// What has been added to a number, by all threads.
    pub fn sum(&self, place: usize) -> u64 {
        let of = |shard: &Own| Some(number(shard.get()?, place)?.load(Ordering::Relaxed));
        self.shards.get().into_iter().flatten().filter_map(of).fold(0, u64::wrapping_add)
    }
}

impl Shard<'_> {
    /// Wraps around: taking away is adding the negative.
    pub fn add(self, place: usize, count: u64) {
        let Some(number) = number(self.lines, place) else { return };
        if self.is_own {
            number.store(number.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        } else {
            number.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn number(lines: &[Line], place: usize) -> Option<&AtomicU64> {
    lines.get(place / LINE).map(|line| &line.0[place % LINE])
}

impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").field("lines", &self.lines).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_add_is_all_there() {
        let cells = Cells::new(40);
        assert_eq!(cells.sum(39), 0);
        std::thread::scope(|scope| {
            // more than there are shards
            for _ in 0..100 {
                scope.spawn(|| (0..10_000).for_each(|_| cells.add(39, 2)));
            }
        });
        assert_eq!((cells.sum(39), cells.sum(38)), (2_000_000, 0));
        cells.add(39, 2_000_000_u64.wrapping_neg());
        assert_eq!(cells.sum(39), 0);
        cells.add(1_000, 1);
        assert_eq!(cells.sum(1_000), 0, "a place that there is not");
    }
}
