//! What `docker compose config --format json` prints.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ports;
use crate::model::{Container, LABEL_PROJECT, LABEL_SERVICE, Unprotected};

#[derive(Deserialize)]
struct Project {
    name: Option<String>,
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    container_name: Option<String>,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    ports: Vec<Port>,
    network_mode: Option<String>,
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

/// The containers that the project would have, one a service.
pub(super) fn containers(document: Value) -> Result<Vec<Container>, String> {
    let Project { name, services } =
        serde_json::from_value(document).map_err(|error| error.to_string())?;
    services
        .into_iter()
        .map(|(service, definition)| {
            container(name.as_deref(), &service, definition)
                .map_err(|error| format!("service {service}: {error}"))
        })
        .collect()
}

fn container(project: Option<&str>, name: &str, service: Service) -> Result<Container, String> {
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
    let shares = mode
        .strip_prefix("service:")
        .or_else(|| mode.strip_prefix("container:"));
    let unprotected = [
        (mode == "host", Unprotected::HostNetwork),
        (shares.is_some(), Unprotected::Shared),
        (service.privileged, Unprotected::Privileged),
        (
            service
                .cap_add
                .is_some_and(|caps| super::is_net_admin(&caps)),
            Unprotected::NetAdmin,
        ),
    ];
    Ok(Container {
        name: service.container_name.unwrap_or_else(|| name.to_owned()),
        labels,
        unprotected: unprotected
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, why)| *why)
            .collect(),
        shares: shares.map(str::to_owned),
        published,
        ..Container::default()
    })
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
            ("p", Some("db"))
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
