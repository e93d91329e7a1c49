//! Whose a packet is: MACs, addresses, and where it came from.

use dfw_common::reason::Reason;
use dfw_tests::frame::{flags, tcp, udp};

use crate::{
    scenario::{BRIDGE, Family, OTHER_BRIDGE, UPLINK, Who},
    table::{Row, allow, audit, deny, from, packet, row, silent, to, unclaimed},
};
use Who::{A, B, C, D, Denied, E, Group, Host, Nobody, World};

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = senders(family);
    rows.extend(receivers(family));
    rows.extend(origins(family));
    rows.extend(dhcp(family));
    rows
}

fn senders(family: Family) -> Vec<Row> {
    let syn = |sender, receiver| packet(family, sender, receiver, tcp(4000, 80, flags::SYN));
    let with_mac = |sender, receiver, mac| {
        let mut packet = syn(sender, receiver);
        packet.macs[1] = mac;
        packet
    };
    let random = [2, 9, 9, 9, 9, 9];
    // With the sender's own MAC and the address of somebody else.
    let claims = |sender: Who, claimed: Who, receiver: Who| {
        let mut packet = syn(sender, receiver);
        packet.source = claimed.ip(family);
        packet
    };
    let spoofed_mac = Reason::SpoofedMac;
    let spoofed = Reason::SpoofedAddress;
    vec![
        row(
            "MAC of a neighbour",
            from(A),
            with_mac(A, B, C.mac()),
            deny(spoofed_mac),
        ),
        row(
            "random MAC",
            from(A),
            with_mac(A, B, random),
            deny(spoofed_mac),
        ),
        row(
            "group MAC as source",
            from(A),
            with_mac(A, B, Group.mac()),
            deny(spoofed_mac),
        ),
        row(
            "random MAC from one that audits, to one that enforces",
            from(C),
            with_mac(C, B, random),
            deny(spoofed_mac),
        ),
        row(
            "random MAC from one that audits, to one that is off",
            from(C),
            with_mac(C, D, random),
            audit(spoofed_mac),
        ),
        row(
            "random MAC in a flow",
            from(A),
            with_mac(A, B, random),
            deny(spoofed_mac),
        )
        .seen(from(A), syn(A, B)),
        row(
            "address of a neighbour",
            from(A),
            claims(A, C, B),
            deny(spoofed),
        ),
        row(
            "address of the host",
            from(A),
            claims(A, Host, B),
            deny(spoofed),
        ),
        row(
            "address of the world",
            from(A),
            claims(A, World, B),
            deny(spoofed),
        ),
        row(
            "address of another network",
            from(A),
            claims(A, E, B),
            deny(spoofed),
        ),
        row(
            "address of nobody",
            from(A),
            claims(A, Nobody, B),
            deny(spoofed),
        ),
        row(
            "group as source",
            from(A),
            claims(A, Group, B),
            deny(spoofed),
        ),
        row(
            "another's address from one that audits, to one that enforces",
            from(C),
            claims(C, A, B),
            deny(spoofed),
        ),
        row(
            "another's address from one that is off, to one that enforces",
            from(D),
            claims(D, A, B),
            deny(spoofed),
        ),
        row(
            "address of one that enforces from one that audits, to the host",
            from(C),
            claims(C, A, Host),
            deny(spoofed),
        ),
        row(
            "address of one that enforces from one that is off, to the world",
            from(D),
            claims(D, A, World),
            deny(spoofed),
        ),
        row(
            "address of one that enforces elsewhere from one that audits, to the host",
            from(C),
            claims(C, E, Host),
            deny(spoofed),
        ),
        row(
            "address of one that is off from one that audits, to the host",
            from(C),
            claims(C, D, Host),
            audit(spoofed),
        ),
        row(
            "MAC of one that enforces from one that audits, to the host",
            from(C),
            with_mac(C, Host, A.mac()),
            deny(spoofed_mac),
        ),
        row(
            "MAC of one that is off from one that audits, to the host",
            from(C),
            with_mac(C, Host, D.mac()),
            audit(spoofed_mac),
        ),
        row(
            "another's address in that one's flow",
            from(C),
            claims(C, A, B),
            deny(spoofed),
        )
        .seen(from(A), syn(A, B)),
        row(
            "own address to itself",
            from(A),
            syn(A, A),
            deny(Reason::NoRule),
        ),
        row(
            "to nobody",
            from(A),
            syn(A, Nobody),
            deny(Reason::UnknownPeer),
        ),
        row(
            "to nobody, audited",
            from(C),
            syn(C, Nobody),
            audit(Reason::UnknownPeer),
        ),
        row(
            "to nobody from one that is off",
            from(D),
            syn(D, Nobody),
            silent(),
        ),
        row(
            "from a port without identity",
            unclaimed(),
            syn(A, B),
            deny(Reason::NotReady),
        ),
        row(
            "a mangled frame from a port without identity",
            unclaimed(),
            vec![0; 64],
            deny(Reason::NotReady),
        ),
    ]
}

