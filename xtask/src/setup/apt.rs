//! Debian packages, without starting the daemons that some of them bring.

use std::{
    collections::BTreeSet, fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::sh;

/// Asked by every package before it starts a service; 101 forbids it (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs packages; reads the lists anew only when the first try fails.
pub(crate) fn install(packages: &BTreeSet<&str>) -> Result<()> {
    let _no_services = NoServices::new()?;
    if install_once(packages).is_ok() {
        return Ok(());
    }
    sh::run(apt_get().arg("update"))?;
    install_once(packages)
}

fn install_once(packages: &BTreeSet<&str>) -> Result<()> {
    sh::run(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["--quiet=2", "-o", "DPkg::Lock::Timeout=300"]);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, no package starts a service. A policy that the machine already has is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY)
            .with_context(|| format!("cannot create {POLICY}"))?;
        let policy = Self { ours: true };
        file.write_all(b"#!/bin/sh\nexit 101\n")
            .with_context(|| format!("cannot write {POLICY}"))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("setup: please remove {POLICY}: {error}");
        }
    }
}
