//! A shop and an attacker on one bridge.

use anyhow::{Result, bail};

use crate::{
    build::{self, Profile},
    setup::{self, Scope},
    sh, test, workspace,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave everything running and print what to try next.
    #[arg(long)]
    keep: bool,
    /// Use plain network namespaces even where a Docker engine can be started.
    #[arg(long)]
    namespaces: bool,
    /// Remove what demos with --keep, or interrupted ones, left.
    #[arg(long, conflicts_with_all = ["keep", "namespaces"])]
    clean: bool,
}

/// Builds what the demo shows and runs it: the story itself is tests/src/bin/demo.
///
/// # Errors
/// Something that the demo shows is not so; a machine on which it cannot run.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(hindrance) = test::hindrance() {
        bail!("the demo cannot run here: {hindrance}");
    }
    setup::run(&[Scope::Test])?;
    let dfw = build::dfw(Profile::Dev)?;
    let mut demo = workspace::cargo("run");
    demo.args([
        "--quiet",
        "--package",
        workspace::TESTS_PACKAGE,
        "--bin",
        "demo",
        "--",
    ]);
    demo.args(options.keep.then_some("--keep"))
        .args(options.namespaces.then_some("--namespaces"))
        .args(options.clean.then_some("--clean"))
        .env("DFW_BIN", dfw);
    sh::run(&mut demo)
}
