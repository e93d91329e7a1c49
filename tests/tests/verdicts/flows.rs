//! Flows: who opens one, what belongs to it, what ends it.

use dfw_common::{
    plain::Tables,
    reason::{Direction, Reason},
    value::PolicyEntry,
};
use dfw_tests::frame::{Ip, Upper, flags, icmp, protocol, sctp, tcp, udp};

use crate::{
    scenario::{self, BRIDGE, Family, UPLINK, Who},
    table::{Row, Step, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, Denied, E, Host, World};
use flags::{ACK, FIN, RST, SYN, SYN_ACK};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = opened(family);
    rows.extend(tcp_flags(family));
    rows.extend(replies(family));
    rows.extend(revoked(family));
    rows.extend(expired(family));
    rows.extend(adopted(family));
    rows.extend(hairpins(family));
    rows.extend(echoes(family));
    rows
}

/// Of A, to port 80 of B.
fn forth(family: Family, flags: u8) -> Ip {
    packet(family, A, B, tcp(4000, 80, flags))
}

/// The answer.
fn back(family: Family, flags: u8) -> Ip {
    packet(family, B, A, tcp(80, 4000, flags))
}

fn opened(family: Family) -> Vec<Row> {
    let opens = |sender, receiver, upper: Upper| packet(family, sender, receiver, upper);
    let allowed = allow(Reason::Allowed);
    let no_rule = Reason::NoRule;
    let gre = (protocol::GRE, vec![0; 8]);
    let ipip = (4, forth(Family::V4, SYN).frame()[14..].to_vec());
    vec![
        row("UDP", from(A), opens(A, B, udp(4000, 53)), allowed),
        row("SCTP", from(A), opens(A, B, sctp(4000, 36)), allowed),
        row(
            "SCTP, another port",
            from(A),
            opens(A, B, sctp(4000, 37)),
            deny(no_rule),
        ),
        row(
            "UDP on TCP's port",
            from(A),
            opens(A, B, udp(4000, 80)),
            deny(no_rule),
        ),
        row(
            "TCP on UDP's port",
            from(A),
            opens(A, B, tcp(4000, 53, SYN)),
            deny(no_rule),
        ),
        row(
            "the allowed port as source",
            from(A),
            opens(A, B, tcp(80, 4000, SYN)),
            deny(no_rule),
        ),
        row(
            "GRE, allowed by the sender alone",
            from(A),
            opens(A, B, gre),
            allowed.but_denied_by(B, no_rule),
        ),
        row("IP in IP", from(A), opens(A, B, ipip), deny(no_rule)),
        row(
            "VXLAN",
            from(A),
            opens(A, B, udp(4000, 4789)),
            deny(no_rule),
        ),
        row(
            "to the gateway",
            from(A),
            opens(A, Host, tcp(4000, 8080, SYN)),
            allowed,
        ),
        row(
            "to the gateway, another port",
            from(A),
            opens(A, Host, tcp(4000, 22, SYN)),
            deny(no_rule),
        ),
        row(
            "to the world",
            from(A),
            opens(A, World, tcp(4000, 443, SYN)),
            allowed,
        ),
        row(
            "to the denied part of the world",
            from(A),
            opens(A, Denied, tcp(4000, 443, SYN)),
            deny(Reason::DenyRule),
        ),
        row(
            "to another network",
            from(A),
            opens(A, E, tcp(4000, 80, SYN)),
            allowed,
        ),
        row(
            "to another network, another port",
            from(A),
            opens(A, E, tcp(4000, 81, SYN)),
            deny(no_rule),
        ),
        row(
            "allowed by the sender alone",
            from(A),
            opens(A, B, tcp(4000, 85, SYN)),
            allowed.but_denied_by(B, no_rule),
        ),
        row(
            "allowed by the receiver alone",
            from(A),
            opens(A, B, tcp(4000, 90, SYN)),
            deny(no_rule),
        ),
        row(
            "received from the sender's hook",
            to(B, A.ifindex()),
            forth(family, SYN),
            allowed,
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "received through the gateway",
            to(B, BRIDGE),
            forth(family, SYN),
            allowed,
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "received without the sender's hook",
            to(B, A.ifindex()),
            forth(family, SYN),
            allowed,
        ),
        row(
            "received without the sender's hook, no rule",
            to(B, A.ifindex()),
            opens(A, B, tcp(4000, 85, SYN)),
            deny(no_rule),
        ),
        row(
            "a corrupted flow tells so",
            from(A),
            forth(family, SYN),
            allow(Reason::Internal),
        )
        .seen(from(A), forth(family, SYN))
        .after(Step::Corrupted),
    ]
}

