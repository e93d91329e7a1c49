//! The measurements: everybody in turn, many times over, so that whatever else the machine does meets all alike.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use dfw_probe::traffic::{Measured, Mode};
use dfw_tests::{Agent, process};

use crate::{
    contenders::Contender,
    interrupt, machine,
    results::Slice,
    stage::{DENIED_PORT, On, PORT, Stage},
    uplink,
};

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds: two of them are AB and BA.
    pub(crate) pairs: u32,
    /// Of one measurement.
    pub(crate) slice: Duration,
    /// Where both ends run.
    pub(crate) cpu: usize,
}

/// A kind of traffic, over one address family.
#[derive(Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    V4(Mode),
    V6(Mode),
    /// Frames of new flows that are denied, as fast as they can be sent.
    Denied,
    /// The same from outside, of one whom a list of many prefixes names.
    Listed {
        is_v4: bool,
    },
    /// Datagrams from outside, of one whom it does not name.
    Stranger {
        is_v4: bool,
    },
}

/// Each of them.
pub(crate) const TRIALS: [Trial; 12] = [
    Trial {
        name: "rr",
        title: "requests over one connection (RR)",
        unit: "requests/s",
        what: What::V4(Mode::Requests),
    },
    Trial {
        name: "crr",
        title: "a connection for each request (CRR)",
        unit: "connections/s",
        what: What::V4(Mode::Connections),
    },
    Trial {
        name: "udp",
        title: "small UDP datagrams",
        unit: "datagrams/s",
        what: What::V4(Mode::Datagrams),
    },
    Trial {
        name: "bulk",
        title: "bulk TCP",
        unit: "bytes/s",
        what: What::V4(Mode::Stream),
    },
    Trial {
        name: "small-bulk",
        title: "TCP in segments of 536 bytes",
        unit: "bytes/s",
        what: What::V4(Mode::Segments),
    },
    Trial {
        name: "rr6",
        title: "RR over IPv6",
        unit: "requests/s",
        what: What::V6(Mode::Requests),
    },
    Trial {
        name: "udp6",
        title: "small UDP datagrams over IPv6",
        unit: "datagrams/s",
        what: What::V6(Mode::Datagrams),
    },
    Trial {
        name: "drop",
        title: "denied packets dropped",
        unit: "packets/s",
        what: What::Denied,
    },
    Trial {
        name: "uplink",
        title: "packets of a denied source at an uplink",
        unit: "packets/s",
        what: What::Listed { is_v4: true },
    },
    Trial {
        name: "uplink6",
        title: "packets of a denied source at an uplink over IPv6",
        unit: "packets/s",
        what: What::Listed { is_v4: false },
    },
    Trial {
        name: "uplink-pass",
        title: "small UDP datagrams that pass an uplink",
        unit: "datagrams/s",
        what: What::Stranger { is_v4: true },
    },
    Trial {
        name: "uplink-pass6",
        title: "small UDP datagrams that pass an uplink over IPv6",
        unit: "datagrams/s",
        what: What::Stranger { is_v4: false },
    },
];

impl Trial {
    /// Whether somebody takes part in it.
    pub(crate) fn takes(&self, contender: &Contender) -> bool {
        match (self.what, contender.on) {
            (What::Listed { .. } | What::Stranger { .. }, on) => matches!(on, On::Uplink { .. }),
            (_, On::Uplink { .. }) => false,
            (What::V4(_), _) => contender.passes,
            (What::V6(_), _) => contender.passes && contender.has_ipv6(),
            (What::Denied, _) => !contender.passes,
        }
    }

    /// None when interrupted: the probe is too.
    fn run(&self, stage: &Stage, effort: Effort) -> Option<Measured> {
        let [program, arguments @ ..] = machine::pinned(effort.cpu);
        let mut probe = stage.client().netns.command(&program);
        probe.args(arguments).arg(env!("DFW_PROBE"));
        let server = stage.server();
        let milliseconds = effort.slice.as_millis().to_string();
        let v6 = || server.v6.expect("only those with IPv6 are asked");
        let (mode, address) = match self.what {
            What::V4(mode) => (Some(mode), server.v4),
            What::V6(mode) => (Some(mode), v6()),
            What::Denied => (None, server.v4),
            What::Listed { is_v4 } => (None, uplink::for_listed(is_v4)),
            What::Stranger { is_v4: true } => (Some(Mode::Datagrams), server.v4),
            What::Stranger { is_v4: false } => (Some(Mode::Datagrams), v6()),
        };
        let Some(mode) = mode else {
            let to = SocketAddr::new(address, DENIED_PORT);
            probe.args(["blast", &milliseconds, &format!("{to}@{}", server.mac())]);
            let sent: f64 = printed(&mut probe)?.trim().parse().expect("a number");
            return Some(Measured {
                rate: sent / effort.slice.as_secs_f64(),
                times: None,
            });
        };
        let to = SocketAddr::new(address, PORT).to_string();
        probe.args(["load", mode.name(), &to, &milliseconds]);
        let measured = printed(&mut probe)?.trim().parse();
        Some(measured.expect("the probe prints a measurement"))
    }
}

