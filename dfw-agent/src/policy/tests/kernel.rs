//! The look-ups that the BPF programs make, over compiled maps.

use std::net::IpAddr;

use dfw_common::{
    addr::Addr,
    key::{AddressKey, PolicyKey, PrefixKey},
    reason::Direction,
    value::{Address, IDENTITY_OTHER, PolicyEntry, kind},
};

use crate::policy::Compiled;

/// Maps as the kernel holds them.
pub(super) struct Kernel<'a>(pub(super) &'a Compiled);

/// A verdict of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) allowed: bool,
    /// [`PolicyEntry::NO_RULE`] if none decided.
    pub(super) rule: u16,
    pub(super) log: bool,
}

impl Kernel<'_> {
    /// What an address is, seen on a network.
    pub(super) fn class(&self, network: u32, address: IpAddr) -> Address {
        let addr = Addr::from(address);
        let exact = |network| self.0.addresses.get(&AddressKey { network, addr }).copied();
        let longest = |network| {
            (PrefixKey::NETWORK_BITS..=160).rev().find_map(|bits| {
                let masked = u128::from_be_bytes(addr.bytes())
                    & u128::MAX.checked_shl(160 - bits).unwrap_or(0);
                let masked = Addr::from(IpAddr::from(masked.to_be_bytes()));
                let prefix = self
                    .0
                    .prefixes
                    .get(&(bits, PrefixKey::new(network, masked)))?;
                Some(Address {
                    kind: prefix.kind,
                    identity: prefix.identity,
                    ..Address::default()
                })
            })
        };
        exact(network)
            .or_else(|| exact(0))
            .or_else(|| longest(network))
            .or_else(|| longest(0))
            .expect("the roots cover everything")
    }

    /// What a policy says of a peer.
    pub(super) fn judge(
        &self,
        policy: u32,
        direction: Direction,
        peer: Address,
        (protocol, port): (u8, u16),
    ) -> Judged {
        let denied = Judged {
            allowed: false,
            rule: PolicyEntry::NO_RULE,
            log: false,
        };
        if peer.kind == kind::UNKNOWN {
            return denied;
        }
        let get = |identity, protocol, length, port| {
            let direction = direction as u8;
            let pad = [0; 3];
            let key = PolicyKey {
                policy,
                identity,
                port,
                direction,
                protocol,
                length,
                pad,
            };
            self.0.policy.get(&key).copied()
        };
        let found = [peer.identity, IDENTITY_OTHER]
            .into_iter()
            .find_map(|identity| {
                get(identity, 0, PolicyKey::HEADER, 0).map(|header| (identity, header))
            });
        let Some((identity, header)) = found else {
            return denied;
        };
        let hits: Vec<PolicyEntry> = (0..=16u8)
            .filter(|length| header.lengths & 1 << length != 0)
            .filter_map(|length| {
                let mask = u16::MAX.checked_shl(16 - u32::from(length)).unwrap_or(0);
                get(identity, protocol, length, port & mask)
            })
            .collect();
        assert!(hits.len() <= 1, "the prefixes of a protocol are disjoint");
        let entry = hits.first().copied().unwrap_or(header);
        Judged {
            allowed: entry.verdict == PolicyEntry::ALLOW,
            rule: entry.rule,
            log: entry.flags & PolicyEntry::LOG != 0,
        }
    }

    /// Whether address resolution may pass: some port is allowed.
    pub(super) fn some_allowed(&self, policy: u32, direction: Direction, peer: Address) -> bool {
        let header = [peer.identity, IDENTITY_OTHER]
            .into_iter()
            .find_map(|identity| {
                let key = PolicyKey {
                    policy,
                    identity,
                    port: 0,
                    direction: direction as u8,
                    protocol: 0,
                    length: PolicyKey::HEADER,
                    pad: [0; 3],
                };
                self.0.policy.get(&key)
            });
        peer.kind != kind::UNKNOWN
            && header.is_some_and(|header| header.flags & PolicyEntry::SOME_ALLOWED != 0)
    }
}
