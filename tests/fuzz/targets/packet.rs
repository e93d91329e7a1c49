//! Any frames at the hooks of a small node: the decision never panics, drops nothing uncounted, and lets nothing pass that
//! it counts as denied.

#![no_main]

use std::net::IpAddr;

use dfw_common::{
    addr::{Addr, Mac},
    backstop::backstop,
    decide::{Hook, Outcome, Place, Scratch, decide},
    key::{ANY_NETWORK, AddressKey, PolicyKey, PrefixKey},
    packet::Packet,
    plain::{Plain, Tables},
    reason::{Direction, Verdict},
    value::{Address, Endpoint, IDENTITY_OTHER, PolicyEntry, Prefix, Settings, kind, mode},
};
use libfuzzer_sys::fuzz_target;

const BRIDGE: u32 = 10;
const MODES: [u32; 3] = [mode::OFF, mode::AUDIT, mode::ENFORCE];
/// Positions of the flow ring an endpoint has.
const QUOTA: u32 = 4;

struct Frame<'a> {
    bytes: &'a [u8],
    is_tagged: bool,
}

impl Packet for Frame<'_> {
    fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("the fuzzer's inputs are small")
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk().copied()
    }

    fn is_tagged(&self) -> bool {
        self.is_tagged
    }
}

/// MAC of an endpoint.
fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

fn v4(number: u8) -> [u8; 4] {
    [10, 0, 0, number]
}

fn v6(number: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    (bytes[0], bytes[15]) = (0xfd, number);
    bytes
}

/// Endpoints 1 to 3 of each mode, the host at 4, everything else the world.
fn node(epoch: u32, adopt_until: u32) -> Plain {
    let mut tables = Tables {
        settings: Settings {
            epoch,
            enforcing: 1,
            adopt_until,
            hz: 100,
            ..Settings::default()
        },
        ..Tables::default()
    };
    for number in 1..=4 {
        let ifindex = u32::from(number);
        let is_host = number == 4;
        let address = Address {
            kind: if is_host { kind::HOST } else { kind::ENDPOINT },
            identity: ifindex,
            ifindex: if is_host { 0 } else { ifindex },
            network: if is_host { 0 } else { BRIDGE },
        };
        for ip in [IpAddr::from(v4(number)), IpAddr::from(v6(number))] {
            let key = AddressKey {
                network: ANY_NETWORK,
                addr: Addr::from(ip),
            };
            tables.addresses.insert(key, address);
        }
        if !is_host {
            let endpoint = Endpoint {
                ifindex,
                network: BRIDGE,
                mode: MODES[number as usize - 1],
                policy: ifindex,
                ring_base: (ifindex - 1) * QUOTA,
                ring_mask: QUOTA - 1,
                mac: Mac::new(mac(number)),
                redirects: 1,
                pad: 0,
            };
            tables.endpoints.insert(ifindex, endpoint);
        }
    }
    let world = Prefix {
        kind: kind::WORLD,
        identity: 5,
    };
    let key = PrefixKey::new(ANY_NETWORK, Addr::UNSPECIFIED);
    tables
        .prefixes
        .insert((PrefixKey::NETWORK_BITS, key), world);
    for policy in 1..=3 {
        for direction in Direction::ALL {
            // Everything below port 32768.
            let header = PolicyKey {
                policy,
                identity: IDENTITY_OTHER,
                port: 0,
                direction: direction as u8,
                protocol: 0,
                length: PolicyKey::HEADER,
                pad: [0; 3],
            };
            let entry = PolicyEntry {
                lengths: 1 << 1,
                flags: PolicyEntry::SOME_ALLOWED,
                ..PolicyEntry::NOTHING
            };
            tables.policy.insert(header, entry);
            for protocol in [1, 6, 17, 58] {
                let key = PolicyKey {
                    protocol,
                    length: 1,
                    ..header
                };
                let entry = PolicyEntry {
                    lengths: 0,
                    rule: 1,
                    verdict: PolicyEntry::ALLOW,
                    flags: 0,
                };
                tables.policy.insert(key, entry);
            }
        }
    }
    Plain::new(tables, 3 * QUOTA as usize)
}

/// Random bytes hardly ever name an endpoint: puts MACs and addresses where they belong.
fn address(bytes: &mut [u8], source: u8, destination: u8) {
    put(bytes, 0, &mac(destination));
    put(bytes, 6, &mac(source));
    match bytes.get(12..14) {
        Some([0x08, 0x00]) => {
            put(bytes, 26, &v4(source));
            put(bytes, 30, &v4(destination));
        }
        Some([0x86, 0xdd]) => {
            put(bytes, 22, &v6(source));
            put(bytes, 38, &v6(destination));
        }
        _ => {}
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn check(outcome: &Outcome, is_tagged: bool, me: u32) {
    let tallies = [outcome.own, outcome.peer];
    let is_denied = tallies
        .iter()
        .any(|tally| tally.is_counted && tally.verdict == Verdict::Deny);
    assert_eq!(outcome.pass, !is_denied, "{outcome:?}");
    let is_allowed = tallies.iter().all(|tally| tally.verdict == Verdict::Allow);
    assert!(
        !outcome.redirect || (is_allowed && MODES[me as usize - 1] == mode::ENFORCE),
        "redirected: {outcome:?}"
    );
    assert!(
        !(is_tagged && outcome.pass && MODES[me as usize - 1] == mode::ENFORCE),
        "a tagged frame passes where it must not"
    );
}

fuzz_target!(|input: (u32, u32, Vec<(u8, u8, u16, Vec<u8>)>)| {
    let (epoch, adopt_until, frames) = input;
    let mut node = node(epoch, adopt_until);
    let mut scratch = Scratch::new();
    for (ends, place, elapsed, mut bytes) in frames {
        node.now = node.now.wrapping_add(u32::from(elapsed));
        if ends & 0x80 == 0 {
            address(&mut bytes, ends & 7, (ends >> 3) & 7);
        }
        let is_tagged = place & 0x80 != 0;
        let frame = Frame {
            bytes: &bytes,
            is_tagged,
        };
        let hook = if place & 1 == 0 { Hook::From } else { Hook::To };
        if place & 0x40 != 0 {
            // The third endpoint is gone.
            let exists = |ifindex| ifindex < 3;
            let reason = backstop(&node, &frame, BRIDGE, hook, &mut scratch, exists);
            assert!(!is_tagged || reason.is_some(), "a tagged frame passes");
            continue;
        }
        let ifindex = 1 + u32::from(place >> 1 & 3) % 3;
        let ingress = match place >> 3 & 7 {
            7 => BRIDGE,
            number => u32::from(number),
        };
        let place = Place {
            hook,
            ifindex,
            ingress,
        };
        let outcome = decide(&mut node, &frame, &place, &mut scratch);
        check(&outcome, is_tagged, ifindex);
        assert!(
            node.flows.len() <= 3 * QUOTA as usize,
            "more flows than quota"
        );
    }
});
