//! Layer 3: whose address a packet has, and what is wrong with its form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, flags, icmp, protocol, sctp, tcp, udp};

use crate::{
    lab::{Lab, show},
    stage::{Attack, Attacker, CLOSED, Family, OPEN, OPEN_TCP, Stage},
};

pub(crate) fn addresses(stage: &Stage) -> Vec<Attack<'_>> {
    let Stage {
        victim,
        friend,
        gateway,
        ..
    } = stage;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        let (loopback, group, nobody): (IpAddr, IpAddr, IpAddr) = match family {
            Family::V4 => (
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(224, 0, 0, 9).into(),
                Ipv4Addr::new(10, 77, 50, 99).into(),
            ),
            Family::V6 => (
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 9).into(),
                Ipv6Addr::new(0xfd77, 50, 0, 0, 0, 0, 0, 0x99).into(),
            ),
        };
        let mut attack = |name: &str, at, packet: &Ip| {
            let name = format!("{name} {family:?}");
            attacks.push(Attack::new(
                name,
                at,
                packet.frame(),
                Reason::SpoofedAddress,
            ));
        };
        for (whose, source) in [
            ("the friend's", friend.ip(family)),
            ("the gateway's", gateway.ip(family)),
            ("the victim's own", victim.ip(family)),
            ("the world's", family.world()),
            ("nobody's", nobody),
            ("loopback", loopback),
            ("a group's", group),
        ] {
            let mut packet = stage.packet(family, victim, udp(4000, OPEN));
            packet.source = source;
            attack(&format!("{whose} address"), victim, &packet);
        }
        // In the name of the victim.
        for (to, destination, upper) in [
            ("the friend", friend.ip(family), udp(4000, OPEN)),
            ("the host", gateway.ip(family), udp(4000, OPEN)),
            ("the world", family.world(), tcp(4000, 443, flags::SYN)),
        ] {
            let at = if to == "the friend" { friend } else { gateway };
            let mut packet = stage.packet(family, at, upper);
            packet.source = victim.ip(family);
            packet.destination = destination;
            attack(&format!("the victim's address to {to}"), at, &packet);
        }
    }
    let mut local = stage.packet(Family::V6, victim, udp(4000, OPEN));
    local.source = friend.link_local().into();
    local.destination = victim.link_local().into();
    let name = "the friend's link-local address";
    attacks.push(Attack::new(
        name,
        victim,
        local.frame(),
        Reason::SpoofedAddress,
    ));
    attacks
}

/// Whole, each would be allowed, or is what is allowed turned into something else when it is put together.
pub(crate) fn fragments(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        let whole = udp(4000, OPEN).1;
        let long = [&whole[..], &[0; 52]].concat();
        let closed = udp(4000, CLOSED).1;
        for (name, offset, more, bytes) in [
            ("first", 0, true, long.clone()),
            ("tiny first", 0, true, whole[..8].to_vec()),
            (
                "first without its whole header",
                0,
                true,
                whole[..4].to_vec(),
            ),
            ("second", 8, true, long.clone()),
            ("second that looks like a header", 1, true, whole.clone()),
            ("last", 8, false, long.clone()),
            ("last, far off", 8000, false, long.clone()),
            (
                "one that writes over the first",
                0,
                true,
                [&closed[..], &[0; 52]].concat(),
            ),
            ("one that overlaps the first", 1, false, long.clone()),
        ] {
            let mut packet = stage.packet(family, victim, (protocol::UDP, bytes));
            packet.fragment = Some((offset, more));
            let name = format!("{name} {family:?}");
            attacks.push(Attack::new(name, victim, packet.frame(), Reason::Fragment));
        }
    }
    for family in Family::ALL {
        let mut claimed = stage.packet(family, &stage.gateway, udp(4000, OPEN));
        claimed.source = victim.ip(family);
        claimed.fragment = Some((0, true));
        let name = format!("in the victim's name to the host {family:?}");
        attacks.push(Attack::new(
            name,
            &stage.gateway,
            claimed.frame(),
            Reason::Fragment,
        ));
    }
    let mut hidden = stage.packet(Family::V6, victim, udp(4000, OPEN));
    hidden.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    hidden.fragment = Some((0, true));
    attacks.push(Attack::new(
        "behind options",
        victim,
        hidden.frame(),
        Reason::Fragment,
    ));
    // In one piece (RFC 6946): judged as what it carries.
    let mut atomic = stage.packet(Family::V6, victim, udp(4000, CLOSED));
    atomic.fragment = Some((0, false));
    attacks.push(Attack::new(
        "in one piece",
        victim,
        atomic.frame(),
        Reason::NoRule,
    ));
    attacks
}

