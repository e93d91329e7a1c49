//! The release binary.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    setup::{self, Scope},
    sh, workspace,
};

/// Builds the release binary and prints its path and size.
pub(crate) fn run() -> Result<()> {
    setup::run(&[Scope::Build])?;
    let binary = dfw(Profile::Release)?;
    let size = fs::metadata(&binary)
        .with_context(|| binary.display().to_string())?
        .len();
    println!(
        "{} {:.1} MiB",
        binary.display(),
        size as f64 / f64::from(1 << 20)
    );
    Ok(())
}

/// How the binary is compiled; the BPF object inside is the same.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build: for tests of behaviour.
    Dev,
    /// As shipped: for people and measurements.
    Release,
}

/// Builds the binary and returns its path.
pub(crate) fn dfw(profile: Profile) -> Result<PathBuf> {
    let mut cargo = workspace::cargo("build");
    cargo.args(["--package", "dfw-agent", "--bin", "dfw"]);
    let directory = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    sh::run(&mut cargo)?;
    Ok(workspace::target_dir()?.join(directory).join("dfw"))
}
