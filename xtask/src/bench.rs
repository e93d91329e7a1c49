//! What dfw costs: nanoseconds a packet, bytes of memory.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    setup::{self, Scope},
    sh, workspace,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds and runs: for a first look.
    #[arg(long)]
    quick: bool,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// Builds what is measured and runs tests/benches.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(&[Scope::Test])?;
    let dfw = build::dfw(Profile::Release)?;
    let mut bench = workspace::cargo("bench");
    bench.args([
        "--package",
        workspace::TESTS_PACKAGE,
        "--bench",
        "cost",
        "--",
    ]);
    bench.args(options.quick.then_some("--quick"));
    let output = match options.output {
        Format::Text => "text",
        Format::Json => "json",
    };
    sh::run(bench.args(["--output", output]).env("DFW_BIN", dfw))
}
