//! Who has which address, as seen on each network: docs/semantics.md section 2 laid out for four look-ups.
//!
//! The kernel looks for the exact address on the network, the exact address anywhere, the longest prefix on the network,
//! the longest prefix anywhere; the first hit is the answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use dfw_common::{
    addr::Addr,
    key::{ANY_NETWORK, AddressKey, NetworkId, PrefixKey},
    value::kind,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    index::{Index, Set},
    prefix_table::{PrefixTable, canonical},
    problem::shown,
    standing::Standing,
};
use crate::model::{BoundNetwork, Endpoint, Finding, Inventory, Level};

/// A class, and the selectors that the address satisfies.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    pub(super) kind: u32,
    pub(super) set: Set,
    /// Endpoints only.
    pub(super) ifindex: u32,
    /// Endpoints only.
    pub(super) network: NetworkId,
}

/// Everything that the address maps hold.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) addresses: BTreeMap<AddressKey, Class>,
    pub(super) prefixes: BTreeMap<(u32, PrefixKey), Class>,
    pub(super) findings: Vec<Finding>,
}

/// Classifies every address.
pub(super) fn classify(
    inventory: &Inventory,
    standings: &BTreeMap<&str, Standing>,
    index: &Index,
) -> Classes {
    let mut plan = Plan::new(inventory, index);
    plan.host();
    plan.broadcasts();
    let claims = plan.endpoints(standings);
    plan.seen_from_elsewhere(claims);
    plan.prefixes_everywhere();
    plan.prefixes_of_networks();
    plan.classes
}

const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    10,
));
const LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));
const ROOTS: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
const GROUPS: [IpNet; 3] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

/// Why an endpoint is not given an address.
enum Refusal {
    /// It lists it twice.
    Repeated,
    /// No single endpoint can have it.
    Impossible,
    /// The host has it.
    Host,
    /// The endpoint with this ifindex has it on the same network.
    Taken(u32),
}

struct Plan<'a> {
    inventory: &'a Inventory,
    index: &'a Index,
    networks: HashMap<NetworkId, &'a BoundNetwork>,
    /// Networks by subnet.
    subnets: PrefixTable<BTreeSet<NetworkId>>,
    /// Addresses of the host that are the same on every network.
    host: BTreeSet<IpAddr>,
    classes: Classes,
}

/// Endpoints that have an address, one on each network at most.
type Claims<'a> = BTreeMap<IpAddr, Vec<(&'a Endpoint, Class)>>;

impl<'a> Plan<'a> {
    fn new(inventory: &'a Inventory, index: &'a Index) -> Self {
        let mut subnets: PrefixTable<BTreeSet<NetworkId>> = PrefixTable::default();
        for network in &inventory.networks {
            for subnet in &network.network.subnets {
                subnets.entry(*subnet).or_default().insert(network.ifindex);
            }
        }
        Self {
            inventory,
            index,
            networks: inventory.networks.iter().map(|n| (n.ifindex, n)).collect(),
            subnets,
            host: BTreeSet::from([IpAddr::V6(Ipv6Addr::LOCALHOST)]),
            classes: Classes::default(),
        }
    }

    fn insert(&mut self, network: NetworkId, address: IpAddr, class: Class) {
        let key = AddressKey {
            network,
            addr: Addr::from(address),
        };
        self.classes.addresses.insert(key, class);
    }

    fn get(&self, network: NetworkId, address: IpAddr) -> Option<&Class> {
        self.classes.addresses.get(&AddressKey {
            network,
            addr: Addr::from(address),
        })
    }

    /// The class of a net, or of an address, that is no endpoint's.
    fn class(&self, net: IpNet, kind: u32) -> Class {
        let set = self.index.of_net(net, kind, &Set::new());
        Class {
            kind,
            set,
            ..Class::default()
        }
    }

