//! What dfw costs: nanoseconds a packet over an empty program, and resident memory. Run by `cargo xtask bench`; gates
//! nothing.

#[path = "../../tests/verdicts/kernel.rs"]
mod kernel;
mod memory;
mod node;
mod packets;
mod report;
mod uplink;

use clap::Parser;
use dfw_agent::datapath::load::Options as LoadOptions;

use crate::report::{Format, Report};

#[derive(Parser)]
struct Arguments {
    /// Fewer rounds and runs: for a first look.
    #[arg(long)]
    quick: bool,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Given by `cargo bench`, not by `cargo test --benches`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Rules of the endpoint under measurement.
const RULES: [usize; 2] = [10, 10_000];
/// Endpoints of the agent whose memory is read.
const ENDPOINTS: u8 = 100;

fn main() {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("a benchmark: cargo xtask bench");
        return;
    }
    let effort = if arguments.quick {
        packets::Effort::QUICK
    } else {
        packets::Effort::FULL
    };
    let mut report = Report::default();
    for rules in RULES {
        let options = LoadOptions {
            fast_path: true,
            ..LoadOptions::default()
        };
        kernel::inside(&node::INTERFACES, options, |kernel| {
            packets::measure(kernel, rules, effort, &mut report);
        });
    }
    kernel::inside(&node::INTERFACES, LoadOptions::default(), |kernel| {
        uplink::measure(kernel, effort, &mut report);
    });
    memory::measure(ENDPOINTS, &mut report);
    report.print(arguments.output);
}
