//! Every script of the project: `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod deb;
mod demo;
mod docs;
mod engines;
mod image;
mod leaks;
mod lint;
mod mutate;
mod setup;
mod sh;
mod soak;
mod test;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, checks, tests and shows dfw")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing for all the others (root: Debian packages).
    Setup,
    /// Build the release binary and say where it is.
    Build,
    /// Build the image with `docker build`; no network is needed.
    Image(image::Options),
    /// Build the Debian package.
    Deb(deb::Options),
    /// Write the tables of docs/ that come from the code.
    Docs,
    /// Formatting, clippy, the rules of the house, licences.
    Lint,
    /// Fuzz targets for a moment, unit tests, then the tests on real kernels and engines (root).
    Test(test::Options),
    /// A shop and an attacker on one bridge, before and after dfw (root).
    Demo(demo::Options),
    /// What dfw costs beside a plain bridge and what others cost, with a report (root).
    Bench(bench::Options),
    /// Leave out each security check of the datapath in turn: does a test notice? (root)
    Mutate(mutate::Options),
    /// Campaigns: the tests on real kernels and engines at full length, with a log each (root).
    Soak(soak::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Setup => setup::run(&setup::Scope::ALL),
        Task::Build => build::run(),
        Task::Image(options) => image::run(&options),
        Task::Deb(options) => deb::run(&options),
        Task::Docs => docs::run(),
        Task::Lint => lint::run(),
        Task::Test(options) => test::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Mutate(options) => mutate::run(&options),
        Task::Soak(options) => soak::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
