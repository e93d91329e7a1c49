//! Section 2: what an address is, seen on a network; and what rules say of it.

use std::net::IpAddr;

use super::{Node, Peer};

/// The class of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Group,
    Host,
    /// By ifindex.
    Endpoint(u32),
    Unknown,
    World,
}

/// What the rules of one endpoint say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ruling {
    Allowed,
    Denied(&'static str),
}

impl Node {
    /// First match wins.
    pub(super) fn class(&self, network: u32, address: IpAddr) -> Class {
        if is_group(address) || self.known.broadcasts.contains(&(network, address)) {
            return Class::Group;
        }
        let is_host = |(seen_on, own): &(Option<u32>, IpAddr)| {
            *own == address && seen_on.is_none_or(|seen_on| seen_on == network)
        };
        if self.known.host.iter().any(is_host) {
            return Class::Host;
        }
        let here = self.known.ports.iter().find(|port| {
            port.network == network
                && (port.link_local == address || port.addresses.contains(&address))
        });
        if let Some(port) = here {
            return Class::Endpoint(port.ifindex);
        }
        if is_link_local(address) {
            return Class::Unknown;
        }
        let in_subnet = |of_network: bool| {
            let mut subnets = self.known.subnets.iter();
            subnets.any(|(subnet, base, bits)| {
                (*subnet == network) == of_network && covers(*base, *bits, address)
            })
        };
        if in_subnet(true) {
            return Class::Unknown;
        }
        let elsewhere = self
            .known
            .ports
            .iter()
            .find(|port| port.addresses.contains(&address));
        if let Some(port) = elsewhere {
            return Class::Endpoint(port.ifindex);
        }
        if in_subnet(false) {
            return Class::Unknown;
        }
        Class::World
    }

    /// Whether a rule's peer is meant by an address of this class.
    fn names(&self, peer: Peer, class: Class, address: IpAddr) -> bool {
        match peer {
            Peer::Endpoint(ifindex) => class == Class::Endpoint(ifindex),
            Peer::Host => class == Class::Host,
            Peer::World => class == Class::World,
            Peer::Groups => class == Class::Group,
            Peer::Cidr(base, bits) => covers(base, bits, address),
        }
    }

    /// Asks the rules of `owner` about one side; deny beats allow, unknown is always denied.
    pub(super) fn ask(
        &self,
        owner: u32,
        is_ingress: bool,
        (class, address): (Class, IpAddr),
        (protocol, port): (u8, u16),
    ) -> Ruling {
        if class == Class::Unknown {
            return Ruling::Denied("unknown-peer");
        }
        let mut ruling = Ruling::Denied("no-rule");
        for rule in &self.known.rules {
            if rule.owner == owner
                && rule.is_ingress == is_ingress
                && rule.protocol == protocol
                && rule.port == port
                && self.names(rule.peer, class, address)
            {
                if !rule.allows {
                    return Ruling::Denied("deny-rule");
                }
                ruling = Ruling::Allowed;
            }
        }
        ruling
    }

    /// Whether some rule of `owner` allows anything at all with an address: what resolving it asks for (section 8).
    pub(super) fn allows_some(
        &self,
        owner: u32,
        is_ingress: bool,
        (class, address): (Class, IpAddr),
    ) -> bool {
        self.known.rules.iter().any(|rule| {
            rule.owner == owner
                && rule.is_ingress == is_ingress
                && rule.allows
                && self.names(rule.peer, class, address)
        })
    }
}

fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// Whether the first bits of two addresses of one family are the same.
pub(super) fn covers(base: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let differ = u32::from(base) ^ u32::from(address);
            differ.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let differ = u128::from(base) ^ u128::from(address);
            differ.leading_zeros() >= u32::from(bits)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
