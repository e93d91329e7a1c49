//! What the benchmark `cost` measures, for those who print it and those who report it.

use serde::{Deserialize, Serialize};

/// All of one run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Nanoseconds a packet, by test runs.
    pub packets: Vec<Packet>,
    /// Everything else.
    pub figures: Vec<Figure>,
}

/// A packet's cost over that of an empty program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packet {
    /// Its way through the program.
    pub what: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Rules of the receiver.
    pub rules: usize,
    /// Endpoints of the node.
    pub endpoints: usize,
    /// Flows of which each packet meets another; 1 is the same one each time.
    pub flows: usize,
    /// Nanoseconds in the middle of the rounds.
    pub median: f64,
    /// In the calmest round: what is left when the processor's other thread has nothing to do.
    pub least: f64,
    /// The median of an empty program over an empty program.
    pub null: f64,
    /// At most so many nanoseconds are aimed at; nothing depends on it.
    pub aim: Option<f64>,
    /// What differs between it and others of the same way, if it is one of a series.
    pub varied: Option<Varied>,
}

/// What grows in a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Varied {
    /// Rules of the receiver.
    Rules,
    /// Endpoints of the node.
    Endpoints,
    /// Flows that are met.
    Flows,
}

impl Varied {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Rules, Self::Endpoints, Self::Flows];

    /// Its name for people and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Endpoints => "endpoints",
            Self::Flows => "flows",
        }
    }

    /// How many a packet was measured with.
    pub fn of(self, packet: &Packet) -> usize {
        match self {
            Self::Rules => packet.rules,
            Self::Endpoints => packet.endpoints,
            Self::Flows => packet.flows,
        }
    }
}

/// One figure.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Of what.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of which.
    pub unit: String,
    /// The aim; nothing depends on it.
    pub aim: Option<Aim>,
}

/// A limit on one side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Aim {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Aim {
    /// Whether a value is within it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}
