//! Connections: what opens one, what belongs to one, what ends one.

use std::{net::SocketAddr, thread, time::Duration};

use aya::maps::{Array, Map, MapData};
use dfw_agent::datapath::load::Pins;
use dfw_common::{reason::Reason, value::Settings};
use dfw_tests::{
    Agent, Attempt, Listener, Protocol,
    canary::{Datagrams, Transfer},
    frame::{Ip, Upper, flags, icmp, tcp, udp},
    wait,
};

use crate::{
    lab::{Lab, show_after},
    stage::{Attack, Attacker, CLOSED, DIALLED_TCP, Family, OPEN, OPEN_TCP, Party, Stage, packet},
};

/// The friend's port in its flow with the victim.
const FRIENDS: u16 = 4444;
/// The attacker's port in a flow that it opened itself.
const OWN: u16 = 4001;

/// An ICMP error about a packet, as its receiver would send it.
fn error(stage: &Stage, family: Family, to: &Party, (from, upper): (&Party, Upper)) -> Vec<u8> {
    let quoted = packet(family, to, from, upper).frame();
    let (protocol, kind) = family.unreachable();
    let rest = [&[0; 4], &quoted[14..]].concat();
    stage
        .packet(family, to, icmp(protocol, kind, 3, &rest))
        .frame()
}

fn forged_errors(stage: &Stage) -> Vec<Attack<'_>> {
    let Stage {
        attacker,
        victim,
        friend,
        ..
    } = stage;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        for (name, at, of) in [
            ("about no flow", victim, (attacker, udp(CLOSED, CLOSED))),
            ("about another's flow", victim, (friend, udp(OPEN, FRIENDS))),
            (
                "about the flow of one with another",
                friend,
                (victim, udp(FRIENDS, OPEN)),
            ),
            (
                "about its flow, another protocol",
                victim,
                (attacker, tcp(OPEN, OWN, flags::ACK)),
            ),
            (
                "about its flow, another port",
                victim,
                (attacker, udp(OPEN, OWN + 1)),
            ),
        ] {
            let frame = error(stage, family, at, of);
            attacks.push(Attack::new(
                format!("error {name} {family:?}"),
                at,
                frame,
                Reason::NoFlow,
            ));
        }
        let mut in_the_friends_name = packet(family, friend, victim, udp(FRIENDS, OPEN));
        in_the_friends_name.macs[1] = attacker.mac;
        let (protocol, kind) = family.unreachable();
        let quoted = packet(family, victim, friend, udp(OPEN, FRIENDS)).frame();
        in_the_friends_name.upper = icmp(protocol, kind, 3, &[&[0; 4], &quoted[14..]].concat());
        let name = format!("error about the friend's flow in its name {family:?}");
        attacks.push(Attack::new(
            name,
            victim,
            in_the_friends_name.frame(),
            Reason::SpoofedAddress,
        ));
    }
    attacks
}

#[test]
fn forged_icmp_errors() {
    let open = |stage: &Stage| {
        let (attacker, friend) = (stage.attacker.tap(), stage.friend.tap());
        for family in Family::ALL {
            friend.send(&packet(family, &stage.friend, &stage.victim, udp(FRIENDS, OPEN)).frame());
            attacker.send(&stage.packet(family, &stage.victim, udp(OWN, OPEN)).frame());
        }
    };
    show_after(open, forged_errors);
}

