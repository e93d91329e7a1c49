//! What was needed for a moment goes back to the kernel. The C library is asked for it where it is glibc: others have no
//! such calls.

/// Has the allocator hold back little, whatever it was once asked for: glibc else takes the largest piece that was ever
/// freed for the measure (`M_TRIM_THRESHOLD` in mallopt(3)). To be called before there are threads.
pub fn hold_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's own, to its initial value.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives back what was freed in between: a pass, or a load of the programs, needs several times of what it leaves behind.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks, and only pages that hold nothing.
    unsafe {
        libc::malloc_trim(0);
    }
}
