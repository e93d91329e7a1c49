//! The scratch build, and the tests that are run against each mutant: quick ones first.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use dfw_common::check::Check;

use crate::{sh, workspace};

/// The environment variable that says which check is left out.
const VARIABLE: &str = "DFW_MUTANT";
/// Longer than any stage takes; a mutant may make a test wait for ever, which is noticed too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Some tests of one binary.
pub(super) struct Stage {
    /// Package, test binary (the library's own where it is none), arguments.
    package: &'static str,
    binary: Option<&'static str>,
    arguments: &'static [&'static str],
}

/// In the order of what they cost.
pub(super) const STAGES: [Stage; 4] = [
    Stage {
        package: workspace::TESTS_PACKAGE,
        binary: Some("verdicts"),
        arguments: &["--exact", "every_row_has_its_verdict"],
    },
    Stage {
        package: "dfw-common",
        binary: None,
        arguments: &[],
    },
    Stage {
        package: workspace::TESTS_PACKAGE,
        binary: Some("verdicts"),
        arguments: &["--skip", "every_row_has_its_verdict"],
    },
    // Tags in metadata are the kernel's: it takes a real interface to make one.
    Stage {
        package: workspace::TESTS_PACKAGE,
        binary: Some("catalogue"),
        arguments: &["vlan_tags"],
    },
];

/// What came of one run.
pub(super) enum Run {
    Green,
    /// Which test turned red; of the verdict table which row.
    Red(String),
    /// Nothing was tested.
    Broken(String),
}

/// The test binaries, built with the feature `mutants`.
pub(super) struct Bench {
    binaries: Vec<PathBuf>,
    /// The agent that tests on real interfaces start.
    dfw: PathBuf,
    /// `--fast-path`, where only one of both is tried.
    fast_path: Option<&'static str>,
    is_green: [OnceLock<()>; STAGES.len()],
    /// One stage at a time is run without a mutant.
    first: Mutex<()>,
}

impl Bench {
    /// Builds in a directory of its own, so that no scratch object is ever taken for the real one.
    pub(super) fn build(fast_path: Option<&'static str>) -> Result<Self> {
        let directory = workspace::target_dir()?.join("mutants");
        let mut binaries = Vec::new();
        for stage in &STAGES {
            let mut test = workspace::cargo("test");
            test.args(["--no-run", "--message-format", "json-render-diagnostics"]);
            // Where tests use it the feature is the agent's, which hands it on.
            match stage.binary {
                Some(name) => {
                    test.args(workspace::select([stage.package, "dfw-agent"]));
                    test.args(["--features", "dfw-agent/mutants", "--test", name])
                }
                None => {
                    test.args(workspace::select([stage.package]));
                    test.args(["--features", "mutants", "--lib"])
                }
            };
            test.arg("--target-dir").arg(&directory);
            eprintln!("building the tests of {}", stage.name());
            binaries.push(stage.find(&sh::read(&mut test)?)?);
        }
        let mut build = workspace::cargo("build");
        build.args([
            "--package",
            "dfw-agent",
            "--bin",
            "dfw",
            "--features",
            "mutants",
        ]);
        sh::run(build.arg("--target-dir").arg(&directory))?;
        Ok(Self {
            binaries,
            dfw: directory.join("debug/dfw"),
            fast_path,
            is_green: Default::default(),
            first: Mutex::new(()),
        })
    }

    /// Makes sure that a stage passes when no check is left out.
    pub(super) fn must_be_green(&self, stage: usize) -> Result<()> {
        let _one = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_green[stage].get().is_some() {
            return Ok(());
        }
        match self.run(stage, None)? {
            Run::Green => {
                self.is_green[stage].get_or_init(|| ());
                Ok(())
            }
            Run::Red(why) | Run::Broken(why) => {
                bail!("with every check in place: {why}")
            }
        }
    }

    /// Runs a stage with a check left out.
    pub(super) fn run(&self, stage: usize, left_out: Option<Check>) -> Result<Run> {
        let number = left_out.map_or(0, Check::number);
        let mut command = Command::new(&self.binaries[stage]);
        command
            .args(STAGES[stage].arguments)
            .current_dir(workspace::root())
            .env(VARIABLE, number.to_string())
            .env("DFW_BIN", &self.dfw)
            .envs(self.fast_path.map(|switch| ("DFW_FAST_PATH", switch)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (has_passed, output) = run(&mut command)?;
        Ok(read(STAGES[stage].name(), has_passed, &output))
    }
}

impl Stage {
    fn name(&self) -> &'static str {
        self.binary.unwrap_or(self.package)
    }

    /// Its binary, in what cargo says it has built.
    fn find(&self, messages: &str) -> Result<PathBuf> {
        let name = self
            .binary
            .map_or_else(|| self.package.replace('-', "_"), str::to_owned);
        for line in messages.lines() {
            let message: serde_json::Value = serde_json::from_str(line).context(line.to_owned())?;
            let is_it = message["target"]["name"] == name.as_str()
                && message["profile"]["test"] == true
                && message["manifest_path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with(&*workspace::root().to_string_lossy()));
            if let Some(path) = message["executable"].as_str()
                && is_it
            {
                return Ok(PathBuf::from(path));
            }
        }
        bail!("cargo did not build the tests of {name}")
    }
}

/// Whether it succeeds before patience ends, and what it prints.
fn run(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command.spawn().context("cannot start a test")?;
    let mut stdout = child.stdout.take().context("stdout is piped")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stdout.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().context("a test")? {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill().context("a test")?;
            child.wait().context("a test")?;
            break None;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let output = reader.join().unwrap_or_default();
    Ok((status.is_some_and(|status| status.success()), output))
}

/// Finds the first red test in what libtest prints, and the first row of the table.
fn read(stage: &str, has_passed: bool, output: &str) -> Run {
    if has_passed {
        return Run::Green;
    }
    let mut lines = output.lines();
    if let Some(line) = lines.clone().find(|line| line.contains("the object loads")) {
        return Run::Broken(line.chars().take(200).collect());
    }
    let red = lines.clone().find_map(|line| {
        let name = line.strip_prefix("test ")?;
        name.strip_suffix(" ... FAILED")
    });
    let Some(test) = red else {
        return Run::Red(format!("{stage}: never ends"));
    };
    let row = lines
        .by_ref()
        .skip_while(|line| !line.ends_with(" rows:"))
        .nth(1);
    Run::Red(match row {
        Some(row) => format!(
            "row \"{}\"",
            row.rsplit_once(": ").map_or(row, |(row, _)| row)
        ),
        None => format!("{stage}: {test}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn red(output: &str) -> String {
        match read("verdicts", false, output) {
            Run::Red(test) => test,
            Run::Green => panic!("green: {output}"),
            Run::Broken(why) => panic!("broken: {why}"),
        }
    }

    #[test]
    fn the_first_red_test_or_row_is_named() {
        let table = "running 1 test\ntest every_row ... FAILED\n\nfailures:\n\n---- every_row stdout ----\n2 of 90 rows:\nV4: VLAN 7: sent: plain maps\n  expected\nV6: x: kernel\n";
        assert_eq!(red(table), "row \"V4: VLAN 7: sent\"");
        assert_eq!(
            red("test a ... ok\ntest b::c ... FAILED\n"),
            "verdicts: b::c"
        );
        assert_eq!(red("running 1 test\n"), "verdicts: never ends");
        assert!(matches!(read("x", true, ""), Run::Green));
        let refused = "test a ... FAILED\nthe object loads: Program { name: \"x\" }";
        assert!(matches!(read("x", false, refused), Run::Broken(_)));
    }
}