/// What a command prints; none when interrupted, which ends whatever shares the terminal.
fn printed(command: &mut Command) -> Option<String> {
    let output = process::output(command);
    if interrupt::came() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Measures; none when interrupted.
///
/// # Panics
/// When rules did not count what must have passed them: a ruleset that is not asked looks fast.
pub(crate) fn run(
    stages: &[Stage],
    agents: &[Option<Agent<'_>>],
    trials: &[&Trial],
    effort: Effort,
) -> Option<Vec<Slice>> {
    let mut slices = Vec::new();
    let began = Instant::now();
    for round in 0..effort.pairs {
        let counted: Vec<_> = counters(stages, agents);
        let first = slices.len();
        for trial in trials {
            for at in order(round, stages.len()) {
                let stage = &stages[at];
                if !trial.takes(stage.contender) {
                    continue;
                }
                let measured = trial.run(stage, effort)?;
                slices.push(Slice {
                    round,
                    trial: trial.name.to_owned(),
                    id: stage.contender.id.to_owned(),
                    rate: measured.rate,
                    median_ns: measured.times.map(|times| times.0),
                    p99_ns: measured.times.map(|times| times.1),
                });
            }
        }
        for ((stage, before), after) in stages.iter().zip(counted).zip(counters(stages, agents)) {
            expect_counted(stage, &slices[first..], after - before, effort);
        }
        let took = began.elapsed();
        let left = took / (round + 1) * (effort.pairs - round - 1);
        eprintln!(
            "  round {} of {}, {} s, {} s left",
            round + 1,
            effort.pairs,
            took.as_secs(),
            left.as_secs()
        );
    }
    (!interrupt::came()).then_some(slices)
}

/// Everybody after everybody else and before: each second round goes backwards, and each pair of rounds begins with
/// somebody else.
fn order(round: u32, count: usize) -> Vec<usize> {
    let shift = round as usize / 2;
    let mut order: Vec<_> = (0..count).map(|at| (at + shift) % count.max(1)).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn counters(stages: &[Stage], agents: &[Option<Agent<'_>>]) -> Vec<u64> {
    let pairs = stages.iter().zip(agents);
    pairs
        .map(|(stage, agent)| stage.counted(agent.as_ref()))
        .collect()
}

/// Two packets for each request, one for each datagram and each denied frame.
fn expect_counted(stage: &Stage, slices: &[Slice], counted: u64, effort: Effort) {
    let contender = stage.contender;
    let own = slices.iter().filter(|slice| slice.id == contender.id);
    let least: f64 = own
        .map(|slice| {
            let packets = match slice.trial.as_str() {
                "rr" | "crr" => 2.0,
                "udp" | "drop" | "uplink" | "uplink6" => 1.0,
                _ => 0.0,
            };
            packets * slice.rate * effort.slice.as_secs_f64()
        })
        .sum();
    // The last request of each may come a moment too late for a rate.
    assert!(
        !contender.counts() || counted as f64 >= least * 0.99,
        "void: the rules of {} counted {counted} packets where {least:.0} have passed",
        contender.id
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contenders::CONTENDERS;

    #[test]
    fn each_pair_comes_in_both_orders() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [1, 2, 0]);
        assert_eq!(order(3, 3), [0, 2, 1]);
    }

    #[test]
    fn everybody_takes_part_and_uplinks_among_themselves() {
        for contender in CONTENDERS {
            let is_uplink = matches!(contender.on, On::Uplink { .. });
            let trials = TRIALS.iter().filter(|trial| trial.takes(contender));
            let names: Vec<_> = trials.map(|trial| trial.name).collect();
            assert!(!names.is_empty(), "{}", contender.id);
            for name in names {
                assert_eq!(
                    name.starts_with("uplink"),
                    is_uplink,
                    "{name}: {}",
                    contender.id
                );
            }
        }
    }
}
