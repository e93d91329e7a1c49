//! Names and capacities of the maps, in one place.

use crate::reason::{Direction, REASONS, Reason, Verdict};

/// Version of every layout in this crate, part of the pin path. Any change of a key, a value, a map or the meaning of
/// a number bumps it.
pub const ABI_VERSION: u32 = 3;

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
/// Positions of flows in the ring by their keys, hash.
pub const FLOWS: &str = "FLOWS";
/// Flows, array of positions, in which each endpoint has its part.
pub const FLOW_RING: &str = "FLOW_RING";
/// Where in the ring a flow probably lies, array by [`crate::key::FlowKey::hint`]. It spares a lookup of the hash, and is
/// believed only where the flow found has the key: it is not pinned, and never cleared.
pub const FLOW_HINTS: &str = "FLOW_HINTS";
/// Counters by direction, verdict and reason, per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// Counters by endpoint, direction and verdict, per CPU.
pub const ENDPOINT_COUNTERS: &str = "ENDPOINT_COUNTERS";
/// Events, ring buffer.
pub const EVENTS: &str = "EVENTS";
/// Event budget and losses, per CPU.
pub const EVENT_BUDGET: &str = "EVENT_BUDGET";
/// What holds at uplinks, array of one.
pub const UPLINK: &str = "UPLINK";
/// Prefixes of the uplinks' lists, 256 neighbours a block, hash.
pub const BLOCKS: &str = "BLOCKS";
/// Which blocks there may be, bits.
pub const BLOCK_FILTER: &str = "BLOCK_FILTER";
/// What was seen in audit, hash.
pub const SEEN: &str = "SEEN";
/// How much of it is at whose expense, array by slot of the port table.
pub const SEEN_QUOTA: &str = "SEEN_QUOTA";

/// Every map that is pinned.
pub const PINNED: [&str; 16] = [
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
    SEEN,
    SEEN_QUOTA,
    UPLINK,
    BLOCKS,
    BLOCK_FILTER,
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
/// Length of [`FLOW_HINTS`]; a power of two. In a full table one flow in eight shares its place with another.
pub const FLOW_HINTS_LEN: u32 = 524_288;
/// Bytes of the event buffer; a power of two and of pages.
pub const EVENTS_BYTES: u32 = 512 * 1024;
/// What was seen in audit and no agent has read yet.
pub const SEEN_MAX: u32 = 65_536;
/// How much of it may be at the expense of one endpoint.
pub const SEEN_EACH: u64 = 256;
/// Prefixes of all deny lists together; as many blocks at most.
pub const DENIED_MAX: u32 = 120_000;
/// Blocks: a deny list and the one that takes its place, and the subnets of containers likewise.
pub const BLOCKS_MAX: u32 = 262_144;
/// Words of [`BLOCK_FILTER`], of 64 bits each; a power of two. With a full list of whole octets a bit in 64 is set.
pub const FILTER_WORDS: u32 = 131_072;
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
