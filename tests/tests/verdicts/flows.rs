//! Flows: who opens one, and what belongs to it.

use dfw_common::{
    key::{ANY_NETWORK, AddressKey},
    plain::Tables,
    reason::Reason,
};
use dfw_tests::frame::{Ip, Upper, flags, protocol, sctp, tcp, udp};

use crate::{
    scenario::{BRIDGE, Family, OTHER_BRIDGE, UPLINK, Who},
    table::{Row, Step, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, Denied, E, Host, World};
use flags::{ACK, FIN, RST, SYN, SYN_ACK};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = opened(family);
    rows.extend(tcp_flags(family));
    rows.extend(replies(family));
    rows.extend(hairpins(family));
    rows
}

/// C has the address that A had.
pub(crate) fn inherited(tables: &mut Tables) {
    for family in Family::ALL {
        let addr = C.ip(family).into();
        let heir = tables.addresses[&AddressKey {
            network: BRIDGE,
            addr,
        }];
        let addr = A.ip(family).into();
        for network in [BRIDGE, ANY_NETWORK] {
            tables.addresses.insert(AddressKey { network, addr }, heir);
        }
    }
}

/// A packet to A's address that goes to C.
pub(crate) fn to_heir(mut packet: Ip) -> Ip {
    packet.macs[0] = C.mac();
    packet
}

/// Of A, to port 80 of B.
pub(crate) fn forth(family: Family, flags: u8) -> Ip {
    packet(family, A, B, tcp(4000, 80, flags))
}

/// The answer.
pub(crate) fn back(family: Family, flags: u8) -> Ip {
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
            "received on another network",
            to(E, BRIDGE),
            opens(A, E, tcp(4000, 80, SYN)),
            allowed,
        )
        .seen(from(A), opens(A, E, tcp(4000, 80, SYN))),
        row(
            "received on another network, no rule",
            to(E, BRIDGE),
            opens(A, E, tcp(4000, 81, SYN)),
            deny(no_rule),
        ),
        row(
            "answer of another network sent",
            from(E),
            opens(E, A, tcp(80, 4000, SYN_ACK)),
            allow(Reason::Reply),
        )
        .seen(to(E, BRIDGE), opens(A, E, tcp(4000, 80, SYN))),
        row(
            "answer of another network received",
            to(A, OTHER_BRIDGE),
            opens(E, A, tcp(80, 4000, SYN_ACK)),
            allow(Reason::Reply),
        )
        .seen(from(A), opens(A, E, tcp(4000, 80, SYN))),
        row(
            "answer of another network received, known on both",
            to(A, OTHER_BRIDGE),
            opens(E, A, tcp(80, 4000, SYN_ACK)),
            allow(Reason::Reply),
        )
        .seen(from(A), opens(A, E, tcp(4000, 80, SYN)))
        .seen(to(E, BRIDGE), opens(A, E, tcp(4000, 80, SYN))),
        row(
            "answer to who had the address before",
            to(C, UPLINK),
            to_heir(opens(World, A, tcp(443, 4000, SYN_ACK))),
            audit(Reason::NoSyn),
        )
        .seen(from(A), opens(A, World, tcp(4000, 443, SYN)))
        .written(inherited),
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
