//! Layer 2: what is no ARP, IPv4 or IPv6, what is tagged, whose MAC a frame has.

use dfw_common::reason::Reason;
use dfw_tests::{
    Namespace,
    frame::{Mac, arp, ethernet, flags, icmp, tagged, tcp, udp},
    process,
};

use crate::{
    lab::{Lab, show},
    stage::{Attack, Attacker, CLOSED, Family, OPEN, Party, Stage},
};

pub(crate) fn ethertypes(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let macs = [victim.mac, stage.attacker.mac];
    let mut attacks = Vec::new();
    for family in Family::ALL {
        // It would be allowed under its own ethertype.
        let packet = stage.packet(family, victim, udp(4000, OPEN)).frame();
        let inner = &packet[14..];
        let label = [0, 0, 0x11, 0xff];
        let session = [0x11, 0, 0, 1, 0, 34, 0, 0x21];
        let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        let length = (snap.len() + inner.len()) as u16;
        for (name, ethertype, payload) in [
            ("MPLS", 0x8847, [&label, inner].concat()),
            ("MPLS multicast", 0x8848, [&label, inner].concat()),
            ("PPPoE session", 0x8864, [&session, inner].concat()),
            ("LLC/SNAP", length, [&snap, inner].concat()),
            ("experimental", 0x88b5, inner.to_vec()),
        ] {
            let frame = ethernet(macs, ethertype, &payload);
            attacks.push(Attack::new(
                format!("{name} {family:?}"),
                victim,
                frame,
                Reason::Ethertype,
            ));
        }
    }
    let null = [0_u8; 46];
    for (name, ethertype, payload) in [
        (
            "PPPoE discovery",
            0x8863,
            [&[0x11, 9, 0, 0, 0, 0][..], &null].concat(),
        ),
        (
            "LLDP",
            0x88cc,
            [&[2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0][..], &null].concat(),
        ),
        ("spanning tree", 38, [&[0x42, 0x42, 3][..], &null].concat()),
        ("IPX", 0x8137, null.to_vec()),
        ("RARP", 0x8035, null.to_vec()),
        ("802.1X", 0x888e, null.to_vec()),
        ("pause", 0x8808, null.to_vec()),
    ] {
        let frame = ethernet(macs, ethertype, &payload);
        attacks.push(Attack::new(name, victim, frame, Reason::Ethertype));
    }
    attacks
}

pub(crate) fn tags(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        // Without its tags it would be allowed.
        let frame = stage.packet(family, victim, udp(4000, OPEN)).frame();
        for (name, tags) in [
            ("VLAN 0", &[(0x8100, 0)][..]),
            ("VLAN 7", &[(0x8100, 7)]),
            ("802.1ad", &[(0x88a8, 7)]),
            ("old QinQ", &[(0x9100, 7)]),
            ("QinQ", &[(0x8100, 8), (0x88a8, 7)]),
            ("stacked VLAN 0", &[(0x8100, 0), (0x8100, 0)]),
            ("VLAN 0 in QinQ", &[(0x8100, 0), (0x88a8, 0)]),
            ("three tags", &[(0x8100, 0), (0x8100, 0), (0x8100, 0)]),
        ] {
            let id = |frame: Vec<u8>, (ethertype, id): &(u16, u16)| tagged(&frame, *ethertype, *id);
            let frame = tags.iter().fold(frame.clone(), id);
            attacks.push(Attack::new(
                format!("{name} {family:?}"),
                victim,
                frame,
                Reason::VlanTag,
            ));
        }
    }
    // The host takes the tags off, and would learn.
    let gateway = &stage.gateway;
    let claim = (stage.attacker.mac, victim.v4.octets());
    let target = (gateway.mac, gateway.v4.octets());
    let claim = ethernet(
        [gateway.mac, stage.attacker.mac],
        0x0806,
        &arp(1, claim, target),
    );
    let once = tagged(&claim, 0x8100, 0);
    let twice = tagged(&once, 0x8100, 0);
    for (name, frame) in [("VLAN 0", once), ("stacked VLAN 0", twice)] {
        let name = format!("the victim's address to the host in {name}");
        attacks.push(Attack::new(name, gateway, frame, Reason::VlanTag));
    }
    attacks
}

