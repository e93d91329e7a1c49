//! What `docker compose config --format json` prints.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Offline, ports};
use crate::model::{Attachment, Container, LABEL_PROJECT, LABEL_SERVICE, Network, Unprotected};

#[derive(Deserialize)]
struct Project {
    name: Option<String>,
    services: BTreeMap<String, Service>,
    #[serde(default)]
    networks: BTreeMap<String, Option<Net>>,
}

#[derive(Deserialize, Default)]
struct Net {
    name: Option<String>,
    driver: Option<String>,
    #[serde(default)]
    enable_ipv6: bool,
    #[serde(default)]
    ipam: Ipam,
}

#[derive(Deserialize, Default)]
struct Ipam {
    config: Option<Vec<Pool>>,
}

#[derive(Deserialize)]
struct Pool {
    subnet: Option<IpNet>,
}

#[derive(Deserialize)]
struct Service {
    container_name: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    ports: Vec<Port>,
    network_mode: Option<String>,
    networks: Option<Legs>,
    #[serde(default)]
    privileged: bool,
    cap_add: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Labels {
    None(()),
    Map(BTreeMap<String, Value>),
    List(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Legs {
    Map(BTreeMap<String, Option<Leg>>),
    List(Vec<String>),
}

#[derive(Deserialize, Default)]
struct Leg {
    ipv4_address: Option<IpAddr>,
    ipv6_address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Port {
    target: u16,
    published: Option<Value>,
    host_ip: Option<String>,
    protocol: Option<String>,
}

impl Default for Labels {
    fn default() -> Self {
        Self::None(())
    }
}

impl Labels {
    fn into_map(self) -> BTreeMap<String, String> {
        match self {
            Self::None(()) => BTreeMap::new(),
            Self::Map(map) => map
                .into_iter()
                .map(|(key, value)| (key, text_of(value)))
                .collect(),
            Self::List(list) => list
                .into_iter()
                .map(|label| match label.split_once('=') {
                    Some((key, value)) => (key.to_owned(), value.to_owned()),
                    None => (label, String::new()),
                })
                .collect(),
        }
    }
}

/// Adds the containers that the project would have, one a service, and its networks.
pub(super) fn add_to(offline: &mut Offline, document: Value) -> Result<(), String> {
    let Project {
        name,
        services,
        mut networks,
    } = serde_json::from_value(document).map_err(|error| error.to_string())?;
    let project = name.as_deref();
    let mut found = Vec::new();
    for (service, definition) in services {
        let container = container(project, &service, definition, &mut networks)
            .map_err(|error| format!("service {service}: {error}"))?;
        found.push(container);
    }
    let bridges = networks.into_iter().filter_map(|(short, net)| {
        let net = net.unwrap_or_default();
        is_bridge(&net).then(|| network(project, short, net))
    });
    offline.networks.extend(bridges);
    offline.containers.append(&mut found);
    Ok(())
}

/// What a name means inside the project; the engine's own names have no slash.
fn id_of(project: Option<&str>, name: &str) -> String {
    format!("{}/{name}", project.unwrap_or_default())
}

fn is_bridge(net: &Net) -> bool {
    matches!(net.driver.as_deref(), None | Some("" | "bridge"))
}

fn network(project: Option<&str>, short: String, net: Net) -> Network {
    let id = id_of(project, &short);
    let pools = net.ipam.config.unwrap_or_default();
    let mut subnets: Vec<IpNet> = pools.into_iter().filter_map(|pool| pool.subnet).collect();
    for net in &mut subnets {
        *net = net.trunc();
    }
    // What it has none of yet is invented by whoever needs it; an empty one asks for it.
    if net.enable_ipv6 && !subnets.iter().any(|net| net.addr().is_ipv6()) {
        subnets.push(super::invent::ANY_V6);
    }
    Network {
        name: net.name.unwrap_or_else(|| match project {
            Some(project) => format!("{project}_{short}"),
            None => short.clone(),
        }),
        bridge: id.clone(),
        id,
        project: project.map(str::to_owned),
        short_name: Some(short),
        filtered: false,
        subnets,
    }
}

fn container(
    project: Option<&str>,
    name: &str,
    service: Service,
    networks: &mut BTreeMap<String, Option<Net>>,
) -> Result<Container, String> {
    let mut labels = service.labels.into_map();
    if let Some(project) = project {
        labels.insert(LABEL_PROJECT.to_owned(), project.to_owned());
    }
    labels.insert(LABEL_SERVICE.to_owned(), name.to_owned());
    let published = service
        .ports
        .into_iter()
        .map(|port| {
            let host_port = port.published.map(text_of);
            let protocol = port.protocol.as_deref().unwrap_or("tcp");
            ports::published(
                port.host_ip.as_deref(),
                host_port.as_deref(),
                port.target,
                protocol,
            )
        })
        .collect::<Result<_, _>>()?;
    let mode = service.network_mode.unwrap_or_default();
    let shares = match mode.split_once(':') {
        Some(("service", other)) => Some(id_of(project, other)),
        Some(("container", other)) => Some(other.to_owned()),
        _ => None,
    };
    let mut unprotected: Vec<Unprotected> = [
        (mode == "host", Unprotected::HostNetwork),
        (shares.is_some(), Unprotected::Shared),
        (service.privileged, Unprotected::Privileged),
        (
            service
                .cap_add
                .is_some_and(|caps| super::is_net_admin(&caps)),
            Unprotected::NetAdmin,
        ),
    ]
    .iter()
    .filter(|(is, _)| *is)
    .map(|(_, why)| *why)
    .collect();
    let mut attachments = Vec::new();
    if mode.is_empty() {
        for (short, leg) in service.networks.map_or_else(default_leg, Legs::into_map) {
            let net = networks.entry(short.clone()).or_default();
            match net.as_ref().and_then(|net| net.driver.as_deref()) {
                None | Some("" | "bridge") => attachments.push(Attachment {
                    network: id_of(project, &short),
                    addresses: leg
                        .ipv4_address
                        .into_iter()
                        .chain(leg.ipv6_address)
                        .collect(),
                    ..Attachment::default()
                }),
                Some("macvlan") => unprotected.push(Unprotected::Macvlan),
                Some("ipvlan") => unprotected.push(Unprotected::Ipvlan),
                Some("overlay") => unprotected.push(Unprotected::Overlay),
                Some(_) => unprotected.push(Unprotected::OtherDriver),
            }
        }
    }
    Ok(Container {
        id: id_of(project, name),
        name: service.container_name.unwrap_or_else(|| name.to_owned()),
        labels,
        attachments,
        unprotected,
        shares,
        running: true,
        published,
        ..Container::default()
    })
}

/// Where compose puts a service that names no network.
fn default_leg() -> BTreeMap<String, Leg> {
    BTreeMap::from([("default".to_owned(), Leg::default())])
}

impl Legs {
    fn into_map(self) -> BTreeMap<String, Leg> {
        match self {
            Self::Map(map) => map
                .into_iter()
                .map(|(name, leg)| (name, leg.unwrap_or_default()))
                .collect(),
            Self::List(names) => names
                .into_iter()
                .map(|name| (name, Leg::default()))
                .collect(),
        }
    }
}

/// A scalar as compose turns it into a label or port.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn containers(document: Value) -> Result<Vec<Container>, String> {
        let mut offline = Offline::default();
        add_to(&mut offline, document)?;
        Ok(offline.containers)
    }

    #[test]
    fn a_project() {
        let document = json!({
            "name": "shop",
            "services": {
                "db": {
                    "image": "postgres",
                    "labels": { "dfw.ingress": "tcp/5432 from service:api", "n": 1, "e": null },
                    "ports": [
                        { "mode": "ingress", "target": 5432, "published": "15432", "protocol": "tcp", "host_ip": "127.0.0.1" },
                        { "target": 53, "published": 5353, "protocol": "udp" },
                        { "target": 80 },
                    ],
                },
                "probe": {
                    "container_name": "p",
                    "labels": ["dfw.mode=off", "bare"],
                    "network_mode": "service:db",
                    "cap_add": ["CAP_NET_ADMIN"],
                    "privileged": true,
                },
                "plain": { "labels": null, "network_mode": "host" },
            },
        });
        let containers = containers(document).expect("valid");
        let [db, plain, probe] = &containers[..] else {
            panic!("{containers:?}")
        };
        assert_eq!(db.display_name(), "shop/db");
        assert_eq!(db.labels["dfw.ingress"], "tcp/5432 from service:api");
        assert_eq!(
            (db.labels["n"].as_str(), db.labels["e"].as_str()),
            ("1", "")
        );
        insta::assert_debug_snapshot!(db.published, @r"
        [
            Published {
                host_ip: 127.0.0.1,
                host_port: 15432,
                container_port: 5432,
                protocol: 6,
            },
            Published {
                host_ip: 0.0.0.0,
                host_port: 5353,
                container_port: 53,
                protocol: 17,
            },
            Published {
                host_ip: 0.0.0.0,
                host_port: 0,
                container_port: 80,
                protocol: 6,
            },
        ]
        ");
        assert_eq!(plain.unprotected, [Unprotected::HostNetwork]);
        assert_eq!(plain.labels.len(), 2);
        assert_eq!(
            (probe.name.as_str(), probe.shares.as_deref()),
            ("p", Some("shop/db"))
        );
        assert_eq!(
            probe.unprotected,
            [
                Unprotected::Shared,
                Unprotected::Privileged,
                Unprotected::NetAdmin
            ]
        );
        assert_eq!(probe.labels["dfw.mode"], "off");
        assert_eq!(probe.labels["bare"], "");
    }

    #[test]
    fn mistakes_name_the_service() {
        let port = |port: Value| {
            let document = json!({ "services": { "db": { "ports": [port] } } });
            containers(document).expect_err("invalid")
        };
        assert_eq!(
            port(json!({ "target": 1, "host_ip": "x" })),
            "service db: \"x\" is not an address"
        );
        assert_eq!(
            port(json!({ "target": 1, "published": "x" })),
            "service db: \"x\" is not a port"
        );
    }
}
