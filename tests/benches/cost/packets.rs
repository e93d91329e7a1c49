//! Nanoseconds a packet, by test runs (BPF_PROG_TEST_RUN).

use std::time::Duration;

use dfw_agent::datapath::load::program;
use dfw_common::{plain::Tables, value::mode};
use dfw_tests::frame::{Ip, flags, tcp};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    kernel::Kernel,
    node::{self, BRIDGE, CLIENT, CLIENT_IPS, SERVER, SERVER_IPS, UPLINK, WORLD_IPS},
    report::Report,
};

/// How often is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    rounds: usize,
    repeat: u32,
    tuples: u16,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        repeat: 100_000,
        tuples: 2_000,
    };
    pub(crate) const FULL: Self = Self {
        rounds: 9,
        repeat: 1_000_000,
        tuples: 20_000,
    };
}

const NEXT: i32 = -1;
const DROP: i32 = 2;

/// A program, where it runs, and what on.
struct Subject {
    program: &'static str,
    ifindex: u32,
    ingress: u32,
    verdict: i32,
}

const FROM_CLIENT: Subject = Subject {
    program: program::FROM_ENDPOINT,
    ifindex: CLIENT,
    ingress: CLIENT,
    verdict: NEXT,
};
const TO_SERVER: Subject = Subject {
    program: program::TO_ENDPOINT,
    ifindex: SERVER,
    ingress: CLIENT,
    verdict: NEXT,
};
const FROM_WORLD: Subject = Subject {
    ingress: UPLINK,
    ..TO_SERVER
};
const DENIED: Subject = Subject {
    verdict: DROP,
    ..FROM_WORLD
};

fn packet(family: usize, source: &str, ports: (u16, u16), flags: u8) -> Ip {
    let sender = if source == CLIENT_IPS[family] {
        CLIENT
    } else {
        BRIDGE
    };
    Ip {
        macs: [node::mac(SERVER), node::mac(sender)],
        source: node::address(source),
        destination: node::address(SERVER_IPS[family]),
        hops: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper: tcp(ports.0, ports.1, flags),
    }
}

/// Measures every path with this many rules.
pub(crate) fn measure(kernel: &mut Kernel, rules: usize, effort: Effort, report: &mut Report) {
    let mut cpu = CpuSet::new();
    cpu.set(0);
    // Where that is not allowed the spread tells.
    let _ = sched_setaffinity(None, &cpu);
    let mut tables = node::tables(rules);
    kernel.write(&tables);
    let mut note = |what: &str, family: usize, ns: Measured| {
        report.packet(what, ["IPv4", "IPv6"][family], rules, ns);
    };
    for family in 0..2 {
        let of_client = |flags| packet(family, CLIENT_IPS[family], (4000, 80), flags).frame();
        let of_world =
            |source, port, flags| packet(family, WORLD_IPS[family], (source, port), flags).frame();
        run(kernel, &FROM_CLIENT, &of_client(flags::SYN));
        run(kernel, &TO_SERVER, &of_client(flags::SYN));
        let data = of_client(flags::ACK);
        note(
            "established, sender's hook",
            family,
            hot(kernel, &FROM_CLIENT, &data, effort),
        );
        note(
            "established, receiver's hook",
            family,
            hot(kernel, &TO_SERVER, &data, effort),
        );
        let denied = of_world(4000, 442, flags::SYN);
        note(
            "denied, from the world",
            family,
            hot(kernel, &DENIED, &denied, effort),
        );
        let opens: Vec<_> = (0..effort.tuples)
            .map(|port| of_world(port + 1024, 443, flags::SYN))
            .collect();
        note(
            "new, from the world (each run another tuple)",
            family,
            cold(kernel, &FROM_WORLD, &opens),
        );
        let denied: Vec<_> = (0..effort.tuples)
            .map(|port| of_world(port + 1024, 442, flags::SYN))
            .collect();
        note(
            "denied, from the world (each run another tuple)",
            family,
            cold(kernel, &DENIED, &denied),
        );
        // The same in audit, which takes down what it sees; ports that no flow has yet.
        set_mode(kernel, &mut tables, mode::AUDIT);
        let opens: Vec<_> = (0..effort.tuples)
            .map(|port| of_world(port + 32_768, 443, flags::SYN))
            .collect();
        note(
            "new, in audit (each run another tuple)",
            family,
            cold(kernel, &FROM_WORLD, &opens),
        );
        set_mode(kernel, &mut tables, mode::ENFORCE);
        // Under epoch 0 nothing counts as judged, so that each run asks the rules of both sides again.
        tables.settings.epoch = 0;
        kernel.write(&tables);
        note(
            "judged again, sender's hook",
            family,
            hot(kernel, &FROM_CLIENT, &data, effort),
        );
        tables.settings.epoch = 1;
        kernel.write(&tables);
    }
}

