//! The result, for people and for programs.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::packets::Measured;

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// Aims, of which a row says whether they are met; nothing depends on it.
const ESTABLISHED_NS: f64 = 100.0;
const UPLINK_NS: f64 = 150.0;
const RESIDENT_MIB: f64 = 40.0;

/// What was measured.
#[derive(Default)]
pub(crate) struct Report {
    packets: Vec<Packet>,
    memory: Vec<Memory>,
}

struct Packet {
    what: String,
    family: &'static str,
    rules: usize,
    ns: Measured,
}

struct Memory {
    what: &'static str,
    endpoints: usize,
    mib: f64,
}

impl Packet {
    fn aim(&self) -> Option<f64> {
        [("established", ESTABLISHED_NS), ("uplink", UPLINK_NS)]
            .into_iter()
            .find(|(what, _)| self.what.starts_with(what))
            .map(|(_, aim)| aim)
    }
}

impl Memory {
    fn aim(&self) -> Option<f64> {
        (self.what == "resident").then_some(RESIDENT_MIB)
    }
}

impl Report {
    /// A packet's cost.
    pub(crate) fn packet(&mut self, what: &str, family: &'static str, rules: usize, ns: Measured) {
        self.packets.push(Packet {
            what: what.to_owned(),
            family,
            rules,
            ns,
        });
    }

    /// The agent's memory in MiB.
    pub(crate) fn memory(&mut self, what: &'static str, endpoints: usize, mib: f64) {
        self.memory.push(Memory {
            what,
            endpoints,
            mib,
        });
    }

    /// Prints it.
    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Text => print!("{self}"),
            Format::Json => println!("{:#}", self.json()),
        }
    }

    fn json(&self) -> Value {
        let packets: Vec<_> = self
            .packets
            .iter()
            .map(|p| {
                json!({
                    "what": p.what, "family": p.family, "rules": p.rules,
                    "ns": p.ns.median, "least_ns": p.ns.least, "null_ns": p.ns.null, "aim_ns": p.aim(),
                })
            })
            .collect();
        let memory: Vec<_> = self
            .memory
            .iter()
            .map(|m| {
                json!({ "what": m.what, "endpoints": m.endpoints, "mib": m.mib, "aim_mib": m.aim() })
            })
            .collect();
        json!({ "packets": packets, "memory": memory })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = "nanoseconds a packet, over an empty program";
        let columns = ["", "rules", "median", "least", "null"];
        write!(f, "{head:<48}")?;
        for column in columns {
            write!(f, " {column:>6}")?;
        }
        writeln!(f)?;
        for p in &self.packets {
            let Measured {
                median,
                least,
                null,
            } = p.ns;
            write!(f, "{:<48} {:>6} {:>6}", p.what, p.family, p.rules)?;
            write!(f, " {median:>6.0} {least:>6.0} {null:>6.0}")?;
            writeln!(f, "{}", verdict(median, p.aim()))?;
        }
        writeln!(f, "\n{:<36} endpoints    MiB", "memory of the agent")?;
        for m in &self.memory {
            write!(f, "{:<36} {:>9} {:>6.1}", m.what, m.endpoints, m.mib)?;
            writeln!(f, "{}", verdict(m.mib, m.aim()))?;
        }
        writeln!(
            f,
            "\nBPF_PROG_TEST_RUN on one CPU; where it shares its core, `least` is the calmest round. `null` is an\n\
             empty program beside an empty program: what a difference of that size is worth. A single run of\n\
             another tuple finds caches as cold as the system call between two runs leaves them."
        )
    }
}

fn verdict(value: f64, aim: Option<f64>) -> String {
    match aim {
        Some(aim) if value <= aim => format!("   within {aim:.0}"),
        Some(aim) => format!("   over {aim:.0}"),
        None => String::new(),
    }
}