pub(crate) fn options(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let allowed = stage.packet(Family::V4, victim, udp(4000, OPEN));
    let mut attacks = Vec::new();
    for (name, options) in [
        ("loose source route", &[131, 7, 4, 1, 2, 3, 4, 0][..]),
        ("strict source route", &[137, 7, 4, 1, 2, 3, 4, 0]),
        ("source route behind others", &[1, 1, 131, 6, 4, 1, 2, 3]),
        ("option of length 0", &[7, 0, 0, 0]),
        ("option of length 1", &[7, 1, 0, 0]),
        ("option beyond the header", &[7, 9, 4, 0]),
        ("too many options", &[1; 40]),
    ] {
        let mut packet = allowed.clone();
        packet.options = options.to_vec();
        attacks.push(Attack::new(name, victim, packet.frame(), Reason::IpOptions));
    }
    // Options are walked over: what looks like an allowed port inside them is none.
    let mut shifted = stage.packet(Family::V4, victim, udp(4000, CLOSED));
    shifted.options = [&[0x44, 8][..], &udp(4000, OPEN).1[..4], &[0, 0]].concat();
    attacks.push(Attack::new(
        "a port among the options",
        victim,
        shifted.frame(),
        Reason::NoRule,
    ));
    attacks
}

pub(crate) fn malformed(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    let mut attack = |name: String, frame: Vec<u8>| {
        attacks.push(Attack::new(name, victim, frame, Reason::Malformed));
    };
    for family in Family::ALL {
        let frame = stage
            .packet(family, victim, tcp(4000, OPEN_TCP, flags::SYN))
            .frame();
        let header = frame.len() - 20;
        for (name, cut) in [
            ("in the IP header", 30),
            ("after the IP header", header),
            ("in the ports", header + 2),
            ("before the flags", header + 13),
        ] {
            attack(format!("cut {name} {family:?}"), frame[..cut].to_vec());
        }
        let bytes = match family {
            Family::V4 => &[
                ("IHL 4", 14, 0x44),
                ("IHL 15 of 40 bytes", 14, 0x4f),
                ("version 6", 14, 0x65),
                ("length beyond the frame", 17, 200),
                ("length below the header", 17, 19),
                ("length 0", 17, 0),
                ("TCP header of 16 bytes", 46, 0x40),
            ][..],
            Family::V6 => &[
                ("version 4", 14, 0x40),
                ("length beyond the frame", 19, 200),
                ("length 0", 19, 0),
                ("TCP header of 16 bytes", 66, 0x40),
            ],
        };
        for (name, at, byte) in bytes {
            let mut frame = frame.clone();
            frame[*at] = *byte;
            attack(format!("{name} {family:?}"), frame);
        }
        let other = match family {
            Family::V4 => icmp(protocol::ICMP6, 128, 0, &[0; 4]),
            Family::V6 => icmp(protocol::ICMP, 8, 0, &[0; 4]),
        };
        attack(
            format!("the other family's ICMP {family:?}"),
            stage.packet(family, victim, other).frame(),
        );
    }
    let mut mapped = stage.packet(Family::V6, victim, udp(4000, OPEN));
    mapped.source = IpAddr::V6(stage.attacker.v4.to_ipv6_mapped());
    attack("mapped source".to_owned(), mapped.frame());
    attacks
}

