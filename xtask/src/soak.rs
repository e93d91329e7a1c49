//! Campaigns: the long runs of tests of which `cargo xtask test` does a small fraction.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    engines, leaks,
    setup::{self, Scope},
    sh, test, workspace,
};

/// Makes tests do all of a campaign; read by tests/src/campaign.rs.
const VARIABLE: &str = "DFW_CAMPAIGN";

/// A long run of tests.
struct Campaign {
    name: &'static str,
    /// In one line.
    shows: &'static str,
    work: Work,
}

/// What a campaign runs.
enum Work {
    /// Of a test binary (tests/tests) those tests whose names have this in them.
    Tests(&'static str, &'static str),
    /// Tests of several binaries, on each of the newer engines.
    Engines,
}

use Work::{Engines, Tests};

const CAMPAIGNS: &[Campaign] = &[
    Campaign {
        name: "starts",
        shows: "1 000 starts on a node that enforces: not one packet of a first process is delivered",
        work: Tests("starts", "on_a_node_that_enforces"),
    },
    Campaign {
        name: "starts-audit",
        shows: "300 starts with rules of their own on a node in audit: the same, without a backstop",
        work: Tests("starts", "with_rules_of_its_own"),
    },
    Campaign {
        name: "starts-kills",
        shows: "1 000 starts while the agent is killed and started again all the time",
        work: Tests("starts", "while_the_agent_is_killed"),
    },
    Campaign {
        name: "starts-stopped",
        shows: "300 starts while the agent is stopped (SIGSTOP): right within 5 s after",
        work: Tests("starts", "while_the_agent_is_stopped"),
    },
    Campaign {
        name: "flood",
        shows: "a minute of new flows by one endpoint harms no other, with the agent and without",
        work: Tests("flood", "of_flows"),
    },
    Campaign {
        name: "engine",
        shows: "dockerd killed, hung, refusing, garbled, cut: nothing lost or leaked, right within 5 s after",
        work: Tests("engine_faults", "of_the"),
    },
    Campaign {
        name: "kills",
        shows: "100 kills of the agent under allowed and denied flows: nothing lost or leaked",
        work: Tests("life", "installed_killed"),
    },
    Campaign {
        name: "recreate",
        shows: "containers made again with the same address and other rules",
        work: Tests("changes", "of_containers"),
    },
    Campaign {
        name: "latency",
        shows: "how long a new port is without its policy, over 100 starts",
        work: Tests("latency", "from_link_to_policy"),
    },
    Campaign {
        name: "upgrades",
        shows: "20 upgrades and downgrades between two builds under allowed and denied flows",
        work: Tests("upgrade", ""),
    },
    Campaign {
        name: "tamper",
        shows: "what others do to programs, pins and maps is put right within a second",
        work: Tests("tamper", ""),
    },
    Campaign {
        name: "thousand",
        shows: "1 000 endpoints by inventory: enforced within 2 s, within 64 MiB, and nothing left",
        work: Tests("thousand", ""),
    },
    Campaign {
        name: "observe",
        shows: "three minutes of 5 000 new flows a second: each is seen or counted, for a fifth of a processor",
        work: Tests("observe", "a_flood"),
    },
    Campaign {
        name: "fuzz",
        shows: "60 million packets through the programs, uplinks too, and through an independent oracle: the same verdicts",
        work: Tests("verdicts", "oracle"),
    },
    Campaign {
        name: "engines",
        shows: "Docker 26 and 28 with Compose, Swarm and systemd of their own: the same verdicts, and deploy/ as it is",
        work: Engines,
    },
];

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask soak --list          what there is
  cargo xtask soak                 all of it, one after the other: hours
  cargo xtask soak flood kills     two of them
Each writes target/soak/NAME.log. Root is needed.")]
pub(crate) struct Options {
    /// Say what campaigns there are, and run none.
    #[arg(long)]
    list: bool,
    /// Campaigns to run; all when there is none.
    #[arg(value_name = "NAME", value_parser = campaign)]
    names: Vec<&'static Campaign>,
}

/// What became of a campaign.
struct Outcome {
    name: &'static str,
    failure: Option<String>,
    took: Duration,
    log: PathBuf,
}

