//! Nobody fills or evicts another's flows, and a flood recycles the flooder's own, those without answer first.

use std::collections::HashMap;

use dfw_common::{
    conntrack::write_key, key::FlowKey, packet::Headers, parse::parse, plain::Tables,
    reason::Reason,
};
use dfw_tests::frame::{flags, tcp, udp};

use crate::{
    in_lab,
    scenario::{Family, QUOTA, UPLINK, Who},
    table::{At, Fate, Lab, Row, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, Host, World};
use flags::{ACK, SYN, SYN_ACK};

/// What happens where there is no place at all.
pub(crate) fn rows(family: Family) -> Vec<Row> {
    let without_ring: fn(&mut Tables) = |tables| {
        for endpoint in tables.endpoints.values_mut() {
            endpoint.ring_base = 1 << 20;
        }
    };
    let syn = |sender, receiver| packet(family, sender, receiver, tcp(4000, 80, SYN));
    let full = deny(Reason::FlowTableFull);
    let rows = [
        row("no room", from(A), syn(A, B), full),
        row("no room, received", to(B, A.ifindex()), syn(A, B), full),
        row(
            "no room, audited",
            from(C),
            syn(C, Host),
            audit(Reason::FlowTableFull),
        ),
        row(
            "no room, from one that audits to one that enforces",
            from(C),
            syn(C, B),
            full,
        ),
        row(
            "no room, but none is needed",
            from(D),
            syn(D, Host),
            silent(),
        ),
    ];
    rows.map(|row| row.written(without_ring)).into()
}

/// How many flows there are; the same in the kernel and on plain maps.
fn flows(lab: &mut Lab<'_>) -> usize {
    let in_kernel = lab.kernel.flows().len();
    assert_eq!(in_kernel, lab.plain.flows.len());
    in_kernel
}

/// Sees a frame in the kernel and on plain maps; whether it passes.
fn see(lab: &mut Lab<'_>, at: At, frame: &[u8]) -> bool {
    let in_kernel = lab.in_kernel(at, frame);
    assert_eq!(in_kernel, lab.on_plain_maps(at, frame).fate);
    in_kernel != Fate::Dropped
}

#[test]
fn a_flood_recycles_the_flooders_own_flows() {
    in_lab(false, |lab| {
        for family in Family::ALL {
            lab.reset();
            let of_a = |flags| packet(family, A, B, tcp(4000, 80, flags)).frame();
            let of_b = |flags| packet(family, B, A, tcp(4000, 8080, flags)).frame();
            assert!(see(lab, from(A), &of_a(SYN)));
            let answer = packet(family, B, A, tcp(80, 4000, SYN_ACK)).frame();
            assert!(see(lab, from(B), &answer));
            assert!(see(lab, from(B), &of_b(SYN)));
            for port in 0..1000 {
                let datagram = packet(family, A, B, udp(10_000 + port, 53)).frame();
                assert!(see(lab, from(A), &datagram), "{family:?} {port}");
            }
            assert_eq!(flows(lab), QUOTA as usize + 1, "{family:?}");
            assert!(see(lab, from(A), &of_a(ACK)), "{family:?}: answered");
            assert!(see(lab, from(B), &of_b(ACK)), "{family:?}: another's");
        }
    });
}

#[test]
fn when_all_are_answered_the_oldest_go() {
    in_lab(false, |lab| {
        for family in Family::ALL {
            lab.reset();
            let forth =
                |port: u16, flags| packet(family, A, B, tcp(4000 + port, 80, flags)).frame();
            let back = |port: u16| packet(family, B, A, tcp(80, 4000 + port, SYN_ACK)).frame();
            for port in 0..200 {
                assert!(see(lab, from(A), &forth(port, SYN)), "{family:?} {port}");
                assert!(see(lab, from(B), &back(port)), "{family:?} {port}");
            }
            assert_eq!(flows(lab), QUOTA as usize, "{family:?}");
            assert!(!see(lab, from(A), &forth(0, ACK)), "{family:?}: the first");
            assert!(see(lab, from(A), &forth(199, ACK)), "{family:?}: the last");
        }
    });
}

#[test]
fn the_world_spends_its_receivers_quota() {
    in_lab(false, |lab| {
        for family in Family::ALL {
            lab.reset();
            let of_a = |flags| packet(family, A, B, tcp(4000, 80, flags)).frame();
            assert!(see(lab, from(A), &of_a(SYN)));
            for port in 0..1000 {
                let syn = packet(family, World, B, tcp(10_000 + port, 443, SYN)).frame();
                assert!(see(lab, to(B, UPLINK), &syn), "{family:?} {port}");
            }
            assert_eq!(flows(lab), QUOTA as usize + 1, "{family:?}");
            assert!(see(lab, from(A), &of_a(ACK)), "{family:?}: another's");
        }
    });
}

#[test]
fn who_had_a_place_before_keeps_it() {
    in_lab(false, |lab| {
        for family in Family::ALL {
            lab.reset();
            let of_a = |port, flags| packet(family, A, World, tcp(port, 443, flags)).frame();
            for port in 0..QUOTA as u16 {
                assert!(
                    see(lab, from(A), &of_a(4000 + port, SYN)),
                    "{family:?} {port}"
                );
            }
            // As when the agent halves a part for a newcomer.
            lab.change(|tables| {
                let base = tables.endpoints[&A.ifindex()].ring_base;
                let heir = tables.endpoints.get_mut(&B.ifindex());
                heir.expect("the endpoint is there").ring_base = base;
            });
            for port in 0..100 {
                let syn = packet(family, B, A, tcp(4000 + port, 8080, SYN)).frame();
                assert!(!see(lab, from(B), &syn), "{family:?} {port}");
            }
            for port in 0..QUOTA as u16 {
                assert!(
                    see(lab, from(A), &of_a(4000 + port, ACK)),
                    "{family:?} {port}"
                );
            }
        }
    });
}

/// The key of the flow that a frame of A belongs to.
fn key(frame: &[u8]) -> FlowKey {
    let mut headers = Headers::NONE;
    parse(&frame, &mut headers).expect("a whole frame");
    let mut key = FlowKey::NONE;
    write_key(&headers, A.network(), &mut key);
    key
}

#[test]
fn a_hint_that_leads_to_another_flow_is_not_believed() {
    in_lab(false, |lab| {
        for family in Family::ALL {
            lab.reset();
            let datagram = |from, to| packet(family, A, B, udp(from, to)).frame();
            // To a port that is open and to one that is not, at the same place among the hints.
            let open: HashMap<u32, u16> = (1..u16::MAX)
                .map(|port| (key(&datagram(port, 53)).hint(), port))
                .collect();
            let (hint, port) = (1..u16::MAX)
                .map(|port| (key(&datagram(port, 54)).hint(), port))
                .find(|(hint, _)| open.contains_key(hint))
                .expect("a billion of pairs, half a million of places");
            let (allowed, denied) = (datagram(open[&hint], 53), datagram(port, 54));
            for round in 0..3 {
                assert!(see(lab, from(A), &allowed), "{family:?} {round}");
                assert!(!see(lab, from(A), &denied), "{family:?} {round}");
            }
            // And between two that are open.
            let other = (1..u16::MAX)
                .map(|port| datagram(port, 53))
                .find(|other| key(other).hint() == hint && *other != allowed);
            if let Some(other) = other {
                for round in 0..3 {
                    assert!(see(lab, from(A), &allowed), "{family:?} {round}");
                    assert!(see(lab, from(A), &other), "{family:?} {round}");
                }
                assert_eq!(flows(lab), 2, "{family:?}");
            }
        }
    });
}

#[test]
fn a_table_without_room_opens_nothing() {
    in_lab(false, |lab| {
        lab.reset();
        // More quota than there is room for: the agent gives out no such thing, but the table must hold all the same.
        lab.change(|tables| {
            for endpoint in tables.endpoints.values_mut() {
                (endpoint.ring_base, endpoint.ring_mask) = (0, 1023);
            }
        });
        let passed = (0..1000).filter(|port| {
            let datagram = packet(Family::V4, A, B, udp(10_000 + port, 53)).frame();
            see(lab, from(A), &datagram)
        });
        let passed = passed.count();
        assert!((1..1000).contains(&passed), "{passed}");
        assert!(flows(lab) <= crate::scenario::FLOWS as usize);
    });
}
