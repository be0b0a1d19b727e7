//! The allocator of the binary, mimalloc, and what it gives back to the system.

mod blocks;

use blocks::Class;
pub use blocks::keep as keep_blocks;
use libmimalloc_sys as mi;
use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;

/// What mimalloc aligns any memory to that has this size or more (its `MI_MAX_ALIGN_SIZE`).
const ALIGNED: usize = 16;
/// And what is smaller.
const ALIGNED_SMALL: usize = 8;

/// mimalloc, asked for an alignment only where it does not have it anyway: the crate `mimalloc` always asks, which takes
/// half as long again and for some sizes more memory. Programs with filters of their own may use it as the binary does.
#[derive(Debug, Default)]
pub struct Allocator;

/// Whoever asks for less never sees that there is none. More than this somebody may do without (`Vec::try_reserve`).
const LARGE: usize = 64 * 1024;

/// What std does where memory is refused, except that it cannot unwind. The compiler, which sees through the allocator
/// in a release, knows from that that nothing comes between the making of a value and its box, and makes it in the box:
/// else it would make the future of a request, 13 KB, on the stack and copy it. See decision 039.
#[cold]
#[inline(never)]
extern "C" fn refused(size: usize) -> ! {
    let _ = writeln!(std::io::stderr(), "memory allocation of {size} bytes failed");
    std::process::abort()
}

/// Whether mimalloc aligns this by itself.
fn is_aligned(layout: Layout) -> bool {
    layout.align() <= if layout.size() >= ALIGNED { ALIGNED } else { ALIGNED_SMALL }
}

// SAFETY: what is allocated is as large and as aligned as its layout says: mimalloc aligns to 16 bytes what has 16 or
// more, and the rest to 8 (tested below), and is told what else is wanted. It does not unwind.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and power of two is allowed.
        let memory: *mut u8 = match (Class::of(layout), is_aligned(layout)) {
            (Some(class), _) => class.allocate(),
            (None, true) => unsafe { mi::mi_malloc(layout.size()).cast() },
            (None, false) => unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()).cast() },
        };
        if memory.is_null() && layout.size() < LARGE {
            refused(layout.size());
        }
        memory
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above, and what is written to is as large.
        unsafe {
            match (Class::of(layout), is_aligned(layout)) {
                (Some(class), _) => {
                    let memory = class.allocate();
                    if !memory.is_null() {
                        memory.write_bytes(0, layout.size());
                    }
                    memory
                }
                (None, true) => mi::mi_zalloc(layout.size()).cast(),
                (None, false) => mi::mi_zalloc_aligned(layout.size(), layout.align()).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: it was allocated here with this layout, as the caller promises.
        unsafe {
            match Class::of(layout) {
                Some(class) => class.free(memory),
                None => mi::mi_free(memory.cast()),
            }
        }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: that it is a layout is what the caller promises.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (Class::of(layout), Class::of(new)) {
            (None, None) => {}
            // there is room
            (old, new) if old == new => return memory,
            // SAFETY: the two are different and as large as their layouts say; the old one is freed as it was allocated.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(memory, layout.size().min(size));
                    self.dealloc(memory, layout);
                }
                return moved;
            },
        }
        // SAFETY: as above. What is moved is aligned as what is new.
        unsafe {
            match is_aligned(new) && is_aligned(layout) {
                true => mi::mi_realloc(memory.cast(), size).cast(),
                false => mi::mi_realloc_aligned(memory.cast(), size, layout.align()).cast(),
            }
        }
    }
}

/// Memory comes from the system in pages of 4 KB from now on, where it came in pages of 2 MB (transparent huge pages),
/// which are in memory whole. A gate holds many buffers that have more room than is mostly used, such as the 16 KB for
/// writing that each connection of HTTP/2 has. See decision 040.
#[cfg(target_os = "linux")]
pub fn in_small_pages() {
    // where it is not to be had, more memory is used
    nix::sys::prctl::set_thp_disable(true).ok();
}

