//! The result, for people; `Cost` is for programs.

use std::fmt;

use dfw_tests::cost::{Aim, Cost, Figure, Packet, Varied};

use crate::{
    node::Size,
    packets::{ESTABLISHED, Measured, NEW},
};

/// Aims in nanoseconds, by the beginning of a path and by family.
const AIMS: [(&str, &str, f64); 6] = [
    ("established", "IPv4", 60.0),
    ("established", "IPv6", 80.0),
    ("new", "IPv4", 700.0),
    ("new", "IPv6", 700.0),
    ("uplink", "IPv4", 150.0),
    ("uplink", "IPv6", 150.0),
];

/// What was measured.
#[derive(Default)]
pub(crate) struct Report(Cost);

impl Report {
    /// A packet's cost.
    pub(crate) fn packet(
        &mut self,
        what: &str,
        family: &str,
        size: Size,
        flows: usize,
        varied: Option<Varied>,
        ns: &Measured,
    ) {
        let aim = AIMS
            .iter()
            .find(|(path, own, _)| what.starts_with(path) && *own == family);
        self.0.packets.push(Packet {
            what: what.to_owned(),
            family: family.to_owned(),
            rules: size.rules,
            endpoints: size.endpoints,
            flows,
            median: ns.median,
            least: ns.least,
            null: ns.null,
            aim: aim.filter(|_| flows == 1).map(|(.., aim)| *aim),
            varied,
        });
    }

    /// Any other figure.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &str, aim: Option<Aim>) {
        self.0.figures.push(Figure {
            what: what.to_owned(),
            value,
            unit: unit.to_owned(),
            aim,
        });
    }

    /// The most rules over the fewest.
    pub(crate) fn growth(&mut self) {
        for (way, limit) in [(ESTABLISHED, 1.05), (NEW, 1.5)] {
            for family in ["IPv4", "IPv6"] {
                let packets = self.0.packets.iter();
                let mut series = packets.filter(|packet| {
                    packet.varied == Some(Varied::Rules)
                        && (packet.what.as_str(), packet.family.as_str()) == (way, family)
                });
                let (Some(few), Some(many)) = (series.next(), series.next_back()) else {
                    continue;
                };
                let what = format!("{way}, {family}: {} rules over {}", many.rules, few.rules);
                let ratio = many.median / few.median;
                self.figure(&what, ratio, "x", Some(Aim::AtMost(limit)));
            }
        }
    }

    /// All of it.
    pub(crate) fn cost(&self) -> &Cost {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = "nanoseconds a packet, over an empty program";
        write!(f, "{head:<50}")?;
        for column in ["", "rules", "ends", "flows", "median", "least", "null"] {
            write!(f, " {column:>6}")?;
        }
        writeln!(f)?;
        for p in &self.0.packets {
            write!(
                f,
                "{:<50} {:>6} {:>6} {:>6} {:>6}",
                p.what, p.family, p.rules, p.endpoints, p.flows
            )?;
            write!(f, " {:>6.0} {:>6.0} {:>6.0}", p.median, p.least, p.null)?;
            writeln!(f, "{}", verdict(p.median, p.aim.map(Aim::AtMost)))?;
        }
        writeln!(f)?;
        for figure in &self.0.figures {
            write!(
                f,
                "{:<76} {:>9.2} {:<9}",
                figure.what, figure.value, figure.unit
            )?;
            writeln!(f, "{}", verdict(figure.value, figure.aim))?;
        }
        writeln!(
            f,
            "\nBPF_PROG_TEST_RUN on one CPU; where it shares its core, `least` is the calmest round. `null` is an\n\
             empty program beside an empty program: what a difference of that size is worth. A single run of\n\
             another tuple finds caches as cold as the system call between two runs leaves them."
        )
    }
}

fn verdict(value: f64, aim: Option<Aim>) -> String {
    let Some(aim) = aim else {
        return String::new();
    };
    let word = if aim.is_met(value) { "met" } else { "missed" };
    format!("   {aim} {word}")
}
