//! The uplink: what a node's physical interface drops before the host has allocated anything for it (docs/semantics.md
//! section 17). Only what is certain to be nobody's honest packet, and whom the node's deny lists name.

use crate::{
    addr::Addr,
    check::Check,
    decide::Scratch,
    env::Env,
    key::{ANY_NETWORK, AddressKey, BlockKey},
    packet::{Headers, Packet, ethertype},
    parse::{ETHERNET, Icmp, icmp, parse},
    policy::some_allowed,
    reason::{Direction, Reason},
    value::{List, kind, mode},
};

/// Tags that are looked behind: a customer's and a provider's.
const TAGS: usize = 2;

/// Why a frame is dropped at an uplink; none when it goes on. What is for the host itself goes on, unless it contradicts
/// itself or a deny list names its source; so does what cannot be read in full.
#[inline(always)]
pub fn uplink<E: Env, P: Packet>(env: &E, packet: &P, scratch: &mut Scratch) -> Option<Reason> {
    let packet = Untagged::new(packet);
    let headers = &mut scratch.headers;
    let parsed = parse(&packet, headers);
    // Address resolution is let be, in both families: without it not even a router is found.
    let is_ip = matches!(headers.ethertype, ethertype::IPV4 | ethertype::IPV6);
    if !is_ip || (parsed.is_ok() && icmp(headers) == Icmp::Neighbour) {
        return None;
    }
    // Fragments, options and extension headers are the stack's to judge, and that of the endpoints' hooks.
    if Check::UplinkMalformed.finds(parsed == Err(Reason::Malformed)) {
        return Some(Reason::Malformed);
    }
    let lists = env.uplink();
    // Nobody is locked out from the networks around him, whatever a list of somebody else's making says.
    let is_denied = !headers.source.is_local() && env.covers(&lists.denied, &headers.source);
    if Check::UplinkDenied.finds(is_denied) {
        return Some(Reason::DenyList);
    }
    if Check::UplinkSpoofed.finds(env.covers(&lists.subnets, &headers.source)) {
        return Some(Reason::SpoofedAddress);
    }
    if parsed.is_ok() && env.covers(&lists.subnets, &headers.destination) {
        return inside(env, headers);
    }
    None
}

/// What is for a container's subnet, without a translation that is still to come: a published port has the host's address
/// here. Dropped where the container's own hook would drop it whatever the ports are.
#[inline(always)]
fn inside<E: Env>(env: &E, headers: &Headers) -> Option<Reason> {
    let key = AddressKey {
        network: ANY_NETWORK,
        addr: headers.destination,
    };
    let Some(target) = env.address(&key) else {
        let is_closed = env.settings().enforcing != 0;
        return Check::UplinkNobody
            .finds(is_closed)
            .then_some(Reason::Unmanaged);
    };
    let endpoint = env.endpoint(target.ifindex)?;
    if endpoint.mode != mode::ENFORCE {
        return None;
    }
    let sender = env.classify(endpoint.network, &headers.source);
    match sender.kind {
        kind::HOST if Check::UplinkHost.finds(true) => Some(Reason::SpoofedAddress),
        // Routers that no rule names report on allowed flows.
        kind::WORLD if icmp(headers) != Icmp::Error => {
            let may = |direction| some_allowed(env, endpoint.policy, sender.identity, direction);
            let may_meet = may(Direction::Ingress) || may(Direction::Egress);
            Check::UplinkRules
                .finds(!may_meet)
                .then_some(Reason::NoRule)
        }
        _ => None,
    }
}

/// Whether a list covers an address: a bit for each length of block that the list has, and one lookup where it is set, be it
/// by chance. The number of prefixes does not matter.
#[inline(always)]
pub fn covers<E: Env>(env: &E, list: &List, addr: &Addr) -> bool {
    let lengths = if addr.is_v4() {
        list.octets >> 16
    } else {
        list.octets
    };
    // The commonest first: single addresses.
    for step in 0..16 {
        let octets = 15 - step;
        if lengths & (1 << octets) == 0 {
            continue;
        }
        let (key, neighbour) = BlockKey::of(list.number, addr, octets);
        let (word, bit) = key.filter(neighbour);
        if env.filter(word) >> bit & 1 == 0 {
            continue;
        }
        if let Some(block) = env.block(&key)
            && block.covers(neighbour)
        {
            return true;
        }
    }
    false
}

/// A frame without its tags, which are legal on an uplink. Its MACs are not to be read.
struct Untagged<'p, P> {
    packet: &'p P,
    skip: usize,
}

impl<'p, P: Packet> Untagged<'p, P> {
    #[inline(always)]
    fn new(packet: &'p P) -> Self {
        let mut skip = 0;
        for _ in 0..TAGS {
            let ethertype = packet
                .load::<2>(skip + ETHERNET - 2)
                .map(u16::from_be_bytes);
            // 802.1Q, 802.1ad and the old QinQ number.
            let is_tag = matches!(ethertype, Some(0x8100 | 0x88a8 | 0x9100));
            if !Check::UplinkTags.finds(is_tag) {
                break;
            }
            skip += 4;
        }
        Self { packet, skip }
    }
}

impl<P: Packet> Packet for Untagged<'_, P> {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.packet.len().saturating_sub(self.skip as u32)
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.packet.load(self.skip + offset)
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false
    }
}
