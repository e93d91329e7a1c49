//! What is seen in audit, and what is not: the kernel and plain maps take down the same.

use std::collections::BTreeMap;

use dfw_common::{
    addr::Addr,
    key::SeenKey,
    maps,
    plain::Tables,
    reason::Direction,
    value::{kind, mode},
};
use dfw_tests::frame::{
    Upper, flags, icmp,
    protocol::{GRE, SCTP, TCP, UDP},
    sctp, tcp, udp,
};

use crate::{
    in_lab,
    scenario::{Family, UPLINK, Who},
    state::Learned,
    table::{At, Step, from, packet, to},
};
use Direction::{Egress, Ingress};
use Who::{A, B, C, D, E, Group, Host, Nobody, World};

/// Whose side, which, who the other end is, protocol, port, flows.
type Sighting = (Who, Direction, Who, u8, u16, u64);

struct Case {
    name: &'static str,
    steps: Vec<Step>,
    seen: Vec<Sighting>,
    missing: Vec<(Who, u64)>,
}

fn case(name: &'static str, steps: Vec<Step>, seen: Vec<Sighting>) -> Case {
    Case {
        name,
        steps,
        seen,
        missing: Vec::new(),
    }
}

impl Case {
    fn missing(self, missing: Vec<(Who, u64)>) -> Self {
        Self { missing, ..self }
    }
}

/// Everybody but D, who is off, audits.
fn audit(tables: &mut Tables) {
    set(tables, &[A, B, C, E], mode::AUDIT);
}

fn only_b_audits(tables: &mut Tables) {
    set(tables, &[A, C, E], mode::ENFORCE);
    set(tables, &[B], mode::AUDIT);
}

fn only_a_audits(tables: &mut Tables) {
    set(tables, &[B, C, E], mode::ENFORCE);
    set(tables, &[A], mode::AUDIT);
}

/// As [`audit`], and dfw has just come.
fn audit_and_adopt(tables: &mut Tables) {
    audit(tables);
    tables.settings.adopt_until = 60 * tables.settings.hz;
}

fn set(tables: &mut Tables, who: &[Who], mode: u32) {
    for who in who {
        let endpoint = tables.endpoints.get_mut(&who.ifindex());
        endpoint.expect("the endpoint is there").mode = mode;
    }
}

fn sent(family: Family, sender: Who, receiver: Who, upper: Upper) -> Step {
    Step::Seen(
        from(sender),
        packet(family, sender, receiver, upper).frame(),
    )
}

fn received(family: Family, sender: Who, receiver: Who, ingress: u32, upper: Upper) -> Step {
    Step::Seen(
        to(receiver, ingress),
        packet(family, sender, receiver, upper).frame(),
    )
}

fn syn(port: u16) -> Upper {
    tcp(40_000, port, flags::SYN)
}

fn data(source: u16, destination: u16) -> Upper {
    tcp(source, destination, flags::ACK)
}

