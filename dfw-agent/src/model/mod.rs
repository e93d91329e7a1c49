//! Plain values that the rooms of the agent hand to each other. No clock, no I/O, no engine types.
//!
//! Down: a source gives a [`Snapshot`], netlink gives [`Links`]; [`bind`] joins them to an [`Inventory`]; `policy`
//! compiles that. Up: the reconciler publishes a [`View`] that metrics and commands read.

mod bind;
mod detour;
mod order;
mod view;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use dfw_common::addr::Mac;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    bind::bind,
    detour::Detour,
    order::{Done, OverrideView, Refused, SwitchOrder, Unanswerable},
    view::{EndpointView, Finding, Level, NetworkView, UnprotectedView, View},
};

/// What the engine (or the inventory file) says, before any link is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Networks that live on a bridge of this host which the engine owns.
    pub networks: Vec<Network>,
    /// Every container that the engine lists as created, running, paused or restarting.
    pub containers: Vec<Arc<Container>>,
}

/// A network on a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The engine's id; in an inventory the name.
    pub id: String,
    /// The engine's name, e.g. `shop_backend`.
    pub name: String,
    /// Compose project that made it.
    pub project: Option<String>,
    /// Compose's short name inside the project, e.g. `backend`.
    pub short_name: Option<String>,
    /// The bridge's interface name; empty when the source leaves it to the kernel (inventory): the bridge that its
    /// attachments' interfaces are ports of.
    pub bridge: String,
    /// Its subnets of both families, as the engine records them; where the source leaves the bridge to the kernel, these are
    /// the on-link prefixes of the bridge's own addresses.
    pub subnets: Vec<IpNet>,
    /// The engine filters between its containers (Docker: `enable_icc=false`), by what only bridged packets pass.
    pub filtered: bool,
}

/// A container, or an endpoint of the inventory file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The engine's id (64 hex digits); in an inventory the name.
    pub id: String,
    /// The engine's name without the leading slash.
    pub name: String,
    /// Labels that count: those that the image itself carries with the same value are not here but in
    /// [`Container::image_labels`] where they would have meant something to dfw.
    pub labels: BTreeMap<String, String>,
    /// Keys that were ignored because the image carries them (`dfw.*`, compose's, Swarm's).
    pub image_labels: Vec<String>,
    /// One per network.
    pub attachments: Vec<Attachment>,
    /// Why dfw cannot govern it fully, or at all.
    pub unprotected: Vec<Unprotected>,
    /// Id of the container whose network namespace it shares.
    pub shares: Option<String>,
    /// Whether its process runs.
    pub running: bool,
    /// Ports published on the host.
    pub published: Vec<Published>,
}

