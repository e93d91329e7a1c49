//! What becomes of flows in time: new rules, silence, and connections that are older than dfw.

use dfw_common::{
    plain::Tables,
    reason::{Direction, Reason},
    value::{PolicyEntry, mode},
};
use dfw_tests::frame::{flags, icmp, protocol, tcp, udp};

use crate::{
    flows::{back, forth},
    scenario::{self, Family, UPLINK, Who},
    table::{Row, Step, allow, audit, deny, from, packet, row, to},
};
use Who::{A, B, C, Host, World};
use flags::{ACK, FIN, RST, SYN, SYN_ACK};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = revoked(family);
    rows.extend(expired(family));
    rows.extend(adopted(family));
    rows
}

fn revoked(family: Family) -> Vec<Row> {
    let udp_forth = packet(family, A, B, udp(4000, 53));
    let udp_back = packet(family, B, A, udp(53, 4000));
    let bumped: fn(&mut Tables) = |_| {};
    let by_sender: fn(&mut Tables) = |tables| {
        revoke(tables, A, Direction::Egress, B, (protocol::TCP, 80));
        revoke(tables, A, Direction::Egress, B, (protocol::UDP, 53));
    };
    let by_receiver: fn(&mut Tables) = |tables| {
        revoke(tables, B, Direction::Ingress, A, (protocol::TCP, 80));
        revoke(tables, B, Direction::Ingress, A, (protocol::UDP, 53));
    };
    let audits: fn(&mut Tables) = |tables| {
        by_mode(tables, A, mode::AUDIT);
        by_mode(tables, B, mode::AUDIT);
    };
    let enforces: fn(&mut Tables) = |tables| {
        by_mode(tables, A, mode::ENFORCE);
        by_mode(tables, B, mode::ENFORCE);
    };
    let denied = deny(Reason::DenyRule);
    let flow = |row: Row| {
        row.seen(from(A), forth(family, SYN))
            .seen(from(B), back(family, SYN_ACK))
    };
    let datagrams = |row: Row| {
        row.seen(from(A), udp_forth.clone())
            .seen(from(B), udp_back.clone())
    };
    let unallowed = packet(family, A, B, tcp(4000, 91, SYN));
    let continued = packet(family, A, B, tcp(4000, 91, ACK));
    vec![
        flow(row(
            "new epoch, same rules",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        ))
        .written(bumped),
        flow(row(
            "new epoch, the answer first",
            from(B),
            back(family, ACK),
            allow(Reason::Reply),
        ))
        .written(bumped),
        flow(row(
            "new epoch, the answer received first",
            to(A, B.ifindex()),
            back(family, ACK),
            allow(Reason::Reply),
        ))
        .written(bumped),
        flow(row(
            "new epoch, received first",
            to(B, A.ifindex()),
            forth(family, ACK),
            allow(Reason::Allowed),
        ))
        .written(bumped),
        flow(row(
            "revoked by the sender",
            from(A),
            forth(family, ACK),
            denied,
        ))
        .written(by_sender),
        flow(row(
            "revoked by the sender, the answer received",
            to(A, B.ifindex()),
            back(family, ACK),
            denied,
        ))
        .written(by_sender),
        flow(row(
            "revoked by the sender, the answer sent",
            from(B),
            back(family, ACK),
            allow(Reason::Reply),
        ))
        .written(by_sender),
        flow(row(
            "revoked by the receiver",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed).but_denied_by(B, Reason::DenyRule),
        ))
        .written(by_receiver),
        flow(row(
            "revoked by the receiver, after an answer was received",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed).but_denied_by(B, Reason::DenyRule),
        ))
        .written(by_receiver)
        .seen(to(A, B.ifindex()), back(family, ACK)),
        flow(row(
            "revoked by the receiver, at its hook",
            to(B, A.ifindex()),
            forth(family, ACK),
            denied,
        ))
        .written(by_receiver),
        flow(row(
            "revoked by the receiver, its answer",
            from(B),
            back(family, ACK),
            denied,
        ))
        .written(by_receiver),
        flow(row(
            "revoked and given back",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        ))
        .written(by_sender)
        .seen(from(A), forth(family, ACK))
        .written(|tables| *tables = scenario_of(tables)),
        datagrams(row(
            "UDP revoked by the sender",
            from(A),
            udp_forth.clone(),
            denied,
        ))
        .written(by_sender),
        datagrams(row(
            "UDP revoked by the receiver, its answer",
            from(B),
            udp_back.clone(),
            denied,
        ))
        .written(by_receiver),
        row(
            "audited flow, then both enforce",
            from(A),
            continued.clone(),
            deny(Reason::NoRule),
        )
        .written(audits)
        .seen(from(A), unallowed.clone())
        .written(enforces),
        row(
            "audited flow goes on",
            from(A),
            continued.clone(),
            audit(Reason::NoRule),
        )
        .written(audits)
        .seen(from(A), unallowed.clone()),
        row(
            "audited flow goes on at the receiver",
            to(B, A.ifindex()),
            continued,
            audit(Reason::NoRule),
        )
        .written(audits)
        .seen(from(A), unallowed),
        flow(row(
            "the settings are not written",
            from(A),
            packet(family, A, B, tcp(4000, 91, SYN)),
            deny(Reason::NoRule),
        ))
        .written(|tables| tables.settings.epoch = u32::MAX),
    ]
}

