//! Every map, and the decision's view of them.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
};
use dfw_common::{
    env::Env,
    key::{AddressKey, FlowKey, PolicyKey, PrefixKey},
    maps as layout,
    value::{
        Address, Count, Endpoint, EventBudget, Flow, PolicyEntry, Prefix, RingEntry, Settings,
    },
};

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(layout::ENDPOINT_SLOTS, 0);
#[map]
static ADDRESSES: HashMap<AddressKey, Address> =
    HashMap::with_max_entries(layout::ADDRESSES_MAX, BPF_F_NO_PREALLOC);
#[map]
static PREFIXES: LpmTrie<PrefixKey, Prefix> =
    LpmTrie::with_max_entries(layout::PREFIXES_MAX, BPF_F_NO_PREALLOC);
#[map]
static POLICY: HashMap<PolicyKey, PolicyEntry> =
    HashMap::with_max_entries(layout::POLICY_MAX, BPF_F_NO_PREALLOC);
#[map]
static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(layout::FLOWS_MAX, 0);
#[map]
static FLOW_RING: Array<RingEntry> = Array::with_max_entries(layout::FLOWS_MAX, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<Count> =
    PerCpuArray::with_max_entries(layout::COUNTERS_LEN, 0);
#[map]
pub(crate) static ENDPOINT_COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(layout::ENDPOINT_COUNTERS_LEN, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(layout::EVENTS_BYTES, 0);
#[map]
pub(crate) static EVENT_BUDGET: PerCpuArray<EventBudget> = PerCpuArray::with_max_entries(1, 0);

/// Now, in jiffies, truncated.
#[inline(always)]
pub(crate) fn jiffies() -> u32 {
    // SAFETY: takes nothing; the verifier inlines it as a load of the kernel's counter.
    (unsafe { bpf_jiffies64() }) as u32
}

/// Where in the port table an endpoint lies.
#[inline(always)]
pub(crate) fn slot_of(ifindex: u32) -> Option<(u32, Endpoint)> {
    if ifindex == 0 {
        return None;
    }
    for probe in 0..layout::ENDPOINT_PROBES {
        let slot = layout::endpoint_slot(ifindex, probe);
        if let Some(found) = ENDPOINTS.get(slot)
            && found.ifindex == ifindex
        {
            return Some((slot, *found));
        }
    }
    None
}

/// The kernel's maps and clock.
pub(crate) struct Kernel;

impl Env for Kernel {
    #[inline(always)]
    fn settings(&self) -> Settings {
        SETTINGS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        jiffies()
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: u32) -> Option<Endpoint> {
        slot_of(ifindex).map(|(_, endpoint)| endpoint)
    }

    #[inline(always)]
    fn address(&self, key: &AddressKey) -> Option<Address> {
        // SAFETY: values are plain integers; the agent replaces whole elements.
        unsafe { ADDRESSES.get(key) }.copied()
    }

    #[inline(always)]
    fn prefix(&self, key: PrefixKey) -> Option<Prefix> {
        PREFIXES.get(Key::new(u32::BITS * 5, key)).copied()
    }

    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<PolicyEntry> {
        // SAFETY: values are plain integers; the agent writes an entry once and never changes it.
        unsafe { POLICY.get(key) }.copied()
    }

    #[inline(always)]
    fn flow(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        // SAFETY: the element stays mapped for the program's run. Other CPUs may write it too: every field is a word
        // of its own, and a lost update costs a count or a moment of `seen`, never a side that was not judged.
        FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
    }

    #[inline(always)]
    fn insert_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, 0).is_ok()
    }

    #[inline(always)]
    fn remove_flow(&mut self, key: &FlowKey) {
        // Somebody else may have removed it; either way it is gone.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn next_in_ring(&mut self, base: u32) -> u32 {
        use core::sync::atomic::{AtomicU32, Ordering};
        match FLOW_RING.get_ptr_mut(base) {
            // SAFETY: aligned, inside a map element that lives as long as the map; all access to it is atomic.
            Some(entry) => unsafe { AtomicU32::from_ptr(&raw mut (*entry).cursor) }
                .fetch_add(1, Ordering::Relaxed),
            None => 0,
        }
    }

    #[inline(always)]
    fn in_ring(&self, position: u32) -> Option<FlowKey> {
        let entry = FLOW_RING.get(position)?;
        if entry.key.network == 0 { None } else { Some(entry.key) }
    }

    #[inline(always)]
    fn put_in_ring(&mut self, position: u32, key: &FlowKey) -> bool {
        match FLOW_RING.get_ptr_mut(position) {
            Some(entry) => {
                // SAFETY: inside a map element; this position is this placement's alone (conntrack::RING_WINDOW).
                unsafe { (*entry).key = *key };
                true
            }
            None => false,
        }
    }
}
