//! What dfw costs, beside what others cost: measurements, and the report of them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    leaks,
    setup::{self, Scope},
    sh, test, workspace,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench --quick        a first look, some minutes: target/bench/report
  cargo xtask bench                everybody, a quarter of an hour
  cargo xtask bench --full         everything, 40 minutes on a machine with nothing else to do: docs/performance.md
  cargo xtask bench --report       the report again, from what was measured last
Ctrl-C ends it between two measurements and removes everything. Root is needed.")]
pub(crate) struct Options {
    /// Few pairs, and only the contenders without whom there is no comparison.
    #[arg(long)]
    quick: bool,
    /// Many pairs and runs; writes docs/performance.md, its plots, and the table in README.md.
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Another number of pairs.
    #[arg(long)]
    pairs: Option<u32>,
    /// Measure nothing: write the report from what is in target/bench.
    #[arg(long)]
    report: bool,
    /// Measure nothing: write the baseline of the programs' sizes, which the tests hold them against.
    #[arg(long, conflicts_with_all = ["quick", "full", "pairs", "report"])]
    baseline: bool,
}

/// How many pairs; the fewest with a 95 % interval first.
const PAIRS: [u32; 3] = [6, 10, 36];

/// Builds what is measured, measures, and writes the report.
///
/// # Errors
/// A machine on which nothing can be measured; a run that is void; something that was left behind.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(hindrance) = test::hindrance() {
        bail!("nothing can be measured here: {hindrance}");
    }
    setup::run(&[Scope::Test])?;
    if options.baseline {
        return baseline();
    }
    let directory = workspace::target_dir()?.join("bench");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let dfw = build::dfw(Profile::Release)?;
    let run = Run {
        traffic: directory.join("traffic.json"),
        cost: directory.join("cost.json"),
        bench: build::binary(Profile::Release, workspace::TESTS_PACKAGE, "bench")?,
        dfw,
    };
    let mut left = Vec::new();
    if !options.report {
        let before = leaks::Snapshot::take();
        run.measure(options)?;
        left = before.left_behind();
    }
    run.report(options.full, &directory)?;
    if !left.is_empty() {
        bail!("left behind: {}", left.join(", "));
    }
    Ok(())
}

struct Run {
    bench: PathBuf,
    dfw: PathBuf,
    traffic: PathBuf,
    cost: PathBuf,
}

impl Run {
    fn measure(&self, options: &Options) -> Result<()> {
        let [quick, all, full] = PAIRS;
        let pairs = match (options.pairs, options.quick, options.full) {
            (Some(pairs), ..) => pairs,
            (None, true, _) => quick,
            (None, false, true) => full,
            (None, false, false) => all,
        };
        // Nothing is compiled while something is measured.
        sh::run(cost()?.arg("--no-run"))?;
        let mut traffic = Command::new(&self.bench);
        traffic.args(["traffic", "--pairs", &pairs.to_string(), "--out"]);
        traffic.arg(&self.traffic);
        traffic.args(options.quick.then_some("--few"));
        sh::run(traffic.env("DFW_BIN", &self.dfw))?;

        let mut cost = cost()?;
        cost.args(["--", "--out"]).arg(&self.cost);
        cost.args((!options.full).then_some("--quick"));
        sh::run(cost.env("DFW_BIN", &self.dfw))
    }

    fn report(&self, is_full: bool, directory: &Path) -> Result<()> {
        let root = workspace::root();
        let out = if is_full {
            root.join("docs")
        } else {
            directory.join("report")
        };
        let mut report = Command::new(&self.bench);
        let arguments: [&OsStr; 7] = [
            "report".as_ref(),
            "--traffic".as_ref(),
            self.traffic.as_ref(),
            "--cost".as_ref(),
            self.cost.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ];
        report.args(arguments);
        if is_full {
            report.arg("--readme").arg(root.join("README.md"));
        }
        sh::run(&mut report)?;
        println!("{}", out.join("performance.md").display());
        Ok(())
    }
}

/// The benchmark of what dfw costs by itself.
fn cost() -> Result<Command> {
    let mut cargo = build::cargo("bench")?;
    cargo.args(["--package", workspace::TESTS_PACKAGE, "--bench", "cost"]);
    Ok(cargo)
}

/// The test that holds the programs against the baseline writes it when asked to.
fn baseline() -> Result<()> {
    let mut cargo = workspace::cargo("test");
    cargo.args(["--package", workspace::TESTS_PACKAGE, "--test", "sizes"]);
    sh::run(cargo.env("DFW_BASELINE", "write"))
}
