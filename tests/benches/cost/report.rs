//! The result, for people and for programs.

use std::fmt;

use clap::ValueEnum;
use serde_json::{Value, json};

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

/// Aims, of which a row says whether they are met; nothing depends on it.
const ESTABLISHED_NS: f64 = 100.0;
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
    ns: f64,
    null: f64,
}

struct Memory {
    what: &'static str,
    endpoints: usize,
    mib: f64,
}

impl Packet {
    fn aim(&self) -> Option<f64> {
        self.what
            .starts_with("established")
            .then_some(ESTABLISHED_NS)
    }
}

impl Memory {
    fn aim(&self) -> Option<f64> {
        (self.what == "resident").then_some(RESIDENT_MIB)
    }
}

impl Report {
    /// A packet's cost over an empty program, and an empty program's over another, in nanoseconds.
    pub(crate) fn packet(
        &mut self,
        what: &str,
        family: &'static str,
        rules: usize,
        ns: f64,
        null: f64,
    ) {
        self.packets.push(Packet {
            what: what.to_owned(),
            family,
            rules,
            ns,
            null,
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
                    "ns": p.ns, "null_ns": p.null, "aim_ns": p.aim(),
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
        let line = "a packet, over an empty program";
        writeln!(
            f,
            "{line:<50} {:>6} {:>7} {:>6} {:>6}",
            "", "rules", "ns", "null"
        )?;
        for p in &self.packets {
            write!(
                f,
                "{:<50} {:>6} {:>7} {:>6.0} {:>6.0}",
                p.what, p.family, p.rules, p.ns, p.null
            )?;
            writeln!(f, "{}", verdict(p.ns, p.aim()))?;
        }
        writeln!(
            f,
            "\n{:<50} {:>6} {:>7} {:>6}",
            "the agent's memory", "", "ends", "MiB"
        )?;
        for m in &self.memory {
            write!(
                f,
                "{:<50} {:>6} {:>7} {:>6.1}",
                m.what, "", m.endpoints, m.mib
            )?;
            writeln!(f, "{}", verdict(m.mib, m.aim()))?;
        }
        writeln!(
            f,
            "\nMedians of BPF_PROG_TEST_RUN on one CPU. `null` is an empty program beside an empty program: what\n\
             a difference of that size is worth. A single run of a new tuple finds caches as cold as the system\n\
             call between runs leaves them, and its time has the clock's own reading in it."
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
