//! Every pair of modes and of answers (docs/semantics.md section 5).

use dfw_common::{plain::Tables, reason::Reason, value::mode};
use dfw_tests::frame::{flags, tcp};

use crate::{
    scenario::{Family, Who},
    table::{Expect, Row, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B};

const MODES: [(&str, u32); 3] = [
    ("off", mode::OFF),
    ("audit", mode::AUDIT),
    ("enforce", mode::ENFORCE),
];

/// A mode each for A and B.
macro_rules! changes {
    ($($a:ident $b:ident),+) => {
        [$(|tables: &mut Tables| set(tables, [mode::$a, mode::$b])),+]
    };
}

/// In the order of [`MODES`], A's first.
const CHANGES: [fn(&mut Tables); 9] = changes![
    OFF OFF, OFF AUDIT, OFF ENFORCE, AUDIT OFF, AUDIT AUDIT, AUDIT ENFORCE, ENFORCE OFF,
    ENFORCE AUDIT, ENFORCE ENFORCE
];

/// Ports, and whether A's egress and B's ingress allow them.
const PORTS: [(u16, [bool; 2]); 4] = [
    (80, [true, true]),
    (85, [true, false]),
    (90, [false, true]),
    (91, [false, false]),
];

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = Vec::new();
    let pairs = MODES.into_iter().flat_map(|a| MODES.map(|b| (a, b)));
    for ((a, b), change) in pairs.zip(CHANGES) {
        for (port, allowed) in PORTS {
            let name = format!("A {}, B {}, {allowed:?}", a.0, b.0);
            let syn = packet(family, A, B, tcp(4000, port, flags::SYN));
            let expect = at_sender([a.1, b.1], allowed);
            rows.push(row(name.clone(), from(A), syn.clone(), expect).written(change));
            if expect.passes() {
                let received = of_one(b.1, allowed[1]);
                let row = row(
                    format!("{name}, received"),
                    to(B, A.ifindex()),
                    syn.clone(),
                    received,
                );
                rows.push(row.written(change).seen(from(A), syn));
            }
        }
    }
    rows
}

/// What becomes of a packet at the hook of its sender.
fn at_sender([a, b]: [u32; 2], [egress, ingress]: [bool; 2]) -> Expect {
    let own = of_one(a, egress);
    if own.passes() && b == mode::ENFORCE && !ingress {
        own.but_denied_by(B, Reason::NoRule)
    } else {
        own
    }
}

/// One side by itself.
fn of_one(mode: u32, is_allowed: bool) -> Expect {
    match (mode, is_allowed) {
        (mode::OFF, _) => silent(),
        (_, true) => allow(Reason::Allowed),
        (mode::AUDIT, false) => audit(Reason::NoRule),
        (_, false) => deny(Reason::NoRule),
    }
}

fn set(tables: &mut Tables, modes: [u32; 2]) {
    for (who, mode) in [A, B].into_iter().zip(modes) {
        let endpoint = tables.endpoints.get_mut(&who.ifindex());
        endpoint.expect("the endpoint is there").mode = mode;
    }
}
