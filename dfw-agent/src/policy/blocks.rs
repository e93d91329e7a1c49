//! Prefixes as the kernel looks for them: blocks of 256 neighbours.

use std::collections::BTreeMap;

use dfw_common::{
    addr::Addr,
    key::BlockKey,
    value::{Block, List},
};
use ipnet::IpNet;

use super::prefix_table::canonical;

/// Octets that are the same in every v4-mapped address.
const V4_OCTETS: u32 = 12;

/// A list of prefixes of both families, ready for the kernel. Each prefix is in one block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    octets: u32,
    prefixes: usize,
    /// Of the list 0.
    blocks: BTreeMap<BlockKey, Block>,
}

impl Blocks {
    /// Of any nets, in any order.
    pub fn of(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let mut list = Self::default();
        for net in nets {
            list.add(canonical(net));
        }
        list
    }

    fn add(&mut self, net: IpNet) {
        let (first, family, bits) = match net {
            IpNet::V4(net) => (V4_OCTETS, 16, 96 + u32::from(net.prefix_len())),
            IpNet::V6(net) => (0, 0, u32::from(net.prefix_len())),
        };
        let octets = (bits.saturating_sub(1) / 8).max(first);
        let (key, neighbour) = BlockKey::of(0, &Addr::from(net.addr()), octets);
        self.prefixes += 1;
        self.octets |= 1 << (family + octets);
        let covered = &mut self.blocks.entry(key).or_default().covered;
        for neighbour in neighbour..neighbour + (1 << (8 * octets + 8 - bits)) {
            covered[neighbour as usize / 64] |= 1 << (neighbour % 64);
        }
    }

    /// How many nets it was made of; 0 when the kernel had it.
    pub fn prefixes(&self) -> usize {
        self.prefixes
    }

    /// What the kernel holds of a list.
    pub fn held(list: List, blocks: impl IntoIterator<Item = (BlockKey, Block)>) -> Self {
        let blocks = blocks.into_iter();
        let own = blocks.filter(|(key, _)| key.list == list.number);
        Self {
            octets: list.octets,
            prefixes: 0,
            blocks: own
                .map(|(key, block)| (BlockKey { list: 0, ..key }, block))
                .collect(),
        }
    }

    /// How many blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether no prefix is in it.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How the kernel is told of it under a number.
    pub fn list(&self, number: u32) -> List {
        List {
            number,
            octets: self.octets,
        }
    }

    /// Its blocks under a number, in order.
    pub fn numbered(&self, number: u32) -> impl Iterator<Item = (BlockKey, Block)> + '_ {
        let blocks = self.blocks.iter();
        blocks.map(move |(key, block)| {
            let key = BlockKey {
                list: number,
                ..*key
            };
            (key, *block)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dfw_common::{
        env::Env as _,
        plain::{Plain, Tables},
    };
    use proptest::prelude::*;

    use super::*;

    fn env(nets: &[IpNet]) -> (Plain, List) {
        let blocks = Blocks::of(nets.iter().copied());
        let tables = Tables {
            blocks: blocks.numbered(7).collect(),
            ..Tables::default()
        };
        (Plain::new(tables, 0), blocks.list(7))
    }

    fn net() -> impl Strategy<Value = IpNet> {
        // Few bits that differ, so that nets and addresses meet.
        let v4 = (any::<[u8; 4]>(), 1..=32_u8)
            .prop_map(|(a, bits)| IpNet::new_assert(IpAddr::from(a.map(|b| b & 0x81)), bits));
        let v6 = (any::<[u8; 16]>(), 1..=128_u8)
            .prop_map(|(a, bits)| IpNet::new_assert(IpAddr::from(a.map(|b| b & 0x81)), bits));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_kernels_search_finds_what_the_nets_cover(
            nets in prop::collection::vec(net(), 0..12),
            at in any::<prop::sample::Index>(),
            flip in 0..128_u32,
        ) {
            let (env, list) = env(&nets);
            // An address of one of the nets, or one bit beside it.
            let near = nets.get(at.index(nets.len().max(1))).map_or(IpAddr::from([1, 2, 3, 4]), IpNet::addr);
            let address = match near {
                IpAddr::V4(v4) => IpAddr::from((u32::from(v4) ^ (1 << (flip % 32))).to_be_bytes()),
                IpAddr::V6(v6) => IpAddr::from((u128::from(v6) ^ (1 << flip)).to_be_bytes()),
            };
            for address in [near, address] {
                let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
                prop_assume!(!is_mapped);
                let expected = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(env.covers(&list, &Addr::from(address)), expected, "{}", address);
            }
        }
    }

    #[test]
    fn a_list_of_all_lengths_has_a_block_for_each_octet() {
        let nets = [
            "0.0.0.0/0",
            "128.0.0.0/1",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/25",
        ];
        let nets = nets.map(|net| net.parse::<IpNet>().expect("a net"));
        let blocks = Blocks::of(nets);
        assert_eq!(blocks.list(1).octets, 0b1011 << (16 + 12));
        assert_eq!(blocks.len(), 3);
        let (env, list) = env(&nets);
        assert!(env.covers(&list, &Addr::from(IpAddr::from([9, 9, 9, 9]))));
        assert!(!env.covers(
            &list,
            &Addr::from("2001:db8::1".parse::<IpAddr>().expect("an address"))
        ));
    }
}
