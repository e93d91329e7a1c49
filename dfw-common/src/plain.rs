//! The decision's surroundings on plain maps: what tests compare the kernel with.

use std::{
    collections::{BTreeMap, HashMap},
    vec::Vec,
};

use crate::{
    addr::Addr,
    env::Env,
    key::{AddressKey, BlockKey, FlowKey, PolicyKey, PrefixKey, SeenKey},
    maps,
    value::{
        Address, Block, Endpoint, Flow, PolicyEntry, Prefix, RingEntry, SeenQuota, SeenTimes,
        Settings, Uplink,
    },
};

/// What the agent writes.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Node-wide settings.
    pub settings: Settings,
    /// By host-side ifindex.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Exact addresses.
    pub addresses: HashMap<AddressKey, Address>,
    /// By length in bits (those of the network included) and key; bits beyond the length are zero.
    pub prefixes: BTreeMap<(u32, PrefixKey), Prefix>,
    /// Headers and port prefixes.
    pub policy: HashMap<PolicyKey, PolicyEntry>,
    /// What holds at uplinks.
    pub uplink: Uplink,
    /// Blocks of its lists. Which there may be is not kept: it is asked for one at a time.
    pub blocks: BTreeMap<BlockKey, Block>,
}

/// Tables, a clock that stands still until it is set, and what decisions leave.
#[derive(Clone, Debug)]
pub struct Plain {
    /// What the agent writes.
    pub tables: Tables,
    /// Now, in jiffies, truncated.
    pub now: u32,
    /// The flow table; each flow has its position in a ring of [`Plain::new`]'s capacity.
    pub flows: HashMap<FlowKey, Flow>,
    /// What was seen in audit.
    pub seen: HashMap<SeenKey, SeenTimes>,
    /// At whose expense, by ifindex.
    pub quotas: BTreeMap<u32, SeenQuota>,
    ring: Vec<RingEntry>,
}

impl Plain {
    /// Without flows; with room for `capacity` of them and as many positions in the ring.
    pub fn new(tables: Tables, capacity: usize) -> Self {
        Self {
            tables,
            now: 0,
            flows: HashMap::new(),
            seen: HashMap::new(),
            quotas: BTreeMap::new(),
            ring: std::vec![RingEntry::FREE; capacity],
        }
    }

    fn quota_mut(&mut self, ifindex: u32) -> Option<&mut SeenQuota> {
        self.endpoint(ifindex)?;
        let fresh = SeenQuota {
            ifindex,
            ..SeenQuota::default()
        };
        Some(self.quotas.entry(ifindex).or_insert(fresh))
    }

    fn ring_mut(&mut self, position: u32) -> Option<&mut RingEntry> {
        self.ring.get_mut(usize::try_from(position).ok()?)
    }
}

impl Default for Plain {
    fn default() -> Self {
        Self::new(Tables::default(), maps::FLOWS_MAX as usize)
    }
}

/// The first `length` bits of a key.
fn masked(key: PrefixKey, length: u32) -> PrefixKey {
    let keep = |word: u32, before: u32| {
        let bits = length.saturating_sub(before).min(u32::BITS);
        let mask = u32::MAX.checked_shl(u32::BITS - bits).unwrap_or(0);
        (u32::from_be(word) & mask).to_be()
    };
    let [a, b, c, d] = key.addr.0;
    PrefixKey {
        network: keep(key.network, 0),
        addr: Addr([keep(a, 32), keep(b, 64), keep(c, 96), keep(d, 128)]),
    }
}

impl Env for Plain {
    fn settings(&self) -> Settings {
        self.tables.settings
    }

