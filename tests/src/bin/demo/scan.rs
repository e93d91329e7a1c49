//! What somebody reaches, by real connections.

use std::{collections::BTreeSet, fmt::Write as _, thread, time::Duration};

use dfw_tests::{Attempt, Outcome, Protocol};

use crate::stage::{API, DB, Role, Stage, WEB};

const TARGETS: [&Role; 3] = [&WEB, &API, &DB];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Shorter than TCP takes to send again: each denied try is one packet.
const SHORT: Duration = Duration::from_millis(800);
/// How long to wait for what shall come; reached on a busy machine only.
const LONG: Duration = Duration::from_secs(5);

/// What the attacker found of the shop: each of its ports, on each of its members, over both families.
#[derive(PartialEq, Eq)]
pub(crate) struct Scan {
    /// Service, family, port.
    open: BTreeSet<(&'static str, usize, u16)>,
    /// Tries that anything came back from, an open port or a refusal.
    answers: usize,
    tries: usize,
}

impl Scan {
    /// Tries everything at once.
    pub(crate) fn run(stage: &Stage, from: &Role) -> Self {
        let mut tries = Vec::new();
        for target in TARGETS {
            for family in 0..FAMILIES.len() {
                let ports = TARGETS.iter().filter_map(|role| role.port);
                tries.extend(ports.map(|port| (target, family, port)));
            }
        }
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let running: Vec<_> = tries
                .iter()
                .map(|(target, family, port)| {
                    scope.spawn(|| attempt(stage, from, target, *family, *port, SHORT))
                })
                .collect();
            let outcomes = running.into_iter().map(thread::ScopedJoinHandle::join);
            outcomes
                .map(|outcome| outcome.expect("an attempt does not panic"))
                .collect()
        });
        let open = tries.iter().zip(&outcomes);
        Self {
            open: open
                .filter(|(_, outcome)| outcome.is_answered())
                .map(|((target, family, port), _)| (target.service, *family, *port))
                .collect(),
            answers: outcomes
                .iter()
                .filter(|outcome| **outcome != Outcome::Silent)
                .count(),
            tries: tries.len(),
        }
    }

    /// Whether exactly the ports of the shop are open, over both families.
    pub(crate) fn finds_the_shop(&self) -> bool {
        let served = TARGETS.iter().flat_map(|role| {
            let port = role.port.expect("the shop serves");
            (0..FAMILIES.len()).map(move |family| (role.service, family, port))
        });
        self.open == served.collect()
    }

    /// Whether nothing came back at all.
    pub(crate) fn finds_nothing(&self) -> bool {
        self.answers == 0
    }

    /// How many connections were tried.
    pub(crate) fn tries(&self) -> usize {
        self.tries
    }

    /// Open ports, a line for each target.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<8}{:<12}{}\n", "", FAMILIES[0], FAMILIES[1]);
        for target in TARGETS {
            let cells = [0, 1].map(|family| self.cell(target, family));
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:<8}{:<12}{}", target.service, cells[0], cells[1]);
        }
        text
    }

    fn cell(&self, target: &Role, family: usize) -> String {
        let ports = self
            .open
            .iter()
            .filter(|(service, on, _)| *service == target.service && *on == family);
        let ports: Vec<_> = ports.map(|(.., port)| format!("{port} open")).collect();
        if ports.is_empty() {
            "-".to_owned()
        } else {
            ports.join(", ")
        }
    }
}

/// Whether one reaches the other's port, over both families.
pub(crate) fn reaches(stage: &Stage, from: &Role, to: &Role) -> bool {
    let port = to.port.expect("it serves");
    (0..FAMILIES.len()).all(|family| attempt(stage, from, to, family, port, LONG).is_answered())
}

/// Tries once over each family what is to be denied; whether nothing came back.
pub(crate) fn stays_out(stage: &Stage, from: &Role, to: &Role) -> bool {
    let port = to.port.expect("it serves");
    (0..FAMILIES.len())
        .all(|family| attempt(stage, from, to, family, port, SHORT) == Outcome::Silent)
}

fn attempt(
    stage: &Stage,
    from: &Role,
    to: &Role,
    family: usize,
    port: u16,
    patience: Duration,
) -> Outcome {
    let address = (stage.member(to).addresses[family], port).into();
    let attempt = Attempt {
        patience,
        ..Attempt::new(Protocol::Tcp, address)
    };
    let outcome = stage.member(from).netns.enter(|| attempt.run());
    outcome.unwrap_or_else(|error| panic!("{} to {address}: {error}", from.service))
}
