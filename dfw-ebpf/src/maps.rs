//! Every map, and the decision's view of them.

use crate::global;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
};
use dfw_common::{
    addr::Addr,
    decide::Scratch,
    env::Env,
    key::{AddressKey, FlowKey, NetworkId, PolicyKey, PrefixKey},
    maps as layout,
    policy::{Question, Ruling},
    reason::Reason,
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

/// Room for one decision: programs of one CPU do not interrupt each other.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's room for a decision.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element, which lives as long as the map. TCX programs run with bottom halves disabled, so none
    // of the same CPU runs meanwhile, and the endpoint program takes it once.
    SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// Now, in jiffies, truncated.
#[inline(always)]
pub(crate) fn jiffies() -> u32 {
    // SAFETY: takes nothing; the verifier inlines it as a load of the kernel's counter.
    (unsafe { bpf_jiffies64() }) as u32
}

/// Where in the port table an endpoint lies.
#[inline(always)]
pub(crate) fn slot_of(ifindex: u32) -> Option<(u32, &'static Endpoint)> {
    if ifindex == 0 {
        return None;
    }
    for probe in 0..layout::ENDPOINT_PROBES {
        let slot = layout::endpoint_slot(ifindex, probe);
        if let Some(found) = ENDPOINTS.get(slot)
            && found.ifindex == ifindex
        {
            return Some((slot, found));
        }
    }
    None
}

/// Adds atomically and gives the old value. The target is said to have no compare-and-swap, hence `core` has no
/// read-modify-write for it; the instruction is there since Linux 5.12 (`BPF_ATOMIC`, cpu v3).
///
/// # Safety
/// `word` must be valid and aligned.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, value: u64) -> u64 {
    let mut old = value;
    // SAFETY: the caller's word; the instruction touches nothing else.
    unsafe {
        core::arch::asm!(
            "{old} = atomic_fetch_add((u64 *)({word} + 0), {old})",
            word = in(reg) word,
            old = inout(reg) old,
        );
    }
    old
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
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
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
    fn next_in_ring(&mut self, base: u32) -> u32 {
        match FLOW_RING.get_ptr_mut(base) {
            // SAFETY: aligned, inside a map element that lives as long as the map.
            Some(entry) => (unsafe { fetch_add(&raw mut (*entry).cursor, 1) }) as u32,
            None => 0,
        }
    }

    #[inline(always)]
    fn held(&mut self, position: u32) -> Option<(u8, &mut Flow)> {
        // The key is read where it lies: a copy would cost stack. Another CPU may write it meanwhile; what is found then
        // is a flow of the same owner, or nothing.
        let entry = FLOW_RING.get(position)?;
        let key: &FlowKey = &entry.key;
        let flow = FLOWS.get_ptr_mut(key)?;
        // SAFETY: as in `flow`.
        Some((entry.key.protocol, unsafe { &mut *flow }))
    }

    #[inline(always)]
    fn evict(&mut self, position: u32) {
        if let Some(entry) = FLOW_RING.get(position) {
            // Somebody else may have removed it; either way it is gone.
            let key: &FlowKey = &entry.key;
            let _ = FLOWS.remove(key);
        }
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

    #[inline(always)]
    fn ask(&self, question: &Question) -> Ruling {
        let answer = global::dfw_ask(question);
        Ruling {
            reason: Reason::from_u8(answer as u8).unwrap_or(Reason::Internal),
            rule: (answer >> 16) as u16,
        }
    }

    #[inline(always)]
    fn classify(&self, network: NetworkId, addr: &Addr) -> Address {
        let mut class = Address::default();
        global::dfw_classify(
            &mut AddressKey {
                network,
                addr: *addr,
            },
            &mut class,
        );
        class
    }

    #[inline(always)]
    fn flow_of(&mut self, scratch: &mut Scratch) {
        global::dfw_flow(scratch);
    }

    #[inline(always)]
    fn place(&mut self, owner: &Endpoint, key: &FlowKey) -> Option<u32> {
        let position = global::dfw_place(owner.ifindex, owner.ring_base, owner.ring_mask, key);
        u32::try_from(position).ok()
    }
}
