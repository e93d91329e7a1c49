//! Leaves nothing behind.

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{expedite::Switch, fence, load::Pins, sys};

/// What [`uninstall`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UninstallReport {
    /// Pinned links, which detaches their programs.
    pub links: usize,
    /// Pinned maps.
    pub maps: usize,
}

/// Removes every link and map that is pinned under `bpffs`, of every version, and the directory. Links first: a program
/// must not outlive its policy. The fence goes too. Goes on after an error; nothing there is not an error. `marker` is that of
/// [`super::marker`]: what a killed agent has left is put back.
///
/// # Errors
/// The first of what could not be removed, with its path.
pub fn uninstall(bpffs: &Path, marker: PathBuf) -> Result<UninstallReport, io::Error> {
    let mut report = UninstallReport::default();
    let mut first = None;
    let pins = Pins::new(bpffs);
    detach(&pins.links(), &mut Switch::new(marker), &mut first);
    report.links = remove(&pins.links(), &mut first);
    match pins.versions() {
        Ok(versions) => {
            for version in versions {
                match remove_version(&version) {
                    Ok(maps) => report.maps += maps,
                    Err(error) => first = first.or(Some(error)),
                }
            }
        }
        Err(error) => drop(note(Err(error), bpffs, &mut first)),
    }
    note(fence::remove(), Path::new("nf_tables"), &mut first);
    if bpffs.exists() && list(bpffs, &mut first).is_empty() {
        note(fs::remove_dir(bpffs), bpffs, &mut first);
    }
    first.map_or(Ok(report), Err)
}

/// Detaches every link, so that nothing is enforced any more when this returns: a link whose last pin goes is detached by
/// the kernel later, thousands of them many seconds later.
fn detach(links: &Path, switch: &mut Switch, first: &mut Option<io::Error>) {
    let paths = list(links, first);
    let _expedited = switch.begin(paths.len());
    for path in paths {
        let detached = sys::open_pinned(&path).and_then(|link| sys::detach(link.as_fd()));
        note(detached, &path, first);
    }
}

/// Removes the maps of one version; says how many.
///
/// # Errors
/// The first of what could not be removed, with its path.
pub(super) fn remove_version(directory: &Path) -> io::Result<usize> {
    let mut first = None;
    let maps = remove(&directory.join("maps"), &mut first);
    note(fs::remove_dir(directory), directory, &mut first);
    first.map_or(Ok(maps), Err)
}

/// Empties a directory of pins and removes it.
fn remove(directory: &Path, first: &mut Option<io::Error>) -> usize {
    let removed = empty(directory, first);
    note(fs::remove_dir(directory), directory, first);
    removed
}

fn empty(directory: &Path, first: &mut Option<io::Error>) -> usize {
    let mut removed = 0;
    for path in list(directory, first) {
        if note(fs::remove_file(&path), &path, first) {
            removed += 1;
        }
    }
    removed
}

fn list(directory: &Path, first: &mut Option<io::Error>) -> Vec<PathBuf> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .collect(),
        Err(error) => {
            note(Err(error), directory, first);
            Vec::new()
        }
    }
}

/// Keeps the first error that is not about something that was not there; says whether there was none at all.
fn note(result: io::Result<()>, path: &Path, first: &mut Option<io::Error>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound && first.is_none() {
                *first = Some(io::Error::new(
                    error.kind(),
                    format!("{}: {error}", path.display()),
                ));
            }
            false
        }
    }
}
