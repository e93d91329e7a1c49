//! Modes that `dfw mode` has switched, and when they end.
//!
//! Written down beside the command socket before they are in force, so that the next agent goes on with them. They end by
//! the clock that counts from the host's start and cannot be set, and none outlives that start: a jump of the wall clock
//! neither prolongs nor shortens one, and after a reboot labels and file hold.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    model::OverrideView,
    policy::{Mode, Override, Select},
};

/// Most of them at a time.
const MODES_MAX: usize = 64;
/// Identity of the host's present start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where an agent with this command socket writes them down.
pub(super) fn file(socket: &Path) -> PathBuf {
    socket.with_extension("modes")
}

/// Removes what an agent with this command socket wrote down.
///
/// # Errors
/// A file that cannot be removed.
pub(crate) fn forget(socket: &Path) -> io::Result<()> {
    let file = file(socket);
    for path in [beside(&file), file] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where the next state of the file is written.
fn beside(file: &Path) -> PathBuf {
    file.with_extension("modes-new")
}

/// Everything that is switched at present, the latest last.
#[derive(Clone, Debug)]
pub(super) struct Modes {
    file: PathBuf,
    switched: Vec<Switched>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Switched {
    what: Override,
    /// Since the host's start.
    ends: Option<Duration>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    boot: String,
    modes: Vec<WrittenMode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenMode {
    selector: String,
    mode: String,
    ends_ms: Option<u64>,
}

impl Modes {
    /// Goes on with what an earlier agent wrote since the host's start. What cannot be read is told, and labels hold.
    pub(super) fn open(file: PathBuf) -> Self {
        let switched = read(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %file.display(), "modes that were switched cannot be read; labels and file hold");
            Vec::new()
        });
        let mut modes = Self { file, switched };
        modes.expire();
        modes
    }

    /// Switches a mode until it ends; in place of what was switched for the same selector.
    ///
    /// # Errors
    /// It cannot be written down; nothing has changed then.
    pub(super) fn switch(&mut self, what: Override, lasts: Option<Duration>) -> io::Result<()> {
        let mut switched = self.without(&what.select);
        if switched.len() >= MODES_MAX {
            let why = format!("{MODES_MAX} modes are switched already: clear one of them");
            return Err(io::Error::other(why));
        }
        let ends = lasts.map(|lasts| since_boot().saturating_add(lasts));
        switched.push(Switched { what, ends });
        self.write(switched)
    }

    /// Lets labels and file hold again. Whether anything was switched for the selector.
    ///
    /// # Errors
    /// As [`Modes::switch`].
    pub(super) fn clear(&mut self, select: &Select) -> io::Result<bool> {
        let rest = self.without(select);
        let found = rest.len() < self.switched.len();
        self.write(rest)?;
        Ok(found)
    }

    /// Puts back what was switched at an earlier time.
    pub(super) fn restore(&mut self, earlier: Self) {
        if let Err(error) = self.write(earlier.switched) {
            tracing::warn!(%error, "the file of switched modes stays as it was");
        }
    }

    /// Ends what is over. Whether there was any.
    pub(super) fn expire(&mut self) -> bool {
        let now = since_boot();
        let (over, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.switched)
            .into_iter()
            .partition(|one| one.ends.is_some_and(|ends| ends <= now));
        self.switched = rest.clone();
        for one in &over {
            tracing::info!(selector = %one.what.select, mode = %one.what.mode, "the mode's time is over; labels and file hold again");
        }
        // What is over stays so, whatever the file says.
        if !over.is_empty()
            && let Err(error) = self.write(rest)
        {
            tracing::warn!(%error, "the file of switched modes stays as it was");
        }
        !over.is_empty()
    }

    pub(super) fn overrides(&self) -> Vec<Override> {
        self.switched.iter().map(|one| one.what.clone()).collect()
    }

    /// For people; the wall clock is read for nothing else.
    pub(super) fn view(&self) -> Vec<OverrideView> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let boot = now.unwrap_or_default().saturating_sub(since_boot());
        let one = |one: &Switched| OverrideView {
            selector: one.what.select.to_string(),
            mode: one.what.mode.to_string(),
            until: one.ends.map(|ends| (boot + ends).as_secs()),
        };
        self.switched.iter().map(one).collect()
    }

    fn without(&self, select: &Select) -> Vec<Switched> {
        let others = self.switched.iter();
        others
            .filter(|one| one.what.select != *select)
            .cloned()
            .collect()
    }

    /// Takes them over once they are on disk.
    fn write(&mut self, switched: Vec<Switched>) -> io::Result<()> {
        if switched.is_empty() {
            match fs::remove_file(&self.file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            let written = Written {
                boot: boot_id()?,
                modes: switched.iter().map(WrittenMode::from).collect(),
            };
            let new = beside(&self.file);
            fs::write(&new, serde_json::to_vec(&written)?)?;
            // The one call of this kind that the system call filter lets pass on each architecture.
            let here = rustix::fs::CWD;
            let flags = rustix::fs::RenameFlags::empty();
            rustix::fs::renameat_with(here, &new, here, &self.file, flags)?;
        }
        self.switched = switched;
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<Vec<Switched>> {
    let text = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let written: Written = serde_json::from_slice(&text)?;
    if written.boot != boot_id()? {
        fs::remove_file(file)?;
        return Ok(Vec::new());
    }
    written.modes.into_iter().map(Switched::try_from).collect()
}

impl From<&Switched> for WrittenMode {
    fn from(one: &Switched) -> Self {
        Self {
            selector: one.what.select.to_string(),
            mode: one.what.mode.to_string(),
            ends_ms: one.ends.map(|ends| ends.as_millis() as u64),
        }
    }
}

impl TryFrom<WrittenMode> for Switched {
    type Error = io::Error;

    fn try_from(written: WrittenMode) -> io::Result<Self> {
        let select = Select::parse(&written.selector);
        let select = select.map_err(|problems| {
            let first = problems.first().map(ToString::to_string);
            io::Error::other(first.unwrap_or_default())
        })?;
        let mode: Mode = written.mode.parse().map_err(io::Error::other)?;
        Ok(Self {
            what: Override { select, mode },
            ends: written.ends_ms.map(Duration::from_millis),
        })
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Since the host's start, with the time that it was suspended.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(selector: &str, mode: Mode) -> Override {
        let select = Select::parse(selector).expect("right");
        Override { select, mode }
    }

    fn words(modes: &Modes) -> Vec<String> {
        let views = modes.view();
        let word = |view: &OverrideView| format!("{} {}", view.selector, view.mode);
        views.iter().map(word).collect()
    }

    #[test]
    fn the_next_agent_goes_on_with_them_until_their_time_is_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("dfw.modes");
        let mut modes = Modes::open(place.clone());
        let (long, short) = (Duration::from_secs(600), Duration::from_secs(2));
        modes.switch(one("any", Mode::Off), None).expect("written");
        modes
            .switch(one("project:p group:g", Mode::Audit), Some(long))
            .expect("written");
        modes
            .switch(one("group:h", Mode::Enforce), Some(short))
            .expect("written");
        modes
            .switch(one("any", Mode::Audit), None)
            .expect("in place of the first");
        let all = ["project:p group:g audit", "group:h enforce", "any audit"];
        assert_eq!(words(&modes), all);
        let until = modes.view()[0].until.expect("an end");
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970");
        assert!(now.as_secs().abs_diff(until).abs_diff(600) <= 2, "{until}");

        assert_eq!(words(&Modes::open(place.clone())), all, "after a crash");
        std::thread::sleep(short);
        assert_eq!(
            words(&Modes::open(place.clone())),
            [all[0], all[2]],
            "ended meanwhile"
        );
        assert!(modes.expire() && !modes.expire());

        for text in ["any", "project:p group:g"] {
            assert!(
                modes
                    .clear(&Select::parse(text).expect("right"))
                    .expect("written")
            );
        }
        assert!(!place.exists(), "nothing stays behind");
    }

    #[test]
    fn none_outlives_the_start_of_the_host_nor_a_file_that_cannot_be_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("dfw.modes");
        let mode = r#"{"selector":"any","mode":"off","ends_ms":null}"#;
        let other_start = format!(r#"{{"boot":"00000000","modes":[{mode}]}}"#);
        let boot = boot_id().expect("a kernel");
        let bad = |mode: &str| format!(r#"{{"boot":"{boot}","modes":[{mode}]}}"#);
        assert_eq!(
            words(&write_and_open(&place, &bad(mode))),
            ["any off"],
            "the form is right"
        );
        for text in [
            other_start.as_str(),
            "",
            "{}",
            &bad(&mode.replace("off", "of")),
            &bad(&mode.replace("any", "host")),
        ] {
            assert!(words(&write_and_open(&place, text)).is_empty(), "{text}");
        }
    }

    fn write_and_open(place: &Path, text: &str) -> Modes {
        fs::write(place, text).expect("written");
        Modes::open(place.to_owned())
    }

    #[test]
    fn what_cannot_be_written_down_is_not_in_force() {
        let mut modes = Modes::open("/nonexistent/dfw.modes".into());
        modes
            .switch(one("any", Mode::Off), None)
            .expect_err("no directory");
        assert!(modes.overrides().is_empty());
        let directory = tempfile::tempdir().expect("a directory");
        let mut modes = Modes::open(directory.path().join("dfw.modes"));
        for number in 0..MODES_MAX {
            let select = format!("group:g{number}");
            modes.switch(one(&select, Mode::Audit), None).expect("room");
        }
        let error = modes
            .switch(one("any", Mode::Off), None)
            .expect_err("no room");
        assert!(error.to_string().contains("clear one"), "{error}");
    }
}
