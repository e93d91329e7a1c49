//! What the decision needs from its surroundings: the maps and the time. The BPF programs give it the kernel's maps,
//! tests and the agent plain ones.

use crate::{
    key::{AddressKey, FlowKey, PolicyKey, PrefixKey},
    value::{Address, Endpoint, Flow, PolicyEntry, Prefix, Settings},
};

/// Maps and time.
pub trait Env {
    /// Node-wide settings.
    fn settings(&self) -> Settings;

    /// Now, in jiffies, truncated to 32 bits.
    fn now(&self) -> u32;

    /// The managed endpoint behind a host-side ifindex.
    fn endpoint(&self, ifindex: u32) -> Option<Endpoint>;

    /// Who has exactly this address.
    fn address(&self, key: &AddressKey) -> Option<Address>;

    /// The longest prefix that covers this address.
    fn prefix(&self, key: PrefixKey) -> Option<Prefix>;

    /// A policy header or entry.
    fn policy(&self, key: &PolicyKey) -> Option<PolicyEntry>;

    /// The flow with this key, to be updated in place.
    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow>;

    /// Writes a flow; false when the table has no room.
    fn insert_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool;

    /// Removes a flow.
    fn remove_flow(&mut self, key: &FlowKey);

    /// The running count of flows that the part of the ring at `base` has placed, and adds one to it.
    fn next_in_ring(&mut self, base: u32) -> u32;

    /// The flow that holds a position of the ring; none when the position was never used or does not exist.
    fn in_ring(&self, position: u32) -> Option<FlowKey>;

    /// Gives a position of the ring to a flow; false when the position does not exist.
    fn put_in_ring(&mut self, position: u32, key: &FlowKey) -> bool;
}
