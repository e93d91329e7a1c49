//! What packets leave in the kernel's maps.

use std::collections::{BTreeMap, HashMap as Entries};

use aya::maps::{Array, HashMap, PerCpuArray};
use dfw_agent::datapath::load::program;
use dfw_common::{
    key::{FlowKey, SeenKey},
    maps,
    plain::{Plain, Tables},
    value::{Count, Flow, RingEntry, SeenQuota, SeenTimes},
};

use crate::kernel::{Kernel, replace};

impl Kernel {
    /// Now, in jiffies, truncated.
    pub(crate) fn now(&mut self) -> u32 {
        self.run(program::EMPTY, 1, 0, &[0; 64], 1).0 as u32
    }

    /// The flow table.
    pub(crate) fn flows(&mut self) -> Vec<(FlowKey, Flow)> {
        let mut flows = Vec::new();
        self.change_flows(|key, entry| {
            assert!(entry.key.is(key), "a position is of the flow that has it");
            flows.push((*key, entry.flow));
        });
        flows
    }

    /// Changes every position of the ring that a flow has.
    pub(crate) fn change_flows(&mut self, mut change: impl FnMut(&FlowKey, &mut RingEntry)) {
        let positions: HashMap<_, FlowKey, u32> = self.map(maps::FLOWS);
        let positions: Vec<_> = positions.iter().collect::<Result<_, _>>().expect("a flow");
        let mut ring: Array<_, RingEntry> = self.map(maps::FLOW_RING);
        for (key, position) in positions {
            let mut entry = ring.get(&position, 0).expect("a position");
            change(&key, &mut entry);
            ring.set(position, entry, 0).expect("a position");
        }
    }

    /// Forgets every flow, as if none had ever been, and what was seen.
    pub(crate) fn forget(&mut self, tables: &Tables) {
        self.change_flows(|_, entry| *entry = RingEntry::FREE);
        let mut positions: HashMap<_, FlowKey, u32> = self.map(maps::FLOWS);
        replace(&mut positions, &Entries::new());
        let mut seen: HashMap<_, SeenKey, SeenTimes> = self.map(maps::SEEN);
        replace(&mut seen, &Entries::new());
        let mut quotas: Array<_, SeenQuota> = self.map(maps::SEEN_QUOTA);
        for ifindex in tables.endpoints.keys() {
            let slot = maps::endpoint_slot(*ifindex, 0);
            quotas.set(slot, SeenQuota::default(), 0).expect("a slot");
        }
        let mut ring: Array<_, RingEntry> = self.map(maps::FLOW_RING);
        for endpoint in tables.endpoints.values() {
            ring.set(endpoint.ring_base, RingEntry::FREE, 0)
                .expect("a position");
        }
    }

    /// What was seen, and what is at whose expense.
    pub(crate) fn learned(&mut self, tables: &Tables) -> Learned {
        let seen: HashMap<_, SeenKey, SeenTimes> = self.map(maps::SEEN);
        let seen: BTreeMap<_, _> = seen.iter().collect::<Result<_, _>>().expect("a sighting");
        let quotas: Array<_, SeenQuota> = self.map(maps::SEEN_QUOTA);
        let slots = tables.endpoints.keys().map(|ifindex| {
            let slot = maps::endpoint_slot(*ifindex, 0);
            quotas.get(&slot, 0).expect("a slot")
        });
        Learned::of(seen, slots)
    }

    /// Packets by direction, verdict and reason.
    pub(crate) fn counters(&mut self) -> Vec<u64> {
        let counters: PerCpuArray<_, Count> = self.map(maps::COUNTERS);
        let counters = counters.iter().map(|counts| {
            let counts = counts.expect("a counter");
            counts.iter().map(|count| count.packets).sum()
        });
        counters.collect()
    }

    /// Packets of one endpoint by direction and verdict.
    pub(crate) fn endpoint_counter(&mut self, index: u32) -> u64 {
        let counters: PerCpuArray<_, u64> = self.map(maps::ENDPOINT_COUNTERS);
        let counts = counters.get(&index, 0).expect("a counter");
        counts.iter().sum()
    }
}

/// What was seen in audit, without times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learned {
    /// Flows.
    pub(crate) flows: BTreeMap<SeenKey, u64>,
    /// By ifindex: entries that were made, and what was missed.
    pub(crate) quotas: BTreeMap<u32, (u64, u64)>,
}

impl Learned {
    fn of(
        seen: impl IntoIterator<Item = (SeenKey, SeenTimes)>,
        quotas: impl IntoIterator<Item = SeenQuota>,
    ) -> Self {
        let quotas = quotas
            .into_iter()
            .filter(|quota| quota.used + quota.missing > 0);
        Self {
            flows: seen
                .into_iter()
                .map(|(key, times)| (key, times.flows))
                .collect(),
            quotas: quotas
                .map(|quota| (quota.ifindex, (quota.used, quota.missing)))
                .collect(),
        }
    }

    /// What plain maps hold.
    pub(crate) fn on_plain_maps(plain: &Plain) -> Self {
        let seen = plain.seen.iter().map(|(key, times)| (*key, *times));
        Self::of(seen, plain.quotas.values().copied())
    }
}

/// Whether the kernel takes a frame for a test run: a whole Ethernet header, and a whole IP header where it is one.
pub(crate) fn takes(frame: &[u8]) -> bool {
    let needs = match frame.get(12..14) {
        Some([0x08, 0x00]) => 34,
        Some([0x86, 0xdd]) => 54,
        _ => 15,
    };
    frame.len() >= needs
}
