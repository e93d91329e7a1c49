//! Who overhears whom: frames for another's MAC reach nobody else.

use std::time::Duration;

use dfw_common::reason::Reason;
use dfw_tests::{frame::udp, process};

use crate::{
    lab::Lab,
    stage::{Family, OPEN, Stage, denied, packet},
};

/// Datagrams to the victim, of each family and sender.
const DATAGRAMS: u16 = 20;

/// What the attacker overhears of what friend and host send to the victim; the victim gets all of it.
#[track_caller]
fn overheard(stage: &Stage) -> [usize; 2] {
    let senders = [&stage.friend, &stage.gateway];
    let [attacker, victim] = [&stage.attacker, &stage.victim].map(|party| party.tap());
    for (number, from) in (0..).zip(senders) {
        let tap = from.tap();
        for family in Family::ALL {
            for port in 0..DATAGRAMS {
                let upper = udp(5000 + 100 * number + port, OPEN);
                tap.send(&packet(family, from, &stage.victim, upper).frame());
            }
        }
    }
    let seen = [&attacker, &victim].map(|tap| tap.during(Duration::from_millis(100)));
    let [at_attacker, at_victim] = seen.map(|frames| {
        senders.map(|from| {
            let between = [stage.victim.mac, from.mac].concat();
            let datagrams = frames
                .iter()
                .filter(|frame| frame.ends_with(&udp(0, 0).1[8..]));
            datagrams.filter(|frame| frame[..12] == between).count()
        })
    });
    assert_eq!(
        at_victim,
        [2 * usize::from(DATAGRAMS); 2],
        "the victim gets what is for it"
    );
    at_attacker
}

/// A bridge that forgets at once sends everything to every port, as one does whose table is full or was just flushed.
#[test]
fn frames_for_others_are_not_overheard() {
    let lab = Lab::new();
    let stage = &lab.stage;
    lab.set_victim("udp/7 from container:attacker,container:friend,host");
    lab.write();
    lab.host.run("ip link set br0 type bridge ageing_time 0");
    process::run(
        stage
            .attacker
            .netns
            .command("ip")
            .args(["link", "set", "eth0", "promisc", "on"]),
    );
    assert_eq!(
        overheard(stage),
        [2 * usize::from(DATAGRAMS); 2],
        "without dfw"
    );
    let agent = lab.agent();
    lab.with_each_attacker(&agent, |attacker| {
        let before = denied(&agent.metrics(), Reason::WrongMac);
        assert_eq!(overheard(stage), [0; 2], "{attacker:?}");
        let counted = denied(&agent.metrics(), Reason::WrongMac) - before;
        assert!(
            counted >= 4 * u64::from(DATAGRAMS),
            "{attacker:?}: {counted}"
        );
    });
}
