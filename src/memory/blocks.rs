//! The sizes that bodies are read into, which a worker keeps for itself when they are free: the block that was freed last
//! is used next, while it is still in the cache of the core. mimalloc uses a block again when all others of its page
//! have been used since, and writes into it when it is freed: for these sizes, half a megabyte later.

use libmimalloc_sys as mi;
use std::alloc::Layout;
use std::array;
use std::cell::{Cell, RefCell};

const SIZES: [usize; 2] = [64 * 1024, 128 * 1024];
/// What is smaller is used again soon enough.
const SMALLEST: usize = 32 * 1024 + 1;
/// A worker keeps so many of each size.
const ROOM: usize = 3;
/// What mimalloc aligns blocks to by itself.
const ALIGNED: usize = 16;

thread_local! {
    static KEEPS: Cell<bool> = const { Cell::new(false) };
    /// Free blocks of each size. Nothing in here allocates, nor has it to be dropped.
    static FREE: RefCell<[Free; SIZES.len()]> = const { RefCell::new([const { Free::NONE }; SIZES.len()]) };
}

struct Free {
    blocks: [*mut u8; ROOM],
    count: usize,
}

impl Free {
    const NONE: Free = Free { blocks: [std::ptr::null_mut(); ROOM], count: 0 };

    fn push(&mut self, block: *mut u8) -> bool {
        let Some(slot) = self.blocks.get_mut(self.count) else { return false };
        *slot = block;
        self.count += 1;
        true
    }

    fn pop(&mut self) -> Option<*mut u8> {
        self.count = self.count.checked_sub(1)?;
        self.blocks.get(self.count).copied()
    }
}

/// One of the sizes. Whatever has a layout of this class was allocated as a block of that size, on whichever thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(usize);

impl Class {
    /// The class of a layout, if it has one.
    #[inline]
    pub fn of(layout: Layout) -> Option<Class> {
        let [first, largest] = SIZES;
        let fits = (SMALLEST..=largest).contains(&layout.size()) && layout.align() <= ALIGNED;
        fits.then_some(Class(usize::from(layout.size() > first)))
    }

    /// A block of this size; null where memory is refused.
    pub fn allocate(self) -> *mut u8 {
        let free = FREE.with_borrow_mut(|free| free.get_mut(self.0).and_then(Free::pop));
        let size = SIZES.get(self.0).copied().unwrap_or_default();
        // SAFETY: any size is allowed.
        free.unwrap_or_else(|| unsafe { mi::mi_malloc(size).cast() })
    }

    /// Frees a block, or keeps it.
    ///
    /// # Safety
    /// It was allocated with this class, and nobody uses it any more.
    pub unsafe fn free(self, block: *mut u8) {
        let kept = KEEPS.get()
            && FREE.with_borrow_mut(|free| free.get_mut(self.0).is_some_and(|free| free.push(block)));
        if !kept {
            // SAFETY: mimalloc allocated it, as the caller promises.
            unsafe { mi::mi_free(block.cast()) }
        }
    }
}

/// While it lives, its thread keeps blocks that are free.
#[derive(Debug)]
pub struct Keeping(std::marker::PhantomData<*const ()>);

/// This thread is a worker. It keeps no more than half a megabyte.
#[must_use]
pub fn keep() -> Keeping {
    KEEPS.set(true);
    Keeping(std::marker::PhantomData)
}

impl Drop for Keeping {
    fn drop(&mut self) {
        KEEPS.set(false);
        let all = FREE.replace(array::from_fn(|_| Free::NONE));
        for mut free in all {
            while let Some(block) = free.pop() {
                // SAFETY: mimalloc allocated it, and nobody uses it.
                unsafe { mi::mi_free(block.cast()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(size: usize) -> Option<Class> {
        Class::of(Layout::from_size_align(size, 8).unwrap())
    }

    fn kept() -> [usize; 2] {
        FREE.with_borrow(|free| [free[0].count, free[1].count])
    }

    #[test]
    fn a_size_has_a_class_that_is_large_enough() {
        let of = |size: usize| class(size).map(|Class(index)| SIZES[index]);
        assert_eq!([32, 1024, 32 * 1024].map(of), [None; 3]);
        assert_eq!([32 * 1024 + 1, 65_535, 65_536].map(of), [Some(65_536); 3]);
        assert_eq!([65_537, 102_400, 131_072].map(of), [Some(131_072); 3]);
        assert_eq!([131_073, 1 << 20].map(of), [None; 2]);
        let aligned = |align| Class::of(Layout::from_size_align(65_536, align).unwrap()).is_some();
        assert_eq!([1, 16, 32, 4096].map(aligned), [true, true, false, false]);
    }

    #[test]
    fn a_worker_uses_next_what_it_freed_last() {
        let (small, large) = (class(40_000).unwrap(), class(100_000).unwrap());
        let _keeping = keep();
        let blocks: Vec<_> = (0..2 * ROOM).map(|_| small.allocate()).collect();
        let other = large.allocate();
        // SAFETY: they were allocated so.
        unsafe {
            large.free(other);
            blocks.iter().for_each(|block| small.free(*block));
        }
        // those that came when there was no room are mimalloc's again
        assert_eq!(kept(), [ROOM, 1]);
        let again: Vec<_> = (0..ROOM).map(|_| small.allocate()).collect();
        assert!(again.iter().eq(blocks[..ROOM].iter().rev()));
        assert_eq!((large.allocate(), kept()), (other, [0, 0]));
        // SAFETY: as above.
        unsafe {
            again.into_iter().for_each(|block| small.free(block));
            large.free(other);
        }
        assert_eq!(kept(), [ROOM, 1]);
        drop(_keeping);
        assert_eq!(kept(), [0, 0]);
    }

    #[test]
    fn others_keep_nothing() {
        let class = class(40_000).unwrap();
        // SAFETY: it was allocated so.
        unsafe { class.free(class.allocate()) };
        assert_eq!(kept(), [0, 0]);
    }
}
