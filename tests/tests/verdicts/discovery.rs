//! Neighbour discovery: what works without a rule, and nothing more.

use std::net::Ipv6Addr;

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, Mac, icmp, protocol};

use crate::{
    scenario::{Family, Who},
    table::{Row, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, E, Group, Host, Nobody, World};

const SPOOFED: Reason = Reason::SpoofedNeighbour;

/// Rows of IPv6.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = solicitations();
    rows.extend(advertisements());
    rows
}

/// A neighbour discovery message; `body` follows the checksum.
pub(crate) fn nd(
    kind: u8,
    sender: Who,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    body: &[u8],
) -> Ip {
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

/// The address.
pub(crate) fn v6(who: Who) -> Ipv6Addr {
    match who.ip(Family::V6) {
        std::net::IpAddr::V6(address) => address,
        std::net::IpAddr::V4(address) => panic!("{address}"),
    }
}

/// Reserved bytes or flags, the target, and an option with a MAC.
fn about(flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    [&[flags, 0, 0, 0], &target.octets()[..], &[option, 1], &mac].concat()
}

/// All nodes of the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

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
    // Read where it would stand without the header, it asks for the world and names its own MAC.
    let body = [&[0; 12][..], &[1, 1], &A.mac()].concat();
    let mut shifted = nd(135, A, v6(A), solicited(v6(Host)), &body);
    shifted.extensions = extended.extensions.clone();
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
            "DAD for its own address received",
            to(B, C.ifindex()),
            nd(
                135,
                C,
                Ipv6Addr::UNSPECIFIED,
                solicited(v6(B)),
                &about(0, v6(B), 14, [0; 6]),
            ),
            spoofed,
        ),
        row(
            "NS with an option beyond the frame",
            from(A),
            with_options(&[1, 2, 2, 0, 0, 0, 0, A.mac()[5]]),
            spoofed,
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
            "NS that is read beside its place",
            from(A),
            shifted,
            spoofed,
        ),
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
    let mut extended = na(C, v6(A), v6(Host));
    extended.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
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
            "NA of one that enforces to the host, from one that audits",
            from(C),
            na(C, v6(A), v6(Host)),
            spoofed,
        ),
        row(
            "NA behind an extension header, from one that audits",
            from(C),
            extended,
            spoofed,
        ),
        row(
            "NA of one that is off to the host, from one that audits",
            from(C),
            na(C, v6(D), v6(Host)),
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