fn tcp_flags(family: Family) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, flags) in [
        ("ACK", ACK),
        ("SYN and ACK", SYN_ACK),
        ("FIN", FIN),
        ("RST", RST),
        ("no flag", 0),
        ("SYN and FIN", SYN | FIN),
        ("SYN and RST", SYN | RST),
        ("all flags", 0x3f),
    ] {
        rows.push(row(
            format!("{name} opens nothing"),
            from(A),
            forth(family, flags),
            deny(Reason::NoSyn),
        ));
        rows.push(row(
            format!("{name} opens nothing at the receiver"),
            to(B, A.ifindex()),
            forth(family, flags),
            deny(Reason::NoSyn),
        ));
    }
    let audited = packet(family, C, Host, tcp(4000, 80, ACK));
    let off = packet(family, D, B, tcp(4000, 80, ACK));
    rows.push(row(
        "ACK opens nothing, audited",
        from(C),
        audited,
        audit(Reason::NoSyn),
    ));
    rows.push(row(
        "ACK of one that is off",
        from(D),
        off.clone(),
        silent(),
    ));
    rows.push(row(
        "ACK of one that is off, received",
        to(B, D.ifindex()),
        off,
        deny(Reason::NoSyn),
    ));
    // Explicit congestion notification sets more flags (RFC 3168).
    rows.push(row(
        "SYN with ECE and CWR",
        from(A),
        forth(family, SYN | 0xc0),
        allow(Reason::Allowed),
    ));
    rows.push(
        row(
            "SYN and FIN in a flow",
            from(A),
            forth(family, SYN | FIN),
            allow(Reason::Allowed),
        )
        .seen(from(A), forth(family, SYN)),
    );
    rows
}