fn of_modes(family: Family) -> Vec<Case> {
    let pair = |port| vec![(A, Egress, B, TCP, port, 1), (B, Ingress, A, TCP, port, 1)];
    vec![
        case(
            "both audit: allowed",
            vec![Step::Written(audit), sent(family, A, B, syn(80))],
            pair(80),
        ),
        case(
            "both audit: would be denied",
            vec![Step::Written(audit), sent(family, A, B, syn(91))],
            pair(91),
        ),
        case(
            "nobody audits",
            vec![
                sent(family, A, B, syn(80)),
                received(family, Host, B, 0, syn(9000)),
            ],
            vec![],
        ),
        case("both off", vec![sent(family, D, D, syn(80))], vec![]),
        case(
            "the receiver alone audits",
            vec![Step::Written(only_b_audits), sent(family, A, B, syn(85))],
            vec![(B, Ingress, A, TCP, 85, 1)],
        ),
        case(
            "the sender's enforcement drops it",
            vec![Step::Written(only_b_audits), sent(family, A, B, syn(91))],
            vec![],
        ),
        case(
            "the sender alone audits",
            vec![Step::Written(only_a_audits), sent(family, A, B, syn(90))],
            vec![(A, Egress, B, TCP, 90, 1)],
        ),
        case(
            "the receiver's enforcement drops it",
            vec![Step::Written(only_a_audits), sent(family, A, B, syn(85))],
            vec![],
        ),
        case(
            "from one that is off",
            vec![Step::Written(audit), sent(family, D, B, syn(80))],
            vec![(B, Ingress, D, TCP, 80, 1)],
        ),
        case(
            "at the receiver's hook nothing is seen twice",
            vec![
                Step::Written(audit),
                sent(family, A, B, syn(80)),
                received(family, A, B, A.ifindex(), syn(80)),
                sent(family, B, A, tcp(80, 40_000, flags::SYN | flags::ACK)),
                sent(family, A, B, data(40_000, 80)),
            ],
            pair(80),
        ),
        case(
            "judged again in another epoch it is the same flow",
            vec![
                Step::Written(audit),
                sent(family, A, B, syn(80)),
                Step::Written(audit),
                sent(family, B, A, data(80, 40_000)),
                sent(family, A, B, data(40_000, 80)),
            ],
            pair(80),
        ),
        case(
            "a flow that was open when its ends went to audit",
            vec![
                sent(family, A, B, syn(80)),
                Step::Written(audit),
                sent(family, B, A, data(80, 40_000)),
            ],
            vec![(B, Ingress, A, TCP, 80, 1)],
        ),
        case(
            "two connections",
            vec![
                Step::Written(audit),
                sent(family, A, B, tcp(40_000, 80, flags::SYN)),
                sent(family, A, B, tcp(40_001, 80, flags::SYN)),
            ],
            vec![(A, Egress, B, TCP, 80, 2), (B, Ingress, A, TCP, 80, 2)],
        ),
        case(
            "ports that are used again",
            vec![
                Step::Written(audit),
                sent(family, A, B, syn(80)),
                sent(family, B, A, tcp(80, 40_000, flags::RST | flags::ACK)),
                sent(family, A, B, syn(80)),
            ],
            vec![(A, Egress, B, TCP, 80, 2), (B, Ingress, A, TCP, 80, 2)],
        ),
    ]
}

fn of_peers(family: Family) -> Vec<Case> {
    let (icmp_of, ask, answer) = family.icmp();
    vec![
        case(
            "to the host and the world",
            vec![
                Step::Written(audit),
                sent(family, A, Host, syn(8080)),
                sent(family, A, World, udp(40_000, 53)),
            ],
            vec![
                (A, Egress, Host, TCP, 8080, 1),
                (A, Egress, World, UDP, 53, 1),
            ],
        ),
        case(
            "from the host and the world, at the port that the container has",
            vec![
                Step::Written(audit),
                received(family, Host, B, 0, syn(9000)),
                received(family, World, B, UPLINK, syn(443)),
            ],
            vec![
                (B, Ingress, Host, TCP, 9000, 1),
                (B, Ingress, World, TCP, 443, 1),
            ],
        ),
        case(
            "to another bridge: each side at its own hook",
            vec![
                Step::Written(audit),
                sent(family, A, E, syn(80)),
                received(family, A, E, A.network(), syn(80)),
            ],
            vec![(A, Egress, E, TCP, 80, 1), (E, Ingress, A, TCP, 80, 1)],
        ),
        case(
            "translated on the way: to the host, and from the one who asked",
            vec![
                Step::Written(audit),
                sent(family, A, Host, syn(8080)),
                received(family, A, B, A.network(), syn(80)),
            ],
            vec![(A, Egress, Host, TCP, 8080, 1), (B, Ingress, A, TCP, 80, 1)],
        ),
        case(
            "a group, at each side",
            vec![
                Step::Written(audit),
                sent(family, A, Group, udp(5353, 5353)),
                received(family, A, B, A.ifindex(), udp(5353, 5353)),
                received(family, A, D, A.ifindex(), udp(5353, 5353)),
            ],
            vec![
                (A, Egress, Group, UDP, 5353, 1),
                (B, Ingress, A, UDP, 5353, 1),
            ],
        ),
        case(
            "an address that nobody has",
            vec![Step::Written(audit), sent(family, A, Nobody, syn(80))],
            vec![(A, Egress, Nobody, TCP, 80, 1)],
        ),
        case(
            "a forged source",
            vec![
                Step::Written(audit),
                Step::Seen(from(A), {
                    let mut forged = packet(family, B, C, syn(80));
                    forged.macs[1] = A.mac();
                    forged.frame()
                }),
            ],
            vec![],
        ),
        case(
            "an echo and its answer",
            vec![
                Step::Written(audit),
                sent(family, A, B, icmp(icmp_of, ask, 0, &[0, 7, 0, 1])),
                sent(family, B, A, icmp(icmp_of, answer, 0, &[0, 7, 0, 1])),
            ],
            vec![
                (A, Egress, B, icmp_of, ask.into(), 1),
                (B, Ingress, A, icmp_of, ask.into(), 1),
            ],
        ),
        case(
            "SCTP, and a protocol without ports",
            vec![
                Step::Written(audit),
                sent(family, A, B, sctp(40_000, 36)),
                sent(family, A, B, gre()),
            ],
            vec![
                (A, Egress, B, SCTP, 36, 1),
                (B, Ingress, A, SCTP, 36, 1),
                (A, Egress, B, GRE, 0, 1),
                (B, Ingress, A, GRE, 0, 1),
            ],
        ),
    ]
}

