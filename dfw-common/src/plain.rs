//! The decision's surroundings on plain maps: what tests compare the kernel with.

use std::{
    collections::{BTreeMap, HashMap},
    vec::Vec,
};

use crate::{
    addr::Addr,
    env::Env,
    key::{AddressKey, FlowKey, PolicyKey, PrefixKey},
    maps,
    value::{Address, Endpoint, Flow, PolicyEntry, Prefix, RingEntry, Settings},
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
}

/// Tables, a clock that stands still until it is set, and the flows that decisions leave.
#[derive(Clone, Debug)]
pub struct Plain {
    /// What the agent writes.
    pub tables: Tables,
    /// Now, in jiffies, truncated.
    pub now: u32,
    /// The flow table; at most [`Plain::new`]'s capacity.
    pub flows: HashMap<FlowKey, Flow>,
    ring: Vec<RingEntry>,
}

const FREE: RingEntry = RingEntry {
    key: FlowKey {
        low: Addr::UNSPECIFIED,
        high: Addr::UNSPECIFIED,
        low_port: 0,
        high_port: 0,
        network: 0,
        protocol: 0,
        asker: 0,
        pad: [0; 2],
    },
    pad: 0,
    cursor: 0,
};

impl Plain {
    /// Without flows; with room for `capacity` of them and as many positions in the ring.
    pub fn new(tables: Tables, capacity: usize) -> Self {
        Self {
            tables,
            now: 0,
            flows: HashMap::new(),
            ring: std::vec![FREE; capacity],
        }
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
        let has_room = self.flows.len() < self.ring.len() || self.flows.contains_key(key);
        if has_room {
            self.flows.insert(*key, *flow);
        }
        has_room
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
        Some((key.protocol, self.flows.get_mut(&key)?))
    }

    fn evict(&mut self, position: u32) {
        if let Some(entry) = self.ring_mut(position) {
            let key = entry.key;
            self.flows.remove(&key);
        }
    }

    fn put_in_ring(&mut self, position: u32, key: &FlowKey) -> bool {
        match self.ring_mut(position) {
            Some(entry) => {
                entry.key = *key;
                true
            }
            None => false,
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
