//! A shop and an attacker on one bridge.

use anyhow::Result;

use crate::{
    build::{self, Profile},
    setup::{self, Scope},
    sh, workspace,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave everything running and print what to try next.
    #[arg(long)]
    keep: bool,
}

/// Builds what the demo shows and runs it: the story itself is tests/src/bin/demo.rs.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(&[Scope::Test])?;
    let dfw = build::dfw(Profile::Release)?;
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
        .env("DFW_BIN", dfw);
    sh::run(&mut demo)
}