fn replies(family: Family) -> Vec<Row> {
    let established = |row: Row| {
        row.seen(from(A), forth(family, SYN))
            .seen(to(B, A.ifindex()), forth(family, SYN))
            .seen(from(B), back(family, SYN_ACK))
            .seen(to(A, B.ifindex()), back(family, SYN_ACK))
    };
    let out = packet(family, A, World, tcp(4000, 443, SYN));
    let answer = packet(family, World, A, tcp(443, 4000, SYN_ACK));
    let asked = packet(family, A, World, udp(4000, 53));
    let told = packet(family, World, A, udp(53, 4000));
    vec![
        row(
            "answer sent",
            from(B),
            back(family, SYN_ACK),
            allow(Reason::Reply),
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "answer received",
            to(A, B.ifindex()),
            back(family, SYN_ACK),
            allow(Reason::Reply),
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "established, forth",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        ),
        row(
            "established, received",
            to(B, A.ifindex()),
            forth(family, ACK),
            allow(Reason::Allowed),
        ),
        row(
            "established, back",
            from(B),
            back(family, ACK),
            allow(Reason::Reply),
        ),
        row(
            "established, back received",
            to(A, B.ifindex()),
            back(family, ACK),
            allow(Reason::Reply),
        ),
        row(
            "SYN again in an established flow",
            from(A),
            forth(family, SYN),
            allow(Reason::Allowed),
        ),
        row(
            "SYN from the other end",
            from(B),
            back(family, SYN),
            deny(Reason::NoRule),
        ),
        row(
            "SYN from the other end, received",
            to(A, B.ifindex()),
            back(family, SYN),
            deny(Reason::NoRule),
        ),
        row(
            "data after SYN from the other end",
            from(A),
            forth(family, ACK),
            allow(Reason::Allowed),
        )
        .seen(from(B), back(family, SYN)),
        row("reset", from(B), back(family, RST), allow(Reason::Reply)),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, row)| if number < 2 { row } else { established(row) })
    .chain([
        row(
            "answer of the world",
            to(A, UPLINK),
            answer.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), out.clone()),
        row(
            "second answer of the world",
            to(A, UPLINK),
            answer.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), out.clone())
        .seen(to(A, UPLINK), answer.clone()),
        row(
            "answer of the world, made on the host",
            to(A, 0),
            answer.clone(),
            deny(Reason::SpoofedAddress),
        )
        .seen(from(A), out.clone())
        .seen(to(A, UPLINK), answer.clone()),
        row(
            "answer of the world to nothing",
            to(A, UPLINK),
            answer,
            deny(Reason::NoSyn),
        ),
        row(
            "UDP answer of the world",
            to(A, UPLINK),
            told.clone(),
            allow(Reason::Reply),
        )
        .seen(from(A), asked),
        row(
            "UDP answer of the world to nothing",
            to(A, UPLINK),
            told,
            deny(Reason::NoRule),
        ),
        row(
            "answer of another port",
            from(B),
            packet(family, B, A, tcp(81, 4000, SYN_ACK)),
            deny(Reason::NoSyn),
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "answer of another end",
            from(C),
            packet(family, C, A, tcp(80, 4000, SYN_ACK)),
            audit(Reason::NoSyn),
        )
        .seen(from(A), forth(family, SYN)),
        row(
            "answer of another end, received",
            to(A, C.ifindex()),
            packet(family, C, A, tcp(80, 4000, SYN_ACK)),
            deny(Reason::NoSyn),
        )
        .seen(from(A), forth(family, SYN)),
    ])
    .collect()
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
        by_mode(tables, A, dfw_common::value::mode::AUDIT);
        by_mode(tables, B, dfw_common::value::mode::AUDIT);
    };
    let enforces: fn(&mut Tables) = |tables| {
        by_mode(tables, A, dfw_common::value::mode::ENFORCE);
        by_mode(tables, B, dfw_common::value::mode::ENFORCE);
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

/// A dials a port of the host, which is translated to B on the way.
fn hairpins(family: Family) -> Vec<Row> {
    let dialled = packet(family, A, Host, tcp(4000, 8080, SYN));
    let translated = forth(family, SYN);
    let elsewhere = packet(family, A, B, tcp(4000, 90, SYN));
    let denied = packet(family, A, B, tcp(4000, 85, SYN));
    vec![
        row(
            "translated inside the bridge",
            to(B, A.ifindex()),
            translated.clone(),
            allow(Reason::Allowed),
        )
        .seen(from(A), dialled.clone()),
        row(
            "translated on the way through the host",
            to(B, BRIDGE),
            translated.clone(),
            allow(Reason::Allowed),
        )
        .seen(from(A), dialled.clone()),
        row(
            "translated to what the receiver alone allows",
            to(B, A.ifindex()),
            elsewhere,
            allow(Reason::Allowed),
        )
        .seen(from(A), dialled.clone()),
        row(
            "translated to what the receiver denies",
            to(B, A.ifindex()),
            denied,
            deny(Reason::NoRule),
        )
        .seen(from(A), dialled.clone()),
        row(
            "answer of the translated",
            from(B),
            back(family, SYN_ACK),
            allow(Reason::Reply),
        )
        .seen(from(A), dialled.clone())
        .seen(to(B, A.ifindex()), translated.clone()),
        row(
            "translated back",
            to(A, BRIDGE),
            packet(family, Host, A, tcp(8080, 4000, SYN_ACK)),
            allow(Reason::Reply),
        )
        .seen(from(A), dialled.clone()),
        row(
            "masqueraded: comes as the host",
            to(B, A.ifindex()),
            packet(family, Host, B, tcp(4000, 80, SYN)),
            deny(Reason::NoRule),
        )
        .seen(from(A), dialled),
        // The translated tuple's entry has no egress side, so it is no permission to dial B directly.
        row(
            "the translated tuple, dialled directly",
            from(A),
            packet(family, A, B, tcp(4000, 90, SYN)),
            deny(Reason::NoRule),
        )
        .seen(to(B, A.ifindex()), packet(family, A, B, tcp(4000, 90, SYN))),
        row(
            "the translated tuple, continued directly",
            from(A),
            packet(family, A, B, tcp(4000, 90, ACK)),
            deny(Reason::NoRule),
        )
        .seen(to(B, A.ifindex()), packet(family, A, B, tcp(4000, 90, SYN))),
    ]
}

fn echoes(family: Family) -> Vec<Row> {
    let (protocol, echo, reply) = family.icmp();
    let ping = |sender, receiver, id| {
        packet(
            family,
            sender,
            receiver,
            icmp(protocol, echo, 0, &[0, id, 0, 1]),
        )
    };
    let pong = |sender, receiver, id| {
        packet(
            family,
            sender,
            receiver,
            icmp(protocol, reply, 0, &[0, id, 0, 1]),
        )
    };
    let other = match family {
        Family::V4 => icmp(protocol, 13, 0, &[0; 16]),
        Family::V6 => icmp(protocol, 139, 0, &[0; 16]),
    };
    vec![
        row("echo", from(A), ping(A, B, 7), allow(Reason::Allowed)),
        row("echo reply", from(B), pong(B, A, 7), allow(Reason::Reply))
            .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply received",
            to(A, B.ifindex()),
            pong(B, A, 7),
            allow(Reason::Reply),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply to nothing",
            from(B),
            pong(B, A, 7),
            deny(Reason::NoFlow),
        ),
        row(
            "echo reply with another id",
            from(B),
            pong(B, A, 8),
            deny(Reason::NoFlow),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply by the asker",
            from(A),
            pong(A, B, 7),
            deny(Reason::NoFlow),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "the same id asked the other way",
            from(B),
            ping(B, A, 7),
            deny(Reason::NoRule),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "the same id asked the other way, received",
            to(A, B.ifindex()),
            ping(B, A, 7),
            deny(Reason::NoRule),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply to one that audits",
            to(C, UPLINK),
            pong(World, C, 7),
            audit(Reason::NoFlow),
        ),
        row(
            "another type of message",
            from(A),
            packet(family, A, B, other),
            deny(Reason::NoRule),
        ),
    ]
}
