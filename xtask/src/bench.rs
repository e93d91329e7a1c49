//! What dfw costs: nanoseconds a packet, bytes of memory.

use anyhow::Result;

use crate::{
    build::{self, Profile},
    setup::{self, Scope},
    sh, workspace,
};

/// Builds what is measured and runs the benchmarks of tests/benches.
pub(crate) fn run() -> Result<()> {
    setup::run(&[Scope::Test])?;
    let dfw = build::dfw(Profile::Release)?;
    let mut bench = workspace::cargo("bench");
    sh::run(
        bench
            .args(["--package", workspace::TESTS_PACKAGE, "--benches"])
            .env("DFW_BIN", dfw),
    )
}