fn gre() -> Upper {
    (GRE, vec![0; 8])
}

/// Who opened it does not depend on who is heard first.
fn of_openers(family: Family) -> Vec<Case> {
    let pair = |protocol, port| {
        vec![
            (A, Egress, B, protocol, port, 1),
            (B, Ingress, A, protocol, port, 1),
        ]
    };
    vec![
        case(
            "older than dfw, the client is heard first",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, A, B, data(40_000, 5432)),
                received(family, A, B, A.ifindex(), data(40_000, 5432)),
            ],
            pair(TCP, 5432),
        ),
        case(
            "older than dfw, the server is heard first",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, B, A, data(5432, 40_000)),
                received(family, B, A, B.ifindex(), data(5432, 40_000)),
            ],
            pair(TCP, 5432),
        ),
        case(
            "and what was taken in by an answer stays so",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, B, A, data(5432, 40_000)),
                Step::Written(audit),
                sent(family, A, B, data(40_000, 5432)),
                sent(family, B, A, data(5432, 40_000)),
            ],
            pair(TCP, 5432),
        ),
        case(
            "older than dfw, and nobody can tell",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, A, B, data(40_000, 40_001)),
                sent(family, A, B, data(40_000, 40_001)),
            ],
            vec![],
        )
        .missing(vec![(A, 1), (B, 1)]),
        case(
            "a SYN tells whatever the ports are",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, A, B, tcp(80, 40_000, flags::SYN)),
            ],
            pair(TCP, 40_000),
        ),
        case(
            "an old connection that slept until now: who dialled tells, at each end, whoever is heard first",
            vec![
                Step::Written(audit),
                sent(family, B, A, data(5432, 40_000)),
                received(family, B, A, B.ifindex(), data(5432, 40_000)),
                sent(family, A, B, data(40_000, 5432)),
                received(family, A, B, A.ifindex(), data(40_000, 5432)),
                sent(family, A, B, data(40_000, 5432)),
            ],
            pair(TCP, 5432),
        ),
        case(
            "what looks like the answer of a server to nobody, and the reset that it gets",
            vec![
                Step::Written(audit),
                sent(family, B, A, data(5432, 40_000)),
                received(family, B, A, B.ifindex(), data(5432, 40_000)),
                sent(family, A, B, tcp(40_000, 5432, flags::RST)),
                received(family, A, B, A.ifindex(), tcp(40_000, 5432, flags::RST)),
            ],
            vec![],
        ),
        case(
            "such an old connection that the other end drops",
            vec![
                Step::Written(only_b_audits),
                sent(family, B, A, data(40_000, 5432)),
            ],
            vec![],
        ),
        case(
            "an answer by UDP to what is older than dfw",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, B, A, udp(53, 40_000)),
            ],
            pair(UDP, 53),
        ),
        case(
            "UDP that is older than dfw, and nobody can tell",
            vec![
                Step::Written(audit_and_adopt),
                sent(family, A, B, udp(5060, 5060)),
            ],
            vec![],
        )
        .missing(vec![(A, 1), (B, 1)]),
        case(
            "later the same opens a flow",
            vec![Step::Written(audit), sent(family, A, B, udp(5060, 5060))],
            pair(UDP, 5060),
        ),
        case(
            "what looks like a late answer by UDP",
            vec![Step::Written(audit), sent(family, B, A, udp(53, 40_000))],
            vec![],
        )
        .missing(vec![(A, 1), (B, 1)]),
    ]
}

