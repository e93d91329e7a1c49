//! The engine's answers as our own values. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, EndpointResource, NetworkInspect, PortBinding, PortSummaryTypeEnum,
};
use dfw_common::addr::Mac;
use ipnet::IpNet;

use crate::model::{LABEL_PROJECT, Network, Published, Unprotected};

/// Compose's label on a network: its short name.
const LABEL_NETWORK: &str = "com.docker.compose.network";
/// The bridge driver's option for the name of the interface.
const OPTION_BRIDGE: &str = "com.docker.network.bridge.name";
/// The bridge driver's option for whether containers of a network may talk to each other.
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
/// The bridge that Swarm gives its containers to reach the outside.
const GWBRIDGE: &str = "docker_gwbridge";

/// What the engine says of a container, without its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) image: String,
    /// Created, running, paused or restarting.
    pub(super) live: bool,
    /// Whether its process runs.
    pub(super) running: bool,
    pub(super) host_network: bool,
    /// Name or id of the container whose namespace it joined.
    pub(super) joined: Option<String>,
    pub(super) published: Vec<Published>,
}

/// What only an inspection says, and what never changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Powers {
    pub(super) privileged: bool,
    pub(super) net_admin: bool,
}

/// A network and who is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkState {
    pub(super) kind: NetworkKind,
    /// By container id.
    pub(super) endpoints: BTreeMap<String, EndpointRecord>,
}

/// What becomes of those on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NetworkKind {
    /// Governed.
    Bridge(Network),
    /// Not, or not fully.
    Unprotected(Unprotected),
    /// `none`: there is nothing to protect.
    Null,
}

/// A container's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointRecord {
    pub(super) mac: Option<Mac>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Whether a text can be an id of a container: it goes into the path of a request.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A container as a listing shows it, with its id.
pub(super) fn listed(summary: ContainerSummary) -> Option<(String, Meta)> {
    let id = summary.id.filter(|id| is_id(id))?;
    let state = summary.state.unwrap_or(ContainerSummaryStateEnum::EMPTY);
    let (live, running) = match state {
        ContainerSummaryStateEnum::RUNNING
        | ContainerSummaryStateEnum::PAUSED
        | ContainerSummaryStateEnum::STOPPING => (true, true),
        ContainerSummaryStateEnum::CREATED
        | ContainerSummaryStateEnum::RESTARTING
        | ContainerSummaryStateEnum::EMPTY => (true, false),
        ContainerSummaryStateEnum::EXITED
        | ContainerSummaryStateEnum::REMOVING
        | ContainerSummaryStateEnum::DEAD => (false, false),
    };
    // Links of old add names like /other/alias.
    let names = summary.names.unwrap_or_default();
    let name = names
        .iter()
        .map(|name| bare(name))
        .find(|name| !name.contains('/'))
        .unwrap_or(&id)
        .to_owned();
    let mode = summary
        .host_config
        .and_then(|config| config.network_mode)
        .unwrap_or_default();
    let ports = summary
        .ports
        .unwrap_or_default()
        .into_iter()
        .filter_map(|port| {
            let protocol = match port.typ? {
                PortSummaryTypeEnum::TCP | PortSummaryTypeEnum::EMPTY => TCP,
                PortSummaryTypeEnum::UDP => UDP,
                PortSummaryTypeEnum::SCTP => SCTP,
            };
            let host_ip = host_ip(port.ip.as_deref())?;
            Some(Published {
                host_ip,
                host_port: port.public_port?,
                container_port: port.private_port,
                protocol,
            })
        });
    let meta = Meta {
        name,
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        image: summary.image_id.unwrap_or_default(),
        live,
        running,
        host_network: mode == "host",
        joined: joined(&mode),
        published: sorted(ports.collect()),
    };
    Some((id, meta))
}

/// A container as an inspection shows it.
pub(super) fn inspected(container: ContainerInspectResponse) -> (Meta, Powers) {
    let host = container.host_config.unwrap_or_default();
    let status = container
        .state
        .and_then(|state| state.status)
        .unwrap_or(ContainerStateStatusEnum::EMPTY);
    let (live, running) = match status {
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::STOPPING => (true, true),
        ContainerStateStatusEnum::CREATED
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::EMPTY => (true, false),
        ContainerStateStatusEnum::EXITED
        | ContainerStateStatusEnum::REMOVING
        | ContainerStateStatusEnum::DEAD => (false, false),
    };
    let mode = host.network_mode.unwrap_or_default();
    let ports = container
        .network_settings
        .and_then(|settings| settings.ports)
        .unwrap_or_default();
    let meta = Meta {
        name: bare(&container.name.unwrap_or_default()).to_owned(),
        labels: container
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        image: container.image.unwrap_or_default(),
        live,
        running,
        host_network: mode == "host",
        joined: joined(&mode),
        published: published(ports),
    };
    let capabilities = host.cap_add.unwrap_or_default();
    let net_admin = capabilities.iter().any(|name| {
        let name = name.to_ascii_uppercase();
        matches!(
            name.strip_prefix("CAP_").unwrap_or(&name),
            "NET_ADMIN" | "ALL"
        )
    });
    (
        meta,
        Powers {
            privileged: host.privileged.unwrap_or(false),
            net_admin,
        },
    )
}

