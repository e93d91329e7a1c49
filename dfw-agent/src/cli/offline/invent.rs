//! A host on which a compose project would run: bridges, ports and addresses that nobody has given yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use dfw_common::addr::Mac;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Offline;
use crate::model::{
    Container, HostAddress, Inventory, Link, LinkKind, Links, Network, Peer, Snapshot, bind,
};

/// Stands for an IPv6 subnet that the engine will choose.
pub(super) const ANY_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

/// ifindex of the first bridge; what is below is the host's own.
const FIRST_BRIDGE: u32 = 10;
/// ifindex of the first port: no project has so many networks.
const FIRST_PORT: u32 = 1 << 20;

/// The containers of compose projects on bridges of their own, bound as the agent binds them.
pub(in crate::cli) fn inventory(offline: &Offline) -> Inventory {
    let mut links = Links::default();
    let mut networks = offline.networks.clone();
    let mut free: BTreeMap<String, Vec<Addresses>> = BTreeMap::new();
    let taken: BTreeSet<IpAddr> = offline
        .containers
        .iter()
        .flat_map(|container| &container.attachments)
        .flat_map(|attachment| attachment.addresses.iter().copied())
        .collect();
    for (number, network) in (0..).zip(&mut networks) {
        network.subnets = subnets(network, number);
        let ifindex = FIRST_BRIDGE + number;
        links.links.insert(ifindex, bridge(ifindex, network));
        let mut pools: Vec<Addresses> = network
            .subnets
            .iter()
            .map(|net| Addresses::new(*net))
            .collect();
        // The first one is the gateway's.
        for (pool, net) in pools.iter_mut().zip(&network.subnets) {
            let address = pool.next(&taken);
            let net = address.and_then(|address| IpNet::new(address, net.prefix_len()).ok());
            links
                .host_addresses
                .extend(net.map(|net| HostAddress { ifindex, net }));
        }
        free.insert(network.id.clone(), pools);
    }
    let bridges: BTreeMap<&str, u32> = (FIRST_BRIDGE..)
        .zip(&networks)
        .map(|(ifindex, network)| (network.id.as_str(), ifindex))
        .collect();
    let mut containers: Vec<Container> = offline.containers.clone();
    let mut port = FIRST_PORT;
    for container in &mut containers {
        for attachment in &mut container.attachments {
            let (Some(pools), Some(bridge)) = (
                free.get_mut(&attachment.network),
                bridges.get(attachment.network.as_str()),
            ) else {
                continue;
            };
            for pool in pools {
                let is_given = attachment.addresses.iter().any(|given| pool.is_like(given));
                if !is_given {
                    attachment.addresses.extend(pool.next(&taken));
                }
            }
            let mac = mac(port);
            attachment.mac = Some(mac);
            let peer = Peer {
                mac,
                addresses: attachment.addresses.clone(),
            };
            links.links.insert(port, veth(port, *bridge, peer));
            port += 1;
        }
    }
    let snapshot = Snapshot {
        networks,
        containers: containers.into_iter().map(Arc::new).collect(),
    };
    bind(&snapshot, &links)
}

/// The subnets that are written, and one of each family that the network needs and that has none. Out of what Docker
/// chooses from, as rules by address know it.
fn subnets(network: &Network, number: u32) -> Vec<IpNet> {
    let mut subnets: Vec<IpNet> = network
        .subnets
        .iter()
        .copied()
        .filter(|net| *net != ANY_V6)
        .collect();
    if !subnets.iter().any(|net| net.addr().is_ipv4()) {
        let first = u32::from(Ipv4Addr::new(172, 18, 0, 0));
        let address = Ipv4Addr::from(first.wrapping_add(number << 12));
        subnets.push(IpNet::V4(Ipv4Net::new_assert(address, 20)));
    }
    if network.subnets.contains(&ANY_V6) {
        let [high, low] = [(number >> 16) as u16, number as u16];
        let address = Ipv6Addr::new(0xfd00, 0, high, low, 0, 0, 0, 0);
        subnets.push(IpNet::V6(Ipv6Net::new_assert(address, 64)));
    }
    subnets
}

/// Addresses of a subnet that nobody has.
struct Addresses {
    net: IpNet,
    used: u128,
}

impl Addresses {
    const fn new(net: IpNet) -> Self {
        Self { net, used: 0 }
    }

