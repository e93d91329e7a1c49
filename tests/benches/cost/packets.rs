//! Nanoseconds a packet, by test runs (BPF_PROG_TEST_RUN).

use std::time::Duration;

use dfw_agent::datapath::load::program;
use dfw_common::{maps::FLOWS_MAX, plain::Tables, value::mode};
use dfw_tests::{
    cost::Varied,
    frame::{Ip, flags, tcp},
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    kernel::Kernel,
    node::{self, BRIDGE, CLIENT, CLIENT_IPS, SERVER, SERVER_IPS, Size, UPLINK, WORLD_IPS},
    report::Report,
};

/// How often is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) repeat: u32,
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
const REDIRECT: i32 = 7;

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
    verdict: REDIRECT,
};
const OVER_THE_BRIDGE: Subject = Subject {
    verdict: NEXT,
    ..FROM_CLIENT
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

/// The ways of which series are made.
pub(crate) const ESTABLISHED: &str = "established, sender's hook";
pub(crate) const NEW: &str = "new, from the world (each run another tuple)";
const AMONG: &str = "established, sender's hook (each run another flow)";
pub(crate) const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Measures every path on a node of this size.
pub(crate) fn every_path(kernel: &mut Kernel, size: Size, effort: Effort, report: &mut Report) {
    let mut tables = node::tables(size);
    kernel.write(&tables);
    for family in 0..2 {
        let mut note =
            |what: &str, ns: Measured| report.packet(what, FAMILIES[family], size, 1, None, &ns);
        let of_client = |flags| packet(family, CLIENT_IPS[family], (4000, 80), flags).frame();
        let of_world =
            |source, port, flags| packet(family, WORLD_IPS[family], (source, port), flags).frame();
        run(kernel, &FROM_CLIENT, &of_client(flags::SYN));
        let data = of_client(flags::ACK);
        note(ESTABLISHED, hot(kernel, &FROM_CLIENT, &data, effort));
        // From here on the flow takes the bridge: the receiver's hook has seen it.
        run(kernel, &TO_SERVER, &of_client(flags::SYN));
        let receiver = hot(kernel, &TO_SERVER, &data, effort);
        note("established, receiver's hook", receiver);
        let denied = of_world(4000, 442, flags::SYN);
        note(
            "denied, from the world",
            hot(kernel, &DENIED, &denied, effort),
        );
        let opens = |port| {
            let tuples = (0..effort.tuples).map(|source| of_world(source + 1024, port, flags::SYN));
            tuples.collect::<Vec<_>>()
        };
        note(NEW, cold(kernel, &FROM_WORLD, &opens(443)));
        let denied = cold(kernel, &DENIED, &opens(442));
        note("denied, from the world (each run another tuple)", denied);
        // In audit it is taken down besides; ports that no flow has yet.
        set_mode(kernel, &mut tables, mode::AUDIT);
        let tuples = (0..effort.tuples).map(|source| of_world(source + 32_768, 443, flags::SYN));
        let audited = cold(kernel, &FROM_WORLD, &tuples.collect::<Vec<_>>());
        note(
            "audited, new, from the world (each run another tuple)",
            audited,
        );
        set_mode(kernel, &mut tables, mode::ENFORCE);
        // Under epoch 0 nothing counts as judged, so that each run asks the rules of both sides again.
        tables.settings.epoch = 0;
        kernel.write(&tables);
        let again = hot(kernel, &OVER_THE_BRIDGE, &data, effort);
        note("judged again, sender's hook", again);
        tables.settings.epoch = 1;
        kernel.write(&tables);
    }
}

/// An established flow whose packets take the bridge: the object was loaded without redirects.
pub(crate) fn over_the_bridge(kernel: &mut Kernel, effort: Effort, report: &mut Report) {
    let size = Size::LEAST;
    kernel.write(&node::tables(size));
    for (family, name) in FAMILIES.into_iter().enumerate() {
        let of_client = |flags| packet(family, CLIENT_IPS[family], (4000, 80), flags).frame();
        run(kernel, &OVER_THE_BRIDGE, &of_client(flags::SYN));
        let established = hot(kernel, &OVER_THE_BRIDGE, &of_client(flags::ACK), effort);
        let what = "established, sender's hook, redirect off";
        report.packet(what, name, size, 1, None, &established);
    }
}

/// An established flow and new ones, as one of a series.
pub(crate) fn one_of(
    kernel: &mut Kernel,
    size: Size,
    varied: Varied,
    effort: Effort,
    report: &mut Report,
) {
    kernel.write(&node::tables(size));
    for (family, name) in FAMILIES.into_iter().enumerate() {
        let of_client = |flags| packet(family, CLIENT_IPS[family], (4000, 80), flags).frame();
        run(kernel, &FROM_CLIENT, &of_client(flags::SYN));
        let established = hot(kernel, &FROM_CLIENT, &of_client(flags::ACK), effort);
        report.packet(ESTABLISHED, name, size, 1, Some(varied), &established);
        let opens = (0..effort.tuples).map(|source| {
            packet(family, WORLD_IPS[family], (source + 1024, 443), flags::SYN).frame()
        });
        let new = cold(kernel, &FROM_WORLD, &opens.collect::<Vec<_>>());
        report.packet(NEW, name, size, 1, Some(varied), &new);
    }
}

/// Packets of flows of one family among so many, each of another one than the last.
pub(crate) fn among(
    kernel: &mut Kernel,
    family: usize,
    flows: usize,
    effort: Effort,
    report: &mut Report,
) {
    let size = Size {
        flows: FLOWS_MAX,
        ..Size::LEAST
    };
    kernel.write(&node::tables(size));
    let of_flow = |flow: usize, flags| {
        let ports = (1024 + (flow % TUPLES) as u16, 80 + (flow / TUPLES) as u16);
        packet(family, CLIENT_IPS[family], ports, flags).frame()
    };
    for flow in 0..flows {
        run(kernel, &FROM_CLIENT, &of_flow(flow, flags::SYN));
    }
    // A stride without a common divisor comes to all of them, in no order that a cache would guess.
    let met = (0..usize::from(effort.tuples)).map(|number| number * STRIDE % flows);
    let frames: Vec<_> = met.map(|flow| of_flow(flow, flags::ACK)).collect();
    let measured = cold(kernel, &FROM_CLIENT, &frames);
    report.packet(
        AMONG,
        FAMILIES[family],
        size,
        flows,
        Some(Varied::Flows),
        &measured,
    );
}

/// Changes everybody's mode; what was judged stays judged.
fn set_mode(kernel: &mut Kernel, tables: &mut Tables, mode: u32) {
    for endpoint in tables.endpoints.values_mut() {
        endpoint.mode = mode;
    }
    kernel.write(tables);
}

/// Ports of the client for each of the server's.
const TUPLES: usize = 60_000;
const STRIDE: usize = 7_919;

/// On one processor from here on.
pub(crate) fn pin() {
    let mut cpu = CpuSet::new();
    cpu.set(0);
    // Where that is not allowed the spread tells.
    let _ = sched_setaffinity(None, &cpu);
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
    /// Of any order.
    pub(crate) fn new(mut costs: Vec<f64>, mut nulls: Vec<f64>) -> Self {
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
