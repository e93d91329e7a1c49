//! Ctrl-C ends the run between two measurements, so that everything that was made is removed as at its end.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

static CAME: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGINT and SIGTERM are noted; the second of them ends the process at once.
pub(crate) fn watch() {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first one only arms it.
        let armed = flag::register_conditional_shutdown(signal, 1, Arc::clone(&CAME));
        let noted = armed.and_then(|_| flag::register(signal, Arc::clone(&CAME)));
        noted.expect("these can be caught");
    }
}

/// Whether one came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
