//! Which packets a question is about: addresses of both families, port by port.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    slice,
};

use dfw_common::{addr::Addr, key::proto, value::kind};

use super::{InForce, Names, ends::End, trial::Kernel};
use crate::{
    model::{Container, Endpoint, HostAddress, Unanswerable},
    policy::{problem::shown, rule::Item},
};

/// Most packets of one question: a service of many replicas with another.
const MAX_PAIRS: usize = 1024;

/// One end of one packet.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Spot<'a> {
    Endpoint(&'a Endpoint, IpAddr),
    Host(IpAddr),
    World(IpAddr),
    Address(IpAddr),
}

/// One packet's ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Pair<'a> {
    pub(in crate::policy) from: Spot<'a>,
    pub(in crate::policy) to: Spot<'a>,
}

impl<'a> Spot<'a> {
    pub(super) const fn address(&self) -> IpAddr {
        match self {
            Self::Endpoint(_, address)
            | Self::Host(address)
            | Self::World(address)
            | Self::Address(address) => *address,
        }
    }

    pub(super) const fn endpoint(&self) -> Option<&'a Endpoint> {
        match self {
            Self::Endpoint(endpoint, _) => Some(endpoint),
            Self::Host(_) | Self::World(_) | Self::Address(_) => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Endpoint(endpoint, _) => endpoint.container.name.clone(),
            Self::Host(_) => "host".to_owned(),
            Self::World(_) => "world".to_owned(),
            Self::Address(address) => address.to_string(),
        }
    }
}

impl Pair<'_> {
    pub(super) fn names(&self) -> Names {
        Names {
            from: self.from.name(),
            to: self.to.name(),
            family: if self.from.address().is_ipv4() {
                "IPv4"
            } else {
                "IPv6"
            }
            .to_owned(),
        }
    }

    fn is_of_one_family(&self) -> bool {
        self.from.address().is_ipv4() == self.to.address().is_ipv4()
    }

    /// Whether both addresses are of the family that the protocol belongs to.
    pub(in crate::policy) fn can_carry(&self, item: &Item) -> bool {
        let is_of_family = match item.protocol.0 {
            proto::ICMP | proto::IGMP => self.from.address().is_ipv4(),
            proto::ICMP6 => self.from.address().is_ipv6(),
            _ => true,
        };
        is_of_family && self.is_of_one_family()
    }

    /// Whether neither end takes the other's address for a third one's: networks may have the same subnet.
    fn is_known(&self, kernel: &Kernel) -> bool {
        let knows = |own: &Spot<'_>, other: &Spot<'_>| {
            let own = own.endpoint()?;
            let seen = kernel.class(own.network, other.address()).ifindex;
            let is_other = other.endpoint().is_some_and(|other| other.ifindex == seen);
            Some(seen == 0 || is_other)
        };
        knows(&self.from, &self.to) != Some(false) && knows(&self.to, &self.from) != Some(false)
    }

    /// What dfw does not decide about it.
    pub(super) fn note(&self) -> Option<String> {
        let (from, to) = self.from.endpoint().zip(self.to.endpoint())?;
        (from.network != to.network).then(|| {
            format!(
                "{} and {} share no network: Docker keeps its networks apart by rules of its own, whatever dfw allows",
                shown(&from.container.display_name()),
                shown(&to.container.display_name())
            )
        })
    }
}

/// Every packet that the question is about; at least one.
pub(super) fn of<'a>(
    node: &'a InForce,
    kernel: &Kernel,
    from: &End<'a>,
    to: &End<'a>,
    item: &Item,
) -> Result<Vec<Pair<'a>>, Unanswerable> {
    let mut pairs = Vec::new();
    match (from, to) {
        (End::Endpoints(from, source), End::Endpoints(to, destination)) => {
            for (a, b) in meetings(from, to) {
                let sources = addresses(node, a, *source).map(|address| Spot::Endpoint(a, address));
                for from in sources {
                    let to =
                        addresses(node, b, *destination).map(|address| Spot::Endpoint(b, address));
                    pairs.extend(to.map(|to| Pair { from, to }));
                }
                if pairs.len() > 4 * MAX_PAIRS {
                    break;
                }
            }
        }
        (End::Endpoints(from, source), to) => {
            for endpoint in from {
                let outside = outside(node, kernel, to, endpoint.network);
                for from in addresses(node, endpoint, *source).map(|a| Spot::Endpoint(endpoint, a))
                {
                    pairs.extend(outside.iter().map(|to| Pair { from, to: *to }));
                }
            }
        }
        (from, End::Endpoints(to, destination)) => {
            for endpoint in to {
                let from = slice::from_ref(from);
                pairs.extend(into_endpoint(node, kernel, from, endpoint, *destination));
            }
        }
        (End::Host | End::World | End::Address(_), End::Host | End::World | End::Address(_)) => {
            return Err(Unanswerable::new(
                "neither end is a container, so nothing is judged".to_owned(),
                "name somebody whom `dfw ls` lists at one end".to_owned(),
            ));
        }
    }
    pairs.retain(|pair| pair.can_carry(item) && pair.is_known(kernel));
    match pairs.len() {
        0 => Err(Unanswerable::new(
            format!("no packet of {item} goes between the two"),
            "they need addresses of one family and must be two containers; icmp is IPv4's, icmp6 IPv6's"
                .to_owned(),
        )),
        1..=MAX_PAIRS => Ok(pairs),
        _ => Err(Unanswerable::new(
            format!("the two are more than {MAX_PAIRS} pairs of addresses"),
            "name single containers".to_owned(),
        )),
    }
}

