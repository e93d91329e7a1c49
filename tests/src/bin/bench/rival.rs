//! A Cilium-like datapath on both veths of a stage: dfw-ebpf/src/rival.rs.

use std::net::IpAddr;

use aya::{
    Ebpf, EbpfLoader,
    maps::{LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};

use crate::{contenders::Ends, stage::PORT};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("DFW_RIVAL"));

/// Identities of others, and rules for them.
const OTHERS: u32 = 1_000;
const IDENTITY: u32 = 100;
/// Egress and ingress.
const HOOKS: [u8; 2] = [0, 1];
/// TCP and UDP.
const PROTOCOLS: [u8; 2] = [6, 17];

/// The loaded programs; their links go with them.
pub(crate) struct Rival(Ebpf);

impl Rival {
    /// Attaches them to both veths, in the network namespace of the calling thread.
    pub(crate) fn attach(ends: &Ends<'_>) -> Self {
        let mut object = EbpfLoader::new().load(OBJECT).expect("the object loads");
        let map = object.map_mut("IDENTITIES").expect("it is there");
        let mut identities = LpmTrie::<_, [u8; 4], u32>::try_from(map).expect("its type");
        let mut identify = |address: [u8; 4], identity: u32| {
            let key = Key::new(32, address);
            identities.insert(&key, identity, 0).expect("there is room");
        };
        for number in 0..OTHERS {
            let [.., high, low] = number.to_be_bytes();
            identify([10, 98, high, low], IDENTITY + number);
        }
        for end in [ends.client, ends.server] {
            let IpAddr::V4(address) = end.v4 else {
                unreachable!("its IPv4 address")
            };
            identify(address.octets(), IDENTITY + OTHERS);
        }
        let map = object.map_mut("RIVAL_POLICY").expect("it is there");
        let mut policy = LpmTrie::<_, [u8; 8], u32>::try_from(map).expect("its type");
        let mut allow = |identity: u32, hook: u8, protocol: u8| {
            let [a, b, c, d] = identity.to_be_bytes();
            let [high, low] = PORT.to_be_bytes();
            let key = Key::new(64, [a, b, c, d, hook, protocol, high, low]);
            policy.insert(&key, 1, 0).expect("there is room");
        };
        for number in 0..OTHERS {
            allow(IDENTITY + number, HOOKS[1], PROTOCOLS[0]);
        }
        for hook in HOOKS {
            for protocol in PROTOCOLS {
                allow(IDENTITY + OTHERS, hook, protocol);
            }
        }
        for (name, hook) in [
            ("rival_from_ep", TcAttachType::Ingress),
            ("rival_to_ep", TcAttachType::Egress),
        ] {
            let program = object.program_mut(name).expect("it is there");
            let program: &mut SchedClassifier = program.try_into().expect("its type");
            program.load().expect("the verifier takes it");
            for veth in ["veth-client", "veth-server"] {
                let options = TcAttachOptions::TcxOrder(LinkOrder::first());
                let attached = program.attach_with_options(veth, hook, options);
                attached.expect("a kernel with TCX");
            }
        }
        Self(object)
    }

    /// Packets that passed at either hook.
    pub(crate) fn counted(&self) -> u64 {
        let map = self.0.map("PASSED").expect("it is there");
        let passed = PerCpuArray::<_, u64>::try_from(map).expect("its type");
        passed.get(&0, 0).expect("it has one element").iter().sum()
    }
}