/// A container that scans fills its own record only.
fn of_quotas(family: Family) -> Vec<Case> {
    let each = maps::SEEN_EACH as u16;
    let scan = |ports: std::ops::Range<u16>| {
        let step = move |port| sent(family, A, World, syn(port));
        ports.map(step)
    };
    let all = (1..=each).map(|port| (A, Egress, World, TCP, port, 1));
    let mut beyond = vec![Step::Written(audit)];
    beyond.extend(scan(1..each + 6));
    let mut with_others = vec![Step::Written(audit)];
    with_others.extend(scan(1..each + 1));
    with_others.extend([
        sent(family, A, B, syn(80)),
        sent(family, C, B, syn(80)),
        received(family, Host, B, 0, syn(9000)),
        sent(family, A, World, syn(1)),
    ]);
    let mut others: Vec<_> = all.clone().collect();
    others[0].5 = 2;
    others.extend([
        (C, Egress, B, TCP, 80, 1),
        (B, Ingress, C, TCP, 80, 1),
        (B, Ingress, Host, TCP, 9000, 1),
    ]);
    vec![
        case("beyond its quota", beyond, all.collect()).missing(vec![(A, 5)]),
        case(
            "others have room, and are told nothing",
            with_others,
            others,
        )
        .missing(vec![(A, 2)]),
    ]
}

fn key(family: Family, (who, direction, peer, protocol, port, _): Sighting) -> SeenKey {
    let (kind, has_addr) = match peer {
        A | B | C | D | E => (kind::ENDPOINT, false),
        Host => (kind::HOST, false),
        World | Who::Denied => (kind::WORLD, true),
        Group => (kind::GROUP, true),
        Nobody => (kind::UNKNOWN, false),
    };
    SeenKey {
        addr: if has_addr {
            Addr::from(peer.ip(family))
        } else {
            Addr::UNSPECIFIED
        },
        ifindex: who.ifindex(),
        peer: peer.ifindex(),
        port,
        kind: kind as u8,
        protocol,
        direction: direction as u8,
        pad: [0; 3],
    }
}

#[test]
fn what_is_seen_and_what_is_not() {
    let failures: Vec<String> = in_lab(true, |lab| {
        let mut failures = Vec::new();
        for family in Family::ALL {
            let topics = [of_modes, of_peers, of_openers, of_quotas];
            for case in topics.into_iter().flat_map(|topic| topic(family)) {
                lab.reset();
                for step in &case.steps {
                    lab.step(step);
                }
                let name = format!("{family:?}: {}", case.name);
                failures.extend(lab.compare_learned(&name).err());
                let seen = Learned::on_plain_maps(&lab.plain);
                let flows = case.seen.iter().map(|one| (key(family, *one), one.5));
                let flows: BTreeMap<_, _> = flows.collect();
                let missing = seen.quotas.iter().filter(|(_, quota)| quota.1 > 0);
                let missing: Vec<_> = missing.map(|(who, quota)| (*who, quota.1)).collect();
                let expected = case
                    .missing
                    .iter()
                    .map(|(who, count)| (who.ifindex(), *count));
                let expected: Vec<_> = expected.collect();
                if (&flows, &expected) != (&seen.flows, &missing) {
                    failures.push(format!(
                        "{name}\n  expected {flows:?} {expected:?}\n  seen     {:?} {missing:?}",
                        seen.flows
                    ));
                }
            }
        }
        failures
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nobody_sees_at_a_port_that_has_no_identity() {
    in_lab(true, |lab| {
        lab.reset();
        let at: At = crate::table::unclaimed();
        lab.step(&Step::Seen(at, packet(Family::V4, A, B, syn(80)).frame()));
        assert_eq!(Learned::on_plain_maps(&lab.plain), Learned::default());
        lab.compare_learned("unclaimed").expect("the same");
    });
}
