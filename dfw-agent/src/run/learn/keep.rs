//! The file that outlives the agent and the host's start.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::policy::Learned;

/// Version of the file's form.
const VERSION: u32 = 1;
/// Most bytes that are read: more than is ever written.
const BYTES_MAX: u64 = 64 << 20;

/// Where it is.
#[derive(Debug)]
pub(super) struct Keep {
    file: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    learned: &'a Learned,
}

#[derive(Deserialize)]
struct Read {
    version: u32,
    learned: Learned,
}

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", .path.display())]
pub(super) struct KeepError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Removes what an agent with this directory has kept, and the directory where nothing else is in it, nor mounted on it.
///
/// # Errors
/// A file that cannot be removed.
pub(crate) fn forget(state: &Path) -> io::Result<()> {
    let file = file(state);
    for path in [beside(&file), broken(&file), file] {
        remove(&path)?;
    }
    let _ = fs::remove_dir(state);
    Ok(())
}

/// Removes a file that need not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("seen.json")
}

/// Where the next state of the file is written.
fn beside(file: &Path) -> PathBuf {
    file.with_extension("json-new")
}

/// Where a file goes that cannot be read.
fn broken(file: &Path) -> PathBuf {
    file.with_extension("json-broken")
}

impl Keep {
    /// In the directory of `--state`, which need not exist.
    pub(super) fn at(state: &Path) -> Self {
        Self { file: file(state) }
    }

    /// What an earlier agent kept. What cannot be read is put aside and told, and learning begins anew.
    pub(super) fn read(&self) -> Option<Learned> {
        let path = self.file.display();
        match read(&self.file) {
            Ok(Some(learned)) => Some(learned),
            Ok(None) => None,
            Err(error) => {
                let aside = broken(&self.file);
                let moved = rename(&self.file, &aside);
                let moved = moved.map(|()| aside.display().to_string());
                tracing::warn!(
                    %error,
                    file = %path,
                    aside = moved.as_deref().unwrap_or("not moved"),
                    "what was learned in audit cannot be read; learning begins anew"
                );
                None
            }
        }
    }

    /// Keeps it: after a crash the file is the one before or this one.
    ///
    /// # Errors
    /// It is as it was.
    pub(super) fn write(&self, learned: &Learned) -> Result<(), KeepError> {
        self.try_write(learned).map_err(|source| KeepError {
            path: self.file.clone(),
            source,
        })
    }

    fn try_write(&self, learned: &Learned) -> io::Result<()> {
        let version = VERSION;
        let text = serde_json::to_vec(&Written { version, learned })?;
        if let Some(directory) = self.file.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let new = beside(&self.file);
        // Whatever else has that name is not written to.
        remove(&new)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        rename(&new, &self.file)
    }
}

/// By the one call of this kind that the system call filter lets pass on each architecture.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    let flags = rustix::fs::RenameFlags::empty();
    Ok(rustix::fs::renameat_with(here, from, here, to, flags)?)
}

fn read(path: &Path) -> io::Result<Option<Learned>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let mut options = OpenOptions::new();
    // A pipe would be waited for.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    match options.open(path) {
        Ok(file) if !file.metadata()?.is_file() => {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(file) => file.take(BYTES_MAX).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Read { version, learned } = serde_json::from_slice(&text)?;
    if version == VERSION {
        Ok(Some(learned))
    } else {
        Err(io::Error::other(format!("it is of version {version}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_agent_reads_what_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("lib/dfw");
        let keep = Keep::at(&state);
        assert_eq!(keep.read(), None, "there is none yet");
        let learned = Learned {
            since: 7,
            ..Learned::default()
        };
        keep.write(&learned).expect("written");
        assert_eq!(Keep::at(&state).read(), Some(learned));
        forget(&state).expect("removed");
        assert!(!state.exists());
        forget(&state).expect("twice does no harm");
    }

    #[test]
    fn what_cannot_be_read_is_put_aside() {
        let directory = tempfile::tempdir().expect("a directory");
        let keep = Keep::at(directory.path());
        for text in [
            "",
            "{",
            r#"{"version":2,"learned":{"since":1,"records":[],"missing":0}}"#,
        ] {
            fs::write(&keep.file, text).expect("written");
            assert_eq!(keep.read(), None, "{text}");
            assert!(!keep.file.exists());
            assert_eq!(fs::read_to_string(broken(&keep.file)).expect("aside"), text);
        }
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_written_through() {
        let directory = tempfile::tempdir().expect("a directory");
        let keep = Keep::at(directory.path());
        let precious = directory.path().join("precious");
        fs::write(&precious, "precious").expect("written");
        let pipe = |at: &Path| {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, at, kind, 0o600.into(), 0).expect("a pipe");
        };
        pipe(&keep.file);
        assert_eq!(keep.read(), None);
        assert!(!keep.file.exists(), "it is put aside");
        pipe(&beside(&keep.file));
        keep.write(&Learned::default()).expect("written");
        std::os::unix::fs::symlink(&precious, beside(&keep.file)).expect("a link");
        keep.write(&Learned::default()).expect("written");
        assert_eq!(keep.read(), Some(Learned::default()));
        assert_eq!(fs::read_to_string(&precious).expect("there"), "precious");
    }

    #[test]
    fn what_cannot_be_written_says_where() {
        let keep = Keep::at(Path::new("/proc/nothing"));
        let error = keep.write(&Learned::default()).expect_err("no room");
        assert_eq!(error.to_string(), "cannot write /proc/nothing/seen.json");
    }
}
