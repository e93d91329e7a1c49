//! The tables of docs/ that come from the code.

use anyhow::Result;

use crate::{sh, workspace};

/// Read by tests/tests/documents/reference.rs.
const WRITE: &str = "DFW_WRITE_DOCS";
const TEST: &str = "the_reference_of_metrics";

/// Writes them, by the test that compares them else.
pub(crate) fn run() -> Result<()> {
    let mut cargo = workspace::cargo("test");
    cargo.args(["--package", workspace::TESTS_PACKAGE, "--test", "documents"]);
    sh::run(cargo.args(["--", TEST]).env(WRITE, "1"))
}
