//! ARP, neighbour discovery, membership and groups: what works without a rule, and nothing more.

use std::net::{Ipv4Addr, Ipv6Addr};

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, Mac, arp, ethernet, icmp, protocol, udp};

use crate::{
    scenario::{BRIDGE, Family, UPLINK, Who},
    table::{At, Expect, Row, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, E, Group, Host, Nobody, World};

const BROADCAST: Mac = [0xff; 6];
const SPOOFED: Reason = Reason::SpoofedNeighbour;

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = match family {
        Family::V4 => arps(),
        Family::V6 => [solicitations(), advertisements(), routers()].concat_rows(),
    };
    rows.extend(memberships(family));
    rows.extend(groups(family));
    rows
}

trait Concat {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> Concat for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

fn v4(who: Who) -> [u8; 4] {
    match who.ip(Family::V4) {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}

/// A question, sent to everybody.
fn asks(sender: (Mac, [u8; 4]), source: Mac, target: [u8; 4]) -> Vec<u8> {
    ethernet(
        [BROADCAST, source],
        0x0806,
        &arp(1, sender, ([0; 6], target)),
    )
}

/// An answer.
fn answers(sender: (Mac, [u8; 4]), target: Who) -> Vec<u8> {
    let macs = [target.mac(), sender.0];
    ethernet(macs, 0x0806, &arp(2, sender, (target.mac(), v4(target))))
}

fn arps() -> Vec<Row> {
    let own = |who: Who| (who.mac(), v4(who));
    let asks_for = |who: Who, target: Who| asks(own(who), who.mac(), v4(target));
    let claims = |who: Who, claimed: Who| (who.mac(), v4(claimed));
    let probe = |who: Who, target: Who| asks((who.mac(), [0; 4]), who.mac(), v4(target));
    let spoofed = deny(SPOOFED);
    let unseen = deny(Reason::Neighbour);
    let mut rows = vec![
        row("asks for the gateway", from(A), asks_for(A, Host), silent()),
        row(
            "asks for a neighbour it may dial",
            from(A),
            asks_for(A, B),
            silent(),
        ),
        row(
            "asks for one that may dial it",
            from(B),
            asks_for(B, A),
            silent(),
        ),
        row(
            "asks for one that no rule lets it meet",
            from(B),
            asks_for(B, D),
            silent(),
        ),
        row("asks for nobody", from(A), asks_for(A, Nobody), unseen),
        row(
            "asks for nobody, audited",
            from(C),
            asks_for(C, Nobody),
            silent(),
        ),
        row("asks for the world", from(A), asks_for(A, World), silent()),
        row("asks for another network", from(A), asks_for(A, E), unseen),
        row(
            "announces itself",
            from(A),
            asks(own(A), A.mac(), v4(A)),
            silent(),
        ),
        row(
            "asks whether its address is free",
            from(A),
            probe(A, A),
            silent(),
        ),
        row(
            "asks whether another's address is free",
            from(A),
            probe(A, B),
            spoofed,
        ),
        row("answers", from(B), answers(own(B), A), silent()),
        row(
            "answer received",
            to(A, B.ifindex()),
            answers(own(B), A),
            silent(),
        ),
        row(
            "question received",
            to(B, A.ifindex()),
            asks_for(A, B),
            silent(),
        ),
        row(
            "question of the host received",
            to(B, 0),
            ethernet(
                [BROADCAST, Host.mac()],
                0x0806,
                &arp(1, own(Host), ([0; 6], v4(B))),
            ),
            silent(),
        ),
        row(
            "question for another received",
            to(B, A.ifindex()),
            asks_for(A, Host),
            unseen,
        ),
        row("probe received", to(B, C.ifindex()), probe(C, C), silent()),
        row(
            "claims a neighbour's address",
            from(A),
            answers(claims(A, C), B),
            spoofed,
        ),
        row(
            "claims the gateway's address",
            from(A),
            answers(claims(A, Host), B),
            spoofed,
        ),
        row(
            "gratuitous claim of the gateway's address",
            from(A),
            asks(claims(A, Host), A.mac(), v4(Host)),
            spoofed,
        ),
        row(
            "gratuitous claim, audited",
            from(C),
            asks(claims(C, Host), C.mac(), v4(Host)),
            audit(SPOOFED),
        ),
        row(
            "gratuitous claim of one that audits, received",
            to(B, C.ifindex()),
            asks(claims(C, Host), C.mac(), v4(Host)),
            spoofed,
        ),
        row(
            "claim of a neighbour's address, received",
            to(B, C.ifindex()),
            asks(claims(C, A), C.mac(), v4(A)),
            spoofed,
        ),
        row(
            "claim of the world's address, received",
            to(B, C.ifindex()),
            asks(claims(C, World), C.mac(), v4(World)),
            spoofed,
        ),
        row(
            "claims to one that enforces, audited",
            from(C),
            answers(claims(C, Host), B),
            spoofed,
        ),
        row(
            "another's MAC in the message",
            from(A),
            asks((C.mac(), v4(A)), A.mac(), v4(B)),
            spoofed,
        ),
        row(
            "another's MAC in the frame",
            from(A),
            asks((A.mac(), v4(A)), C.mac(), v4(B)),
            spoofed,
        ),
        row(
            "another's MAC in both",
            from(A),
            asks((C.mac(), v4(A)), C.mac(), v4(B)),
            deny(Reason::SpoofedMac),
        ),
        row(
            "from a port without identity",
            At::Endpoint(dfw_common::decide::Place {
                hook: dfw_common::decide::Hook::From,
                ifindex: crate::scenario::UNCLAIMED,
                ingress: crate::scenario::UNCLAIMED,
            }),
            asks_for(A, Host),
            deny(Reason::NotReady),
        ),
        row(
            "to another's MAC",
            to(B, A.ifindex()),
            answers(own(A), C),
            deny(Reason::WrongMac),
        ),
    ];
    for (at, byte, what) in [
        (14, 9, "hardware type"),
        (17, 1, "protocol type"),
        (18, 8, "hardware length"),
        (19, 16, "protocol length"),
    ] {
        let mut frame = asks_for(A, Host);
        frame[at] = byte;
        rows.push(row(
            format!("another {what}"),
            from(A),
            frame,
            deny(Reason::Malformed),
        ));
    }
    let mut short = asks_for(A, Host);
    short.truncate(41);
    rows.push(row("cut", from(A), short, deny(Reason::Malformed)));
    rows
}

/// A neighbour discovery message; `body` follows the checksum.
fn nd(kind: u8, sender: Who, source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> Ip {
    let group = destination.octets()[0] == 0xff;
    let receiver = if group { Group } else { Host };
    let mut packet = packet(
        Family::V6,
        sender,
        receiver,
        icmp(protocol::ICMP6, kind, 0, body),
    );
    packet.source = source.into();
    packet.destination = destination.into();
    packet.hops = 255;
    packet
}

fn v6(who: Who) -> Ipv6Addr {
    match who.ip(Family::V6) {
        std::net::IpAddr::V6(address) => address,
        std::net::IpAddr::V4(address) => panic!("{address}"),
    }
}

/// Reserved bytes or flags, the target, and an option with a MAC.
fn about(flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    [&[flags, 0, 0, 0], &target.octets()[..], &[option, 1], &mac].concat()
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Where questions about an address are sent.
fn solicited(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

fn solicitations() -> Vec<Row> {
    let ns = |sender: Who, source, target| {
        nd(
            135,
            sender,
            source,
            solicited(target),
            &about(0, target, 1, sender.mac()),
        )
    };
    let spoofed = deny(SPOOFED);
    let unseen = deny(Reason::Neighbour);
    let mut low = ns(A, v6(A), v6(Host));
    low.hops = 254;
    let mut coded = ns(A, v6(A), v6(Host));
    coded.upper.1[1] = 1;
    let mut extended = ns(A, v6(A), v6(Host));
    extended.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    let mut cut = ns(A, v6(A), v6(Host));
    cut.upper.1.truncate(20);
    let with_options = |options: &[u8]| {
        let mut packet = ns(A, v6(A), v6(Host));
        packet.upper.1.truncate(24);
        packet.upper.1.extend(options);
        packet
    };
    let own = [&[1, 1], &A.mac()[..]].concat();
    let other = [&[1, 1], &C.mac()[..]].concat();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let unicast = |destination: Ipv6Addr, target| {
        let mut packet = ns(A, v6(A), target);
        packet.destination = destination.into();
        packet
    };
    vec![
        row(
            "NS for the gateway",
            from(A),
            ns(A, v6(A), v6(Host)),
            silent(),
        ),
        row(
            "NS for the gateway's own link",
            from(A),
            ns(A, A.link_local(), Host.link_local()),
            silent(),
        ),
        row(
            "NS for a neighbour it may dial",
            from(A),
            ns(A, v6(A), v6(B)),
            silent(),
        ),
        row(
            "NS for one that may dial it",
            from(B),
            ns(B, v6(B), v6(C)),
            silent(),
        ),
        row("NS for nobody", from(A), ns(A, v6(A), v6(Nobody)), unseen),
        row(
            "NS for nobody, audited",
            from(C),
            ns(C, v6(C), v6(Nobody)),
            silent(),
        ),
        row(
            "NS for another network",
            from(A),
            ns(A, v6(A), v6(E)),
            unseen,
        ),
        row(
            "NS received",
            to(B, A.ifindex()),
            ns(A, v6(A), v6(B)),
            silent(),
        ),
        row(
            "NS for another received",
            to(B, A.ifindex()),
            ns(A, v6(A), v6(Host)),
            unseen,
        ),
        row(
            "NS of the host received",
            to(B, 0),
            ns(Host, v6(Host), v6(B)),
            silent(),
        ),
        row(
            "NS by another's port received",
            to(B, C.ifindex()),
            ns(A, v6(A), v6(B)),
            spoofed,
        ),
        row(
            "NS that claims the host, received",
            to(B, C.ifindex()),
            ns(C, v6(Host), v6(B)),
            spoofed,
        ),
        row(
            "DAD",
            from(A),
            nd(
                135,
                A,
                Ipv6Addr::UNSPECIFIED,
                solicited(v6(A)),
                &about(0, v6(A), 14, [0; 6]),
            ),
            silent(),
        ),
        row(
            "DAD received",
            to(B, A.ifindex()),
            nd(
                135,
                A,
                Ipv6Addr::UNSPECIFIED,
                solicited(v6(A)),
                &about(0, v6(A), 14, [0; 6]),
            ),
            silent(),
        ),
        row(
            "DAD for another's address",
            from(A),
            nd(
                135,
                A,
                Ipv6Addr::UNSPECIFIED,
                solicited(v6(B)),
                &about(0, v6(B), 14, [0; 6]),
            ),
            spoofed,
        ),
        row(
            "NS with another's address",
            from(A),
            ns(A, v6(C), v6(B)),
            spoofed,
        ),
        row(
            "NS with another's MAC",
            from(A),
            with_options(&other),
            spoofed,
        ),
        row("NS without options", from(A), with_options(&[]), silent()),
        row(
            "NS with a nonce",
            from(A),
            with_options(&[&own[..], &nonce].concat()),
            silent(),
        ),
        row(
            "NS with another's MAC in the second option",
            from(A),
            with_options(&[&nonce[..], &other].concat()),
            spoofed,
        ),
        row(
            "NS with more options than are walked",
            from(A),
            with_options(&nonce.repeat(5)),
            spoofed,
        ),
        row(
            "NS with an option of no length",
            from(A),
            with_options(&[14, 0, 0, 0, 0, 0, 0, 0]),
            spoofed,
        ),
        row(
            "NS with half an option",
            from(A),
            with_options(&[1, 1, 2, 0]),
            spoofed,
        ),
        row("NS with hop limit 254", from(A), low, spoofed),
        row("NS with a code", from(A), coded, spoofed),
        row("NS with an extension header", from(A), extended, spoofed),
        row(
            "NS without a whole target",
            from(A),
            cut,
            deny(Reason::Malformed),
        ),
        row(
            "NS to the gateway alone",
            from(A),
            unicast(v6(Host), v6(Host)),
            silent(),
        ),
        row(
            "NS for the gateway, sent to nobody",
            from(A),
            unicast(v6(Nobody), v6(Host)),
            unseen,
        ),
        row(
            "NS for the gateway, sent to another network",
            from(A),
            unicast(v6(E), v6(Host)),
            unseen,
        ),
        row(
            "NS in IPv4",
            from(A),
            packet(
                Family::V4,
                A,
                World,
                icmp(protocol::ICMP6, 135, 0, &about(0, v6(Host), 1, A.mac())),
            ),
            deny(Reason::Malformed),
        ),
    ]
}

fn advertisements() -> Vec<Row> {
    let na = |sender: Who, target, receiver| {
        nd(
            136,
            sender,
            v6(sender),
            receiver,
            &about(0x60, target, 2, sender.mac()),
        )
    };
    let received = |sender: Who, target, receiver: Who| {
        let mut packet = na(sender, target, v6(receiver));
        packet.macs[0] = receiver.mac();
        packet
    };
    let spoofed = deny(SPOOFED);
    let unseen = deny(Reason::Neighbour);
    let mut foreign_mac = na(A, v6(A), v6(B));
    let at = foreign_mac.upper.1.len() - 1;
    foreign_mac.upper.1[at] = 99;
    let to_world = |sender: Who| na(sender, v6(sender), v6(World));
    vec![
        row("NA of itself", from(A), na(A, v6(A), v6(B)), silent()),
        row(
            "NA of itself to the gateway",
            from(A),
            na(A, v6(A), v6(Host)),
            silent(),
        ),
        row(
            "NA of itself to all",
            from(A),
            na(A, v6(A), ALL_NODES),
            silent(),
        ),
        row(
            "NA of the gateway",
            from(A),
            na(A, v6(Host), v6(B)),
            spoofed,
        ),
        row(
            "NA of a neighbour",
            from(A),
            na(A, v6(C), ALL_NODES),
            spoofed,
        ),
        row("NA with another's MAC", from(A), foreign_mac, spoofed),
        row(
            "NA of the gateway to all, audited",
            from(C),
            na(C, v6(Host), ALL_NODES),
            audit(SPOOFED),
        ),
        row(
            "NA of the gateway from one that audits, received",
            to(B, C.ifindex()),
            na(C, v6(Host), ALL_NODES),
            spoofed,
        ),
        row(
            "NA of the gateway from one that may dial it, received",
            to(B, C.ifindex()),
            received(C, v6(Host), B),
            spoofed,
        ),
        row(
            "NA of a neighbour from one that may dial it, received",
            to(B, C.ifindex()),
            received(C, v6(A), B),
            spoofed,
        ),
        row(
            "NA received",
            to(A, B.ifindex()),
            received(B, v6(B), A),
            silent(),
        ),
        row(
            "NA received from one that no rule lets it meet",
            to(B, D.ifindex()),
            received(D, v6(D), B),
            silent(),
        ),
        row(
            "NA of the host received",
            to(B, 0),
            received(Host, v6(Host), B),
            silent(),
        ),
        row(
            "NA of the host by a neighbour's port received",
            to(B, C.ifindex()),
            received(Host, v6(Host), B),
            spoofed,
        ),
        row(
            "NA to the world, which some rule lets it dial",
            from(A),
            to_world(A),
            silent(),
        ),
        row(
            "NA to the world, which no rule names",
            from(E),
            {
                let mut packet = na(E, v6(E), v6(World));
                packet.macs[1] = E.mac();
                packet
            },
            unseen,
        ),
        row(
            "NA to another network",
            from(A),
            na(A, v6(A), v6(E)),
            unseen,
        ),
        row("NA to nobody", from(A), na(A, v6(A), v6(Nobody)), unseen),
    ]
}

fn routers() -> Vec<Row> {
    let rs = |sender: Who, source, destination, mac: Mac| {
        nd(
            133,
            sender,
            source,
            destination,
            &[&[0, 0, 0, 0, 1, 1], &mac[..]].concat(),
        )
    };
    let nothing = [0; 12];
    let spoofed = deny(SPOOFED);
    let ra = Reason::RouterAdvertisement;
    let mut low = rs(A, A.link_local(), ALL_ROUTERS, A.mac());
    low.hops = 1;
    let mut to_one = nd(134, C, C.link_local(), v6(B), &nothing);
    to_one.macs[0] = B.mac();
    vec![
        row(
            "RS",
            from(A),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            silent(),
        ),
        row(
            "RS without an address",
            from(A),
            nd(133, A, Ipv6Addr::UNSPECIFIED, ALL_ROUTERS, &[0; 4]),
            silent(),
        ),
        row(
            "RS with another's address",
            from(A),
            rs(A, v6(C), ALL_ROUTERS, A.mac()),
            spoofed,
        ),
        row(
            "RS with another's MAC",
            from(A),
            rs(A, A.link_local(), ALL_ROUTERS, C.mac()),
            spoofed,
        ),
        row("RS with hop limit 1", from(A), low, spoofed),
        row(
            "RS to the world",
            from(A),
            rs(A, v6(A), v6(World), A.mac()),
            spoofed,
        ),
        row(
            "RS received",
            to(B, A.ifindex()),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            deny(Reason::Neighbour),
        ),
        row(
            "RS received, audited",
            to(C, A.ifindex()),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            silent(),
        ),
        row(
            "RA",
            from(A),
            nd(134, A, A.link_local(), ALL_NODES, &nothing),
            deny(ra),
        ),
        row(
            "RA, audited",
            from(C),
            nd(134, C, C.link_local(), ALL_NODES, &nothing),
            audit(ra),
        ),
        row("RA to one that enforces", from(C), to_one, deny(ra)),
        row(
            "RA of a neighbour received",
            to(B, C.ifindex()),
            nd(134, C, C.link_local(), ALL_NODES, &nothing),
            deny(ra),
        ),
        row(
            "RA of the host received",
            to(B, 0),
            nd(134, Host, Host.link_local(), ALL_NODES, &nothing),
            silent(),
        ),
        row(
            "RA through the bridge received",
            to(B, BRIDGE),
            nd(134, Host, Host.link_local(), ALL_NODES, &nothing),
            silent(),
        ),
        row(
            "redirect",
            from(A),
            nd(137, A, A.link_local(), v6(B), &[0; 36]),
            deny(ra),
        ),
        row(
            "redirect of a neighbour received",
            to(B, C.ifindex()),
            nd(137, C, C.link_local(), ALL_NODES, &[0; 36]),
            deny(ra),
        ),
        row(
            "link-local echo",
            from(A),
            nd(128, A, A.link_local(), B.link_local(), &[0; 4]),
            allow(Reason::Allowed),
        ),
        row(
            "another's link-local address",
            from(A),
            nd(128, A, C.link_local(), B.link_local(), &[0; 4]),
            deny(Reason::SpoofedAddress),
        ),
    ]
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
