//! Short RCU grace periods while many programs are attached.
//!
//! To attach a TCX program is to wait for a grace period, some 8 to 16 ms; an expedited one takes less than 1 ms. The
//! switch is the host's and costs every CPU an interruption for each of them, so it is on for a bulk only. A marker file
//! says that it was dfw that set it: whoever finds the marker after a crash puts the switch back.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// The kernel's switch (kernel/ksysfs.c).
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// So many programs are a bulk: fewer wait for their turn in less than 100 ms anyway.
pub(super) const BULK: usize = 9;
/// What one program may take otherwise.
const ORDINARY: Duration = Duration::from_millis(16);

/// May turn the switch on.
#[derive(Debug)]
pub struct Switch {
    marker: PathBuf,
    is_told: bool,
}

/// The switch is on until this is dropped.
#[derive(Debug)]
pub(super) struct Expedited {
    marker: PathBuf,
}

impl Switch {
    /// `marker` is the file that says, after a crash, that the switch must be put back; that is done here.
    pub fn new(marker: PathBuf) -> Self {
        restore(&marker);
        Self {
            marker,
            is_told: false,
        }
    }

    /// For attaching so many programs. None when they are no bulk, when the switch is on already, or when it cannot be
    /// set: then the time that it takes is logged once.
    pub(super) fn begin(&mut self, programs: usize) -> Option<Expedited> {
        if programs < BULK {
            return None;
        }
        self.turn_on().unwrap_or_else(|error| {
            if !self.is_told {
                self.is_told = true;
                let seconds = ORDINARY.as_secs_f64() * programs as f64;
                tracing::info!(
                    programs,
                    "attaching takes up to {seconds:.1} s: {SWITCH} cannot be set: {error}"
                );
            }
            None
        })
    }

    fn turn_on(&self) -> io::Result<Option<Expedited>> {
        if fs::read_to_string(SWITCH)?.trim() != "0" {
            return Ok(None);
        }
        // Opened before the marker is written: most often it is this that is refused.
        let mut switch = File::options().write(true).open(SWITCH)?;
        fs::write(&self.marker, "dfw has set /sys/kernel/rcu_expedited\n")?;
        switch.write_all(b"1")?;
        Ok(Some(Expedited {
            marker: self.marker.clone(),
        }))
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        restore(&self.marker);
    }
}

/// Puts the switch back if the marker says that dfw has set it. The marker goes last: a crash between finds it again.
fn restore(marker: &Path) {
    if !marker.exists() {
        return;
    }
    if let Err(error) = fs::write(SWITCH, "0").and_then(|()| fs::remove_file(marker)) {
        tracing::warn!(%error, marker = %marker.display(), "{SWITCH} cannot be put back");
    }
}