fn receivers(family: Family) -> Vec<Row> {
    let syn = |sender, receiver| packet(family, sender, receiver, tcp(4000, 80, flags::SYN));
    let with_mac = |sender, receiver, mac| {
        let mut packet = syn(sender, receiver);
        packet.macs[0] = mac;
        packet
    };
    let to_address = |sender, receiver: Who, address: Who| {
        let mut packet = syn(sender, receiver);
        packet.destination = address.ip(family);
        packet
    };
    let broadcast = [0xff; 6];
    vec![
        row(
            "flooded: another's MAC",
            to(B, D.ifindex()),
            with_mac(D, B, C.mac()),
            deny(Reason::WrongMac),
        ),
        row(
            "flooded to one that audits, for one that enforces",
            to(C, 0),
            packet(family, Host, B, tcp(4000, 80, flags::SYN)),
            deny(Reason::WrongMac),
        ),
        row(
            "flooded to one that audits",
            to(C, D.ifindex()),
            with_mac(D, C, B.mac()),
            audit(Reason::WrongMac),
        ),
        row(
            "flooded to one that audits, from one that enforces",
            to(C, A.ifindex()),
            with_mac(A, C, B.mac()),
            deny(Reason::WrongMac),
        ),
        row(
            "flooded in a flow",
            to(B, A.ifindex()),
            with_mac(A, B, C.mac()),
            deny(Reason::WrongMac),
        )
        .seen(from(A), syn(A, B)),
        row(
            "broadcast MAC, own address",
            to(B, A.ifindex()),
            with_mac(A, B, broadcast),
            allow(Reason::Allowed),
        )
        .seen(from(A), syn(A, B)),
        row(
            "own MAC, another's address",
            to(B, D.ifindex()),
            to_address(D, B, C),
            deny(Reason::WrongAddress),
        ),
        row(
            "own MAC, the world's address",
            to(B, D.ifindex()),
            to_address(D, B, World),
            deny(Reason::WrongAddress),
        ),
        row(
            "own MAC, the host's address",
            to(B, D.ifindex()),
            to_address(D, B, Host),
            deny(Reason::WrongAddress),
        ),
        row(
            "own MAC, address of one that enforces, audited",
            to(C, D.ifindex()),
            to_address(D, C, B),
            deny(Reason::WrongAddress),
        ),
        row(
            "own MAC, the world's address, audited",
            to(C, D.ifindex()),
            to_address(D, C, World),
            audit(Reason::WrongAddress),
        ),
        row(
            "own MAC, address of one that enforces, off",
            to(D, C.ifindex()),
            to_address(C, D, B),
            deny(Reason::WrongAddress),
        ),
    ]
}