/// Runs campaigns one after the other and prints a table.
///
/// # Errors
/// A campaign that failed; a machine on which none can run.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for Campaign { name, shows, .. } in CAMPAIGNS {
            println!("{name:width$}  {shows}", width = width());
        }
        return Ok(());
    }
    if let Some(hindrance) = test::hindrance() {
        bail!("no campaign can run here: {hindrance}");
    }
    setup::run(&[Scope::Test])?;
    // Their figures are of what is shipped.
    let dfw = build::dfw(Profile::Release)?;
    let logs = workspace::target_dir()?.join("soak");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let all = || CAMPAIGNS.iter().collect();
    let wanted: Vec<_> = Some(&options.names)
        .filter(|names| !names.is_empty())
        .cloned()
        .unwrap_or_else(all);
    let mut outcomes = Vec::new();
    for campaign in wanted {
        let log = logs.join(format!("{}.log", campaign.name));
        let began = Instant::now();
        let result = campaign.run(&dfw, &log);
        outcomes.push(Outcome {
            name: campaign.name,
            failure: result.err().map(|error| format!("{error:#}")),
            took: began.elapsed(),
            log,
        });
    }
    report(&outcomes)
}

/// Finds a campaign by its name.
fn campaign(name: &str) -> Result<&'static Campaign, String> {
    let names = || CAMPAIGNS.iter().map(|campaign| campaign.name);
    let found = CAMPAIGNS.iter().find(|campaign| campaign.name == name);
    found.ok_or_else(|| format!("campaigns are {}", names().collect::<Vec<_>>().join(", ")))
}

fn width() -> usize {
    let lengths = CAMPAIGNS.iter().map(|campaign| campaign.name.len());
    lengths.max().unwrap_or_default()
}

fn report(outcomes: &[Outcome]) -> Result<()> {
    let width = width();
    println!("\n{:width$}  result   seconds  log", "campaign");
    for Outcome {
        name,
        failure,
        took,
        log,
    } in outcomes
    {
        let result = if failure.is_none() {
            "passed"
        } else {
            "FAILED"
        };
        println!(
            "{name:width$}  {result}  {:8}  {}",
            took.as_secs(),
            log.display()
        );
    }
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {}", outcome.name, outcome.failure.as_ref()?)))
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{}", failed.join("\n"));
    }
}

impl Campaign {
    /// Runs it to its end; what it prints is shown and goes to the log.
    fn run(&self, dfw: &Path, log: &Path) -> Result<()> {
        let before = leaks::Snapshot::take();
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let file = Mutex::new(file);
        match self.work {
            Tests(binary, filter) => {
                let mut cargo = test::of(binary, &[filter]);
                logged(
                    cargo.env("DFW_BIN", dfw).env(VARIABLE, "1"),
                    self.name,
                    &file,
                )?;
            }
            Engines => {
                for release in engines::RELEASES {
                    let root = engines::root(release)?;
                    for (binary, filters) in engines::TESTS {
                        let mut cargo = test::of(binary, filters);
                        cargo.env(engines::VARIABLE, &root).env("DFW_BIN", dfw);
                        logged(cargo.env(VARIABLE, "1"), release, &file)?;
                    }
                }
            }
        }
        let left = before.left_behind();
        if !left.is_empty() {
            bail!("left behind: {}", left.join(", "));
        }
        Ok(())
    }
}

/// Runs a command; each line of both its outputs goes to the terminal, after a name, and to a file.
fn logged(command: &mut Command, name: &str, file: &Mutex<File>) -> Result<()> {
    let line = sh::show(command);
    eprintln!("\n$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|output| Box::new(output) as _),
        child.stderr.take().map(|output| Box::new(output) as _),
    ];
    thread::scope(|scope| {
        for output in outputs.into_iter().flatten() {
            scope.spawn(|| copy(output, name, file));
        }
    });
    let status = child.wait().with_context(|| line.clone())?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

fn copy(output: Box<dyn Read + Send>, name: &str, file: &Mutex<File>) {
    let mut lines = BufReader::new(output).split(b'\n');
    // What is no UTF-8 is shown as well as it can be.
    while let Some(Ok(line)) = lines.next() {
        let line = String::from_utf8_lossy(&line);
        println!("{name}: {line}");
        if let Ok(mut file) = file.lock() {
            // A full disk shows when the log is looked for.
            let _ = writeln!(file, "{line}");
        }
    }
}
