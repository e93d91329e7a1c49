//! Every map, and the decision's view of them.

use core::sync::atomic::{Ordering, compiler_fence};

use crate::global;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
};
use dfw_common::{
    addr::Addr,
    check::Check,
    decide::Scratch,
    env::Env,
    key::{ANY_NETWORK, AddressKey, BlockKey, FlowKey, NetworkId, PolicyKey, PrefixKey, SeenKey},
    maps as layout,
    policy::{Question, Ruling},
    reason::Reason,
    value::{
        Address, Block, Count, Endpoint, EventBudget, Flow, List, PolicyEntry, Prefix, RingEntry,
        SeenQuota, SeenTimes, Settings, Uplink,
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
static FLOWS: HashMap<FlowKey, u32> = HashMap::with_max_entries(layout::FLOWS_MAX, 0);
#[map]
static FLOW_RING: Array<RingEntry> = Array::with_max_entries(layout::FLOWS_MAX, 0);
#[map]
static FLOW_HINTS: Array<u32> = Array::with_max_entries(layout::FLOW_HINTS_LEN, 0);
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
#[map]
static SEEN: HashMap<SeenKey, SeenTimes> =
    HashMap::with_max_entries(layout::SEEN_MAX, BPF_F_NO_PREALLOC);
#[map]
static SEEN_QUOTA: Array<SeenQuota> = Array::with_max_entries(layout::ENDPOINT_SLOTS, 0);
#[map]
static UPLINK: Array<Uplink> = Array::with_max_entries(1, 0);
#[map]
static BLOCKS: HashMap<BlockKey, Block> =
    HashMap::with_max_entries(layout::BLOCKS_MAX, BPF_F_NO_PREALLOC);
#[map]
static BLOCK_FILTER: Array<u64> = Array::with_max_entries(layout::FILTER_WORDS, 0);

/// Room for one decision: programs of one CPU do not interrupt each other.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// This CPU's room for a decision.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: this CPU's element, which lives as long as the map. TCX and XDP programs run with bottom halves disabled, so
    // none of the same CPU runs meanwhile, and each program takes it once.
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

/// The flow at a position of the ring, if it has this key.
#[inline(always)]
fn at(position: u32, key: &FlowKey) -> Option<&'static mut Flow> {
    // SAFETY: the element lives as long as the map. Other CPUs may write it too: every field is a word of its own, and a
    // lost update costs a count or a moment of `seen`, never a side that was not judged. A position that is given to
    // another flow in this very moment is one of the same owner, and what it holds was judged for that flow.
    let entry = unsafe { &mut *FLOW_RING.get_ptr_mut(position)? };
    Check::FlowHint
        .holds(entry.key.is(key))
        .then_some(&mut entry.flow)
}

/// Where in the ring the flow with this key lies by the hash; the next packet finds it by the hint.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<u32> {
    // SAFETY: a plain integer.
    let position = *unsafe { FLOWS.get(key) }?;
    hint(key, position);
    Some(position)
}

/// Notes where in the ring a flow lies.
#[inline(always)]
fn hint(key: &FlowKey, position: u32) {
    if let Some(hint) = FLOW_HINTS.get_ptr_mut(key.hint()) {
        // SAFETY: an aligned word inside a map element.
        unsafe { *hint = position };
    }
}