    fn is_like(&self, address: &IpAddr) -> bool {
        self.net.addr().is_ipv4() == address.is_ipv4()
    }

    /// The next one; none when the subnet is full.
    fn next(&mut self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        loop {
            self.used += 1;
            let address: IpAddr = match self.net.network() {
                IpAddr::V4(first) => {
                    let offset = u32::try_from(self.used).ok()?;
                    Ipv4Addr::from(u32::from(first).checked_add(offset)?).into()
                }
                IpAddr::V6(first) => {
                    Ipv6Addr::from(u128::from(first).checked_add(self.used)?).into()
                }
            };
            let is_last = address == self.net.broadcast() && address.is_ipv4();
            if !self.net.contains(&address) || is_last {
                return None;
            }
            if !taken.contains(&address) {
                return Some(address);
            }
        }
    }
}

fn bridge(ifindex: u32, network: &Network) -> Link {
    Link {
        ifindex,
        name: network.bridge.clone(),
        kind: LinkKind::Bridge,
        up: true,
        bridge: None,
        peer_here: None,
        peer: None,
        detour: None,
    }
}

fn veth(ifindex: u32, bridge: u32, peer: Peer) -> Link {
    Link {
        ifindex,
        name: format!("veth{ifindex}"),
        kind: LinkKind::Veth,
        up: true,
        bridge: Some(bridge),
        peer_here: None,
        peer: Some(peer),
        detour: None,
    }
}

fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac::new([0x02, 0x42, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Attachment;

    fn network(id: &str, subnets: &[&str]) -> Network {
        let net = |text: &&str| text.parse().expect("a net");
        Network {
            id: id.to_owned(),
            name: id.to_owned(),
            project: None,
            short_name: None,
            filtered: false,
            bridge: id.to_owned(),
            subnets: subnets.iter().map(net).collect(),
        }
    }

    fn container(name: &str, legs: &[(&str, &[&str])]) -> Container {
        let attachments = legs.iter().map(|(network, addresses)| Attachment {
            network: (*network).to_owned(),
            addresses: addresses
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..Attachment::default()
        });
        Container {
            id: name.to_owned(),
            name: name.to_owned(),
            attachments: attachments.collect(),
            ..Container::default()
        }
    }

    /// Container, network and addresses beyond link-local of every endpoint.
    fn bound(offline: &Offline) -> Vec<String> {
        let endpoints = inventory(offline).endpoints.into_iter().map(|endpoint| {
            let addresses: Vec<String> = endpoint
                .addresses
                .iter()
                .map(IpAddr::to_string)
                .filter(|address| !address.starts_with("fe80"))
                .collect();
            let network = endpoint.network - FIRST_BRIDGE;
            format!(
                "{} {network} {}",
                endpoint.container.name,
                addresses.join(" ")
            )
        });
        endpoints.collect()
    }

    #[test]
    fn addresses_that_are_given_stay_and_the_rest_is_invented() {
        let offline = Offline {
            containers: vec![
                container("a", &[("front", &[]), ("back", &[])]),
                container("b", &[("back", &["192.0.2.2"])]),
                container("c", &[("back", &[])]),
            ],
            networks: vec![
                network("front", &["::/0"]),
                network("back", &["192.0.2.0/29"]),
            ],
            is_whole: true,
        };
        assert_eq!(
            bound(&offline),
            [
                "a 0 172.18.0.2 fd00::2",
                "a 1 192.0.2.3",
                "b 1 192.0.2.2",
                "c 1 192.0.2.4"
            ]
        );
        let hosts = inventory(&offline).host_addresses;
        let hosts: Vec<String> = hosts.iter().map(|host| host.net.to_string()).collect();
        assert_eq!(hosts, ["172.18.0.1/20", "fd00::1/64", "192.0.2.1/29"]);
    }

    #[test]
    fn who_finds_no_address_has_no_port() {
        let names: Vec<String> = (0..5).map(|number| format!("c{number}")).collect();
        let offline = Offline {
            containers: names
                .iter()
                .map(|name| container(name, &[("n", &[])]))
                .collect(),
            networks: vec![network("n", &["192.0.2.0/30"])],
            is_whole: true,
        };
        assert_eq!(bound(&offline), ["c0 0 192.0.2.2"]);
    }
}
