//! From the kernel's numbers to names: an index over the view, made once for many events.

use std::{
    collections::{HashMap, HashSet},
    mem::offset_of,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dfw_common::{
    addr::Addr,
    reason::{Direction, Reason, Verdict},
    value::{Event, PolicyEntry},
};
use ipnet::IpNet;

use super::{Class, ETHERTYPE_IPV4, ETHERTYPE_IPV6, End, FlowEvent, Party, Protocol, Rule, text};
use crate::{
    model::{EndpointView, View},
    policy::RuleText,
};

/// Who has which interface and address, and what the rules say. Knows those who were there in the view before as well:
/// an event is read a moment after it happened.
#[derive(Debug, Default)]
pub struct Names {
    by_ifindex: HashMap<u32, Arc<Party>>,
    /// With the network on which it has the address.
    by_address: HashMap<IpAddr, Vec<(u32, Arc<Party>)>>,
    host: HashSet<IpAddr>,
    networks: HashMap<u32, Network>,
    rules: HashMap<(u32, u16), Arc<Rule>>,
    before: Option<Box<Self>>,
}

#[derive(Debug)]
struct Network {
    name: Arc<String>,
    subnets: Vec<IpNet>,
    has_foreign_ports: bool,
}

impl Names {
    /// The names of a view and its rules, by policy and number.
    pub fn new<'a>(
        view: &View,
        rules: impl IntoIterator<Item = (&'a (u32, u16), &'a RuleText)>,
    ) -> Self {
        let numbers: HashMap<&str, u32> = view
            .networks
            .iter()
            .map(|network| (network.name.as_str(), network.ifindex))
            .collect();
        let mut names = Self::default();
        for endpoint in &view.endpoints {
            let party = Arc::new(Party::from(endpoint));
            let network = numbers.get(endpoint.network.as_str()).copied();
            for address in &endpoint.addresses {
                let having = names.by_address.entry(*address).or_default();
                having.push((network.unwrap_or(0), Arc::clone(&party)));
            }
            names.by_ifindex.insert(endpoint.ifindex, party);
        }
        names.host = view.host_addresses.iter().copied().collect();
        let networks = view.networks.iter().map(|network| {
            let subnets = network.subnets.iter();
            let known = Network {
                name: Arc::new(network.name.clone()),
                subnets: subnets.filter_map(|subnet| subnet.parse().ok()).collect(),
                has_foreign_ports: !network.foreign_ports.is_empty(),
            };
            (network.ifindex, known)
        });
        names.networks = networks.collect();
        let rules = rules
            .into_iter()
            .map(|(number, rule)| (*number, Arc::new(rule.into())));
        names.rules = rules.collect();
        names
    }

    /// These names, and where they know nothing those of the view before.
    pub fn after(mut self, mut before: Self) -> Self {
        before.before = None;
        self.before = Some(Box::new(before));
        self
    }

    /// Reads an [`Event`] from the bytes of the ring buffer, which need not be aligned. `boot` is the wall-clock time at
    /// which CLOCK_MONOTONIC was zero. None if there are too few bytes, or a number that this version does not know.
    pub fn decode(&self, bytes: &[u8], boot: SystemTime) -> Option<FlowEvent> {
        let raw = Raw(bytes.get(..size_of::<Event>())?);
        let direction = *Direction::ALL.get(usize::from(raw.u8(offset_of!(Event, direction))))?;
        let ifindex = raw.u32(offset_of!(Event, ifindex));
        let network = raw.u32(offset_of!(Event, network));
        let ports = (
            raw.u16(offset_of!(Event, source_port)),
            raw.u16(offset_of!(Event, destination_port)),
        );
        let protocol = match raw.u16(offset_of!(Event, ethertype)) {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                Protocol::ip(raw.u8(offset_of!(Event, protocol)), ports.1)
            }
            ethertype => Protocol::Ethertype(ethertype),
        };
        let end = |offset, port, owner| {
            let address = raw.addr(offset);
            let address = (!address.is_unspecified()).then(|| address.to_ip());
            let party = self.party(owner, network, address);
            End {
                class: match party {
                    Some(_) => Some(Class::Endpoint),
                    None => address.map(|address| self.class(network, address)),
                },
                party,
                address,
                port: protocol.has_ports().then_some(port),
            }
        };
        // The judged endpoint is known by its interface, whatever the packet says.
        let (sender, receiver) = match direction {
            Direction::Egress => (ifindex, 0),
            Direction::Ingress => (0, ifindex),
        };
        let rule = raw.u16(offset_of!(Event, rule));
        Some(FlowEvent {
            time: boot.checked_add(Duration::from_nanos(raw.u64(offset_of!(Event, time))))?,
            source: end(offset_of!(Event, source), ports.0, sender),
            destination: end(offset_of!(Event, destination), ports.1, receiver),
            protocol,
            direction,
            verdict: Verdict::from_u8(raw.u8(offset_of!(Event, verdict)))?,
            reason: Reason::from_u8(raw.u8(offset_of!(Event, reason)))?,
            rule: (rule != PolicyEntry::NO_RULE)
                .then(|| self.rule(raw.u32(offset_of!(Event, policy)), rule))
                .flatten(),
            network: self.network(network).map(|known| Arc::clone(&known.name)),
            length: raw.u32(offset_of!(Event, length)),
        })
    }

    /// The endpoint with this interface, else the one with this address on the event's network, else the only one with it
    /// on any network. An address that several have without one of them on the network stays a number.
    fn party(&self, ifindex: u32, network: u32, address: Option<IpAddr>) -> Option<Arc<Party>> {
        let by_address = || {
            let having = self.by_address.get(&address?)?;
            let here = having.iter().find(|(where_, _)| *where_ == network);
            let only = || having.first().filter(|_| having.len() == 1);
            here.or_else(only).map(|(_, party)| party)
        };
        let found = self.by_ifindex.get(&ifindex).or_else(by_address);
        let before = || self.before.as_ref()?.party(ifindex, network, address);
        found.cloned().or_else(before)
    }

    fn network(&self, ifindex: u32) -> Option<&Network> {
        let before = || self.before.as_ref()?.network(ifindex);
        self.networks.get(&ifindex).or_else(before)
    }

    fn rule(&self, policy: u32, number: u16) -> Option<Arc<Rule>> {
        let before = || self.before.as_ref()?.rule(policy, number);
        let found = self.rules.get(&(policy, number)).cloned();
        found.or_else(before)
    }

    /// The class of an address that is no endpoint's.
    fn class(&self, network: u32, address: IpAddr) -> Class {
        let is_group = |subnet: &IpNet| subnet.addr().is_ipv4() && subnet.broadcast() == address;
        let (is_broadcast, is_link_local) = match address {
            IpAddr::V4(v4) => (v4.is_broadcast(), false),
            IpAddr::V6(v6) => (false, v6.is_unicast_link_local()),
        };
        let mut subnets = self.networks.values().flat_map(|known| &known.subnets);
        let here = self.network(network);
        if address.is_multicast() || is_broadcast || subnets.clone().any(is_group) {
            Class::Group
        } else if self.host.contains(&address) || address.is_loopback() {
            Class::Host
        } else if !is_link_local && !subnets.any(|subnet| subnet.contains(&address)) {
            Class::World
        } else if here.is_some_and(|here| here.has_foreign_ports) {
            // What else is on that network may be behind one of those ports.
            Class::World
        } else {
            Class::Unknown
        }
    }
}

impl From<&EndpointView> for Party {
    fn from(endpoint: &EndpointView) -> Self {
        let clip = |name: &str| text::clip(name, Self::NAME_MAX).to_owned();
        Self {
            name: clip(&endpoint.display_name()),
            container: clip(&endpoint.container),
            project: clip(&endpoint.project),
            service: clip(&endpoint.service),
        }
    }
}

impl From<&RuleText> for Rule {
    fn from(rule: &RuleText) -> Self {
        Self {
            label: text::clip(&rule.label, Self::TEXT_MAX).to_owned(),
            text: text::clip(&rule.text, Self::TEXT_MAX).to_owned(),
            log: rule.log,
        }
    }
}

/// The bytes of one event, as many as it has.
struct Raw<'a>(&'a [u8]);

impl Raw<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        *self.0[offset..].first_chunk().expect("within the event")
    }

    fn u8(&self, offset: usize) -> u8 {
        self.0[offset]
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_ne_bytes(self.array(offset))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.array(offset))
    }

    fn addr(&self, offset: usize) -> Addr {
        Addr([0, 4, 8, 12].map(|word| self.u32(offset + word)))
    }
}
