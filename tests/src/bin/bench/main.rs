//! dfw beside a plain bridge and what users run today: traffic through each in turn, and the report of it. `cargo xtask bench`
//! builds what is measured and runs this; root is needed.

mod contenders;
mod emulations;
mod interrupt;
mod machine;
mod report;
mod results;
mod rival;
mod rounds;
mod stage;
mod statistics;
mod uplink;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    contenders::Field,
    results::{Results, Settings},
    rounds::{Effort, TRIALS, Trial},
};

#[derive(Parser)]
#[command(about = "dfw beside a plain bridge and what users run today")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measures and writes what came of it as JSON.
    Traffic {
        /// How often each contender is measured: with 6 or more there is a 95 % interval.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
        /// Milliseconds of one measurement.
        #[arg(long, default_value_t = 250)]
        slice: u64,
        /// Only those without which there is no comparison.
        #[arg(long)]
        few: bool,
        /// Only this trial and who takes part in it, by its name in the raw data: `uplink`, say. Several are possible.
        #[arg(long, value_name = "TRIAL", value_delimiter = ',', value_parser = trial)]
        only: Vec<&'static Trial>,
        /// Where to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes the report and its plots from what was measured.
    Report {
        /// What `traffic` wrote.
        #[arg(long)]
        traffic: PathBuf,
        /// What the benchmark `cost` wrote.
        #[arg(long)]
        cost: PathBuf,
        /// A directory for performance.md and its plots.
        #[arg(long)]
        out: PathBuf,
        /// A document that gets the short table between its two markers.
        #[arg(long)]
        readme: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match Options::parse().task {
        Task::Traffic {
            pairs,
            slice,
            few,
            only,
            out,
        } => {
            let trials = if only.is_empty() {
                TRIALS.iter().collect()
            } else {
                only
            };
            traffic(pairs, Duration::from_millis(slice), few, &trials, &out)
        }
        Task::Report {
            traffic,
            cost,
            out,
            readme,
        } => {
            report::write(&traffic, &cost, &out, readme.as_deref());
            ExitCode::SUCCESS
        }
    }
}

fn trial(name: &str) -> Result<&'static Trial, String> {
    let found = TRIALS.iter().find(|trial| trial.name == name);
    found.ok_or_else(|| format!("is none of {}", TRIALS.map(|trial| trial.name).join(", ")))
}

fn traffic(
    pairs: u32,
    slice: Duration,
    few: bool,
    trials: &[&'static Trial],
    out: &PathBuf,
) -> ExitCode {
    interrupt::watch();
    let cpu = machine::set_one_cpu_apart();
    let field = if few { Field::Few } else { Field::All };
    let effort = Effort { pairs, slice, cpu };
    let stages = contenders::build(field, trials, cpu);
    let (versions, began) = (machine::versions(&stages), machine::date());
    let slices = {
        let agents = contenders::start_agents(&stages);
        rounds::run(&stages, &agents, trials, effort)
    };
    let Some(slices) = slices else {
        eprintln!("interrupted: nothing is written, everything is being removed");
        return ExitCode::FAILURE;
    };
    let results = Results {
        settings: Settings {
            pairs,
            slice_ms: slice.as_millis() as u64,
            cpu,
            date: began,
            versions,
        },
        contenders: stages
            .iter()
            .map(|stage| stage.contender.describe())
            .collect(),
        slices,
    };
    let text = serde_json::to_string(&results).expect("plain values");
    fs::write(out, text).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    ExitCode::SUCCESS
}
