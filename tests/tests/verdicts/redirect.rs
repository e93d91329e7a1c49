//! Past the bridge: what is redirected to its receiver where the fast path is on, and what takes the bridge all the same.

use dfw_common::{plain::Tables, reason::Reason, value::mode};
use dfw_tests::frame::{Ip, flags, icmp, sctp, tcp, udp};

use crate::{
    flows::{back, forth},
    scenario::{BRIDGE, Family, OTHER_BRIDGE, Who},
    table::{Row, Step, allow, from, packet, row, to},
};
use Who::{A, B, C, D, E, Host};
use flags::{ACK, SYN, SYN_ACK};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = redirected(family);
    rows.extend(unfit_packets(family));
    rows.extend(unfit_ends(family));
    rows.extend(by_the_bridge(family));
    rows
}

/// A connection of A to B is open, and neither has come by the bridge.
fn open(row: Row, family: Family) -> Row {
    row.seen(from(A), forth(family, SYN))
        .seen(from(B), back(family, SYN_ACK))
}

fn redirected(family: Family) -> Vec<Row> {
    let allowed = allow(Reason::Allowed);
    let first = |name: &str, upper| {
        let row = row(name, from(A), packet(family, A, B, upper), allowed);
        row.past(B, Reason::Allowed)
    };
    let (protocol, asks, answers) = family.icmp();
    let ask = packet(family, A, B, icmp(protocol, asks, 0, &[0, 7, 0, 1]));
    let answer = packet(family, B, A, icmp(protocol, answers, 0, &[0, 7, 0, 1]));
    vec![
        first("past the bridge: a SYN", tcp(4000, 80, SYN)),
        first("past the bridge: UDP", udp(4000, 53)),
        first("past the bridge: SCTP", sctp(4000, 36)),
        first(
            "past the bridge: an echo",
            icmp(protocol, asks, 0, &[0, 7, 0, 1]),
        ),
        row(
            "past the bridge: its answer",
            from(B),
            answer,
            allow(Reason::Reply),
        )
        .seen(from(A), ask)
        .past(A, Reason::Reply),
        open(
            row(
                "past the bridge: established",
                from(A),
                forth(family, ACK),
                allowed,
            ),
            family,
        )
        .past(B, Reason::Allowed),
        open(
            row(
                "past the bridge: answers",
                from(B),
                back(family, ACK),
                allow(Reason::Reply),
            ),
            family,
        )
        .past(A, Reason::Reply),
        open(
            row(
                "past the bridge: judged again",
                from(A),
                forth(family, ACK),
                allowed,
            ),
            family,
        )
        .written(|_| ())
        .past(B, Reason::Allowed),
        row(
            "past the bridge: taken in",
            from(A),
            forth(family, ACK),
            allow(Reason::Adopted),
        )
        .written(|tables| tables.settings.adopt_until = 100_000)
        .past(B, Reason::Adopted),
    ]
}

fn unfit_packets(family: Family) -> Vec<Row> {
    let allowed = allow(Reason::Allowed);
    let by_the_gateway = |flags| Ip {
        macs: [Host.mac(), A.mac()],
        ..forth(family, flags)
    };
    let large = |ports: (u16, u16)| {
        let (protocol, mut bytes) = udp(ports.0, ports.1);
        bytes.resize(1600, 0);
        let length = (bytes.len() as u16).to_be_bytes();
        bytes[4..6].copy_from_slice(&length);
        (protocol, bytes)
    };
    vec![
        row(
            "bridged: by the gateway",
            from(A),
            by_the_gateway(SYN),
            allowed,
        )
        .bridged(),
        open(
            row(
                "bridged: by the gateway, established",
                from(A),
                by_the_gateway(ACK),
                allowed,
            ),
            family,
        )
        .bridged(),
        row(
            "bridged: larger than the receiver takes",
            from(A),
            packet(family, A, B, large((4000, 53))),
            allowed,
        )
        .bridged(),
        open(
            row(
                "bridged: answers, not judged again by the asker",
                from(B),
                back(family, ACK),
                allow(Reason::Reply),
            ),
            family,
        )
        .written(|_| ())
        .bridged(),
    ]
}

