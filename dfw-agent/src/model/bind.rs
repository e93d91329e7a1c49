//! Joins containers with links: whose port is this veth?
//!
//! Two containers are never guessed apart. Whatever does not match exactly once on both sides becomes a finding and no
//! endpoint, so that the port keeps nothing allowed.

mod address;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use dfw_common::addr::Mac;
use ipnet::IpNet;

use super::{
    Attachment, BoundNetwork, Container, Endpoint, Finding, Inventory, Level, Link, LinkKind,
    Links, Network, Snapshot,
};
use address::Draft;

/// Joins what the engine says with what netlink sees.
///
/// Docker's endpoints are found by MAC: the engine's record against the other end of each veth on that network's bridge.
/// Endpoints of an inventory are found by interface name. Both keep to their bridge: the same MAC, address or subnet on
/// another bridge means something else.
pub fn bind(snapshot: &Snapshot, links: &Links) -> Inventory {
    let mut findings = Vec::new();
    let mut networks = bind_networks(snapshot, links, &mut findings);
    let bridges: BTreeMap<&str, u32> = networks
        .iter()
        .map(|bound| (bound.network.id.as_str(), bound.ifindex))
        .collect();

    let ports = Ports::new(snapshot, links, &bridges);
    let mut drafts: BTreeMap<u32, Draft> = BTreeMap::new();
    for container in &snapshot.containers {
        for attachment in &container.attachments {
            let Some(&bridge) = bridges.get(attachment.network.as_str()) else {
                continue;
            };
            let draft = ports
                .find(container, attachment, bridge, &mut findings)
                .and_then(|link| Draft::new(container, attachment, bridge, link, &mut findings));
            let Some(draft) = draft else { continue };
            match drafts.entry(draft.endpoint.ifindex) {
                Entry::Vacant(port) => {
                    port.insert(draft);
                }
                Entry::Occupied(first) => {
                    findings.push(twice_claimed(container, &first.get().endpoint));
                }
            }
        }
    }

    let mut unclaimed = Vec::new();
    for network in &mut networks {
        for link in links
            .ports(network.ifindex)
            .filter(|link| !drafts.contains_key(&link.ifindex))
        {
            if links.is_foreign(link) {
                network.foreign_ports.push(link.name.clone());
            } else {
                unclaimed.push((link.ifindex, network.ifindex));
            }
        }
    }

    let endpoints = address::settle(drafts.into_values().collect(), &mut findings);
    findings.sort();
    findings.dedup();
    Inventory {
        endpoints,
        networks,
        host_addresses: links.host_addresses.clone(),
        containers: snapshot.containers.clone(),
        unclaimed,
        findings,
    }
}

fn bind_networks(
    snapshot: &Snapshot,
    links: &Links,
    findings: &mut Vec<Finding>,
) -> Vec<BoundNetwork> {
    let mut bound: Vec<BoundNetwork> = Vec::new();
    for network in &snapshot.networks {
        let from_kernel = network.bridge.is_empty();
        let bridge = if from_kernel {
            bridge_of_ports(network, snapshot, links)
        } else {
            links.by_name(&network.bridge)
        };
        let Some(bridge) = bridge.filter(|link| link.kind == LinkKind::Bridge) else {
            if !from_kernel {
                findings.push(Finding::new(
                    Level::Warning,
                    "no-bridge",
                    &network.name,
                    format!(
                        "network {} has no bridge {} on this host; its containers are not governed",
                        network.name, network.bridge
                    ),
                ));
            }
            continue;
        };
        if let Some(first) = bound.iter().find(|other| other.ifindex == bridge.ifindex) {
            findings.push(Finding::new(
                Level::Error,
                "bridge-shared",
                &network.name,
                format!(
                    "networks {} and {} are both on bridge {}; give their endpoints one network name",
                    first.network.name, network.name, bridge.name
                ),
            ));
            continue;
        }
        let mut network = network.clone();
        if from_kernel {
            network.bridge = bridge.name.clone();
            network.subnets = links.on_link_prefixes(bridge.ifindex);
        }
        bound.push(BoundNetwork {
            ifindex: bridge.ifindex,
            network,
            foreign_ports: Vec::new(),
        });
    }
    bound
}

/// The bridge of the first endpoint whose interface is a port; those of the same network on another bridge are reported
/// one by one, so that one veth that moved does not take the policy from the rest.
fn bridge_of_ports<'a>(
    network: &Network,
    snapshot: &Snapshot,
    links: &'a Links,
) -> Option<&'a Link> {
    snapshot
        .containers
        .iter()
        .flat_map(|container| &container.attachments)
        .filter(|attachment| attachment.network == network.id)
        .find_map(|attachment| links.by_name(attachment.interface.as_deref()?)?.bridge)
        .and_then(|bridge| links.links.get(&bridge))
}

/// Ports of the managed bridges and who lays claim to their MACs.
struct Ports<'a> {
    links: &'a Links,
    by_mac: BTreeMap<(u32, Mac), Vec<&'a Link>>,
    claims: BTreeMap<(u32, Mac), usize>,
    suspects: BTreeSet<u32>,
}