/// What the victim asks for is no leave to ask back (GHSA-c66w-hq56-4q97).
#[test]
fn an_echo_id_the_other_way_round() {
    const ID: u8 = 0x77;
    let echo = |family: Family, is_reply, id| {
        let (protocol, request, reply) = family.echo();
        icmp(
            protocol,
            if is_reply { reply } else { request },
            0,
            &[0, id, 0, 1],
        )
    };
    let ask = |stage: &Stage| {
        let tap = stage.victim.tap();
        for family in Family::ALL {
            tap.send(
                &packet(
                    family,
                    &stage.victim,
                    &stage.attacker,
                    echo(family, false, ID),
                )
                .frame(),
            );
        }
    };
    let answer = |stage: &Stage, family, is_reply, id| {
        stage
            .packet(family, &stage.victim, echo(family, is_reply, id))
            .frame()
    };
    let attacks = |stage: &Stage| -> Vec<(String, Vec<u8>, Reason)> {
        let of_family = |family| {
            [
                (
                    format!("request with the victim's id {family:?}"),
                    answer(stage, family, false, ID),
                    Reason::NoRule,
                ),
                (
                    format!("reply with another id {family:?}"),
                    answer(stage, family, true, ID + 1),
                    Reason::NoFlow,
                ),
            ]
        };
        Family::ALL.into_iter().flat_map(of_family).collect()
    };
    show_after(ask, |stage| {
        let attacks = attacks(stage).into_iter();
        attacks
            .map(|(name, frame, reason)| Attack::new(name, &stage.victim, frame, reason))
            .collect()
    });
    // The answer itself does pass.
    let lab = Lab::new();
    let agent = lab.agent();
    ask(&lab.stage);
    for family in Family::ALL {
        let reply = lab
            .stage
            .packet(family, &lab.stage.victim, echo(family, true, ID));
        lab.stage.assert_passes("reply", &lab.stage.victim, &reply);
    }
    drop(agent);
}

/// The minute is over in which connections that are older than dfw are taken in.
fn end_adoption(agent: &mut Agent<'_>) {
    agent.kill();
    let pin = Pins::new(agent.bpffs()).maps().join("SETTINGS");
    let map = MapData::from_pin(&pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
    let mut map: Array<_, Settings> = Map::Array(map).try_into().expect("an array");
    let mut settings = map.get(&0, 0).expect("the first entry");
    settings.adopt_until = settings.adopt_until.wrapping_sub(61 * settings.hz);
    map.set(0, settings, 0).expect("it is writable");
    agent.start_again();
    agent.expect_ready("it goes on", 3);
}

fn without_syn(stage: &Stage) -> Vec<Attack<'_>> {
    let victim = &stage.victim;
    let mut attacks = Vec::new();
    for family in Family::ALL {
        for (name, flags) in [
            ("ACK", flags::ACK),
            ("SYN ACK", flags::SYN_ACK),
            ("FIN", flags::FIN),
            ("RST", flags::RST),
            ("nothing", 0),
            ("all", 0x3f),
            ("SYN FIN", flags::SYN | flags::FIN),
            ("SYN RST", flags::SYN | flags::RST),
        ] {
            let packet = stage.packet(family, victim, tcp(4100, OPEN_TCP, flags));
            attacks.push(Attack::new(
                format!("{name} {family:?}"),
                victim,
                packet.frame(),
                Reason::NoSyn,
            ));
        }
    }
    attacks
}

#[test]
fn tcp_without_syn() {
    let lab = Lab::new();
    let stage = &lab.stage;
    stage.assert_arrive(&without_syn(stage));
    let mut agent = lab.agent();
    end_adoption(&mut agent);
    lab.with_each_attacker(&agent, |attacker| {
        stage.assert_dropped(&agent, attacker, &without_syn(stage));
    });
    for family in Family::ALL {
        let syn = stage.packet(family, &stage.victim, tcp(4100, OPEN_TCP, flags::SYN));
        stage.assert_passes("SYN", &stage.victim, &syn);
    }
}

