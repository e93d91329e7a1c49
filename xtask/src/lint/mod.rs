//! Formatting, clippy on everything, the rules of the house, licences.

mod licences;
mod paths;
mod tidy;

use anyhow::{Context as _, Result};

use crate::{
    setup::{
        self, Scope,
        toolchain::{self, Toolchain},
    },
    sh, workspace,
};

const BPF_TARGET: &str = "bpfel-unknown-none";

/// Runs every check; stops at the first kind that fails.
pub(crate) fn run() -> Result<()> {
    setup::run(&[Scope::Lint])?;
    sh::run(workspace::cargo("fmt").args(["--all", "--check"]))?;
    let fuzz = ["--manifest-path", "tests/fuzz/Cargo.toml", "--check"];
    sh::run(workspace::cargo("fmt").args(fuzz))?;
    tidy::run()?;
    licences::run()?;
    let packages = workspace::HOST_PACKAGES
        .into_iter()
        .chain([workspace::TESTS_PACKAGE]);
    let mut host = workspace::cargo("clippy");
    host.args(workspace::select(packages))
        .args(["--all-targets", "--", "--deny", "warnings"]);
    sh::run(&mut host)?;
    clippy_bpf()
}

fn clippy_bpf() -> Result<()> {
    let toolchain = Toolchain::find(BPF_TARGET).context("setup brings a BPF toolchain")?;
    let linker = toolchain::find_linker().context("setup brings bpf-linker")?;
    let flags = toolchain::rustc_flags(&linker, std::env::consts::ARCH);
    let mut clippy = toolchain.cargo("clippy", BPF_TARGET, &flags);
    clippy.current_dir(workspace::root());
    clippy
        .arg("--target-dir")
        .arg(workspace::target_dir()?.join("bpf-clippy"));
    clippy.args([
        "--package",
        workspace::BPF_PACKAGE,
        "--",
        "--deny",
        "warnings",
    ]);
    sh::run(&mut clippy)
}
