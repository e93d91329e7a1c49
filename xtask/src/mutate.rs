//! Leaves out one security check after the other, in a scratch object and scratch tests, and demands that a test notices.

mod stage;
mod table;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Result, bail};
use dfw_common::check::Check;

use self::{
    stage::{Bench, Run},
    table::Row,
};
use crate::{
    setup::{self, Scope},
    test,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Name the checks and what each is for, and do nothing else.
    #[arg(long)]
    list: bool,
    /// Only with packets past the bridge, or only without; else a test of either is enough.
    #[arg(long, value_name = "on|off")]
    fast_path: Option<Switch>,
    /// Leave out only these.
    names: Vec<String>,
}

/// As dfw takes it.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

/// What came of leaving a check out.
enum Fate {
    /// This test turned red.
    Killed(String),
    /// Nobody noticed.
    Survived,
    /// The scratch object or a test does not even start: says nothing about the check.
    Broken(String),
}

/// Runs the campaign.
///
/// # Errors
/// A check that no test notices; tests that fail with all checks in place.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut checks = chosen(&options.names)?;
    if options.fast_path == Some(Switch::Off) {
        // Where nothing is redirected nothing depends on them.
        checks.retain(|check| !check.name().starts_with("redirect-"));
    }
    if options.list {
        for check in checks {
            println!("{:24} {}", check.name(), check.describe());
        }
        return Ok(());
    }
    setup::run(&[Scope::Test])?;
    if let Some(hindrance) = test::hindrance() {
        bail!("nothing can be shown here: {hindrance}");
    }
    let start = Instant::now();
    let fast_path = options.fast_path.map(|switch| match switch {
        Switch::On => "on",
        Switch::Off => "off",
    });
    let bench = Bench::build(fast_path)?;
    let built = start.elapsed().as_secs();
    let rows = campaign(&bench, &checks)?;
    println!("\n{}", table::print(&rows));
    let survivors = rows.iter().filter(|row| !row.is_killed()).count();
    println!(
        "{} of {} checks are noticed when they are left out ({built} s to build, {} s to run)",
        rows.len() - survivors,
        rows.len(),
        start.elapsed().as_secs() - built
    );
    if survivors > 0 {
        bail!("{survivors} checks can be left out and no test notices");
    }
    Ok(())
}

fn chosen(names: &[String]) -> Result<Vec<Check>> {
    if names.is_empty() {
        return Ok(Check::ALL.to_vec());
    }
    let by_name = |name: &String| {
        let found = Check::ALL.iter().find(|check| check.name() == name);
        found
            .copied()
            .ok_or_else(|| anyhow::anyhow!("no check is named {name}: see --list"))
    };
    names.iter().map(by_name).collect()
}

/// Every check on as many threads as there are processors.
fn campaign(bench: &Bench, checks: &[Check]) -> Result<Vec<Row>> {
    bench.must_be_green(0)?;
    let queue = Mutex::new(checks.iter().copied().collect::<VecDeque<_>>());
    let rows = Mutex::new(Vec::new());
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    let work = || -> Result<()> {
        while let Some(check) = next() {
            let row = Row {
                check,
                fate: fate(bench, check)?,
            };
            let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.push(row);
            let (done, all) = (rows.len(), checks.len());
            if let Some(row) = rows.last() {
                eprintln!("{done:3}/{all} {row}");
            }
        }
        Ok(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread of the campaign panicked"),
        });
        joined.collect::<Result<Vec<()>>>()
    })?;
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| row.check.number());
    Ok(rows)
}

/// One stage after the other until one turns red.
fn fate(bench: &Bench, check: Check) -> Result<Fate> {
    for stage in 0..stage::STAGES.len() {
        bench.must_be_green(stage)?;
        match bench.run(stage, Some(check))? {
            Run::Green => {}
            Run::Red(test) => return Ok(Fate::Killed(test)),
            Run::Broken(why) => return Ok(Fate::Broken(why)),
        }
    }
    Ok(Fate::Survived)
}