/// `ingress_ifindex` cannot be forged: it says where a packet came from.
fn origins(family: Family) -> Vec<Row> {
    let syn = |sender, port| packet(family, sender, B, tcp(4000, port, flags::SYN));
    let spoofed = deny(Reason::SpoofedAddress);
    let allowed = allow(Reason::Allowed);
    vec![
        row("host", to(B, 0), syn(Host, 9000), allowed),
        row(
            "host, translated from a neighbour",
            to(B, C.ifindex()),
            syn(Host, 9000),
            allowed,
        ),
        row(
            "host, through the bridge",
            to(B, BRIDGE),
            syn(Host, 9000),
            allowed,
        ),
        row("world", to(B, UPLINK), syn(World, 443), allowed),
        row(
            "world by another bridge",
            to(B, OTHER_BRIDGE),
            syn(World, 443),
            allowed,
        ),
        row(
            "world, made on the host",
            to(B, 0),
            syn(World, 443),
            spoofed,
        ),
        row(
            "world, by a neighbour's port",
            to(B, C.ifindex()),
            syn(World, 443),
            spoofed,
        ),
        row(
            "world, unpublished port",
            to(B, UPLINK),
            syn(World, 80),
            deny(Reason::NoRule),
        ),
        row(
            "denied part of the world",
            to(B, UPLINK),
            syn(Denied, 443),
            deny(Reason::DenyRule),
        ),
        row(
            "nobody",
            to(B, UPLINK),
            syn(Nobody, 80),
            deny(Reason::UnknownPeer),
        ),
        row(
            "nobody, by a neighbour's port",
            to(B, C.ifindex()),
            syn(Nobody, 80),
            spoofed,
        ),
        row(
            "neighbour by its own port",
            to(B, A.ifindex()),
            syn(A, 80),
            allowed,
        ),
        row(
            "neighbour through the gateway",
            to(B, BRIDGE),
            syn(A, 80),
            allowed,
        ),
        row(
            "neighbour by another's port",
            to(B, C.ifindex()),
            syn(A, 80),
            spoofed,
        ),
        row(
            "neighbour by the uplink",
            to(B, UPLINK),
            syn(A, 80),
            spoofed,
        ),
        row("neighbour made on the host", to(B, 0), syn(A, 80), spoofed),
        row(
            "other network by its bridge",
            to(A, OTHER_BRIDGE),
            packet(family, E, A, tcp(4000, 80, flags::SYN)),
            deny(Reason::NoRule),
        ),
        row(
            "other network by the uplink",
            to(A, UPLINK),
            packet(family, E, A, tcp(4000, 80, flags::SYN)),
            spoofed,
        ),
        row(
            "own address coming back",
            to(B, BRIDGE),
            syn(B, 80),
            spoofed,
        ),
        row(
            "own address coming back by its port",
            to(B, B.ifindex()),
            syn(B, 80),
            spoofed,
        ),
        row(
            "own address coming back, audited",
            to(C, BRIDGE),
            packet(family, C, C, tcp(4000, 80, flags::SYN)),
            audit(Reason::SpoofedAddress),
        ),
        row(
            "flow of the world, by a neighbour's port",
            to(B, C.ifindex()),
            syn(World, 443),
            spoofed,
        )
        .seen(to(B, UPLINK), syn(World, 443)),
        row(
            "flow of a neighbour, by another's port",
            to(B, C.ifindex()),
            syn(A, 80),
            spoofed,
        )
        .seen(from(A), syn(A, 80)),
    ]
}

fn dhcp(family: Family) -> Vec<Row> {
    let (server, client) = match family {
        Family::V4 => (67, 68),
        Family::V6 => (547, 546),
    };
    let answer = |sender, receiver| packet(family, sender, receiver, udp(server, client));
    vec![
        row(
            "DHCP answer",
            from(A),
            answer(A, B),
            deny(Reason::DhcpAnswer),
        ),
        row(
            "DHCP answer to a group",
            from(A),
            answer(A, Group),
            deny(Reason::DhcpAnswer),
        ),
        row(
            "DHCP answer from one that audits",
            from(C),
            answer(C, D),
            audit(Reason::DhcpAnswer),
        ),
        row(
            "DHCP answer from one that audits, to one that enforces",
            from(C),
            answer(C, B),
            deny(Reason::DhcpAnswer),
        ),
        row(
            "DHCP answer to a group, received",
            to(B, C.ifindex()),
            answer(C, Group),
            deny(Reason::DhcpAnswer),
        ),
        row(
            "DHCP answer by the host",
            to(B, 0),
            answer(Host, B),
            deny(Reason::NoRule),
        ),
        row(
            "DHCP question",
            from(A),
            packet(family, A, Group, udp(client, server)),
            deny(Reason::NoRule),
        ),
    ]
}