/// Changes everybody's mode; what was judged stays judged.
fn set_mode(kernel: &mut Kernel, tables: &mut Tables, mode: u32) {
    for endpoint in tables.endpoints.values_mut() {
        endpoint.mode = mode;
    }
    kernel.write(tables);
}

/// Nanoseconds over an empty program.
pub(crate) struct Measured {
    /// In the middle of the rounds.
    pub(crate) median: f64,
    /// In the calmest round: what is left when the processor's other thread has nothing to do.
    pub(crate) least: f64,
    /// The median of an empty program.
    pub(crate) null: f64,
}

impl Measured {
    fn new(mut costs: Vec<f64>, mut nulls: Vec<f64>) -> Self {
        costs.sort_by(f64::total_cmp);
        nulls.sort_by(f64::total_cmp);
        Self {
            median: costs[costs.len() / 2],
            least: costs[0],
            null: nulls[nulls.len() / 2],
        }
    }
}

fn run(kernel: &mut Kernel, subject: &Subject, frame: &[u8]) -> Duration {
    timed(kernel, subject, frame, 1)
}

fn timed(kernel: &mut Kernel, subject: &Subject, frame: &[u8], repeat: u32) -> Duration {
    let Subject {
        program,
        ifindex,
        ingress,
        verdict,
    } = *subject;
    let (returned, duration) = kernel.run(program, ifindex, ingress, frame, repeat);
    assert_eq!(returned, verdict, "{program} at {ifindex}");
    duration
}

fn empty(kernel: &mut Kernel, subject: &Subject, frame: &[u8], repeat: u32) -> f64 {
    let Subject {
        ifindex, ingress, ..
    } = *subject;
    let (_, duration) = kernel.run(program::EMPTY, ifindex, ingress, frame, repeat);
    nanoseconds(duration)
}

/// One frame over and over, caches warm; the median of rounds.
fn hot(kernel: &mut Kernel, subject: &Subject, frame: &[u8], effort: Effort) -> Measured {
    let mut costs = Vec::new();
    let mut nulls = Vec::new();
    for _ in 0..effort.rounds {
        let before = empty(kernel, subject, frame, effort.repeat);
        costs.push(nanoseconds(timed(kernel, subject, frame, effort.repeat)) - before);
        nulls.push(empty(kernel, subject, frame, effort.repeat) - before);
    }
    Measured::new(costs, nulls)
}

/// Each frame once, the kernel's own work for the test run between them: caches are as cold as that leaves them.
fn cold(kernel: &mut Kernel, subject: &Subject, frames: &[Vec<u8>]) -> Measured {
    let mut empties = Vec::new();
    let mut costs = Vec::new();
    let mut nulls = Vec::new();
    for frame in frames {
        empties.push(empty(kernel, subject, frame, 1));
        costs.push(nanoseconds(run(kernel, subject, frame)));
        nulls.push(empty(kernel, subject, frame, 1));
    }
    empties.sort_by(f64::total_cmp);
    let nothing = empties[empties.len() / 2];
    let over = |values: Vec<f64>| values.into_iter().map(|value| value - nothing).collect();
    Measured::new(over(costs), over(nulls))
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}
