//! What dfw costs: nanoseconds a packet over an empty program, time of changes, memory and processor of the agent. Run by
//! `cargo xtask bench`; gates nothing.

mod agent;
mod changes;
#[path = "../../tests/verdicts/kernel.rs"]
mod kernel;
mod node;
mod packets;
mod report;
mod uplink;

use std::{fs, path::PathBuf};

use clap::Parser;
use dfw_agent::datapath::load::Options as LoadOptions;
use dfw_tests::cost::Varied;

use crate::{kernel::Kernel, node::Size, packets::Effort, report::Report};

#[derive(Parser)]
struct Arguments {
    /// Fewer rounds and runs: for a first look.
    #[arg(long)]
    quick: bool,
    /// Where the figures go as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Given by `cargo bench`, not by `cargo test --benches`.
    #[arg(long, hide = true)]
    bench: bool,
}

const RULES: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const ENDPOINTS: [usize; 4] = [2, 10, 100, 1_000];
/// The last is about all that the table takes.
const FLOWS: [usize; 3] = [1_000, 16_000, 131_000];

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("a benchmark: cargo xtask bench");
        return;
    }
    let effort = if arguments.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let mut report = Report::default();
    packets_of(effort, &mut report);
    report.growth();
    eprintln!("  changes");
    changes::measure(effort.rounds, &mut report);
    eprintln!("  the agent");
    agent::measure(arguments.quick, &mut report);
    print!("{report}");
    if let Some(out) = arguments.out {
        let text = serde_json::to_string(report.cost()).expect("plain values");
        fs::write(&out, text).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    }
}

fn packets_of(effort: Effort, report: &mut Report) {
    let mut on_fresh = |what: &str, measure: &mut (dyn FnMut(&mut Kernel, &mut Report) + Send)| {
        eprintln!("  nanoseconds a packet: {what}");
        inside(true, |kernel| measure(kernel, report));
    };
    on_fresh("every path", &mut |kernel, report| {
        packets::every_path(kernel, Size::LEAST, effort, report);
    });
    for rules in RULES {
        let size = Size {
            rules,
            ..Size::LEAST
        };
        on_fresh(&format!("{rules} rules"), &mut |kernel, report| {
            packets::one_of(kernel, size, Varied::Rules, effort, report);
        });
    }
    for endpoints in ENDPOINTS {
        let size = Size {
            endpoints,
            ..Size::LEAST
        };
        on_fresh(&format!("{endpoints} endpoints"), &mut |kernel, report| {
            packets::one_of(kernel, size, Varied::Endpoints, effort, report);
        });
    }
    for flows in FLOWS {
        for (family, name) in packets::FAMILIES.into_iter().enumerate() {
            on_fresh(&format!("{flows} flows, {name}"), &mut |kernel, report| {
                packets::among(kernel, family, flows, effort, report);
            });
        }
    }
    inside(false, |kernel| {
        packets::over_the_bridge(kernel, effort, report)
    });
    inside(false, |kernel| uplink::measure(kernel, effort, report));
}

fn inside(fast_path: bool, measure: impl FnOnce(&mut Kernel) + Send) {
    let options = LoadOptions {
        fast_path,
        ..LoadOptions::default()
    };
    kernel::inside(&node::INTERFACES, options, |kernel| {
        packets::pin();
        measure(kernel);
    });
}