fn unfit_ends(family: Family) -> Vec<Row> {
    let allowed = allow(Reason::Allowed);
    let to_c = |port, flags| packet(family, A, C, tcp(4000, port, flags));
    let of_open = |name: &str, change: fn(&mut Tables)| {
        let row = row(name, from(A), forth(family, ACK), allowed);
        open(row, family).after(Step::Halfway(change)).bridged()
    };
    vec![
        row(
            "bridged: the receiver audits",
            from(A),
            to_c(81, SYN),
            allowed,
        )
        .bridged(),
        row(
            "bridged: the receiver is off",
            from(A),
            packet(family, A, D, tcp(4000, 80, SYN)),
            allowed,
        )
        .bridged(),
        row(
            "bridged: the receiver is on another bridge",
            from(A),
            packet(family, A, E, tcp(4000, 80, SYN)),
            allowed,
        )
        .bridged(),
        row(
            "bridged: to the host",
            from(A),
            packet(family, A, Host, tcp(4000, 8080, SYN)),
            allowed,
        )
        .bridged(),
        of_open("bridged: the sender has begun to audit", |tables| {
            set(tables, A, |endpoint| endpoint.mode = mode::AUDIT);
        }),
        of_open("bridged: the receiver has begun to audit", |tables| {
            set(tables, B, |endpoint| endpoint.mode = mode::AUDIT);
        }),
        of_open(
            "bridged: the receiver has come to another bridge",
            |tables| {
                set(tables, B, |endpoint| endpoint.network = OTHER_BRIDGE);
            },
        ),
        of_open("bridged: somebody watches the sender", |tables| {
            set(tables, A, |endpoint| endpoint.redirects = 0);
        }),
        of_open("bridged: somebody watches the receiver", |tables| {
            set(tables, B, |endpoint| endpoint.redirects = 0);
        }),
        of_open("bridged: the receiver is gone", |tables| {
            tables.endpoints.remove(&B.ifindex());
        }),
        row(
            "bridged: the receiver's interface is gone",
            from(A),
            forth(family, SYN),
            allowed,
        )
        .written(|tables| {
            let found = tables.endpoints[&B.ifindex()];
            for class in tables.addresses.values_mut() {
                if class.ifindex == B.ifindex() {
                    class.ifindex = GONE;
                }
            }
            let gone = dfw_common::value::Endpoint {
                ifindex: GONE,
                ..found
            };
            tables.endpoints.insert(GONE, gone);
        })
        .bridged(),
        row(
            "bridged: what the receiver's side let pass in audit",
            from(A),
            to_c(80, ACK),
            allowed,
        )
        .seen(from(A), to_c(80, SYN))
        .after(Step::Halfway(|tables| {
            set(tables, C, |endpoint| endpoint.mode = mode::ENFORCE);
        }))
        .bridged(),
    ]
}

/// An interface that is nowhere.
const GONE: u32 = 77;

fn set(tables: &mut Tables, who: Who, change: fn(&mut dfw_common::value::Endpoint)) {
    let endpoint = tables.endpoints.get_mut(&who.ifindex());
    change(endpoint.expect("the endpoint is there"));
}

/// What comes by the bridge may have been translated on it, so its answers go there.
fn by_the_bridge(family: Family) -> Vec<Row> {
    let reply = allow(Reason::Reply);
    let at_b = |flags| (to(B, A.ifindex()), forth(family, flags));
    vec![
        open(
            row(
                "bridged: answers to what came by the bridge",
                from(B),
                back(family, ACK),
                reply,
            ),
            family,
        )
        .seen(at_b(ACK).0, at_b(ACK).1)
        .bridged(),
        open(
            row(
                "past the bridge: answers to what does no more",
                from(B),
                back(family, ACK),
                reply,
            ),
            family,
        )
        .seen(at_b(ACK).0, at_b(ACK).1)
        .seen(from(A), forth(family, ACK))
        .past(A, Reason::Reply),
        // The receiver's hook judged it, for nobody had at the sender's.
        row(
            "bridged: answers to what was translated",
            from(B),
            back(family, SYN_ACK),
            reply,
        )
        .seen(to(B, BRIDGE), forth(family, SYN))
        .bridged(),
        open(
            row(
                "past the bridge: the asker's side was judged where answers come in",
                from(B),
                back(family, ACK),
                reply,
            ),
            family,
        )
        .written(|_| ())
        .seen(from(B), back(family, ACK))
        .seen(to(A, B.ifindex()), back(family, ACK))
        .past(A, Reason::Reply),
    ]
}
