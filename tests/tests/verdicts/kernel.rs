//! The shipped object in the kernel, run on single packets (BPF_PROG_TEST_RUN). The benchmarks use this file too.

use std::{
    collections::{BTreeMap, HashMap as Entries},
    hash::Hash,
    mem,
    time::Duration,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions},
};
use dfw_agent::datapath::load::{self, Options, Pins, classifier};
use dfw_common::{
    key::{AddressKey, BlockKey, PolicyKey, PrefixKey},
    maps,
    plain::Tables,
    value::{Address, Block, Endpoint, PolicyEntry, Prefix, Settings, Uplink},
};
use dfw_tests::{Namespace, scratch::Scratch};

/// What an XDP program returns (uapi/linux/bpf.h).
pub(crate) mod xdp_action {
    pub(crate) const XDP_DROP: u32 = 1;
    pub(crate) const XDP_PASS: u32 = 2;
}

/// The loaded object.
pub(crate) struct Kernel {
    object: Ebpf,
    /// What was last written to the port table.
    endpoints: BTreeMap<u32, Endpoint>,
    // Its pins go with it.
    _scratch: Scratch,
}

/// Loads the object and runs a test in a network namespace that has the interfaces with these numbers: the kernel knows a
/// packet's interface only there.
pub(crate) fn inside<T: Send>(
    interfaces: &[u32],
    options: Options,
    test: impl FnOnce(&mut Kernel) -> T + Send,
) -> T {
    let host = Namespace::new();
    for index in interfaces {
        host.run(&format!(
            "ip link add name i{index} index {index} type bridge"
        ));
    }
    host.enter(|| {
        let scratch = Scratch::new();
        let pins = Pins::new(&scratch.bpffs());
        let object = load::load(&pins, options).expect("the object loads");
        let mut kernel = Kernel {
            object,
            endpoints: BTreeMap::new(),
            _scratch: scratch,
        };
        test(&mut kernel)
    })
}

impl Kernel {
    /// Makes the maps that the agent writes hold this; prefixes that are there stay.
    pub(crate) fn write(&mut self, tables: &Tables) {
        let mut settings: Array<_, Settings> = self.map(maps::SETTINGS);
        settings.set(0, tables.settings, 0).expect("settings");
        let held = mem::replace(&mut self.endpoints, tables.endpoints.clone());
        let mut endpoints: Array<_, Endpoint> = self.map(maps::ENDPOINTS);
        for slot in held.keys().chain(tables.endpoints.keys()) {
            let wanted = tables.endpoints.get(slot).copied().unwrap_or_default();
            endpoints.set(*slot, wanted, 0).expect("a slot");
        }
        let mut addresses: HashMap<_, AddressKey, Address> = self.map(maps::ADDRESSES);
        replace(&mut addresses, &tables.addresses);
        let mut policy: HashMap<_, PolicyKey, PolicyEntry> = self.map(maps::POLICY);
        replace(&mut policy, &tables.policy);
        let mut prefixes: LpmTrie<_, PrefixKey, Prefix> = self.map(maps::PREFIXES);
        for ((bits, data), prefix) in &tables.prefixes {
            let key = Key::new(*bits, *data);
            prefixes.insert(&key, prefix, 0).expect("a prefix");
        }
        let mut uplink: Array<_, Uplink> = self.map(maps::UPLINK);
        uplink.set(0, tables.uplink, 0).expect("the uplink");
        let mut blocks: HashMap<_, BlockKey, Block> = self.map(maps::BLOCKS);
        let wanted = tables.blocks.iter().map(|(key, block)| (*key, *block));
        replace(&mut blocks, &wanted.collect());
        let mut words: BTreeMap<u32, u64> = BTreeMap::new();
        for (key, block) in &tables.blocks {
            for (word, bit) in block.eights().map(|eight| key.filter(eight)) {
                *words.entry(word).or_default() |= 1 << bit;
            }
        }
        let mut filter: Array<_, u64> = self.map(maps::BLOCK_FILTER);
        // Bits of what was there before do no harm.
        for (word, bits) in words {
            filter.set(word, bits, 0).expect("a word");
        }
    }

    /// Runs a program on a frame that is seen at the interface `ifindex` and came by `ingress`, `repeat` times over.
    /// Returns what it returned, and how long one run took on average.
    pub(crate) fn run(
        &mut self,
        program: &'static str,
        ifindex: u32,
        ingress: u32,
        frame: &[u8],
        repeat: u32,
    ) -> (i32, Duration) {
        let context = context(ifindex, ingress);
        let program = classifier(&mut self.object, program).expect("the program is there");
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        });
        let result = result.unwrap_or_else(|error| panic!("{} bytes: {error:?}", frame.len()));
        (result.return_value as i32, result.duration)
    }

    /// Runs the uplink's program on a frame, `repeat` times over.
    pub(crate) fn run_uplink(&mut self, frame: &[u8], repeat: u32) -> (u32, Duration) {
        let program = load::xdp(&mut self.object).expect("the program is there");
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::new()
        });
        let result = result.unwrap_or_else(|error| panic!("{} bytes: {error:?}", frame.len()));
        (result.return_value, result.duration)
    }

    pub(crate) fn map<'a, M: TryFrom<&'a mut Map, Error = MapError>>(
        &'a mut self,
        name: &'static str,
    ) -> M {
        let map = self.object.map_mut(name).expect("the map is there");
        M::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// `struct __sk_buff` (uapi/linux/bpf.h) with the two interfaces; the kernel wants everything else to be zero.
fn context(ifindex: u32, ingress: u32) -> [u8; 192] {
    const INGRESS: usize = 36;
    const IFINDEX: usize = 40;
    let mut bytes = [0; 192];
    bytes[INGRESS..IFINDEX].copy_from_slice(&ingress.to_ne_bytes());
    bytes[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    bytes
}

pub(crate) fn replace<K: Pod + Eq + Hash, V: Pod + PartialEq>(
    map: &mut HashMap<&mut MapData, K, V>,
    wanted: &Entries<K, V>,
) {
    let held: Entries<K, V> = map
        .iter()
        .collect::<Result<_, _>>()
        .expect("the map is read");
    for key in held.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key).expect("the entry is there");
    }
    for (key, value) in wanted
        .iter()
        .filter(|(key, value)| held.get(key) != Some(value))
    {
        map.insert(key, value, 0).expect("the map has room");
    }
}
