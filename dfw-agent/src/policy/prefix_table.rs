//! Values by IP net, found by what covers a net.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

/// A map from nets to values. Both families; an IPv4 net never covers an IPv6 one, nor the other way round.
#[derive(Debug)]
pub(super) struct PrefixTable<V> {
    /// Nets by family and length; a look-up tries each length that occurs.
    by_length: BTreeMap<(bool, u8), HashMap<IpNet, V>>,
}

impl<V> Default for PrefixTable<V> {
    fn default() -> Self {
        Self {
            by_length: BTreeMap::new(),
        }
    }
}

impl<V> PrefixTable<V> {
    /// The value of exactly this net, made if it is not there. Host bits do not count.
    pub(super) fn entry(&mut self, net: IpNet) -> std::collections::hash_map::Entry<'_, IpNet, V> {
        let net = canonical(net);
        let length = (net.addr().is_ipv6(), net.prefix_len());
        self.by_length.entry(length).or_default().entry(net)
    }

    /// Every net that covers `net` or is equal to it, the shortest first.
    pub(super) fn covering(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &V)> {
        let net = canonical(net);
        let v6 = net.addr().is_ipv6();
        self.by_length
            .range((v6, 0)..=(v6, net.prefix_len()))
            .filter_map(move |((_, length), nets)| {
                let key = IpNet::new_assert(net.addr(), *length).trunc();
                nets.get(&key).map(|value| (key, value))
            })
    }

    /// Every net.
    pub(super) fn nets(&self) -> impl Iterator<Item = IpNet> {
        self.by_length
            .values()
            .flat_map(|nets| nets.keys().copied())
    }
}

/// Without host bits, and a v4-mapped net as IPv4.
pub(super) fn canonical(net: IpNet) -> IpNet {
    let net = net.trunc();
    let address = net.addr().to_canonical();
    match net.prefix_len().checked_sub(96) {
        Some(length) if net.addr().is_ipv6() && address.is_ipv4() => {
            IpNet::new_assert(address, length)
        }
        _ => net,
    }
}
