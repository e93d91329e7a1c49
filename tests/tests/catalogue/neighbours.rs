//! Whose address is where: ARP, neighbour discovery, routers, DHCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, Mac, Upper, arp, ethernet, nd, protocol, udp};

use crate::{
    lab::show,
    stage::{Attack, BROADCAST, Family, Party, Stage},
};

const ARP: u16 = 0x0806;
/// Of ARP messages and of neighbour discovery (RFC 4861).
const ASKS: u16 = 1;
const ANSWERS: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Overrides what is known.
const OVERRIDE: u8 = 0x20;
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

const SPOOFED: Reason = Reason::SpoofedNeighbour;

pub(crate) fn arp_claims(stage: &Stage) -> Vec<Attack<'_>> {
    let Stage {
        attacker,
        victim,
        friend,
        gateway,
    } = stage;
    let own = (attacker.mac, attacker.v4.octets());
    let claim = |claimed: &Party| (attacker.mac, claimed.v4.octets());
    let to = |party: &Party| (party.mac, party.v4.octets());
    let nobody = ([0; 6], [0; 4]);
    let mut attacks = Vec::new();
    let mut attack = |name: &str, at, receiver: Mac, message: Vec<u8>| {
        let frame = ethernet([receiver, attacker.mac], ARP, &message);
        attacks.push(Attack::new(name, at, frame, SPOOFED));
    };
    for (whose, claimed) in [("friend's", friend), ("gateway's", gateway)] {
        let claim = claim(claimed);
        let itself = ([0; 6], claim.1);
        attack(
            &format!("answer with the {whose} address"),
            victim,
            victim.mac,
            arp(ANSWERS, claim, to(victim)),
        );
        attack(
            &format!("question from the {whose} address"),
            victim,
            victim.mac,
            arp(ASKS, claim, to(victim)),
        );
        attack(
            &format!("gratuitous question, {whose} address"),
            victim,
            BROADCAST,
            arp(ASKS, claim, itself),
        );
        attack(
            &format!("gratuitous answer, {whose} address"),
            victim,
            BROADCAST,
            arp(ANSWERS, claim, itself),
        );
        // Tells the victim's own neighbours where it is not.
        attack(
            &format!("the {whose} MAC in the message"),
            victim,
            BROADCAST,
            arp(ASKS, (claimed.mac, own.1), to(victim)),
        );
    }
    attack(
        "the victim's address to the friend",
        friend,
        friend.mac,
        arp(ANSWERS, claim(victim), to(friend)),
    );
    attack(
        "the victim's address to the gateway",
        gateway,
        gateway.mac,
        arp(ANSWERS, claim(victim), to(gateway)),
    );
    attack(
        "the victim's address in a question to the gateway",
        gateway,
        BROADCAST,
        arp(ASKS, claim(victim), to(gateway)),
    );
    attack(
        "the victim's address, gratuitous, to the gateway",
        gateway,
        BROADCAST,
        arp(ASKS, claim(victim), ([0; 6], victim.v4.octets())),
    );
    attack(
        "the victim's address at a third MAC to the gateway",
        gateway,
        BROADCAST,
        arp(
            ASKS,
            ([2, 0, 0, 0, 0, 0x99], victim.v4.octets()),
            to(gateway),
        ),
    );
    attack(
        "whether the victim's address is free",
        victim,
        BROADCAST,
        arp(ASKS, (attacker.mac, nobody.1), to(victim)),
    );
    attacks
}

/// A neighbour discovery message as only a neighbour can send it.
fn discovery(macs: [Mac; 2], source: Ipv6Addr, destination: Ipv6Addr, upper: Upper) -> Ip {
    Ip {
        macs,
        source: source.into(),
        destination: destination.into(),
        hops: 255,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper,
    }
}

fn body(flags: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[flags, 0, 0, 0], &target.octets()[..]].concat()
}

fn advertisement(target: Ipv6Addr, mac: Mac) -> Upper {
    nd(ADVERTISEMENT, &body(OVERRIDE, target), &[(TARGET, mac)])
}

const ALL_NODES: (Mac, Ipv6Addr) = (
    [0x33, 0x33, 0, 0, 0, 1],
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
);

