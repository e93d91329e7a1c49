//! Membership, broadcast and multicast.

use std::net::{Ipv4Addr, Ipv6Addr};

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, icmp, protocol, udp};

use crate::{
    scenario::{BRIDGE, Family, UPLINK, Who},
    table::{Expect, Row, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, Group, Host, World};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = memberships(family);
    rows.extend(groups(family));
    rows
}

fn memberships(family: Family) -> Vec<Row> {
    let message = |sender: Who, receiver: Who, is_query| {
        let upper = match (family, is_query) {
            (Family::V4, true) => icmp(protocol::IGMP, 0x11, 0, &[0; 4]),
            (Family::V4, false) => icmp(protocol::IGMP, 0x22, 0, &[0; 4]),
            (Family::V6, true) => icmp(protocol::ICMP6, 130, 0, &[0; 20]),
            (Family::V6, false) => icmp(protocol::ICMP6, 143, 0, &[0; 4]),
        };
        let mut packet = packet(family, sender, receiver, upper);
        packet.hops = 1;
        packet
    };
    let without_address = |mut packet: Ip| {
        packet.source = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        packet
    };
    let claimed = |mut packet: Ip, who: Who| {
        packet.source = who.ip(family);
        packet
    };
    let member = Reason::GroupMembership;
    vec![
        row("report", from(A), message(A, Group, false), silent()),
        row(
            "report without an address",
            from(A),
            without_address(message(A, Group, false)),
            silent(),
        ),
        row(
            "report with another's address",
            from(A),
            claimed(message(A, Group, false), C),
            deny(Reason::SpoofedAddress),
        ),
        row(
            "report received",
            to(B, A.ifindex()),
            message(A, Group, false),
            deny(member),
        ),
        row(
            "report received, audited",
            to(C, A.ifindex()),
            message(A, Group, false),
            silent(),
        ),
        row("query", from(A), message(A, Group, true), deny(member)),
        row(
            "query, audited",
            from(C),
            message(C, Group, true),
            audit(member),
        ),
        row(
            "query of a neighbour received",
            to(B, C.ifindex()),
            message(C, Group, true),
            deny(member),
        ),
        row(
            "query of the host received",
            to(B, 0),
            message(Host, Group, true),
            silent(),
        ),
        row(
            "report to the world, which is no report",
            from(A),
            message(A, World, false),
            deny(Reason::NoRule),
        ),
        row(
            "report to a neighbour, which is no report",
            from(A),
            message(A, B, false),
            deny(Reason::NoRule),
        ),
        row(
            "report to the host, which is no report",
            from(A),
            message(A, Host, false),
            deny(Reason::NoRule),
        ),
        row(
            "report through the gateway received, which is none",
            to(B, BRIDGE),
            message(A, B, false),
            deny(Reason::NoRule),
        ),
    ]
}

/// Broadcast and multicast are judged at each end, and open no flow.
fn groups(family: Family) -> Vec<Row> {
    let said = |sender, port| packet(family, sender, Group, udp(5353, port));
    let allowed = allow(Reason::Allowed);
    let no_rule = deny(Reason::NoRule);
    let mut broadcast = packet(family, A, Group, udp(5353, 5354));
    let mut limited = broadcast.clone();
    if family == Family::V4 {
        broadcast.destination = Ipv4Addr::new(10, 1, 0, 255).into();
        limited.destination = Ipv4Addr::BROADCAST.into();
    }
    let received = |who: Who, expect: Expect, sender: Who| {
        row(
            format!("{sender:?} to the group, received by {who:?}"),
            to(who, sender.ifindex()),
            said(sender, 5353),
            expect,
        )
    };
    vec![
        row("to the group", from(A), said(A, 5353), allowed),
        row(
            "to the group, another port",
            from(A),
            said(A, 5354),
            no_rule,
        ),
        row("to the group twice", from(A), said(A, 5354), no_rule).seen(from(A), said(A, 5353)),
        row(
            "to the group, audited",
            from(C),
            said(C, 5353),
            audit(Reason::NoRule),
        ),
        row("to the group, off", from(D), said(D, 5353), silent()),
        row("to the network's broadcast", from(A), broadcast, no_rule),
        row("to everybody", from(A), limited, no_rule),
        received(B, allowed, A),
        received(B, no_rule, C),
        received(C, audit(Reason::NoRule), A),
        received(D, silent(), A),
        row(
            "of the host to the group",
            to(B, 0),
            said(Host, 5353),
            allowed,
        ),
        row(
            "in the name of the host",
            to(B, C.ifindex()),
            said(Host, 5353),
            deny(Reason::SpoofedAddress),
        ),
        row(
            "of the world to the group",
            to(B, UPLINK),
            said(World, 5353),
            no_rule,
        ),
        row(
            "in the name of a neighbour",
            to(B, C.ifindex()),
            said(A, 5353),
            deny(Reason::SpoofedAddress),
        ),
        row(
            "answered from the group's port",
            from(B),
            packet(family, B, A, udp(5353, 5353)),
            no_rule,
        )
        .seen(from(A), said(A, 5353)),
    ]
}
