//! Leaves nothing behind.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What [`uninstall`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UninstallReport {
    /// Pinned links, which detaches their programs.
    pub links: usize,
    /// Pinned maps.
    pub maps: usize,
}

/// Removes every link and map that is pinned under `bpffs`, of every version, and the directory. Links first: a program
/// must not outlive its policy. Goes on after an error; nothing there is not an error.
///
/// # Errors
/// The first of what could not be removed, with its path.
pub fn uninstall(bpffs: &Path) -> Result<UninstallReport, io::Error> {
    let mut report = UninstallReport::default();
    let mut first = None;
    for version in list(bpffs, &mut first)
        .iter()
        .filter(|path| is_version(path))
    {
        let (links, maps) = (version.join("links"), version.join("maps"));
        report.links += empty(&links, &mut first);
        report.maps += empty(&maps, &mut first);
        for directory in [&links, &maps, version] {
            note(fs::remove_dir(directory), directory, &mut first);
        }
    }
    if bpffs.exists() && list(bpffs, &mut first).is_empty() {
        note(fs::remove_dir(bpffs), bpffs, &mut first);
    }
    first.map_or(Ok(report), Err)
}

fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix('v'))
        .is_some_and(|number| number.parse::<u32>().is_ok())
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
