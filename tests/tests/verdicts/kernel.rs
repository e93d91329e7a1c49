//! The shipped object in the kernel, run on single packets (BPF_PROG_TEST_RUN).

use std::{collections::HashMap as Entries, hash::Hash, time::Duration};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key},
    programs::{TestRun as _, TestRunOptions},
};
use dfw_agent::datapath::load::{self, Options, Pins, classifier, program};
use dfw_common::{
    addr::Addr,
    key::{AddressKey, FlowKey, PolicyKey, PrefixKey},
    maps,
    plain::Tables,
    value::{Address, Count, Endpoint, Flow, PolicyEntry, Prefix, RingEntry, Settings},
};
use dfw_tests::{Namespace, scratch::Scratch};

/// The loaded object.
pub(crate) struct Kernel {
    object: Ebpf,
    // Its pins go with it.
    _scratch: Scratch,
}

/// What a run gave.
pub(crate) struct Run {
    /// What the program returned.
    pub(crate) verdict: i32,
    /// How long one run took, on average.
    pub(crate) duration: Duration,
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
            _scratch: scratch,
        };
        test(&mut kernel)
    })
}

impl Kernel {
    /// Makes the maps that the agent writes hold this and nothing else.
    pub(crate) fn write(&mut self, tables: &Tables) {
        let mut settings: Array<_, Settings> = self.map(maps::SETTINGS);
        settings.set(0, tables.settings, 0).expect("settings");
        let mut endpoints: Array<_, Endpoint> = self.map(maps::ENDPOINTS);
        for slot in 0..maps::ENDPOINT_SLOTS {
            let wanted = tables.endpoints.get(&slot).copied().unwrap_or_default();
            if endpoints.get(&slot, 0).expect("a slot") != wanted {
                endpoints.set(slot, wanted, 0).expect("a slot");
            }
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
    }

    /// Runs a program on a frame that is seen at the interface `ifindex` and came by `ingress`, `repeat` times over.
    pub(crate) fn run(
        &mut self,
        program: &'static str,
        ifindex: u32,
        ingress: u32,
        frame: &[u8],
        repeat: u32,
    ) -> Run {
        let context = context(ifindex, ingress);
        let program = classifier(&mut self.object, program).expect("the program is there");
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        });
        let result = result.unwrap_or_else(|error| panic!("{} bytes: {error:?}", frame.len()));
        Run {
            verdict: result.return_value as i32,
            duration: result.duration,
        }
    }

    /// Now, in jiffies, truncated.
    pub(crate) fn now(&mut self) -> u32 {
        self.run(program::EMPTY, 1, 0, &[0; 64], 1).verdict as u32
    }

    /// The flow table.
    pub(crate) fn flows(&mut self) -> HashMap<&mut MapData, FlowKey, Flow> {
        self.map(maps::FLOWS)
    }

    /// Forgets every flow, as if none had ever been.
    pub(crate) fn forget(&mut self, tables: &Tables) {
        replace(&mut self.flows(), &Entries::new());
        let mut ring: Array<_, RingEntry> = self.map(maps::FLOW_RING);
        for endpoint in tables.endpoints.values() {
            ring.set(endpoint.ring_base, FREE, 0).expect("a position");
        }
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

    fn map<'a, M: TryFrom<&'a mut Map, Error = MapError>>(&'a mut self, name: &'static str) -> M {
        let map = self.object.map_mut(name).expect("the map is there");
        M::try_from(map).unwrap_or_else(|error| panic!("{name}: {error}"))
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

/// `struct __sk_buff` (uapi/linux/bpf.h) with the two interfaces; the kernel wants everything else to be zero.
fn context(ifindex: u32, ingress: u32) -> [u8; 192] {
    const INGRESS: usize = 36;
    const IFINDEX: usize = 40;
    let mut bytes = [0; 192];
    bytes[INGRESS..IFINDEX].copy_from_slice(&ingress.to_ne_bytes());
    bytes[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    bytes
}

fn replace<K: Pod + Eq + Hash, V: Pod + PartialEq>(
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
