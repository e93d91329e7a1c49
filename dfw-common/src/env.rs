//! What the decision needs from its surroundings: the maps and the time. The BPF programs give it the kernel's maps,
//! tests and the agent plain ones.

use crate::{
    addr::Addr,
    conntrack,
    decide::{self, Scratch},
    key::{AddressKey, FlowKey, NetworkId, PolicyKey, PrefixKey},
    policy::{self, Question, Ruling},
    value::{Address, Endpoint, Flow, PolicyEntry, Prefix, Settings},
};

/// Maps and time.
///
/// The provided methods are the decision's larger steps. The BPF side carries each out in a function of its own that the
/// verifier checks once, not once for each way that leads to it.
pub trait Env: Sized {
    /// Node-wide settings.
    fn settings(&self) -> Settings;

    /// Now, in jiffies, truncated to 32 bits.
    fn now(&self) -> u32;

    /// The managed endpoint behind a host-side ifindex.
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint>;

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

    /// The running count of flows that the part of the ring at `base` has placed, and adds one to it.
    fn next_in_ring(&mut self, base: u32) -> u32;

    /// The flow whose key stands at a position of the ring, and its protocol; none when the position was never used, does
    /// not exist, or its flow is gone.
    fn held(&mut self, position: u32) -> Option<(u8, &mut Flow)>;

    /// Removes the flow whose key stands at a position of the ring.
    fn evict(&mut self, position: u32);

    /// Gives a position of the ring to a flow; false when the position does not exist.
    fn put_in_ring(&mut self, position: u32, key: &FlowKey) -> bool;

    /// [`policy::ask`].
    fn ask(&self, question: &Question) -> Ruling {
        policy::ask(self, question)
    }

    /// [`policy::classify`].
    fn classify(&self, network: NetworkId, addr: &Addr) -> Address {
        policy::classify(
            self,
            &mut AddressKey {
                network,
                addr: *addr,
            },
        )
    }

    /// [`decide::flow`].
    fn flow_of(&mut self, scratch: &mut Scratch) {
        decide::flow(self, scratch);
    }

    /// [`conntrack::place`].
    fn place(&mut self, owner: &Endpoint, key: &FlowKey) -> Option<u32> {
        conntrack::place(self, owner.ifindex, owner.ring_base, owner.ring_mask, key)
    }
}
