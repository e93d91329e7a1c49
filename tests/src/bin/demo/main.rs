//! A shop (web, api, db) and an attacker on one bridge: what a scan finds before and after dfw, what still works, and
//! where it shows. `cargo xtask demo` builds the agent and runs this; root is needed.

mod clean;
mod record;
mod scan;
mod screen;
mod stage;
mod story;

use std::{mem, panic, process::ExitCode};

use clap::Parser;
use dfw_tests::{Engine, EngineOptions};

use crate::{record::Record, screen::Screen, stage::Stage};

#[derive(Parser)]
#[command(about = "A shop and an attacker on one bridge, before and after dfw")]
struct Options {
    /// Leave everything running and print what to try next.
    #[arg(long, conflicts_with = "clean")]
    keep: bool,
    /// Use plain network namespaces even where a Docker engine can be started.
    #[arg(long, conflicts_with = "clean")]
    namespaces: bool,
    /// Remove what demos with --keep, or interrupted ones, left.
    #[arg(long)]
    clean: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut screen = Screen::new();
    if options.clean {
        return clean::run(&screen);
    }
    screen.say("dfw demo: a shop and an attacker on one bridge, IPv4 and IPv6");
    screen.say("Root is needed for network namespaces, BPF programs and a Docker engine of the demo's own; the");
    screen.say("machine's own engine, firewall and interfaces stay as they are.");

    let mut record = Record::new();
    let stage = open_stage(&options, &screen);
    record.stage(&stage);
    let agent = story::tell(&stage, &mut screen);
    record.agent(&agent);
    let is_so = screen.end();
    if options.keep {
        story::print_next(&stage, &agent, &screen);
        // Whoever cleans up later finds everything by the record.
        mem::forget(record);
        mem::forget(agent);
        mem::forget(stage);
    } else {
        drop(agent);
        drop(stage);
        screen.note("everything is removed again; --keep leaves it running");
    }
    if is_so {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// An engine where one can be started, else namespaces; says which and why.
fn open_stage(options: &Options, screen: &Screen) -> Stage {
    if !options.namespaces {
        // The panic has been printed by its hook: it is the reason.
        if let Ok(engine) = panic::catch_unwind(|| Engine::start(EngineOptions::default())) {
            screen.note("stage: containers on a Docker engine of its own");
            return Stage::on_engine(engine);
        }
        screen.note("no Docker engine can be started here, for the reason above");
    }
    screen.note("stage: network namespaces and an inventory file, no Docker");
    Stage::on_namespaces()
}
