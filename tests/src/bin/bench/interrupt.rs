//! Ctrl-C ends the run between two measurements, so that everything that was made is removed as at its end.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::sys::signal::{SigSet, Signal};

static CAME: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM are noted; the second of them ends the process at once.
pub(crate) fn watch() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Threads that are started later take it over; commands do not (std::process).
    signals.thread_block().expect("these can be blocked");
    thread::spawn(move || {
        while signals.wait().is_ok() {
            if CAME.swap(true, Ordering::Relaxed) {
                eprintln!(
                    "interrupted again: what is left is named dfwt-{}-*",
                    process::id()
                );
                process::exit(1);
            }
            eprintln!("interrupted: cleaning up");
        }
    });
}

/// Whether one came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