pub(crate) fn nd_claims(stage: &Stage) -> Vec<Attack<'_>> {
    let Stage {
        attacker,
        victim,
        friend,
        gateway,
    } = stage;
    let own = attacker.mac;
    let mut attacks = Vec::new();
    let mut attack = |name: String, at, packet: &Ip| {
        attacks.push(Attack::new(name, at, packet.frame(), SPOOFED));
    };
    let sources = [
        ("own address", attacker.v6),
        ("own link-local address", attacker.link_local()),
    ];
    for (from, source) in sources {
        let to_victim = [victim.mac, own];
        for (whose, claimed) in [("friend's", friend), ("gateway's", gateway)] {
            for (kind, target) in [
                ("address", claimed.v6),
                ("link-local address", claimed.link_local()),
            ] {
                let told = advertisement(target, own);
                let name = format!("advertisement of the {whose} {kind} from its {from}");
                attack(
                    name.clone(),
                    victim,
                    &discovery(to_victim, source, victim.v6, told.clone()),
                );
                let all = discovery([ALL_NODES.0, own], source, ALL_NODES.1, told);
                attack(format!("{name} to all"), victim, &all);
            }
        }
        for (kind, target) in [
            ("address", victim.v6),
            ("link-local address", victim.link_local()),
        ] {
            let told = advertisement(target, own);
            let name = format!("advertisement of the victim's {kind} from its {from}");
            attack(
                format!("{name} to the friend"),
                friend,
                &discovery([friend.mac, own], source, friend.v6, told.clone()),
            );
            attack(
                format!("{name} to the gateway"),
                gateway,
                &discovery([gateway.mac, own], source, gateway.v6, told),
            );
        }
        let asks = nd(SOLICITATION, &body(0, victim.v6), &[(SOURCE, friend.mac)]);
        attack(
            format!("question from its {from} with another's MAC"),
            victim,
            &discovery(to_victim, source, victim.v6, asks),
        );
    }
    let claimed = advertisement(friend.v6, own);
    let from_friend = discovery([victim.mac, own], friend.v6, victim.v6, claimed);
    attack(
        "advertisement from the friend's address".to_owned(),
        victim,
        &from_friend,
    );
    let from_gateway = discovery(
        [victim.mac, own],
        gateway.v6,
        victim.v6,
        nd(SOLICITATION, &body(0, victim.v6), &[(SOURCE, own)]),
    );
    attack(
        "question from the gateway's address".to_owned(),
        victim,
        &from_gateway,
    );
    let detection = nd(SOLICITATION, &body(0, victim.v6), &[]);
    let detection = discovery(
        [ALL_NODES.0, own],
        Ipv6Addr::UNSPECIFIED,
        ALL_NODES.1,
        detection,
    );
    attack(
        "whether the victim's address is free".to_owned(),
        victim,
        &detection,
    );

    let mut hidden = discovery(
        [gateway.mac, own],
        attacker.v6,
        gateway.v6,
        advertisement(victim.v6, own),
    );
    hidden.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    attack(
        "the victim's address behind an extension header to the gateway".to_owned(),
        gateway,
        &hidden,
    );

    // About itself, but not as a neighbour would.
    let own_claim = discovery(
        [victim.mac, own],
        attacker.v6,
        victim.v6,
        advertisement(attacker.v6, own),
    );
    let mut routed = own_claim.clone();
    routed.hops = 64;
    attack("hop limit 64".to_owned(), victim, &routed);
    let mut extended = own_claim.clone();
    extended.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    attack("an extension header".to_owned(), victim, &extended);
    let mut coded = own_claim.clone();
    coded.upper.1[1] = 1;
    attack("code 1".to_owned(), victim, &coded);
    let mut endless = own_claim;
    endless.upper.1[25] = 0;
    attack("an option of no length".to_owned(), victim, &endless);
    attacks
}

pub(crate) fn routers(stage: &Stage) -> Vec<Attack<'_>> {
    let Stage {
        attacker,
        victim,
        gateway,
        ..
    } = stage;
    let own = attacker.mac;
    // Hop limit 64, for 1 800 s, by way of the sender.
    let router = nd(
        134,
        &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        &[(SOURCE, own)],
    );
    let world = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let redirect = [&body(0, attacker.link_local())[..], &world.octets()].concat();
    let redirect = nd(137, &redirect, &[(TARGET, own)]);
    let mut attacks = Vec::new();
    for (whose, source) in [
        ("own", attacker.link_local()),
        ("gateway's", gateway.link_local()),
    ] {
        for (what, upper) in [("router advertisement", &router), ("redirect", &redirect)] {
            for (to, mac, destination) in [
                ("all", ALL_NODES.0, ALL_NODES.1),
                ("the victim", victim.mac, victim.v6),
            ] {
                let packet = discovery([mac, own], source, destination, upper.clone());
                let name = format!("{what} to {to} from the {whose} address");
                attacks.push(Attack::new(
                    name,
                    victim,
                    packet.frame(),
                    Reason::RouterAdvertisement,
                ));
            }
        }
    }
    // ICMP redirects (RFC 792) are messages like any other.
    let quoted = stage.packet(Family::V4, victim, udp(4000, 7)).frame();
    let redirect = [&attacker.v4.octets()[..], &quoted[14..42]].concat();
    let packet = stage.packet(
        Family::V4,
        victim,
        dfw_tests::frame::icmp(protocol::ICMP, 5, 1, &redirect),
    );
    attacks.push(Attack::new(
        "redirect by ICMP",
        victim,
        packet.frame(),
        Reason::NoRule,
    ));
    attacks
}

pub(crate) fn dhcp(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    let offer = stage.packet(Family::V4, victim, udp(67, 68));
    let mut to_all = offer.clone();
    to_all.macs[0] = BROADCAST;
    to_all.destination = Ipv4Addr::BROADCAST.into();
    let advertise = stage.packet(Family::V6, victim, udp(547, 546));
    let mut local = advertise.clone();
    local.source = IpAddr::V6(stage.attacker.link_local());
    local.destination = IpAddr::V6(victim.link_local());
    let mut to_group = local.clone();
    (to_group.macs[0], to_group.destination) = (ALL_NODES.0, ALL_NODES.1.into());
    for (name, packet) in [
        ("DHCP to the victim", offer),
        ("DHCP to all", to_all),
        ("DHCPv6 to the victim", advertise),
        ("DHCPv6 to the victim's link-local address", local),
        ("DHCPv6 to all", to_group),
    ] {
        attacks.push(Attack::new(
            name,
            victim,
            packet.frame(),
            Reason::DhcpAnswer,
        ));
    }
    attacks
}

#[test]
fn arp_spoofing() {
    show(arp_claims);
}

#[test]
fn nd_spoofing() {
    show(nd_claims);
}

#[test]
fn rogue_routers_and_redirects() {
    show(routers);
}

#[test]
fn rogue_dhcp_servers() {
    show(dhcp);
}