#[test]
fn a_syn_on_an_old_flow_is_judged_anew() {
    let lab = Lab::new();
    let stage = &lab.stage;
    let victim = &stage.victim;
    // The victim dials the attacker, which dials back on the same ports.
    let dialled_back = |stage: &Stage, flags| {
        Family::ALL.map(|family| stage.packet(family, &stage.victim, tcp(DIALLED_TCP, 5000, flags)))
    };
    let attacks = |flags: u8, packets: [Ip; 2]| {
        let attack = |packet: Ip| {
            let name = format!("flags {flags} from {}", packet.source);
            Attack::new(name, victim, packet.frame(), Reason::NoRule)
        };
        packets.map(attack)
    };
    stage.assert_arrive(&attacks(flags::SYN, dialled_back(stage, flags::SYN)));
    let agent = lab.agent();
    let tap = victim.tap();
    for family in Family::ALL {
        let dial = tcp(5000, DIALLED_TCP, flags::SYN);
        tap.send(&packet(family, victim, &stage.attacker, dial).frame());
    }
    for packet in dialled_back(stage, flags::SYN_ACK) {
        stage.assert_passes("the answer", victim, &packet);
    }
    stage.assert_dropped(
        &agent,
        Attacker::Enforces,
        &attacks(flags::SYN, dialled_back(stage, flags::SYN)),
    );

    // What was allowed when the port was used last.
    let reused =
        |flags| Family::ALL.map(|family| stage.packet(family, victim, tcp(OWN, OPEN_TCP, flags)));
    for packet in reused(flags::SYN) {
        stage.assert_passes("the first SYN", victim, &packet);
    }
    lab.set_victim("udp/7 from container:attacker; tcp/70 from container:friend");
    lab.commit(&agent);
    for flags in [flags::SYN, flags::ACK] {
        stage.assert_dropped(&agent, Attacker::Enforces, &attacks(flags, reused(flags)));
    }
}

#[test]
fn a_revoked_rule_cuts_its_flows() {
    let lab = Lab::new();
    let (attacker, victim) = (&lab.stage.attacker.netns, &lab.stage.victim.netns);
    let _listener = victim
        .enter(|| Listener::start(&[70, 80], &[]))
        .expect("ports are free");
    lab.set_victim("tcp/70,tcp/80,udp/7,udp/8 from container:attacker");
    lab.write();
    let agent = lab.agent();
    let transfer = |to: SocketAddr| {
        let stream = attacker.enter(|| Attempt::new(Protocol::Tcp, to).connect());
        Transfer::start(stream.unwrap_or_else(|error| panic!("{to}: {error}")))
    };
    let at = |port| lab.victim.at(port);
    let (kept, cut) = (at(80).map(transfer), at(70).map(transfer));
    let datagrams = |to| Datagrams::start(attacker, victim, to);
    let (kept_datagrams, cut_datagrams) = (at(8).map(datagrams), at(7).map(datagrams));
    let flow = |datagrams: &Datagrams| datagrams.arrived() > 20;
    let all = kept_datagrams.iter().chain(&cut_datagrams);
    wait::expect("datagrams", Duration::from_secs(5), || {
        all.clone().all(flow).then_some(())
    });
    assert!(
        kept.iter().chain(&cut).all(Transfer::goes_on),
        "nothing is revoked yet"
    );

    lab.set_victim("tcp/80,udp/8 from container:attacker");
    lab.commit(&agent);
    let arrived = cut_datagrams.each_ref().map(Datagrams::arrived);
    thread::sleep(Duration::from_millis(300));
    // One that was on its way may have come meanwhile.
    for (datagrams, before) in cut_datagrams.into_iter().zip(arrived) {
        let tally = datagrams.stop();
        assert!(
            tally.arrived <= before + 1 && tally.sent > tally.arrived + 100,
            "{tally:?}"
        );
    }
    for transfer in kept {
        assert!(transfer.goes_on());
        transfer.stop().expect("it is allowed");
    }
    for transfer in cut {
        assert!(transfer.stop().is_err(), "a transfer goes on");
    }
    for datagrams in kept_datagrams {
        let tally = datagrams.stop();
        assert_eq!(tally.sent, tally.arrived, "an allowed datagram was lost");
    }
}
