//! The binary.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

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

/// Flags for rustc, divided by cargo's own separator.
const STATIC: &str = "-C\x1ftarget-feature=+crt-static";

/// How the binary is compiled; the BPF object inside is the same.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build: for tests of behaviour.
    Dev,
    /// As shipped: for people and measurements.
    Release,
}

/// Builds the binary and returns its path. It is linked statically, for tests too: what they try is what runs in an empty
/// image, and on hosts with another C library than this one.
pub(crate) fn dfw(profile: Profile) -> Result<PathBuf> {
    binary(profile, "dfw-agent", "dfw")
}

/// Builds a binary of a package, as [`dfw`] is built, and returns its path.
pub(crate) fn binary(profile: Profile, package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = cargo("build")?;
    cargo.args(["--package", package, "--bin", name]);
    let directory = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    sh::run(&mut cargo)?;
    let target = workspace::target_dir()?.join(workspace::host()?);
    Ok(target.join(directory).join(name))
}

/// A cargo that links statically; it shares what it compiles with the others.
pub(crate) fn cargo(subcommand: &str) -> Result<Command> {
    let mut cargo = workspace::cargo(subcommand);
    // With a target named, the flags are not those of build scripts and macros, which cannot be static.
    cargo.args(["--target", &workspace::host()?]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", STATIC);
    Ok(cargo)
}

/// The binary to ship: this one, if it can run anywhere, else a new one.
///
/// # Errors
/// It does not build; the given one is linked dynamically, or cannot be read.
pub(crate) fn shipped(given: Option<&Path>) -> Result<PathBuf> {
    let Some(binary) = given else {
        setup::run(&[Scope::Build])?;
        return dfw(Profile::Release);
    };
    let elf = fs::read(binary).with_context(|| binary.display().to_string())?;
    match wants_a_loader(&elf) {
        Some(false) => Ok(binary.to_owned()),
        Some(true) => bail!(
            "{} is linked dynamically and finds no C library where it is to run: ship what `cargo xtask build` makes",
            binary.display()
        ),
        None => bail!("{} is no program for a 64-bit machine", binary.display()),
    }
}

/// Whether a program asks for a dynamic loader, by a program header of type PT_INTERP (elf(5)); none if this is no 64-bit
/// ELF file of this machine's byte order.
fn wants_a_loader(elf: &[u8]) -> Option<bool> {
    const CLASS_64: u8 = 2;
    const INTERP: u32 = 3;
    if !elf.starts_with(b"\x7fELF") || *elf.get(4)? != CLASS_64 {
        return None;
    }
    let number = |at: usize| Some(u16::from_ne_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let start = u64::from_ne_bytes(elf.get(32..40)?.try_into().ok()?);
    let headers = elf.get(usize::try_from(start).ok()?..)?;
    let (size, count) = (usize::from(number(54)?), usize::from(number(56)?));
    let mut kinds = headers
        .chunks_exact(size.max(4))
        .take(count)
        .map(|header| &header[..4]);
    Some(kinds.any(|kind| kind == INTERP.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_wants_a_loader_is_told_from_one_that_does_not() {
        let own = std::env::current_exe().and_then(fs::read);
        let mut elf = own.expect("a process knows its binary");
        assert_eq!(wants_a_loader(&elf), Some(true));
        // No program headers at all.
        elf[56..58].fill(0);
        assert_eq!(wants_a_loader(&elf), Some(false));
        for length in [0, 4, 40, 60] {
            assert_eq!(wants_a_loader(&elf[..length]), None, "{length}");
        }
        assert_eq!(wants_a_loader(b"#!/bin/sh\nexec dfw"), None);
    }
}
