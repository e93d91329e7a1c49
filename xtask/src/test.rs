//! Fuzz targets for a moment, unit tests, then the tests on real kernels and engines. The last lines are the runner's
//! own result.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    engines, leaks,
    setup::{self, Scope},
    sh, workspace,
};

/// Linux that has TCX (kernel commit 053c8e1f235d, "bpf: Add generic attach/detach/query API for multi-progs").
const KERNEL: (u32, u32) = (6, 6);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each fuzz target; 0 leaves them out.
    #[arg(long, default_value_t = 10)]
    fuzz_seconds: u32,
    /// Run only tests whose name contains one of these.
    filters: Vec<String>,
}

/// What is tried on real interfaces with every packet on its bridge too (`--fast-path off`): who gets around the policy must fail
/// either way. The verdict table and the differential tests do both by themselves; attacks inside an engine are those on
/// plain namespaces.
const BRIDGED: [&str; 4] = ["catalogue", "truth_table", "paths", "modes"];
const NOT_BRIDGED: &str = "engine::";

/// Runs the tests.
///
/// # Errors
/// A failed test or finding; something that the tests left behind; in CI also a machine on which not every test can run.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(&[Scope::Test])?;
    let hindrance = hindrance();
    if let Some(hindrance) = &hindrance
        && env::var_os("CI").is_some()
    {
        bail!("not every test can run here: {hindrance}");
    }
    if options.fuzz_seconds > 0 && options.filters.is_empty() {
        fuzz(options.fuzz_seconds)?;
    }
    let dfw = build::dfw(Profile::Dev)?;
    let mut packages = workspace::HOST_PACKAGES.to_vec();
    if hindrance.is_none() {
        packages.push(workspace::TESTS_PACKAGE);
    }
    let before = leaks::Snapshot::take();
    let is_whole = hindrance.is_none() && options.filters.is_empty();
    let on_newer_engine = if is_whole { shipped(&dfw) } else { Ok(()) };
    let mut result = sh::run(runner(&packages, &[], &options.filters).env("DFW_BIN", &dfw));
    if is_whole {
        let mut bridged = runner(&[workspace::TESTS_PACKAGE], &BRIDGED, &[]);
        bridged.args(["--skip", NOT_BRIDGED]);
        bridged.env("DFW_BIN", dfw).env("DFW_FAST_PATH", "off");
        result = result.and(sh::run(&mut bridged));
    }
    let left = before.left_behind();
    for thing in &left {
        eprintln!("error: the tests left behind: {thing}");
    }
    if let Some(hindrance) = hindrance {
        eprintln!("warning: the tests on namespaces and engines were SKIPPED: {hindrance}");
    }
    result?;
    on_newer_engine?;
    if !left.is_empty() {
        bail!("the tests left {} things behind", left.len());
    }
    Ok(())
}

/// The files of deploy/ as they are, on an engine that takes them. Outside CI nobody has to wait for Debian's archive.
fn shipped(dfw: &Path) -> Result<()> {
    let root = match engines::root(engines::STABLE) {
        Ok(root) => root,
        Err(error) if env::var_os("CI").is_none() => {
            eprintln!("warning: the tests on a newer engine were SKIPPED: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let (binary, filters) = engines::SHIPPED;
    let mut cargo = of(binary, filters);
    sh::run(cargo.env(engines::VARIABLE, root).env("DFW_BIN", dfw))
}

/// nextest where it is, for its time limits and a process for each test; else cargo's own runner, one test at a time.
/// `binaries` are those of the packages' tests that are run; none: all of them.
fn runner(packages: &[&str], binaries: &[&str], filters: &[String]) -> Command {
    let packages = workspace::select(packages.iter().copied());
    let only = binaries.iter().flat_map(|name| ["--test", name]);
    if sh::succeeds(workspace::cargo("nextest").arg("--version")) {
        let mut nextest = workspace::cargo("nextest");
        nextest.args([
            "run",
            "--config-file",
            "tests/nextest.toml",
            "--no-fail-fast",
        ]);
        nextest.args(packages).args(only).arg("--").args(filters);
        nextest
    } else {
        let mut cargo = workspace::cargo("test");
        cargo.arg("--no-fail-fast").args(packages).args(only);
        if binaries.is_empty() {
            // Not the benches: what they measure is measured by `cargo xtask bench`.
            cargo.args(["--lib", "--bins", "--tests"]);
        }
        cargo.args(["--", "--test-threads", "1"]).args(filters);
        cargo
    }
}

/// The tests of one binary whose names have one of these in them, ignored ones too, by cargo's own runner.
pub(crate) fn of(binary: &str, filters: &[&str]) -> Command {
    let mut cargo = workspace::cargo("test");
    cargo.args(["--package", workspace::TESTS_PACKAGE, "--test", binary]);
    cargo.args(["--", "--nocapture", "--include-ignored", "--test-threads=1"]);
    cargo.args(filters);
    cargo
}

/// Why the tests on namespaces and engines, and the demo, cannot run here.
pub(crate) fn hindrance() -> Option<String> {
    if !setup::is_root() {
        return Some("root is needed for network namespaces, BPF programs and dockerd".to_owned());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel_version(&release).is_none_or(|version| version < KERNEL) {
        let (major, minor) = KERNEL;
        return Some(format!(
            "Linux {} has no TCX, {major}.{minor} is needed (Debian 12: the package linux-image-amd64 of bookworm-backports)",
            release.trim()
        ));
    }
    None
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A short run of each fuzz target. Everything under test is safe Rust, so no sanitizer is needed, and stable will do. An
/// optimised build of all the agent depends on would take longer than the run.
fn fuzz(seconds: u32) -> Result<()> {
    let directory = workspace::root().join("tests/fuzz");
    let artifacts = workspace::target_dir()?.join("fuzz");
    for target in fuzz_targets(&directory.join("targets"))? {
        let corpus = artifacts.join("corpus").join(&target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut cargo = workspace::cargo("fuzz");
        cargo
            .args(["run", "--dev", "--sanitizer", "none", "--fuzz-dir"])
            .arg(&directory);
        cargo
            .arg("--target-dir")
            .arg(&artifacts)
            .arg(&target)
            .arg(&corpus);
        cargo.args(["--", "-verbosity=0", "-print_final_stats=1"]);
        cargo.arg(format!("-max_total_time={seconds}"));
        sh::run(&mut cargo)?;
    }
    Ok(())
}

fn fuzz_targets(directory: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry
            .with_context(|| directory.display().to_string())?
            .path();
        let name = path.file_stem().context("a fuzz target has a name")?;
        targets.push(name.to_string_lossy().into_owned());
    }
    targets.sort();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(kernel_version("6.12.9-amd64\n"), Some((6, 12)));
        assert_eq!(kernel_version("6.1.0-9-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("not a version"), None);
        assert!(kernel_version("6.12.1").is_some_and(|version| version >= KERNEL));
        assert!(kernel_version("6.1.0").is_some_and(|version| version < KERNEL));
    }
}
