//! What the rules mean, computed the plain way: no identities, no tables, no prefixes. Written from docs/semantics.md, for
//! comparison with what the compiler lays out.

use std::net::{IpAddr, Ipv4Addr};

use dfw_common::reason::Direction;
use ipnet::IpNet;

use super::node::net;
use crate::{
    model::{BoundNetwork, Container, Endpoint, Inventory},
    policy::{Action, Item, Peer, Ports, Rule, parse_rules},
};

/// Class of an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'a> {
    Group,
    Host,
    Endpoint(&'a Endpoint),
    Unknown,
    World,
}

/// What the rules of one side say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// By some rule.
    pub(super) decided: bool,
    pub(super) log: bool,
}

pub(super) struct Oracle<'a>(pub(super) &'a Inventory);

impl<'a> Oracle<'a> {
    /// Section 2, top to bottom.
    pub(super) fn class(&self, network: u32, address: IpAddr) -> Who<'a> {
        let bound = self.network(network);
        if is_group(address)
            || bound
                .network
                .subnets
                .iter()
                .any(|s| is_broadcast(s, address))
        {
            return Who::Group;
        }
        if self.is_host(network, address) {
            return Who::Host;
        }
        if let Some(endpoint) = self.holder(network, address) {
            return Who::Endpoint(endpoint);
        }
        let inside =
            |bound: &BoundNetwork| bound.network.subnets.iter().any(|s| s.contains(&address));
        if inside(bound) || is_link_local(address) {
            return if bound.foreign_ports.is_empty() {
                Who::Unknown
            } else {
                Who::World
            };
        }
        let mut holders = self
            .0
            .networks
            .iter()
            .filter_map(|b| self.holder(b.ifindex, address));
        match (holders.next(), holders.next()) {
            (Some(_), Some(_)) => Who::Unknown,
            (Some(endpoint), None) if self.routes_to(address, endpoint.network) => {
                Who::Endpoint(endpoint)
            }
            (Some(_), None) => Who::Unknown,
            (None, _) if self.0.networks.iter().any(inside) => Who::Unknown,
            (None, _) => Who::World,
        }
    }

    fn network(&self, ifindex: u32) -> &'a BoundNetwork {
        self.0
            .networks
            .iter()
            .find(|bound| bound.ifindex == ifindex)
            .expect("a network")
    }

    fn is_host(&self, network: u32, address: IpAddr) -> bool {
        let has = |host: &crate::model::HostAddress| {
            host.net.addr() == address && (!is_link_local(address) || host.ifindex == network)
        };
        address.is_loopback() || self.0.host_addresses.iter().any(has)
    }

    fn holder(&self, network: u32, address: IpAddr) -> Option<&'a Endpoint> {
        let subnets = &self.network(network).network.subnets;
        if self.is_host(network, address)
            || is_group(address)
            || subnets.iter().any(|subnet| is_broadcast(subnet, address))
        {
            return None;
        }
        let here = self
            .0
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.network == network);
        here.filter(|e| e.addresses.contains(&address))
            .min_by_key(|endpoint| endpoint.ifindex)
    }

    /// Whether the longest managed subnet with this address is that network's alone.
    fn routes_to(&self, address: IpAddr, network: u32) -> bool {
        let longest = |bound: &BoundNetwork| {
            let subnets = bound
                .network
                .subnets
                .iter()
                .filter(|s| s.contains(&address));
            subnets.map(IpNet::prefix_len).max().map_or(-1, i16::from)
        };
        let own = longest(self.network(network));
        self.0
            .networks
            .iter()
            .all(|b| b.ifindex == network || longest(b) < own || longest(b) == -1)
    }

    /// What `rules` of `own` say of an address of this class.
    pub(super) fn judge(
        &self,
        own: &Container,
        rules: &[Rule],
        who: Who<'_>,
        address: IpAddr,
        flow: (u8, u16),
    ) -> Answer {
        let matching: Vec<&Rule> = rules
            .iter()
            .filter(|rule| covers(&rule.ports, flow))
            .filter(|rule| {
                rule.peers
                    .iter()
                    .any(|peer| self.is_peer(own, peer, who, address))
            })
            .collect();
        let of = |action| {
            let deciding: Vec<&Rule> = matching
                .iter()
                .copied()
                .filter(|rule| rule.action == action)
                .collect();
            (!deciding.is_empty()).then(|| Answer {
                allowed: action == Action::Allow,
                log: deciding.iter().any(|rule| rule.log),
                decided: true,
            })
        };
        of(Action::Deny)
            .or_else(|| of(Action::Allow))
            .unwrap_or(Answer {
                allowed: false,
                decided: false,
                log: false,
            })
    }

    fn is_peer(&self, own: &Container, peer: &Peer, who: Who<'_>, address: IpAddr) -> bool {
        let endpoint = match (peer, who) {
            (_, Who::Unknown) => return false,
            (Peer::Any, _) => return true,
            (Peer::Cidr(net), _) => return net.contains(&address),
            (Peer::Host, _) => return matches!(who, Who::Host),
            (Peer::World, _) => return matches!(who, Who::World),
            (_, Who::Endpoint(endpoint)) => endpoint,
            (_, Who::Group | Who::Host | Who::World) => return false,
        };
        let other = &endpoint.container;
        let network = &self.network(endpoint.network).network;
        match peer {
            Peer::Service { project, name } => {
                let project = project.as_deref().or(own.project());
                other.project() == project && other.service() == Some(name)
            }
            Peer::Project(name) => other.project() == Some(name),
            Peer::Group(name) => other
                .labels
                .get("dfw.group")
                .is_some_and(|g| g.split(',').any(|g| g == name)),
            Peer::Container(name) => other.name == *name,
            Peer::Net(name) => {
                let same = own.project().is_some() && network.project.as_deref() == own.project();
                network.name == *name || same && network.short_name.as_ref() == Some(name)
            }
            Peer::Label { key, value } => other.labels.get(key) == Some(value),
            Peer::Cidr(_) | Peer::Host | Peer::World | Peer::Any => unreachable!("matched above"),
        }
    }
}

/// The rules of one side of a container.
pub(super) fn rules(container: &Container, direction: Direction) -> Vec<Rule> {
    let text = container.labels.get(&format!("dfw.{}", direction.name()));
    text.map(|text| parse_rules(direction, text).expect("right rules"))
        .unwrap_or_default()
}

fn covers(ports: &Ports, (protocol, port): (u8, u16)) -> bool {
    let covers = |item: &Item| {
        item.protocol.0 == protocol
            && item
                .range
                .is_none_or(|range| range.low <= port && port <= range.high)
    };
    match ports {
        Ports::Any => true,
        Ports::Items(items) => items.iter().any(covers),
    }
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn is_broadcast(subnet: &IpNet, address: IpAddr) -> bool {
    address.is_ipv4() && subnet.prefix_len() < 31 && subnet.broadcast() == address
}

fn is_link_local(address: IpAddr) -> bool {
    net("fe80::/10").contains(&address)
}
