//! Names, and directories that go away with all that was mounted inside.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::leaks;

/// A name that no other test uses: `dfwt-PID-NUMBER`.
pub fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}{number}", prefix(process::id()));
    leaks::note_name(&name);
    name
}

/// How all names begin that a process gives.
pub fn prefix(pid: u32) -> String {
    format!("dfwt-{pid}-")
}

/// A directory of one test's own. Dropped, everything that is mounted inside is unmounted and the directory removed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one, under the system's directory for temporary files.
    ///
    /// # Panics
    /// When that is not possible.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let path = env::temp_dir().join(name());
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// Takes over one that an earlier process made.
    pub fn adopt(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file with this text; returns where it is.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// A BPF file system of its own, mounted inside; returns where it is.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn bpffs(&self) -> PathBuf {
        let path = self.path.join("bpf");
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        rustix::mount::mount("bpf", &path, "bpf", MountFlags::empty(), None)
            .unwrap_or_else(|error| panic!("mount bpf at {}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .map(Path::new);
        // The last mounted lies on top.
        let inside: Vec<_> = places
            .filter(|place| place.starts_with(&self.path))
            .collect();
        for place in inside.into_iter().rev() {
            if let Err(error) = rustix::mount::unmount(place, UnmountFlags::DETACH) {
                eprintln!("unmount {}: {error}", place.display());
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}