fn revoke(tables: &mut Tables, who: Who, direction: Direction, peer: Who, what: (u8, u16)) {
    let key = scenario::rule(who, direction, peer, what);
    let held = tables.policy.insert(
        key,
        PolicyEntry {
            verdict: PolicyEntry::DENY,
            rule: 7,
            ..PolicyEntry::NOTHING
        },
    );
    held.expect("the rule was there");
}

fn scenario_of(tables: &Tables) -> Tables {
    Tables {
        settings: tables.settings,
        ..scenario::tables(tables.settings.hz)
    }
}

fn by_mode(tables: &mut Tables, who: Who, mode: u32) {
    let endpoint = tables.endpoints.get_mut(&who.ifindex());
    endpoint.expect("the endpoint is there").mode = mode;
}

fn expired(family: Family) -> Vec<Row> {
    let udp_forth = packet(family, A, B, udp(4000, 53));
    let udp_back = packet(family, B, A, udp(53, 4000));
    let (icmp_protocol, echo, reply) = family.icmp();
    let ping = packet(family, A, B, icmp(icmp_protocol, echo, 0, &[0, 7, 0, 1]));
    let pong = packet(family, B, A, icmp(icmp_protocol, reply, 0, &[0, 7, 0, 1]));
    let flow = |row: Row| {
        row.seen(from(A), forth(family, SYN))
            .seen(from(B), back(family, SYN_ACK))
    };
    let silence = |seconds| Step::Silence(seconds);
    let question = packet(family, A, Host, tcp(4000, 8080, SYN));
    let answer = packet(family, Host, A, tcp(8080, 4000, SYN_ACK));
    let is_off: fn(&mut Tables) = |tables| by_mode(tables, A, mode::OFF);
    let enforces: fn(&mut Tables) = |tables| by_mode(tables, A, mode::ENFORCE);
    vec![
        flow(row(
            "silent for four days",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        ))
        .after(silence(4 * 86_400)),
        flow(row(
            "silent for six days",
            from(A),
            forth(family, ACK),
            deny(Reason::NoSyn),
        ))
        .after(silence(6 * 86_400)),
        flow(row(
            "silent after FIN",
            from(A),
            forth(family, ACK),
            deny(Reason::NoSyn),
        ))
        .seen(from(A), forth(family, FIN | ACK))
        .after(silence(121)),
        flow(row(
            "not so silent after FIN",
            from(B),
            back(family, ACK),
            allow(Reason::Reply),
        ))
        .seen(from(A), forth(family, FIN | ACK))
        .after(silence(100)),
        flow(row(
            "silent after RST",
            from(A),
            forth(family, ACK),
            deny(Reason::NoSyn),
        ))
        .seen(from(B), back(family, RST))
        .after(silence(11)),
        flow(row(
            "port used again after RST",
            from(A),
            forth(family, SYN),
            allow(Reason::Allowed),
        ))
        .seen(from(B), back(family, RST)),
        row(
            "SYN without answer, then silence",
            from(B),
            back(family, SYN_ACK),
            deny(Reason::NoSyn),
        )
        .seen(from(A), forth(family, SYN))
        .after(silence(61)),
        row(
            "late UDP answer",
            from(B),
            udp_back.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), udp_forth.clone())
        .after(silence(29)),
        row(
            "UDP answer that is too late",
            from(B),
            packet(family, B, A, udp(53, 4001)),
            deny(Reason::NoRule),
        )
        .seen(from(A), packet(family, A, B, udp(4001, 53)))
        .after(silence(31)),
        row(
            "UDP answer after a lively talk",
            from(B),
            udp_back.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), udp_forth.clone())
        .seen(from(B), udp_back)
        .after(silence(179)),
        row(
            "late echo reply",
            from(B),
            pong.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), ping.clone())
        .after(silence(59)),
        row(
            "echo reply that is too late",
            from(B),
            pong,
            deny(Reason::NoFlow),
        )
        .seen(from(A), ping)
        .after(silence(61)),
        row(
            "UDP after silence opens anew",
            from(A),
            udp_forth.clone(),
            allow(Reason::Allowed),
        )
        .seen(from(A), udp_forth)
        .after(silence(31)),
        row(
            "kept alive while nobody was to be judged for",
            to(A, 0),
            answer.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), question.clone())
        .written(is_off)
        .after(silence(50))
        .seen(to(A, 0), answer.clone())
        .after(silence(50))
        .written(enforces),
        row(
            "not opened while nobody was to be judged for",
            to(A, 0),
            answer,
            deny(Reason::NoSyn),
        )
        .written(is_off)
        .seen(from(A), question)
        .written(enforces),
    ]
}

