//! A rule as written: the label grammar as values, and its canonical text.

use std::fmt;

use dfw_common::{key::proto, reason::Direction};
use ipnet::IpNet;

/// One rule of a label. Its `Display` is the canonical text: parsing that gives an equal rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which side of the container it is about; decides between `from` and `to`.
    pub direction: Direction,
    /// What becomes of matching flows.
    pub action: Action,
    /// Which protocols and ports.
    pub ports: Ports,
    /// Who is at the other end; at least one.
    pub peers: Vec<Peer>,
    /// Whether each new matching flow makes an event.
    pub log: bool,
}

/// What a rule does. Deny beats allow, hence it is first in the canonical order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing that matches passes.
    Deny,
    /// What matches passes unless a deny rule matches too.
    Allow,
}

/// The ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every protocol and port.
    Any,
    /// These; at least one.
    Items(Vec<Item>),
}

/// One protocol, or some ports of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// The protocol.
    pub protocol: Protocol,
    /// Its ports (ICMP: types); none means all.
    pub range: Option<PortRange>,
}

/// Ports (ICMP: types) `low..=high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First.
    pub low: u16,
    /// Last, not below `low`.
    pub high: u16,
}

/// An IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

/// Who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A service, of the same project where none is named.
    Service {
        /// The project.
        project: Option<String>,
        /// The service.
        name: String,
    },
    /// Every container of a project.
    Project(String),
    /// Every container with this group in its `dfw.group`.
    Group(String),
    /// A container by name.
    Container(String),
    /// Every endpoint of a network.
    Net(String),
    /// Every container with this label.
    Label {
        /// The label's key.
        key: String,
        /// Its exact value.
        value: String,
    },
    /// Addresses, whatever they belong to. Host bits are zero, and no IPv6 net lies in the v4-mapped range.
    Cidr(IpNet),
    /// This host.
    Host,
    /// Neither a container nor this host.
    World,
    /// Everybody who is known.
    Any,
}

impl Protocol {
    /// Protocols that have a name in rules.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("tcp", Self(proto::TCP)),
        ("udp", Self(proto::UDP)),
        ("sctp", Self(proto::SCTP)),
        ("icmp", Self(proto::ICMP)),
        ("icmp6", Self(proto::ICMP6)),
    ];

    /// Lowest and highest port (ICMP: type) that a rule may name, if it may name any.
    pub const fn port_limits(self) -> Option<(u16, u16)> {
        match self.0 {
            proto::TCP | proto::UDP | proto::SCTP => Some((1, u16::MAX)),
            proto::ICMP | proto::ICMP6 => Some((0, 255)),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "proto-{}", self.0),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some(range) => write!(f, "{}/{range}", self.protocol),
            None => write!(f, "{}", self.protocol),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Items(items) = self else {
            return f.write_str("any");
        };
        let mut previous: Option<&Item> = None;
        for item in items {
            if previous.is_some() {
                f.write_str(",")?;
            }
            match item.range {
                Some(range)
                    if previous
                        .is_some_and(|p| p.protocol == item.protocol && p.range.is_some()) =>
                {
                    write!(f, "{range}")?;
                }
                _ => write!(f, "{item}")?,
            }
            previous = Some(item);
        }
        Ok(())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service {
                project: None,
                name,
            } => write!(f, "service:{name}"),
            Self::Service {
                project: Some(project),
                name,
            } => {
                write!(f, "service:{project}/{name}")
            }
            Self::Project(name) => write!(f, "project:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Net(name) => write!(f, "net:{name}"),
            Self::Label { key, value } => {
                write!(f, "label:{key}=")?;
                if is_bare(value) {
                    f.write_str(value)
                } else {
                    write_quoted(f, value)
                }
            }
            Self::Cidr(net) => write!(f, "{net}"),
            Self::Host => f.write_str("host"),
            Self::World => f.write_str("world"),
            Self::Any => f.write_str("any"),
        }
    }
}

/// Whether a label's value needs no quotes.
fn is_bare(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/:@+".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

fn write_quoted(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.action == Action::Deny {
            f.write_str("deny ")?;
        }
        write!(f, "{} {} ", self.ports, preposition(self.direction))?;
        for (position, peer) in self.peers.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{peer}")?;
        }
        if self.log {
            f.write_str(" log")
        } else {
            Ok(())
        }
    }
}

/// The word between ports and peers.
pub(super) const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}
