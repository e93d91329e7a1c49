//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::sh;

/// Packages that build and run as any user.
pub(crate) const HOST_PACKAGES: [&str; 3] = ["dfw-common", "dfw-agent", "xtask"];

/// The BPF programs.
pub(crate) const BPF_PACKAGE: &str = "dfw-ebpf";

/// What the tests send and answer packets with, also inside containers.
pub(crate) const PROBE_PACKAGE: &str = "dfw-probe";

/// Tests on real namespaces and engines; they need root.
pub(crate) const TESTS_PACKAGE: &str = "dfw-tests";

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// cargo, the same one that runs this, at the root of the workspace.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(subcommand);
    command
}

/// Arguments that select packages.
pub(crate) fn select<'a>(packages: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    packages
        .into_iter()
        .flat_map(|package| ["--package", package])
        .collect()
}

/// The directory of build results.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let text = sh::read(cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata")?;
    let path = metadata["target_directory"]
        .as_str()
        .context("no target_directory")?;
    Ok(PathBuf::from(path))
}

/// The target triple of this machine.
pub(crate) fn host() -> Result<String> {
    let version = sh::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}