#[cfg(not(target_os = "linux"))]
pub fn in_small_pages() {}

/// What this thread has used and nobody uses goes back to the system, and of what threads that have ended have left. It
/// takes milliseconds. Asked for after work that takes a lot for a moment: reading a configuration and taking one apart.
///
/// The allocator would do so by and by, as more is allocated; a gate at rest allocates next to nothing. In a program of
/// someone else's that uses another allocator there is nothing to give back.
pub fn give_back() {
    // SAFETY: of the allocator's own state, which it guards; an allocator that nobody uses has none.
    unsafe { mi::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts() -> impl Iterator<Item = Layout> {
        let sizes = (1..=1100).chain([
            4095,
            4096,
            4097,
            13_000,
            32_768,
            32_769,
            65_536,
            65_537,
            131_072,
            131_073,
            1 << 20,
            (1 << 20) + 8,
        ]);
        let aligns = (0..=12).map(|power| 1_usize << power);
        sizes.flat_map(move |size| {
            aligns.clone().map(move |align| Layout::from_size_align(size, align).unwrap())
        })
    }

    fn fill(memory: *mut u8, layout: Layout) {
        assert!(!memory.is_null() && memory.addr().is_multiple_of(layout.align()), "{layout:?}");
        // SAFETY: so much was allocated.
        unsafe { memory.write_bytes(0xa5, layout.size()) };
    }

    #[test]
    fn memory_is_aligned_as_asked_for() {
        let mut held = Vec::new();
        for layout in layouts() {
            // SAFETY: the layout is not empty.
            let memory = unsafe { Allocator.alloc(layout) };
            fill(memory, layout);
            held.push((memory, layout));
            // half of it is freed at once, so that places of all sizes are used again
            if held.len() % 2 == 0 {
                let (memory, layout) = held.swap_remove(held.len() / 2);
                // SAFETY: it was allocated so.
                unsafe { Allocator.dealloc(memory, layout) };
            }
        }
        for (memory, layout) in held {
            // SAFETY: it was allocated so.
            unsafe { Allocator.dealloc(memory, layout) };
        }
    }

    #[test]
    fn zeroed_memory_is_zero() {
        for layout in layouts() {
            for _ in 0..2 {
                // SAFETY: the layout is not empty, and what is looked at was allocated.
                unsafe {
                    let memory = Allocator.alloc_zeroed(layout);
                    assert!(!memory.is_null() && memory.addr().is_multiple_of(layout.align()), "{layout:?}");
                    let bytes = std::slice::from_raw_parts(memory, layout.size());
                    assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
                    fill(memory, layout);
                    Allocator.dealloc(memory, layout);
                }
            }
        }
    }

    #[test]
    fn what_grows_or_shrinks_keeps_what_it_holds_and_its_alignment() {
        for align in [1, 8, 16, 64, 4096] {
            for (from, to) in [
                (3, 9),
                (9, 24),
                (24, 1000),
                (1000, 13_000),
                (13_000, 17),
                (17, 2),
                (2, 1 << 20),
                (9, 40_000),
                (40_000, 60_000),
                (60_000, 120_000),
                (120_000, 1 << 20),
                (1 << 20, 50_000),
                (50_000, 9),
            ] {
                let layout = Layout::from_size_align(from, align).unwrap();
                // SAFETY: the layouts are not empty, and what is looked at was allocated.
                unsafe {
                    let memory = Allocator.alloc(layout);
                    fill(memory, layout);
                    let moved = Allocator.realloc(memory, layout, to);
                    let layout = Layout::from_size_align(to, align).unwrap();
                    assert!(std::slice::from_raw_parts(moved, from.min(to)).iter().all(|byte| *byte == 0xa5));
                    fill(moved, layout);
                    Allocator.dealloc(moved, layout);
                }
            }
        }
    }
}