/// Makes an entry of the ring free or not, after whatever was written to it before.
///
/// # Safety
/// `entry` must lie inside a map element.
#[inline(always)]
unsafe fn set_network(entry: *mut RingEntry, network: NetworkId) {
    compiler_fence(Ordering::Release);
    // SAFETY: the caller's.
    unsafe { core::ptr::write_volatile(&raw mut (*entry).key.network, network) };
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

/// `include/uapi/asm-generic/errno-base.h`.
const EEXIST: i32 = 17;

/// What is seen at the expense of an endpoint. Who had its slot before has no say any more, but what it missed stays.
#[inline(always)]
fn quota_of(ifindex: u32) -> Option<*mut SeenQuota> {
    let (slot, _) = slot_of(ifindex)?;
    let quota = SEEN_QUOTA.get_ptr_mut(slot)?;
    // SAFETY: inside a map element that lives as long as the map; other CPUs write the same.
    unsafe {
        if (*quota).ifindex != ifindex {
            (*quota).ifindex = ifindex;
            (*quota).used = 0;
        }
    }
    Some(quota)
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
        let hint = FLOW_HINTS.get(key.hint()).copied();
        hint.and_then(|position| at(position, key))
            .or_else(|| at(u32::try_from(global::dfw_find(key)).ok()?, key))
    }

    #[inline(always)]
    fn insert_flow(&mut self, key: &FlowKey, flow: &Flow) -> bool {
        let Some(entry) = FLOW_RING.get_ptr_mut(flow.ring) else {
            return false;
        };
        if FLOWS.insert(key, flow.ring, 0).is_err() {
            return false;
        }
        // SAFETY: inside a map element; this position is this placement's alone (conntrack::RING_WINDOW), and free. The
        // word that says that it is not comes last, so that nobody takes what was here before for this flow.
        unsafe {
            (*entry).flow = *flow;
            // One after the other: as a whole it would take a copy on the stack. What is not named is always zero.
            (*entry).key.low = key.low;
            (*entry).key.high = key.high;
            (*entry).key.low_port = key.low_port;
            (*entry).key.high_port = key.high_port;
            (*entry).key.protocol = key.protocol;
            (*entry).key.asker = key.asker;
            set_network(entry, key.network);
        }
        hint(key, flow.ring);
        true
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
        // SAFETY: as in `at`.
        let entry = unsafe { &mut *FLOW_RING.get_ptr_mut(position)? };
        (entry.key.network != ANY_NETWORK).then_some((entry.key.protocol, &mut entry.flow))
    }

    #[inline(always)]
    fn evict(&mut self, position: u32) {
        let Some(entry) = FLOW_RING.get_ptr_mut(position) else {
            return;
        };
        // SAFETY: inside a map element. The key is read where it lies: a copy would cost stack.
        unsafe {
            let key = &(*entry).key;
            // Where the agent has swept it, the same flow may have been opened anew elsewhere.
            if FLOWS.get(key).is_some_and(|found| *found == position) {
                // Somebody else may have removed it; either way it is gone.
                let _ = FLOWS.remove(key);
            }
            set_network(entry, ANY_NETWORK);
        }
    }

    #[inline(always)]
    fn seen(&mut self, key: &SeenKey) -> Option<&mut SeenTimes> {
        // SAFETY: as in `flow`; a lost update costs a count.
        SEEN.get_ptr_mut(key).map(|seen| unsafe { &mut *seen })
    }

    #[inline(always)]
    fn seen_by(&mut self, owner: u32) -> Option<u64> {
        // SAFETY: inside a map element that lives as long as the map.
        quota_of(owner).map(|quota| unsafe { (*quota).used })
    }

    #[inline(always)]
    fn insert_seen(&mut self, owner: u32, key: &SeenKey, times: &SeenTimes) -> bool {
        match SEEN.insert(key, times, u64::from(BPF_NOEXIST)) {
            Ok(()) => {
                if let Some(quota) = quota_of(owner) {
                    // SAFETY: aligned, inside a map element that lives as long as the map.
                    unsafe { fetch_add(&raw mut (*quota).used, 1) };
                }
                true
            }
            // Another CPU was first, and has counted it.
            Err(error) => error == -EEXIST,
        }
    }

    #[inline(always)]
    fn miss(&mut self, owner: u32) {
        if let Some(quota) = quota_of(owner) {
            // SAFETY: as in `insert_seen`.
            unsafe { fetch_add(&raw mut (*quota).missing, 1) };
        }
    }

    #[inline(always)]
    fn uplink(&self) -> Uplink {
        UPLINK.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn filter(&self, word: u32) -> u64 {
        BLOCK_FILTER.get(word).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn block(&self, key: &BlockKey) -> Option<Block> {
        // SAFETY: values are plain integers; the agent writes a block once and never changes it.
        unsafe { BLOCKS.get(key) }.copied()
    }

    #[inline(always)]
    fn covers(&self, list: &List, addr: &Addr) -> bool {
        global::dfw_covers(list, addr) != 0
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
    fn learn_from(&mut self, scratch: &mut Scratch) {
        global::dfw_learn(scratch);
    }

    #[inline(always)]
    fn place(&mut self, owner: &Endpoint) -> Option<u32> {
        let position = global::dfw_place(owner.ifindex, owner.ring_base, owner.ring_mask);
        u32::try_from(position).ok()
    }
}
