//! What a test run in the kernel cannot show: tags beside the frame, frames larger than a page, time that wraps around,
//! and properties of keys and quotas.

use core::net::IpAddr;
use std::{vec, vec::Vec};

use proptest::prelude::*;

use crate::{
    addr::{Addr, Mac},
    conntrack::{self, RING_WINDOW, is_expired, state, write_key},
    decide::{Hook, Outcome, Place, Scratch, decide},
    env::Env as _,
    key::{FlowKey, proto},
    packet::{Headers, Packet, ethertype},
    parse::parse,
    plain::{Plain, Tables},
    reason::{Reason, Verdict},
    value::{Endpoint, Flow, Settings, kind, mode},
};

/// A frame of which only the beginning is there.
struct Frame {
    bytes: Vec<u8>,
    length: u32,
    is_tagged: bool,
}

impl Packet for Frame {
    fn len(&self) -> u32 {
        self.length
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk().copied()
    }

    fn is_tagged(&self) -> bool {
        self.is_tagged
    }
}

/// A TCP segment of 10.0.0.1 or fd00::1; `length` is what the IP header says of it.
fn segment(is_v4: bool, length: u16) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    let [high, low] = length.to_be_bytes();
    if is_v4 {
        bytes.extend([0x08, 0x00, 0x45, 0, high, low, 0, 0, 0, 0, 64, 6, 0, 0]);
        bytes.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    } else {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, 6, 64]);
        let mut ip = [0; 16];
        ip[0] = 0xfd;
        for number in [1, 2] {
            ip[15] = number;
            bytes.extend(ip);
        }
    }
    bytes.extend([
        0x10, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0,
    ]);
    bytes
}

#[test]
fn a_tag_beside_the_frame_is_a_tag() {
    // Hosts take tags off, so none is sent, whoever enforces.
    for (mode, received) in [
        (mode::ENFORCE, Verdict::Deny),
        (mode::AUDIT, Verdict::Audit),
    ] {
        let mut tables = Tables::default();
        let me = Endpoint {
            ifindex: 1,
            network: 9,
            mode,
            ..Endpoint::default()
        };
        tables.endpoints.insert(1, me);
        let frame = Frame {
            bytes: segment(true, 40),
            length: 54,
            is_tagged: true,
        };
        for (hook, expected) in [(Hook::From, Verdict::Deny), (Hook::To, received)] {
            let place = Place {
                hook,
                ifindex: 1,
                ingress: 1,
            };
            let mut env = Plain::new(tables.clone(), 0);
            let outcome: Outcome = decide(&mut env, &frame, &place, &mut Scratch::new());
            assert_eq!(outcome.own.reason, Reason::VlanTag);
            assert_eq!(outcome.own.verdict, expected);
        }
    }
}

#[test]
fn a_segment_beyond_64_kib_says_length_zero() {
    for is_v4 in [true, false] {
        for (length, expected) in [
            (200_000, Ok(())),
            // As much as a length can say, but it says none.
            (0xffff, Err(Reason::Malformed)),
        ] {
            let frame = Frame {
                bytes: segment(is_v4, 0),
                length,
                is_tagged: false,
            };
            assert_eq!(
                parse(&frame, &mut Headers::NONE.clone()),
                expected,
                "{is_v4}"
            );
        }
    }
}

#[test]
fn flows_expire_across_the_wrap_of_jiffies() {
    let flow = Flow {
        seen: u32::MAX - 10,
        state: state::NEW,
        ..Flow::default()
    };
    // UDP without answer: 30 s.
    assert!(!is_expired(&flow, proto::UDP, 2_900, 100));
    assert!(is_expired(&flow, proto::UDP, 3_000, 100));
}

fn headers(ips: [u32; 2], ports: [u16; 2], protocol: u8) -> Headers {
    let addr = |ip: u32| Addr::from(IpAddr::from(ip.to_be_bytes()));
    Headers {
        source: addr(ips[0]),
        destination: addr(ips[1]),
        source_port: ports[0],
        destination_port: ports[1],
        ethertype: ethertype::IPV4,
        protocol,
        ..Headers::NONE
    }
}

fn key_of(headers: &Headers, network: u32) -> (FlowKey, bool) {
    let mut key = FlowKey::NONE;
    let source_is_low = write_key(headers, network, &mut key);
    (key, source_is_low)
}