pub(crate) fn extensions(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    let plain = |number: u8| (number, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let routing = |kind: u8| (43, vec![0, 0, kind, 0, 0, 0, 0, 0]);
    let (allowed, denied) = (udp(4000, OPEN), udp(4000, CLOSED));
    // An allowed packet that some parser might see where the options are.
    let disguise = [&[0, 2, 1, 12][..], &allowed.1, &[0; 8]].concat();
    for (name, extensions, upper, reason) in [
        (
            "seven",
            vec![plain(60); 7],
            &allowed,
            Reason::ExtensionHeader,
        ),
        (
            "hop-by-hop in the middle",
            vec![plain(60), plain(0)],
            &allowed,
            Reason::ExtensionHeader,
        ),
        (
            "hop-by-hop twice",
            vec![plain(0), plain(0)],
            &allowed,
            Reason::ExtensionHeader,
        ),
        (
            "routing type 0",
            vec![routing(0)],
            &allowed,
            Reason::ExtensionHeader,
        ),
        (
            "beyond the packet",
            vec![(60, vec![0, 9, 1, 4, 0, 0, 0, 0])],
            &allowed,
            Reason::Malformed,
        ),
        (
            "a denied port behind hop-by-hop",
            vec![plain(0)],
            &denied,
            Reason::NoRule,
        ),
        (
            "a denied port behind routing",
            vec![routing(2)],
            &denied,
            Reason::NoRule,
        ),
        (
            "a denied port behind six",
            vec![plain(60); 6],
            &denied,
            Reason::NoRule,
        ),
        (
            "a denied port behind a disguise",
            vec![(60, disguise)],
            &denied,
            Reason::NoRule,
        ),
        (
            "mobility, which is not walked",
            vec![plain(135)],
            &allowed,
            Reason::NoRule,
        ),
        (
            "ESP, which is not walked",
            vec![plain(50)],
            &allowed,
            Reason::NoRule,
        ),
        (
            "experimental, which is not walked",
            vec![plain(253)],
            &allowed,
            Reason::NoRule,
        ),
    ] {
        let mut packet = stage.packet(Family::V6, victim, upper.clone());
        packet.extensions = extensions;
        attacks.push(Attack::new(name, victim, packet.frame(), reason));
    }
    // Nothing follows, but something does.
    let none = stage.packet(Family::V6, victim, (59, allowed.1.clone()));
    attacks.push(Attack::new(
        "no next header",
        victim,
        none.frame(),
        Reason::NoRule,
    ));
    attacks
}

/// What is inside would be allowed.
pub(crate) fn tunnels(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        let inner = stage.packet(family, victim, udp(4000, OPEN)).frame();
        let ip = inner[14..].to_vec();
        let (own, ethertype) = match family {
            Family::V4 => (4, [8, 0]),
            Family::V6 => (41, [0x86, 0xdd]),
        };
        let gre = [&[0, 0], &ethertype[..], &ip].concat();
        let vxlan = [&udp(4000, 4789).1[..8], &[8, 0, 0, 0, 0, 0, 1, 0], &inner].concat();
        for (name, upper) in [
            ("IP in IP", (own, ip.clone())),
            ("GRE", (protocol::GRE, gre)),
            ("VXLAN", (protocol::UDP, vxlan)),
            ("SCTP", sctp(4000, OPEN)),
            ("ESP", (50, [&[0; 8][..], &ip].concat())),
            ("a protocol that looks like UDP", (250, udp(4000, OPEN).1)),
        ] {
            let packet = stage.packet(family, victim, upper);
            attacks.push(Attack::new(
                format!("{name} {family:?}"),
                victim,
                packet.frame(),
                Reason::NoRule,
            ));
        }
    }
    attacks
}

#[test]
fn forged_source_addresses() {
    show(addresses);
}

#[test]
fn fragments_of_every_kind() {
    show(fragments);
}

#[test]
fn options_and_truncation() {
    show(|stage| {
        [options(stage), malformed(stage)]
            .into_iter()
            .flatten()
            .collect()
    });
}

#[test]
fn extension_headers() {
    show(extensions);
}

#[test]
fn tunnels_and_other_protocols() {
    show(tunnels);
}

/// Nobody has an IPv6 address but what the kernel makes of its MAC.
#[test]
fn ipv6_on_an_ipv4_network() {
    let lab = Lab::new();
    let parties = [
        &lab.stage.attacker,
        &lab.stage.victim,
        &lab.stage.friend,
        &lab.stage.gateway,
    ];
    for party in parties {
        party.netns.run(&format!(
            "ip -6 address flush dev {} scope global",
            party.interface
        ));
    }
    let stage = &lab.stage;
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    // What nobody has been given is the world's.
    for (whose, destination, reason) in [
        ("link-local", victim.link_local(), Reason::NoRule),
        ("former", victim.v6, Reason::WrongAddress),
    ] {
        for (name, upper) in [
            ("echo", icmp(protocol::ICMP6, 128, 0, &[1, 2, 3, 4])),
            ("UDP", udp(4000, CLOSED)),
            ("TCP", tcp(4000, CLOSED, flags::SYN)),
        ] {
            let mut packet = stage.packet(Family::V6, victim, upper);
            packet.source = stage.attacker.link_local().into();
            packet.destination = destination.into();
            let name = format!("{name} to its {whose} address");
            attacks.push(Attack::new(name, victim, packet.frame(), reason));
        }
    }
    lab.stage.assert_arrive(&attacks);
    let agent = lab.agent();
    lab.stage
        .assert_dropped(&agent, Attacker::Enforces, &attacks);
}
