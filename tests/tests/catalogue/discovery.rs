//! Who sees whom: a container resolves only neighbours that policy lets it talk to.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, Mac, arp, ethernet, icmp, nd, protocol};

use crate::{
    lab::{Lab, OPEN_PORTS},
    stage::{BROADCAST, Family, Party, Stage, denied, packet},
};

/// Asks for everybody by every means, and returns who answered.
fn sweep(stage: &Stage, from: &Party) -> BTreeSet<&'static str> {
    let tap = from.tap();
    let asks = |target: Ipv4Addr| {
        let message = arp(1, (from.mac, from.v4.octets()), ([0; 6], target.octets()));
        ethernet([BROADCAST, from.mac], 0x0806, &message)
    };
    for number in 1..=254 {
        tap.send(&asks(Ipv4Addr::new(10, 77, 50, number)));
    }
    let parties = [
        &stage.attacker,
        &stage.victim,
        &stage.friend,
        &stage.gateway,
    ];
    for party in parties {
        tap.send(&solicitation(from, from.link_local(), party.link_local()));
        if party.mac != stage.gateway.mac {
            tap.send(&solicitation(from, from.v6, party.v6));
        }
    }
    for destination in [[0xff02, 1], [0xff02, 2]] {
        let mut echo = packet(
            Family::V6,
            from,
            from,
            icmp(protocol::ICMP6, 128, 0, &[0, 1, 0, 1]),
        );
        echo.macs[0] = [0x33, 0x33, 0, 0, 0, destination[1] as u8];
        echo.source = from.link_local().into();
        echo.destination = Ipv6Addr::new(destination[0], 0, 0, 0, 0, 0, 0, destination[1]).into();
        tap.send(&echo.sealed().frame());
    }
    // It is asked for last, and answers everybody.
    tap.send(&solicitation(from, from.v6, stage.gateway.v6));
    let seen = tap.until("the gateway's answer", |frame| {
        sender(frame) == stage.gateway.mac
            && frame[12..14] == [0x86, 0xdd]
            && frame[54] == 136
            && frame[62..78] == stage.gateway.v6.octets()
    });
    let answers = seen.iter().filter(|frame| frame[..6] == from.mac);
    let answered: BTreeSet<Mac> = answers.map(|frame| sender(frame)).collect();
    let names = ["attacker", "victim", "friend", "gateway"];
    let known: BTreeSet<_> = names
        .into_iter()
        .zip(parties.map(|party| party.mac))
        .collect();
    let strangers = answered
        .iter()
        .filter(|mac| known.iter().all(|(_, known)| known != *mac));
    assert_eq!(strangers.count(), 0, "{answered:?}");
    known
        .into_iter()
        .filter(|(_, mac)| answered.contains(mac))
        .map(|(name, _)| name)
        .collect()
}

fn sender(frame: &[u8]) -> Mac {
    *frame[6..].first_chunk().expect("Ethernet")
}

/// Who has this address? Sent to its solicited-node group (RFC 4291 section 2.7.1).
fn solicitation(from: &Party, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let body = [&[0; 4], &target.octets()[..]].concat();
    let upper = nd(135, &body, &[(1, from.mac)]);
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let question = Ip {
        macs: [[0x33, 0x33, 0xff, a, b, c], from.mac],
        hops: 255,
        source: source.into(),
        destination: group.into(),
        ..packet(Family::V6, from, from, upper)
    };
    question.sealed().frame()
}

#[test]
fn sweeps_find_nobody() {
    let lab = Lab::new();
    let stage = &lab.stage;
    let everybody = |without: &str| -> BTreeSet<&str> {
        let all = ["attacker", "victim", "friend", "gateway"].into_iter();
        all.filter(|name| *name != without).collect()
    };
    assert_eq!(
        sweep(stage, &stage.attacker),
        everybody("attacker"),
        "without dfw"
    );
    assert_eq!(
        sweep(stage, &stage.friend),
        everybody("friend"),
        "without dfw"
    );

    lab.set_victim(&format!("{OPEN_PORTS} from container:friend"));
    lab.set_friend(&format!("{OPEN_PORTS} from container:victim"));
    lab.write();
    let agent = lab.agent();
    // The victim may dial the attacker, so these two see each other, whoever asks.
    lab.with_each_attacker(&agent, |attacker| {
        let tap = stage.friend.tap();
        let before = denied(&agent.metrics(), Reason::Neighbour);
        let found = sweep(stage, &stage.attacker);
        let counted = denied(&agent.metrics(), Reason::Neighbour) - before;
        assert_eq!(found, BTreeSet::from(["gateway", "victim"]), "{attacker:?}");
        assert!(counted > 0, "{attacker:?}");
        // The other direction: it does not find who may not talk to it, and is not found.
        assert_eq!(
            sweep(stage, &stage.friend),
            BTreeSet::from(["gateway", "victim"]),
            "{attacker:?}"
        );
        let heard = tap.during(Duration::from_millis(30));
        let of_attacker = heard
            .iter()
            .filter(|frame| sender(frame) == stage.attacker.mac);
        assert_eq!(of_attacker.count(), 0, "{attacker:?} is heard");
    });
}