impl<'a> Ports<'a> {
    fn new(snapshot: &Snapshot, links: &'a Links, bridges: &BTreeMap<&str, u32>) -> Self {
        let mut by_mac: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for link in links.links.values() {
            if let (Some(bridge), Some(peer)) = (link.bridge, &link.peer) {
                by_mac.entry((bridge, peer.mac)).or_default().push(link);
            }
        }
        let mut claims: BTreeMap<_, usize> = BTreeMap::new();
        for attachment in snapshot
            .containers
            .iter()
            .flat_map(|container| &container.attachments)
        {
            if let (Some(&bridge), Some(mac)) =
                (bridges.get(attachment.network.as_str()), attachment.mac)
            {
                *claims.entry((bridge, mac)).or_default() += 1;
            }
        }
        let suspects = by_mac
            .keys()
            .filter(|key| !claims.contains_key(key))
            .map(|&(bridge, _)| bridge)
            .collect();
        Self {
            links,
            by_mac,
            claims,
            suspects,
        }
    }

    fn find(
        &self,
        container: &Container,
        attachment: &Attachment,
        bridge: u32,
        findings: &mut Vec<Finding>,
    ) -> Option<&'a Link> {
        match &attachment.interface {
            Some(name) => self.find_by_name(container, name, bridge, findings),
            None => self.find_by_mac(container, attachment, bridge, findings),
        }
    }

    fn find_by_name(
        &self,
        container: &Container,
        name: &str,
        bridge: u32,
        findings: &mut Vec<Finding>,
    ) -> Option<&'a Link> {
        let (code, what) = match self.links.by_name(name) {
            Some(link) if link.bridge == Some(bridge) => return Some(link),
            Some(link) => match link.bridge.and_then(|other| self.links.links.get(&other)) {
                Some(other) => (
                    "other-bridge",
                    format!(
                        "interface {name} is a port of {}, not of its network's bridge; one network has one bridge",
                        other.name
                    ),
                ),
                None => (
                    "not-a-port",
                    format!(
                        "interface {name} is not the port of a bridge; enslave it to the network's bridge"
                    ),
                ),
            },
            None => (
                "no-interface",
                format!("this host has no interface {name}; it is governed as soon as it appears"),
            ),
        };
        findings.push(Finding::new(Level::Warning, code, &container.name, what));
        None
    }

    fn find_by_mac(
        &self,
        container: &Container,
        attachment: &Attachment,
        bridge: u32,
        findings: &mut Vec<Finding>,
    ) -> Option<&'a Link> {
        let key = (bridge, attachment.mac?);
        let found = self.by_mac.get(&key).map_or(&[][..], Vec::as_slice);
        let (code, what) = match (found, self.claims.get(&key).copied().unwrap_or(0)) {
            (&[link], 1) => return Some(link),
            // While a container starts or stops, its veth comes later or goes earlier. Only a port that nobody else claims
            // makes a mismatch likely.
            ([], _) if !container.running || !self.suspects.contains(&bridge) => return None,
            ([], _) => (
                "no-port",
                format!(
                    "no veth on its bridge leads to MAC {}, which the engine records for it; was the MAC changed inside?",
                    key.1
                ),
            ),
            (links, _) => (
                "ambiguous-mac",
                format!(
                    "MAC {} is not unique on its network (veths: {}); give each container its own MAC",
                    key.1,
                    links
                        .iter()
                        .map(|link| link.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ),
        };
        findings.push(Finding::new(Level::Error, code, &container.name, what));
        None
    }
}

fn twice_claimed(container: &Arc<Container>, first: &Endpoint) -> Finding {
    Finding::new(
        Level::Error,
        "interface-shared",
        &container.name,
        format!(
            "interface {} belongs to {} already; one endpoint has one interface",
            first.interface, first.container.name
        ),
    )
}

impl Links {
    fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    fn ports(&self, bridge: u32) -> impl Iterator<Item = &Link> {
        self.links
            .values()
            .filter(move |link| link.bridge == Some(bridge))
    }

    /// Whether a port can only lead to something that is not a container: no veth, or one whose other end is in use here.
    fn is_foreign(&self, port: &Link) -> bool {
        match port.kind {
            LinkKind::Veth => port
                .peer_here
                .and_then(|peer| self.links.get(&peer))
                .is_some_and(|peer| peer.up),
            LinkKind::Bridge | LinkKind::Other => true,
        }
    }

    /// Prefixes of an interface's own addresses, without IPv6's link-local one, which every interface has.
    fn on_link_prefixes(&self, ifindex: u32) -> Vec<IpNet> {
        let own = self
            .host_addresses
            .iter()
            .filter(|address| address.ifindex == ifindex);
        let prefixes: BTreeSet<IpNet> = own
            .filter(|address| !is_link_local(address.net.addr()))
            .map(|address| address.net.trunc())
            .collect();
        prefixes.into_iter().collect()
    }
}

/// IPv6 link-local alone: IPv4's 169.254.0.0/16 is an address like any other here.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