/// Connections that are older than dfw.
fn adopted(family: Family) -> Vec<Row> {
    let window: fn(&mut Tables) = |tables| tables.settings.adopt_until = 60 * tables.settings.hz;
    let over: fn(&mut Tables) = |tables| tables.settings.adopt_until = u32::MAX;
    let taken = allow(Reason::Adopted);
    let other = |flags| packet(family, A, B, tcp(4000, 91, flags));
    let other_back = |flags| packet(family, B, A, tcp(91, 4000, flags));
    vec![
        row(
            "taken in from the initiator",
            from(A),
            forth(family, ACK),
            taken,
        )
        .written(window),
        row(
            "taken in from the responder",
            from(B),
            back(family, ACK),
            taken,
        )
        .written(window),
        row(
            "taken in where it is received",
            to(B, A.ifindex()),
            forth(family, ACK),
            taken,
        )
        .written(window),
        row(
            "taken in where the answer is received",
            to(A, B.ifindex()),
            back(family, ACK),
            taken,
        )
        .written(window),
        row(
            "taken in, received after",
            to(B, A.ifindex()),
            forth(family, ACK),
            taken,
        )
        .written(window)
        .seen(from(A), forth(family, ACK)),
        row(
            "taken in, answered",
            from(B),
            back(family, ACK),
            allow(Reason::Reply),
        )
        .written(window)
        .seen(from(A), forth(family, ACK)),
        row(
            "taken in by the answer, answered",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        )
        .written(window)
        .seen(from(B), back(family, ACK)),
        row(
            "not allowed in either orientation",
            from(A),
            other(ACK),
            deny(Reason::NoRule),
        )
        .written(window),
        row(
            "not allowed in either orientation, from the other end",
            from(B),
            other_back(ACK),
            deny(Reason::NoRule),
        )
        .written(window),
        row(
            "allowed by the sender alone",
            from(A),
            packet(family, A, B, tcp(4000, 85, ACK)),
            allow(Reason::Allowed).but_denied_by(B, Reason::NoRule),
        )
        .written(window),
        row(
            "audited",
            from(C),
            packet(family, C, B, tcp(4000, 83, ACK)),
            audit(Reason::NoRule).but_denied_by(B, Reason::NoRule),
        )
        .written(window),
        row(
            "of the world",
            to(B, UPLINK),
            packet(family, World, B, tcp(4000, 443, ACK)),
            taken,
        )
        .written(window),
        row(
            "answer of the world",
            to(A, UPLINK),
            packet(family, World, A, tcp(443, 4000, ACK)),
            taken,
        )
        .written(window),
        row(
            "the window is over",
            from(A),
            forth(family, ACK),
            deny(Reason::NoSyn),
        )
        .written(over),
        row(
            "audited and not allowed",
            from(C),
            packet(family, C, Host, tcp(4000, 80, ACK)),
            audit(Reason::NoRule),
        )
        .written(window),
        row(
            "reset and taken in, then silent",
            from(A),
            forth(family, ACK),
            deny(Reason::NoSyn),
        )
        .written(window)
        .seen(from(B), back(family, RST))
        .written(over)
        .after(Step::Silence(11)),
        row(
            "echo reply is not taken in",
            from(B),
            packet(
                family,
                B,
                A,
                icmp(family.icmp().0, family.icmp().2, 0, &[0, 7, 0, 1]),
            ),
            deny(Reason::NoFlow),
        )
        .written(window),
        row(
            "UDP is not taken in",
            from(B),
            packet(family, B, A, udp(80, 4000)),
            deny(Reason::NoRule),
        )
        .written(window),
        row(
            "revoked later",
            from(A),
            forth(family, ACK),
            deny(Reason::DenyRule),
        )
        .written(window)
        .seen(from(A), forth(family, ACK))
        .written(|tables| {
            tables.settings.adopt_until = 0;
            revoke(tables, A, Direction::Egress, B, (protocol::TCP, 80));
        }),
    ]
}