/// From who is no container to an endpoint.
pub(super) fn into_endpoint<'a>(
    node: &InForce,
    kernel: &Kernel,
    from: &[End<'_>],
    to: &'a Endpoint,
    destination: Option<IpAddr>,
) -> Vec<Pair<'a>> {
    let from: Vec<Spot<'_>> = from
        .iter()
        .flat_map(|from| outside(node, kernel, from, to.network))
        .collect();
    let to = addresses(node, to, destination).map(|address| Spot::Endpoint(to, address));
    to.flat_map(|to| from.iter().map(move |from| Pair { from: *from, to }))
        .filter(Pair::is_of_one_family)
        .collect()
}

/// Who meets whom: containers on the networks that they share, else each port with each.
fn meetings<'a>(from: &[&'a Endpoint], to: &[&'a Endpoint]) -> Vec<(&'a Endpoint, &'a Endpoint)> {
    let (senders, receivers) = (by_container(from), by_container(to));
    let mut meetings = Vec::new();
    for (sender, a) in &senders {
        let others = receivers.iter().filter(|(other, _)| *other != sender);
        for (_, b) in others {
            let all = a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b)));
            let shared: Vec<_> = all
                .clone()
                .filter(|(a, b)| a.network == b.network)
                .collect();
            if shared.is_empty() {
                meetings.extend(all);
            } else {
                meetings.extend(shared);
            }
        }
        if meetings.len() > 4 * MAX_PAIRS {
            break;
        }
    }
    meetings
}

fn by_container<'a>(endpoints: &[&'a Endpoint]) -> BTreeMap<(&'a str, &'a str), Vec<&'a Endpoint>> {
    let mut containers: BTreeMap<_, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        let Container { name, id, .. } = &*endpoint.container;
        containers
            .entry((name.as_str(), id.as_str()))
            .or_default()
            .push(endpoint);
    }
    containers
}

/// The address that is asked about, else all that the endpoint has but link-local ones, which nobody dials.
fn addresses(
    node: &InForce,
    endpoint: &Endpoint,
    only: Option<IpAddr>,
) -> impl Iterator<Item = IpAddr> {
    let own = endpoint.addresses.iter().copied();
    let own = own.filter(|address| node.has(endpoint, *address));
    own.filter(move |address| match only {
        Some(only) => *address == only,
        None => !Addr::from(*address).is_link_local_v6(),
    })
}

/// Who is no container, as an endpoint of this network knows it.
fn outside<'a>(node: &InForce, kernel: &Kernel, end: &End<'_>, network: u32) -> Vec<Spot<'a>> {
    match end {
        End::Host => host(node, network).into_iter().map(Spot::Host).collect(),
        End::World => [
            world(kernel, network, V4.into_iter().chain((1..224).map(v4))),
            world(
                kernel,
                network,
                V6.into_iter().chain((0x2000..0x4000).step_by(16).map(v6)),
            ),
        ]
        .into_iter()
        .flatten()
        .map(Spot::World)
        .collect(),
        End::Address(address) => vec![Spot::Address(*address)],
        End::Endpoints(..) => Vec::new(),
    }
}

/// The host's addresses on a network, else those it has elsewhere.
fn host(node: &InForce, network: u32) -> Vec<IpAddr> {
    let all = node.inventory.host_addresses.iter();
    let usable = all.filter(|host| {
        let address = host.net.addr();
        !address.is_loopback() && !Addr::from(address).is_link_local_v6()
    });
    let (here, elsewhere): (Vec<&HostAddress>, Vec<&HostAddress>) =
        usable.partition(|host| host.ifindex == network);
    let chosen = if here.is_empty() { elsewhere } else { here };
    chosen.into_iter().map(|host| host.net.addr()).collect()
}

/// Addresses for documentation (RFC 5737, RFC 3849) come first.
const V4: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
];
const V6: [IpAddr; 1] = [IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

fn v4(first: u8) -> IpAddr {
    Ipv4Addr::new(first, 0, 0, 1).into()
}

fn v6(first: u16) -> IpAddr {
    Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 1).into()
}

/// An address of the world of which rules say no more than of the rest of it, else any that is of the world.
fn world(
    kernel: &Kernel,
    network: u32,
    candidates: impl Iterator<Item = IpAddr>,
) -> Option<IpAddr> {
    let mut any = None;
    for address in candidates {
        let class = kernel.class(network, address);
        if class.kind == kind::WORLD {
            if class.identity == kernel.rest_of_the_world(address.is_ipv4()) {
                return Some(address);
            }
            any = any.or(Some(address));
        }
    }
    any
}
