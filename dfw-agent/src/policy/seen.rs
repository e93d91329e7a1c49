//! What was seen of a service while it was in audit. Plain values: where they come from is the datapath's matter, what
//! follows from them is that of `suggest`.

use std::{collections::BTreeMap, net::IpAddr};

use dfw_common::reason::Direction;

/// Whose labels would say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A service of a compose project, or of Swarm where `project` is empty.
    Service {
        /// The project.
        project: String,
        /// The service.
        service: String,
    },
    /// A container that belongs to no service, by its name.
    Container(String),
}

/// The other end of what was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SeenPeer {
    /// A service or container of this node.
    Subject(Subject),
    /// This host, and whatever docker-proxy carries.
    Host,
    /// Neither a container nor this host.
    World(IpAddr),
    /// A multicast or broadcast address.
    Group(IpAddr),
}

/// One kind of flow that a subject opened or took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sighting {
    /// Egress: the subject opened it. Ingress: the peer did.
    pub direction: Direction,
    /// The other end.
    pub peer: SeenPeer,
    /// IP protocol.
    pub protocol: u8,
    /// The port that was dialled, as the subject's side of the rules sees it; ICMP: the type; else 0.
    pub port: u16,
}

/// How often, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Flows.
    pub flows: u64,
    /// The first, seconds since 1970.
    pub first: u64,
    /// The last, seconds since 1970.
    pub last: u64,
}

/// All that was seen of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What was seen.
    pub sightings: BTreeMap<Sighting, Times>,
    /// Flows that were seen and for which there was no room, or whose other end has no name any more: what is suggested
    /// from this is incomplete when it is not 0.
    pub missing: u64,
}
