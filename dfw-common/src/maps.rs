//! Names and capacities of the maps, in one place.

use crate::reason::{Direction, REASONS, Reason, Verdict};

/// Version of every layout in this crate, part of the pin path. Any change of a key, a value, a map or the meaning of
/// a number bumps it.
pub const ABI_VERSION: u32 = 2;

/// Settings, array of one.
pub const SETTINGS: &str = "SETTINGS";
/// Managed ports, array probed by ifindex.
pub const ENDPOINTS: &str = "ENDPOINTS";
/// Exact addresses, hash.
pub const ADDRESSES: &str = "ADDRESSES";
/// Subnets and CIDR peers, longest-prefix trie.
pub const PREFIXES: &str = "PREFIXES";
/// Policy entries, hash.
pub const POLICY: &str = "POLICY";
/// Flows, hash.
pub const FLOWS: &str = "FLOWS";
/// Flow quota, array of positions.
pub const FLOW_RING: &str = "FLOW_RING";
/// Counters by direction, verdict and reason, per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Counters by endpoint, direction and verdict, per CPU.
pub const ENDPOINT_COUNTERS: &str = "ENDPOINT_COUNTERS";
/// Events, ring buffer.
pub const EVENTS: &str = "EVENTS";
/// Event budget and losses, per CPU.
pub const EVENT_BUDGET: &str = "EVENT_BUDGET";

/// Every map that is pinned.
pub const PINNED: [&str; 11] = [
    SETTINGS,
    ENDPOINTS,
    ADDRESSES,
    PREFIXES,
    POLICY,
    FLOWS,
    FLOW_RING,
    COUNTERS,
    ENDPOINT_COUNTERS,
    EVENTS,
    EVENT_BUDGET,
];

/// Positions of the port table; a power of two.
pub const ENDPOINT_SLOTS: u32 = 4096;
/// How many positions from its home an endpoint may lie.
pub const ENDPOINT_PROBES: u32 = 8;
/// Exact addresses: several an endpoint, each seen from its network and from the others.
pub const ADDRESSES_MAX: u32 = 32_768;
/// Subnets and CIDR peers.
pub const PREFIXES_MAX: u32 = 65_536;
/// Policy entries.
pub const POLICY_MAX: u32 = 262_144;
/// Flows on the node; the flow ring has as many positions.
pub const FLOWS_MAX: u32 = 131_072;
/// Bytes of the event buffer; a power of two and of pages.
pub const EVENTS_BYTES: u32 = 512 * 1024;
/// Length of [`COUNTERS`].
pub const COUNTERS_LEN: u32 = Direction::ALL.len() as u32 * Verdict::ALL.len() as u32 * REASONS;
/// Length of [`ENDPOINT_COUNTERS`].
pub const ENDPOINT_COUNTERS_LEN: u32 =
    ENDPOINT_SLOTS * Direction::ALL.len() as u32 * Verdict::ALL.len() as u32;

/// Position of a (direction, verdict, reason) in [`COUNTERS`].
#[inline(always)]
pub const fn counter_index(direction: Direction, verdict: Verdict, reason: Reason) -> u32 {
    (direction as u32 * Verdict::ALL.len() as u32 + verdict as u32) * REASONS + reason as u32
}

/// Position of an endpoint's (direction, verdict) in [`ENDPOINT_COUNTERS`].
#[inline(always)]
pub const fn endpoint_counter_index(slot: u32, direction: Direction, verdict: Verdict) -> u32 {
    (slot * Direction::ALL.len() as u32 + direction as u32) * Verdict::ALL.len() as u32
        + verdict as u32
}

/// The `probe`th position where the endpoint with this ifindex may be.
#[inline(always)]
pub const fn endpoint_slot(ifindex: u32, probe: u32) -> u32 {
    ifindex.wrapping_add(probe) & (ENDPOINT_SLOTS - 1)
}
