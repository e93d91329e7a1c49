//! Two networks and who is on them: what every row of the table plays in.
//!
//! On network 10: A and B enforce, C audits, D is off. On network 20: E enforces.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use dfw_common::{
    addr::{Addr, Mac},
    key::{ANY_NETWORK, AddressKey, NetworkId, PolicyKey, PrefixKey},
    plain::Tables,
    reason::Direction,
    value::{Address, Endpoint, PolicyEntry, Prefix, Settings, kind, mode},
};
use dfw_tests::frame::{
    self,
    protocol::{self, GRE, ICMP, ICMP6, SCTP, TCP, UDP},
};

use Direction::{Egress, Ingress};
use Who::{A, B, C, D, Denied, E, Group, Host, World};

const ALLOW: u8 = PolicyEntry::ALLOW;
const DENY: u8 = PolicyEntry::DENY;

/// The bridge of A to D, which is the network's number.
pub(crate) const BRIDGE: u32 = 10;
/// The bridge of E.
pub(crate) const OTHER_BRIDGE: u32 = 20;
/// A port of the bridge that nobody has an identity for.
pub(crate) const UNCLAIMED: u32 = 15;
/// Where the world is.
pub(crate) const UPLINK: u32 = 30;

/// Every interface.
pub(crate) const INTERFACES: [u32; 9] = [10, 11, 12, 13, 14, UNCLAIMED, OTHER_BRIDGE, 21, UPLINK];

/// Flows that an endpoint may own.
pub(crate) const QUOTA: u32 = 16;
/// Room for flows: eight endpoints' worth.
pub(crate) const FLOWS: u32 = 128;

/// Somebody who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Enforces.
    A,
    /// Enforces.
    B,
    /// Audits.
    C,
    /// Is off.
    D,
    /// Enforces, on the other network.
    E,
    /// The host, by the gateway's address.
    Host,
    /// Somewhere.
    World,
    /// Somewhere inside a CIDR that is denied.
    Denied,
    /// An address of the network that nobody has.
    Nobody,
    /// A multicast group.
    Group,
}

/// The endpoints.
pub(crate) const ENDPOINTS: [Who; 5] = [Who::A, Who::B, Who::C, Who::D, Who::E];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Protocol, and types of an echo and its answer.
    pub(crate) fn icmp(self) -> (u8, u8, u8) {
        match self {
            Self::V4 => (protocol::ICMP, 8, 0),
            Self::V6 => (protocol::ICMP6, 128, 129),
        }
    }

    /// Protocol and type of "destination unreachable".
    pub(crate) fn unreachable(self) -> (u8, u8) {
        match self {
            Self::V4 => (protocol::ICMP, 3),
            Self::V6 => (protocol::ICMP6, 1),
        }
    }
}

impl Who {
    /// ifindex of the host-side interface; 0 if none.
    pub(crate) const fn ifindex(self) -> u32 {
        match self {
            Self::A => 11,
            Self::B => 12,
            Self::C => 13,
            Self::D => 14,
            Self::E => 21,
            Self::Host | Self::World | Self::Denied | Self::Nobody | Self::Group => 0,
        }
    }

    /// Its network; 0 if none.
    pub(crate) const fn network(self) -> NetworkId {
        match self {
            Self::A | Self::B | Self::C | Self::D => BRIDGE,
            Self::E => OTHER_BRIDGE,
            Self::Host | Self::World | Self::Denied | Self::Nobody | Self::Group => 0,
        }
    }

    /// Its MAC as frames on network 10 have it.
    pub(crate) fn mac(self) -> frame::Mac {
        match self {
            Self::A | Self::B | Self::C | Self::D => [2, 0, 0, 0, 0, self.ifindex() as u8],
            Self::Nobody => [2, 0, 0, 0, 0, 99],
            Self::Group => [0x33, 0x33, 0, 0, 0, 0xfb],
            // Through the gateway.
            Self::E | Self::Host | Self::World | Self::Denied => [2, 0, 0, 0, 0, 1],
        }
    }