    fn now(&self) -> u32 {
        self.now
    }

    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        self.tables.endpoints.get(&ifindex)
    }

    fn address(&self, key: &AddressKey) -> Option<Address> {
        self.tables.addresses.get(key).copied()
    }

    fn prefix(&self, key: PrefixKey) -> Option<Prefix> {
        let lengths = (0..=u32::BITS * 5).rev();
        lengths
            .filter_map(|length| self.tables.prefixes.get(&(length, masked(key, length))))
            .copied()
            .next()
    }

    fn policy(&self, key: &PolicyKey) -> Option<PolicyEntry> {
        self.tables.policy.get(key).copied()
    }

    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.flows.get_mut(key)
    }

    fn insert_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        let Some(entry) = self.ring_mut(flow.ring) else {
            return false;
        };
        entry.key = *key;
        self.flows.insert(*key, *flow);
        true
    }

    fn next_in_ring(&mut self, base: u32) -> u32 {
        let Some(entry) = self.ring_mut(base) else {
            return 0;
        };
        let turn = entry.cursor;
        entry.cursor = turn.wrapping_add(1);
        turn as u32
    }

    fn held(&mut self, position: u32) -> Option<(u8, &mut Flow)> {
        let key = self.ring_mut(position)?.key;
        let flow = self.flows.get_mut(&key)?;
        (flow.ring == position).then_some((key.protocol, flow))
    }

    fn evict(&mut self, position: u32) {
        if let Some(entry) = self.ring_mut(position) {
            let key = core::mem::replace(&mut entry.key, FlowKey::NONE);
            self.flows.remove(&key);
        }
    }

    fn uplink(&self) -> Uplink {
        self.tables.uplink
    }

    fn filter(&self, word: u32) -> u64 {
        let blocks = self.tables.blocks.iter();
        let places = blocks.flat_map(|(key, block)| block.eights().map(|eight| key.filter(eight)));
        let bits = places.filter(|(at, _)| *at == word);
        bits.fold(0, |bits, (_, bit)| bits | 1 << bit)
    }

    fn block(&self, key: &BlockKey) -> Option<Block> {
        self.tables.blocks.get(key).copied()
    }

    fn seen(&mut self, key: &SeenKey) -> Option<&mut SeenTimes> {
        self.seen.get_mut(key)
    }

    fn seen_by(&mut self, owner: u32) -> Option<u64> {
        self.quota_mut(owner).map(|quota| quota.used)
    }

    fn insert_seen(&mut self, owner: u32, key: &SeenKey, times: &SeenTimes) -> bool {
        let has_room = self.seen.len() < maps::SEEN_MAX as usize;
        if has_room && let Some(quota) = self.quota_mut(owner) {
            quota.used += 1;
            self.seen.insert(*key, *times);
        }
        has_room
    }

    fn miss(&mut self, owner: u32) {
        if let Some(quota) = self.quota_mut(owner) {
            quota.missing += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let addr = |text: &str| Addr::from(text.parse::<IpAddr>().expect("address"));
        let mut tables = Tables::default();
        for (network, text, length, identity) in [
            (0, "0.0.0.0", 96, 1),
            (0, "10.0.0.0", 104, 2),
            (7, "10.0.0.0", 104, 3),
            (0, "10.1.2.3", 128, 4),
            (0, "::", 0, 5),
        ] {
            let key = PrefixKey::new(network, addr(text));
            let prefix = Prefix { kind: 1, identity };
            tables.prefixes.insert((32 + length, key), prefix);
        }
        let env = Plain::new(tables, 0);
        let identity = |network, text| {
            let found = env.prefix(PrefixKey::new(network, addr(text)));
            found.map(|prefix| prefix.identity)
        };
        assert_eq!(identity(0, "192.0.2.1"), Some(1));
        assert_eq!(identity(0, "10.9.9.9"), Some(2));
        assert_eq!(identity(7, "10.9.9.9"), Some(3));
        assert_eq!(identity(0, "10.1.2.3"), Some(4));
        assert_eq!(identity(0, "2001:db8::1"), Some(5));
        assert_eq!(identity(8, "10.1.2.3"), None);
    }
}
