//! Waiting for what happens elsewhere.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How often is looked.
const STEP: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it; none when the time is over.
pub fn until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(STEP);
    }
}

/// As [`until`], but what never comes is a failure.
///
/// # Panics
/// When the time is over; names `what`.
#[track_caller]
pub fn expect<T>(what: &str, patience: Duration, look: impl FnMut() -> Option<T>) -> T {
    until(patience, look).unwrap_or_else(|| panic!("{what}: not within {patience:?}"))
}