/// The bridge is asked to deliver, nobody is asked for the way.
pub(crate) fn unicast(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        let (protocol, echo, _) = family.echo();
        for (name, upper) in [
            ("TCP", tcp(4000, CLOSED, flags::SYN)),
            ("UDP", udp(4000, CLOSED)),
            ("echo", icmp(protocol, echo, 0, &[1, 2, 3, 4])),
        ] {
            let packet = stage.packet(family, victim, upper);
            let mut through_gateway = packet.clone();
            through_gateway.macs[0] = stage.gateway.mac;
            let mut to_all = packet.clone();
            to_all.macs[0] = crate::stage::BROADCAST;
            for (way, at, packet) in [
                ("", victim, packet),
                (" to the gateway's MAC", &stage.gateway, through_gateway),
                (" to everybody's MAC", victim, to_all),
            ] {
                let name = format!("{name} {family:?}{way}");
                attacks.push(Attack::new(name, at, packet.frame(), Reason::NoRule));
            }
        }
    }
    attacks
}

pub(crate) fn macs(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        for (name, mac) in [
            ("the friend's", stage.friend.mac),
            ("the gateway's", stage.gateway.mac),
            ("nobody's", [2, 0, 0, 0, 0, 0x99]),
        ] {
            let mut packet = stage.packet(family, victim, udp(4000, OPEN));
            packet.macs[1] = mac;
            let name = format!("{name} MAC {family:?}");
            attacks.push(Attack::new(
                name,
                victim,
                packet.frame(),
                Reason::SpoofedMac,
            ));
        }
    }
    attacks
}

#[test]
fn other_ethertypes() {
    show(ethertypes);
}

#[test]
fn vlan_tags() {
    show(tags);
}

#[test]
fn raw_unicast_to_a_neighbour() {
    show(unicast);
}

#[test]
fn forged_source_macs() {
    show(macs);
}

/// A bridge that has learned more than it can keep sends everything everywhere.
#[test]
fn a_flood_of_source_macs() {
    const MACS: u16 = 2_000;
    let lab = Lab::new();
    let flood = || {
        let tap = lab.stage.attacker.tap();
        for number in 0..MACS {
            let [high, low] = number.to_be_bytes();
            let mac: Mac = [2, 0xf1, 0, 0, high, low];
            let mut packet = lab
                .stage
                .packet(Family::V4, &lab.stage.victim, udp(4000, OPEN));
            packet.macs[1] = mac;
            tap.send(&packet.frame());
        }
        let table = process::run(
            lab.host
                .command("bridge")
                .args(["fdb", "show", "br", "br0"]),
        );
        table
            .lines()
            .filter(|line| line.starts_with("02:f1:"))
            .count()
    };
    let agent = lab.agent();
    assert_eq!(flood(), 0, "the bridge learned a MAC");
    let denied = crate::stage::denied(&agent.metrics(), Reason::SpoofedMac);
    assert!(denied >= MACS.into(), "{denied}");
    lab.stage
        .assert_dropped(&agent, Attacker::Enforces, &macs(&lab.stage));
    drop(agent);
    assert_eq!(flood(), usize::from(MACS), "without dfw it learns them all");
}

/// Into another namespace, under another name: it is judged at the veth's other end, which stays.
#[test]
fn an_interface_that_moves_away() {
    let lab = Lab::new();
    let elsewhere = Namespace::new();
    let agent = lab.agent();
    let Stage {
        attacker,
        victim,
        friend,
        gateway,
    } = &lab.stage;
    let name = elsewhere.name();
    attacker
        .netns
        .run(&format!("ip link set eth0 netns {name} name moved0"));
    elsewhere.run("ip link set moved0 up");
    let moved = Stage {
        attacker: Party::new(elsewhere.again(), "moved0", attacker.v4, attacker.v6),
        victim: victim.again(),
        friend: friend.again(),
        gateway: gateway.again(),
    };
    for topic in [unicast, macs] {
        moved.assert_dropped(&agent, Attacker::Enforces, &topic(&moved));
    }
}
