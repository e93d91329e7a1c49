//! What was needed for a moment goes back to the kernel.

/// Gives back what was freed. The allocator keeps it otherwise: a pass, or a load of the programs, needs several times of
/// what it leaves behind.
pub fn give_back() {
    // Other C libraries give back by themselves what they can.
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches nothing but pages that hold nothing.
    unsafe {
        libc::malloc_trim(0);
    }
}