/// A network with its endpoints.
pub(super) fn network(network: NetworkInspect) -> Option<NetworkState> {
    let (id, name) = (network.id?, network.name?);
    let options = network.options.unwrap_or_default();
    let labels = network.labels.unwrap_or_default();
    let configs = network
        .ipam
        .and_then(|ipam| ipam.config)
        .unwrap_or_default();
    let kind = match network.driver.as_deref().unwrap_or_default() {
        "bridge" if name == GWBRIDGE => NetworkKind::Unprotected(Unprotected::Overlay),
        "bridge" => NetworkKind::Bridge(Network {
            bridge: bridge_name(&id, &name, &options),
            project: labels.get(LABEL_PROJECT).cloned(),
            short_name: labels.get(LABEL_NETWORK).cloned(),
            filtered: options.get(OPTION_ICC).is_some_and(|icc| !is_true(icc)),
            subnets: configs
                .iter()
                .filter_map(|config| Some(config.subnet.as_ref()?.parse::<IpNet>().ok()?.trunc()))
                .collect(),
            id,
            name,
        }),
        "host" => NetworkKind::Unprotected(Unprotected::HostNetwork),
        "null" | "" => NetworkKind::Null,
        "overlay" => NetworkKind::Unprotected(Unprotected::Overlay),
        "macvlan" => NetworkKind::Unprotected(Unprotected::Macvlan),
        "ipvlan" => NetworkKind::Unprotected(Unprotected::Ipvlan),
        _ => NetworkKind::Unprotected(Unprotected::OtherDriver),
    };
    // Sandboxes of the engine itself have endpoints too, under names that are no ids.
    let endpoints = network
        .containers
        .unwrap_or_default()
        .into_iter()
        .filter(|(id, _)| is_id(id));
    Some(NetworkState {
        kind,
        endpoints: endpoints
            .map(|(id, endpoint)| (id, record(&endpoint)))
            .collect(),
    })
}

fn bridge_name(id: &str, name: &str, options: &HashMap<String, String>) -> String {
    match options.get(OPTION_BRIDGE) {
        Some(bridge) if !bridge.is_empty() => bridge.clone(),
        _ if name == "bridge" => "docker0".to_owned(),
        _ => format!("br-{}", id.get(..12).unwrap_or(id)),
    }
}

/// As the engine reads it (Go's strconv.ParseBool); what is neither it refuses.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn record(endpoint: &EndpointResource) -> EndpointRecord {
    let addresses = [&endpoint.ipv4_address, &endpoint.ipv6_address];
    EndpointRecord {
        mac: endpoint
            .mac_address
            .as_deref()
            .and_then(|mac| mac.parse().ok()),
        addresses: addresses
            .into_iter()
            .filter_map(|address| address.as_deref()?.split('/').next()?.parse().ok())
            .collect(),
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// From `80/tcp` and where it is bound.
fn published(ports: HashMap<String, Option<Vec<PortBinding>>>) -> Vec<Published> {
    let one = |port: &str, binding: &PortBinding| {
        let (container_port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = match protocol {
            "tcp" => TCP,
            "udp" => UDP,
            "sctp" => SCTP,
            _ => return None,
        };
        Some(Published {
            host_ip: host_ip(binding.host_ip.as_deref())?,
            host_port: binding.host_port.as_ref()?.parse().ok()?,
            container_port: container_port.parse().ok()?,
            protocol,
        })
    };
    let bindings = ports.iter().flat_map(|(port, bindings)| {
        bindings
            .iter()
            .flatten()
            .map(move |binding| (port, binding))
    });
    sorted(
        bindings
            .filter_map(|(port, binding)| one(port, binding))
            .collect(),
    )
}

fn host_ip(text: Option<&str>) -> Option<IpAddr> {
    match text.unwrap_or_default() {
        "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        text => text.parse().ok(),
    }
}

fn sorted(mut ports: Vec<Published>) -> Vec<Published> {
    ports.sort_by_key(|port| {
        (
            port.protocol,
            port.host_port,
            port.container_port,
            port.host_ip,
        )
    });
    ports.dedup();
    ports
}

fn joined(mode: &str) -> Option<String> {
    mode.strip_prefix("container:").map(str::to_owned)
}

fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

#[cfg(test)]
mod tests;