/// A container's place in one network, on the engine's own authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// [`Network::id`].
    pub network: String,
    /// The host-side interface, where the source knows it (inventory). Docker's links are found by MAC.
    pub interface: Option<String>,
    /// MAC; none when the source leaves it to the kernel's first sight.
    pub mac: Option<Mac>,
    /// Addresses of both families; empty when the source leaves them to the kernel's first sight.
    pub addresses: Vec<IpAddr>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Address on the host; unspecified = every address.
    pub host_ip: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the container.
    pub container_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Why a container is not protected, or less than others: the values of `dfw_unprotected_containers{why}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unprotected {
    /// Runs in the host's network namespace.
    HostNetwork,
    /// Attached to a macvlan network.
    Macvlan,
    /// Attached to an ipvlan network.
    Ipvlan,
    /// Attached to an overlay network or docker_gwbridge, which dfw leaves alone for now.
    Overlay,
    /// Attached to a network of another driver that dfw does not know.
    OtherDriver,
    /// Shares another container's network namespace and is governed by that one's rules.
    Shared,
    /// Privileged: may change anything on the host.
    Privileged,
    /// Has CAP_NET_ADMIN in its namespace.
    NetAdmin,
}

impl Unprotected {
    /// Every reason, in the order of the metric.
    pub const ALL: [Self; 8] = [
        Self::HostNetwork,
        Self::Macvlan,
        Self::Ipvlan,
        Self::Overlay,
        Self::OtherDriver,
        Self::Shared,
        Self::Privileged,
        Self::NetAdmin,
    ];

    /// The name used in metrics and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostNetwork => "host-network",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Overlay => "overlay",
            Self::OtherDriver => "other-driver",
            Self::Shared => "shared",
            Self::Privileged => "privileged",
            Self::NetAdmin => "net-admin",
        }
    }
}

/// What netlink sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// By ifindex.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of the host itself, on any interface, with the interface.
    pub host_addresses: Vec<HostAddress>,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress {
    /// The interface that has it.
    pub ifindex: u32,
    /// Address with its on-link prefix.
    pub net: IpNet,
}

/// One interface of the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number of the interface, never used twice.
    pub ifindex: u32,
    /// Name at the time of the snapshot.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Whether it is administratively up (IFF_UP). A link that is down passes nothing.
    pub up: bool,
    /// ifindex of the bridge it is a port of.
    pub bridge: Option<u32>,
    /// Veths only: ifindex of the other end while that is in this namespace too. Docker makes both ends here and moves one
    /// away later, so an end that is here and down says nothing yet.
    pub peer_here: Option<u32>,
    /// Veths only: the other end as first seen, when it is in another namespace.
    pub peer: Option<Peer>,
    /// What about this interface, or this bridge, has a say in packets that a redirect would not ask.
    pub detour: Option<Detour>,
}

/// Kind of an interface, as far as dfw cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A veth, which may lead to a container.
    Veth,
    /// A bridge.
    Bridge,
    /// Anything else.
    Other,
}

/// The other end of a veth, in the container's namespace, as it was at first sight: what the container changes later is
/// not learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses of both families, link-local ones included.
    pub addresses: Vec<IpAddr>,
}

/// Containers and networks joined with the links of the host: what policy is compiled for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// One per container and network whose link is known.
    pub endpoints: Vec<Endpoint>,
    /// Networks whose bridge exists.
    pub networks: Vec<BoundNetwork>,
    /// Addresses of the host.
    pub host_addresses: Vec<HostAddress>,
    /// All containers, also those without an endpoint.
    pub containers: Vec<Arc<Container>>,
    /// Veths on managed bridges that no container of the snapshot owns (yet), with their bridge.
    pub unclaimed: Vec<(u32, u32)>,
    /// What was noticed while joining.
    pub findings: Vec<Finding>,
}

/// A network and its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundNetwork {
    /// ifindex of the bridge: the network's number in the maps.
    pub ifindex: u32,
    /// As the engine has it.
    pub network: Network,
    /// Ports of the bridge that lead to no container: NICs, taps, VXLANs, veths whose other end is up in this namespace.
    /// Names, for people.
    pub foreign_ports: Vec<String>,
}

/// One governed port: a container on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host-side ifindex.
    pub ifindex: u32,
    /// Host-side interface name.
    pub interface: String,
    /// ifindex of the bridge.
    pub network: u32,
    /// Whose it is.
    pub container: Arc<Container>,
    /// The MAC it is bound to.
    pub mac: Mac,
    /// The addresses it is bound to, both families, link-local ones included.
    pub addresses: Vec<IpAddr>,
}

/// What is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A container's host-side veth: judged.
    Endpoint,
    /// A bridge that the engine owns: backstop.
    Bridge,
}

/// Compose's label of the project.
pub const LABEL_PROJECT: &str = "com.docker.compose.project";
/// Compose's label of the service.
pub const LABEL_SERVICE: &str = "com.docker.compose.service";
/// Swarm's label of the service.
pub const LABEL_SWARM_SERVICE: &str = "com.docker.swarm.service.name";
/// Swarm's label of the stack.
pub const LABEL_SWARM_STACK: &str = "com.docker.stack.namespace";

impl Container {
    /// The compose project, else the Swarm stack.
    pub fn project(&self) -> Option<&str> {
        self.labels
            .get(LABEL_PROJECT)
            .or_else(|| self.labels.get(LABEL_SWARM_STACK))
            .map(String::as_str)
    }

    /// The compose service, else the Swarm service.
    pub fn service(&self) -> Option<&str> {
        self.labels
            .get(LABEL_SERVICE)
            .or_else(|| self.labels.get(LABEL_SWARM_SERVICE))
            .map(String::as_str)
    }

    /// `project/service` where it has both, else its name: how people are shown it.
    pub fn display_name(&self) -> String {
        match (self.project(), self.service()) {
            (Some(project), Some(service)) => format!("{project}/{service}"),
            _ => self.name.clone(),
        }
    }
}

/// Line and column of a byte, both from 1, the column in characters.
pub fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