proptest! {
    #[test]
    fn both_directions_have_one_key(ips: [u32; 2], ports: [u16; 2], protocol in prop::sample::select(&[6, 17, 132, 47][..])) {
        let there = headers(ips, ports, protocol);
        let back = headers([ips[1], ips[0]], [ports[1], ports[0]], protocol);
        let ((key, low), (back, back_low)) = (key_of(&there, 7), key_of(&back, 7));
        prop_assert_eq!(key, back);
        // Which end a packet is of can be told unless both are the same.
        prop_assert_eq!(low != back_low, ips[0] != ips[1] || ports[0] != ports[1]);
    }

    #[test]
    fn a_key_is_compared_and_mixed_as_a_whole(ips: [u32; 2], ports: [u16; 2], bit in 0..336usize) {
        let key = key_of(&headers(ips, ports, proto::UDP), 7).0;
        let mut other = key;
        let word = 1 << (bit % 32);
        match bit / 32 {
            at @ 0..4 => other.low.0[at] ^= word,
            at @ 4..8 => other.high.0[at - 4] ^= word,
            8 if bit % 32 < 16 => other.low_port ^= word as u16,
            8 => other.high_port ^= (word >> 16) as u16,
            9 => other.network ^= word,
            _ if bit % 32 < 8 => other.protocol ^= word as u8,
            _ => other.asker ^= (word >> 8) as u8,
        }
        prop_assert!(key.is(&key) && !key.is(&other));
        prop_assert!(key.hint() < crate::maps::FLOW_HINTS_LEN);
        prop_assert_ne!(key.hint(), other.hint());
    }

    #[test]
    fn an_echo_and_its_answer_have_one_key(ips: [u32; 2], id: u16) {
        prop_assume!(ips[0] != ips[1]);
        let asks = headers(ips, [id, 8], proto::ICMP);
        let answers = headers([ips[1], ips[0]], [id, 0], proto::ICMP);
        let asks_back = headers([ips[1], ips[0]], [id, 8], proto::ICMP);
        prop_assert_eq!(key_of(&asks, 7).0, key_of(&answers, 7).0);
        prop_assert_ne!(key_of(&asks, 7).0, key_of(&asks_back, 7).0);
    }

    /// However much an owner opens, it stays in its part of the ring, and so do the others.
    #[test]
    fn a_part_of_the_ring_is_its_owners(opened in prop::collection::vec((0..4u32, any::<u16>(), any::<bool>()), 1..200)) {
        const PART: u32 = 4 * RING_WINDOW;
        let settings = Settings { hz: 100, epoch: 1, ..Settings::default() };
        let tables = Tables { settings, ..Tables::default() };
        let mut env = Plain::new(tables, 4 * PART as usize);
        for (owner, port, answered) in opened {
            let key = FlowKey { low_port: port, network: owner + 1, protocol: proto::TCP, ..FlowKey::NONE };
            let others = |env: &Plain| env.flows.keys().filter(|held| held.network != owner + 1).count();
            let before = others(&env);
            let position = conntrack::place(&mut env, owner + 1, owner * PART, PART - 1);
            let position = position.expect("there is always a place in one's own part");
            prop_assert_eq!(position / PART, owner);
            let state = if answered { state::ESTABLISHED } else { state::NEW };
            let flow = Flow { ring: position, state, ifindex: [owner + 1, 0], ..Flow::default() };
            prop_assert!(env.insert_flow(&key, &flow));
            prop_assert_eq!(others(&env), before);
        }
        for owner in 0..4 {
            let own = env.flows.keys().filter(|held| held.network == owner + 1).count();
            prop_assert!(own <= PART as usize);
        }
    }
}

#[test]
fn an_address_that_nothing_covers_is_unknown() {
    let env = Plain::new(Tables::default(), 0);
    for ip in ["192.0.2.1", "2001:db8::1"] {
        let addr = ip.parse::<IpAddr>().expect("an address").into();
        assert_eq!(env.classify(7, &addr).kind, kind::UNKNOWN, "{ip}");
    }
}

#[test]
fn a_mac_has_six_bytes() {
    let mac = Mac::new([1, 2, 3, 4, 5, 6]);
    assert_eq!(mac.octets(), [1, 2, 3, 4, 5, 6]);
    assert!(mac.is_group() && !Mac::new([2, 0, 0, 0, 0, 1]).is_group());
}
