//! What the decision needs from its surroundings: the maps and the time. The BPF programs give it the kernel's maps,
//! tests and the agent plain ones.

use crate::{
    addr::Addr,
    conntrack,
    decide::{self, Scratch},
    key::{AddressKey, BlockKey, FlowKey, NetworkId, PolicyKey, PrefixKey, SeenKey},
    policy::{self, Question, Ruling},
    uplink,
    value::{
        Address, Block, Endpoint, Flow, List, PolicyEntry, Prefix, SeenTimes, Settings, Uplink,
    },
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

    /// Writes a flow at its position of the ring, where no other is; false when the table has no room, or the position does
    /// not exist.
    fn insert_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool;

    /// The running count of flows that the part of the ring at `base` has placed, and adds one to it.
    fn next_in_ring(&mut self, base: u32) -> u32;

    /// The flow at a position of the ring, and its protocol; none when the position is free or does not exist.
    fn held(&mut self, position: u32) -> Option<(u8, &mut Flow)>;

    /// Frees a position of the ring.
    fn evict(&mut self, position: u32);

    /// What was seen under this key, to be updated in place.
    fn seen(&mut self, key: &SeenKey) -> Option<&mut SeenTimes>;

    /// How much of what was seen is at the expense of an endpoint; none when it is no endpoint any more.
    fn seen_by(&mut self, owner: u32) -> Option<u64>;

    /// Writes something seen at the expense of an endpoint; false when there is no room.
    fn insert_seen(&mut self, owner: u32, key: &SeenKey, times: &SeenTimes) -> bool;

    /// Counts what was seen and not kept, for an endpoint.
    fn miss(&mut self, owner: u32);

    /// What holds at uplinks.
    fn uplink(&self) -> Uplink;

    /// A word of the filter of blocks.
    fn filter(&self, word: u32) -> u64;

    /// A block of a list.
    fn block(&self, key: &BlockKey) -> Option<Block>;

    /// [`uplink::covers`].
    fn covers(&self, list: &List, addr: &Addr) -> bool {
        uplink::covers(self, list, addr)
    }

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

    /// [`decide::learn`].
    fn learn_from(&mut self, scratch: &mut Scratch) {
        decide::learn(self, scratch);
    }

    /// [`conntrack::place`].
    fn place(&mut self, owner: &Endpoint) -> Option<u32> {
        conntrack::place(self, owner.ifindex, owner.ring_base, owner.ring_mask)
    }
}