    /// Its address.
    pub(crate) fn ip(self, family: Family) -> IpAddr {
        let number = match self {
            Self::Host => 1,
            Self::Nobody => 99,
            Self::A
            | Self::B
            | Self::C
            | Self::D
            | Self::E
            | Self::World
            | Self::Denied
            | Self::Group => self.ifindex() as u8,
        };
        match (self, family) {
            (Self::World, Family::V4) => Ipv4Addr::new(192, 0, 2, 9).into(),
            (Self::World, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into(),
            (Self::Denied, Family::V4) => Ipv4Addr::new(198, 51, 100, 7).into(),
            (Self::Denied, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 7).into(),
            (Self::Group, Family::V4) => Ipv4Addr::new(224, 0, 0, 251).into(),
            (Self::Group, Family::V6) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb).into(),
            (Self::E, Family::V4) => Ipv4Addr::new(10, 2, 0, number).into(),
            (Self::E, Family::V6) => Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, number.into()).into(),
            (_, Family::V4) => Ipv4Addr::new(10, 1, 0, number).into(),
            (_, Family::V6) => Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// Its link-local address.
    pub(crate) fn link_local(self) -> Ipv6Addr {
        frame::link_local(self.mac())
    }

    fn identity(self) -> u32 {
        100 + self as u32
    }

    /// Its policy; 0 allows nothing.
    pub(crate) const fn policy(self) -> u32 {
        if matches!(self, Self::D) {
            0
        } else {
            self.ifindex()
        }
    }

    fn mode(self) -> u32 {
        if self == Self::C {
            mode::AUDIT
        } else if self == Self::D {
            mode::OFF
        } else {
            mode::ENFORCE
        }
    }
}

/// The scenario. `hz` is jiffies a second.
pub(crate) fn tables(hz: u32) -> Tables {
    let mut tables = Tables {
        settings: Settings {
            epoch: 5,
            hz,
            event_rate: 10,
            ..Settings::default()
        },
        ..Tables::default()
    };
    for who in ENDPOINTS {
        let endpoint = Endpoint {
            ifindex: who.ifindex(),
            network: who.network(),
            mode: who.mode(),
            policy: who.policy(),
            ring_base: who as u32 * QUOTA,
            ring_mask: QUOTA - 1,
            mac: Mac::new(who.mac()),
            redirects: 0,
            pad: 0,
        };
        tables.endpoints.insert(who.ifindex(), endpoint);
        let class = address(who, kind::ENDPOINT);
        for family in Family::ALL {
            exact(&mut tables, who.network(), who.ip(family), class);
            exact(&mut tables, ANY_NETWORK, who.ip(family), class);
        }
        exact(&mut tables, who.network(), who.link_local().into(), class);
    }
    let host = address(Who::Host, kind::HOST);
    for family in Family::ALL {
        exact(&mut tables, ANY_NETWORK, Who::Host.ip(family), host);
    }
    exact(&mut tables, BRIDGE, Who::Host.link_local().into(), host);
    for (network, subnet) in [(BRIDGE, 1), (OTHER_BRIDGE, 2)] {
        let broadcast = Ipv4Addr::new(10, subnet, 0, 255).into();
        let group = address(Who::Group, kind::GROUP);
        exact(&mut tables, network, broadcast, group);
    }
    for (net, bits, who, kind) in [
        ("0.0.0.0", 0, Who::World, kind::WORLD),
        ("::", 0, Who::World, kind::WORLD),
        ("198.51.100.0", 24, Who::Denied, kind::WORLD),
        ("2001:db8:bad::", 48, Who::Denied, kind::WORLD),
        ("224.0.0.0", 4, Who::Group, kind::GROUP),
        ("255.255.255.255", 32, Who::Group, kind::GROUP),
        ("ff00::", 8, Who::Group, kind::GROUP),
        ("10.1.0.0", 24, Who::Nobody, kind::UNKNOWN),
        ("fd01::", 64, Who::Nobody, kind::UNKNOWN),
        ("10.2.0.0", 24, Who::Nobody, kind::UNKNOWN),
        ("fd02::", 64, Who::Nobody, kind::UNKNOWN),
        ("fe80::", 10, Who::Nobody, kind::UNKNOWN),
    ] {
        let net: IpAddr = net.parse().expect("an address");
        let bits = if net.is_ipv4() { bits + 96 } else { bits };
        let key = PrefixKey::new(ANY_NETWORK, Addr::from(net));
        let identity = who.identity();
        let prefix = Prefix { kind, identity };
        tables
            .prefixes
            .insert((PrefixKey::NETWORK_BITS + bits, key), prefix);
    }
    tables.policy = policy(&RULES);
    tables
}

fn address(who: Who, kind: u32) -> Address {
    Address {
        kind,
        identity: who.identity(),
        ifindex: who.ifindex(),
        network: who.network(),
    }
}

fn exact(tables: &mut Tables, network: NetworkId, ip: IpAddr, class: Address) {
    let addr = Addr::from(ip);
    tables.addresses.insert(AddressKey { network, addr }, class);
}

/// One rule: whose, which side, about whom, protocol and port (which is the rule's number), and what it says.
pub(crate) type Rule = (Who, Direction, Who, u8, u16, u8);

/// Who may do what. [`Who::Denied`] is a part of the world, and what is said of the world is said of it too.
pub(crate) const RULES: [Rule; 38] = [
    (A, Egress, B, TCP, 80, ALLOW),
    (A, Egress, B, TCP, 85, ALLOW),
    (A, Egress, B, UDP, 53, ALLOW),
    (A, Egress, B, SCTP, 36, ALLOW),
    (A, Egress, B, ICMP, 8, ALLOW),
    (A, Egress, B, ICMP6, 128, ALLOW),
    (A, Egress, B, GRE, 0, ALLOW),
    (A, Egress, C, TCP, 80, ALLOW),
    (A, Egress, C, TCP, 81, ALLOW),
    (A, Egress, D, TCP, 80, ALLOW),
    (A, Egress, E, TCP, 80, ALLOW),
    (A, Egress, Host, TCP, 8080, ALLOW),
    (A, Egress, World, TCP, 443, ALLOW),
    (A, Egress, World, UDP, 53, ALLOW),
    (A, Egress, Group, UDP, 5353, ALLOW),
    (A, Ingress, B, TCP, 8080, ALLOW),
    (A, Ingress, B, UDP, 53, ALLOW),
    (B, Ingress, A, TCP, 80, ALLOW),
    (B, Ingress, A, UDP, 53, ALLOW),
    (B, Ingress, A, UDP, 5353, ALLOW),
    (B, Ingress, A, SCTP, 36, ALLOW),
    (B, Ingress, A, ICMP, 8, ALLOW),
    (B, Ingress, A, ICMP6, 128, ALLOW),
    (B, Ingress, A, TCP, 90, ALLOW),
    (B, Ingress, C, TCP, 80, ALLOW),
    (B, Ingress, C, TCP, 82, ALLOW),
    (B, Ingress, D, TCP, 80, ALLOW),
    (B, Ingress, Host, TCP, 9000, ALLOW),
    (B, Ingress, Host, UDP, 5353, ALLOW),
    (B, Ingress, World, TCP, 443, ALLOW),
    (B, Egress, A, TCP, 8080, ALLOW),
    (C, Egress, B, TCP, 80, ALLOW),
    (C, Egress, B, TCP, 84, ALLOW),
    (C, Ingress, A, TCP, 81, ALLOW),
    (E, Ingress, A, TCP, 80, ALLOW),
    (A, Egress, Denied, UDP, 53, ALLOW),
    (A, Egress, Denied, TCP, 443, DENY),
    (B, Ingress, Denied, TCP, 443, DENY),
];

/// The compiled entries of rules.
pub(crate) fn policy(rules: &[Rule]) -> HashMap<PolicyKey, PolicyEntry> {
    let mut policy = HashMap::new();
    for (who, direction, peer, protocol, port, verdict) in rules {
        let key = rule(*who, *direction, *peer, (*protocol, *port));
        let entry = PolicyEntry {
            lengths: 0,
            rule: *port,
            verdict: *verdict,
            flags: 0,
        };
        policy.insert(key, entry);
        let key = PolicyKey {
            port: 0,
            protocol: 0,
            length: PolicyKey::HEADER,
            ..key
        };
        let header = policy.entry(key).or_insert(PolicyEntry::NOTHING);
        header.lengths |= 1 << 16;
        if *verdict == PolicyEntry::ALLOW {
            header.flags |= PolicyEntry::SOME_ALLOWED;
        }
    }
    policy
}

/// The key of a rule.
pub(crate) fn rule(
    who: Who,
    direction: Direction,
    peer: Who,
    (protocol, port): (u8, u16),
) -> PolicyKey {
    PolicyKey {
        policy: who.policy(),
        identity: peer.identity(),
        port,
        direction: direction as u8,
        protocol,
        length: 16,
        pad: [0; 3],
    }
}