    fn host(&mut self) {
        for host in &self.inventory.host_addresses {
            let address = host.net.addr().to_canonical();
            if !is_link_local(address) {
                self.host.insert(address);
            } else if self.networks.contains_key(&host.ifindex) {
                self.insert(
                    host.ifindex,
                    address,
                    self.class(address.into(), kind::HOST),
                );
            }
        }
        for address in self.host.clone() {
            self.insert(ANY_NETWORK, address, self.class(address.into(), kind::HOST));
        }
    }

    fn broadcasts(&mut self) {
        let networks = &self.inventory.networks;
        for (network, subnet) in networks
            .iter()
            .flat_map(|n| n.network.subnets.iter().map(|subnet| (n.ifindex, subnet)))
        {
            // RFC 3021: a net of 31 bits has no broadcast address.
            if let IpNet::V4(subnet) = subnet
                && subnet.prefix_len() < 31
            {
                let address = IpAddr::V4(subnet.broadcast());
                self.insert(network, address, self.class(address.into(), kind::GROUP));
            }
        }
    }

    fn endpoints(&mut self, standings: &BTreeMap<&str, Standing>) -> Claims<'a> {
        let mut claims = Claims::new();
        let mut endpoints: Vec<&Endpoint> = self.inventory.endpoints.iter().collect();
        // The older link keeps a disputed address.
        endpoints.sort_by_key(|endpoint| endpoint.ifindex);
        for endpoint in endpoints {
            let standing = standings.get(endpoint.container.id.as_str());
            let groups = standing
                .map(|standing| standing.groups.as_slice())
                .unwrap_or_default();
            let network = self
                .networks
                .get(&endpoint.network)
                .map(|bound| &bound.network);
            let own = self.index.of_endpoint(&endpoint.container, groups, network);
            for address in &endpoint.addresses {
                let address = address.to_canonical();
                if let Err(refusal) = self.check(endpoint, address) {
                    let finding = self.finding(endpoint, address, refusal);
                    self.classes.findings.extend(finding);
                    continue;
                }
                let class = Class {
                    kind: kind::ENDPOINT,
                    set: self.index.of_net(address.into(), kind::ENDPOINT, &own),
                    ifindex: endpoint.ifindex,
                    network: endpoint.network,
                };
                self.insert(endpoint.network, address, class.clone());
                if !is_link_local(address) {
                    claims.entry(address).or_default().push((endpoint, class));
                }
            }
        }
        claims
    }

    /// Whether an endpoint may have an address.
    fn check(&self, endpoint: &Endpoint, address: IpAddr) -> Result<(), Refusal> {
        let holder = self.get(endpoint.network, address);
        let group = holder.is_some_and(|holder| holder.kind == kind::GROUP);
        let single = !address.is_unspecified() && !address.is_loopback();
        if !single || group || Addr::from(address).is_group() {
            return Err(Refusal::Impossible);
        }
        if self.host.contains(&address) || holder.is_some_and(|h| h.kind == kind::HOST) {
            return Err(Refusal::Host);
        }
        match holder {
            None => Ok(()),
            Some(holder) if holder.ifindex == endpoint.ifindex => Err(Refusal::Repeated),
            Some(holder) => Err(Refusal::Taken(holder.ifindex)),
        }
    }

    fn finding(&self, endpoint: &Endpoint, address: IpAddr, refusal: Refusal) -> Option<Finding> {
        let network = self.networks.get(&endpoint.network);
        let on = shown(network.map_or("its network", |bound| &bound.network.name));
        let (code, message) = match refusal {
            Refusal::Repeated => return None,
            Refusal::Impossible => (
                "bad-endpoint-address",
                format!("{address} on {on} is not an address for a container: give it another"),
            ),
            Refusal::Host => (
                "duplicate-address",
                format!(
                    "{address} on {on} is the host's own, and the container is not given it: change one of the two"
                ),
            ),
            Refusal::Taken(holder) => {
                let mut endpoints = self.inventory.endpoints.iter();
                let holder = endpoints.find(|endpoint| endpoint.ifindex == holder);
                let holder = shown(holder.map_or("another", |endpoint| &endpoint.container.name));
                let message = format!(
                    "{address} on {on} belongs to {holder} already, and this container is not given it: change one of the two"
                );
                ("duplicate-address", message)
            }
        };
        Some(Finding {
            level: Level::Error,
            code: code.to_owned(),
            subject: endpoint.container.name.clone(),
            label: String::new(),
            message,
            text: String::new(),
            span: None,
        })
    }

    fn seen_from_elsewhere(&mut self, claims: Claims<'a>) {
        for (address, mut claimants) in claims {
            let covering: Vec<(NetworkId, bool)> = self
                .subnets
                .covering(address.into())
                .map(|(_, networks)| (networks, networks.len() == 1))
                .flat_map(|(networks, alone)| networks.iter().map(move |n| (*n, alone)))
                .collect();
            // The host routes by the longest subnet: to another network, or to two of equal length, is not to this one.
            let is_routed = |endpoint: &Endpoint| {
                covering
                    .last()
                    .is_none_or(|(network, alone)| *alone && *network == endpoint.network)
            };
            let class = match claimants.pop() {
                Some((endpoint, class)) if claimants.is_empty() && is_routed(endpoint) => class,
                _ => self.class(address.into(), kind::UNKNOWN),
            };
            self.insert(ANY_NETWORK, address, class);
            // The exact entry above would hide that on its own network nobody, or the world, has the address.
            for (network, _) in covering {
                if self.get(network, address).is_none() {
                    let class = self.class(address.into(), self.region(network));
                    self.insert(network, address, class);
                }
            }
        }
    }

    /// What an address of a network is that nobody has.
    fn region(&self, network: NetworkId) -> u32 {
        match self.networks.get(&network) {
            Some(bound) if !bound.foreign_ports.is_empty() => kind::WORLD,
            _ => kind::UNKNOWN,
        }
    }

    fn prefixes_everywhere(&mut self) {
        let mut structure: PrefixTable<u32> = PrefixTable::default();
        for (nets, kind) in [
            (ROOTS.to_vec(), kind::WORLD),
            (self.subnets.nets().collect(), kind::UNKNOWN),
            (vec![LOOPBACK], kind::HOST),
            (GROUPS.to_vec(), kind::GROUP),
        ] {
            for net in nets {
                structure.entry(net).insert_entry(kind);
            }
        }
        let kind_of = |net| {
            let kinds: Vec<u32> = structure.covering(net).map(|(_, kind)| *kind).collect();
            let first = [kind::GROUP, kind::HOST]
                .into_iter()
                .find(|kind| kinds.contains(kind));
            first.or(kinds.last().copied()).unwrap_or(kind::UNKNOWN)
        };
        for net in structure.nets().chain(self.index.cidrs()) {
            let class = self.class(net, kind_of(net));
            self.classes
                .prefixes
                .insert(prefix(ANY_NETWORK, net), class);
        }
    }

    fn prefixes_of_networks(&mut self) {
        for bound in &self.inventory.networks {
            let region = self.region(bound.ifindex);
            for net in bound.network.subnets.iter().copied().chain([LINK_LOCAL]) {
                let mut nets = vec![net];
                // Nothing matches what is unknown, so that there the CIDRs need no entries.
                if region == kind::WORLD {
                    nets.extend(self.index.cidrs().filter(|cidr| net.contains(cidr)));
                }
                for net in nets {
                    let class = self.class(net, region);
                    self.classes
                        .prefixes
                        .insert(prefix(bound.ifindex, net), class);
                }
            }
        }
    }
}

/// Whether an address shows that IPv6 is in use: beyond link-local.
pub(super) fn is_global_v6(address: &IpAddr) -> bool {
    address.is_ipv6() && !is_link_local(*address)
}

fn is_link_local(address: IpAddr) -> bool {
    Addr::from(address).is_link_local_v6()
}

/// Length and key of a net on a network.
fn prefix(network: NetworkId, net: IpNet) -> (u32, PrefixKey) {
    let net = canonical(net);
    let before = if net.addr().is_ipv4() { 96 } else { 0 };
    let bits = PrefixKey::NETWORK_BITS + before + u32::from(net.prefix_len());
    (bits, PrefixKey::new(network, Addr::from(net.addr())))
}
