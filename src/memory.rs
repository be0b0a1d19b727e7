//! What the allocator holds and nobody uses goes back to the system. Asked for after work that takes a lot for a moment:
//! reading a configuration and taking one apart, by `run`.

/// Of what this thread has used, and of what threads that have ended have left. It takes milliseconds.
///
/// The allocator would do so by and by, as more is allocated; a gate at rest allocates next to nothing. In a program of
/// someone else's that uses another allocator there is nothing to give back.
pub fn give_back() {
    // SAFETY: of the allocator's own state, which it guards; an allocator that nobody uses has none.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
