//! What `docker inspect` prints of containers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ports;
use crate::model::{Container, Published, Unprotected};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    name: String,
    config: Config,
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    network_mode: String,
    #[serde(default)]
    privileged: bool,
    cap_add: Option<Vec<String>>,
    port_bindings: Option<BTreeMap<String, Option<Vec<Binding>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

/// The containers of the answer.
pub(super) fn containers(documents: Vec<Value>) -> Result<Vec<Container>, String> {
    documents
        .into_iter()
        .map(|document| {
            let inspected: Inspected = serde_json::from_value(document).map_err(|error| {
                format!("this is not a container as docker inspect prints it: {error}")
            })?;
            container(inspected)
        })
        .collect()
}

fn container(inspected: Inspected) -> Result<Container, String> {
    let Inspected {
        id,
        name,
        config,
        host_config: host,
    } = inspected;
    let published = host
        .port_bindings
        .unwrap_or_default()
        .into_iter()
        .flat_map(|(port, bindings)| {
            bindings
                .unwrap_or_default()
                .into_iter()
                .map(move |binding| publish(&port, &binding))
        })
        .collect::<Result<_, _>>()
        .map_err(|error| format!("container {name}: {error}"))?;
    let shares = host.network_mode.strip_prefix("container:");
    let unprotected = [
        (host.network_mode == "host", Unprotected::HostNetwork),
        (shares.is_some(), Unprotected::Shared),
        (host.privileged, Unprotected::Privileged),
        (
            host.cap_add.is_some_and(|caps| super::is_net_admin(&caps)),
            Unprotected::NetAdmin,
        ),
    ];
    Ok(Container {
        id,
        name: name.strip_prefix('/').unwrap_or(&name).to_owned(),
        labels: config.labels.unwrap_or_default(),
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

/// `80/tcp` and where on the host it is published.
fn publish(port: &str, binding: &Binding) -> Result<Published, String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let number = number
        .parse()
        .map_err(|_| format!("{port:?} is not a port"))?;
    ports::published(
        Some(&binding.host_ip),
        Some(&binding.host_port),
        number,
        protocol,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_of_an_engine() {
        let documents = vec![
            json!({
                "Id": "0123",
                "Name": "/shop-db-1",
                "Config": { "Labels": { "dfw.ingress": "", "com.docker.compose.project": "shop" } },
                "HostConfig": {
                    "NetworkMode": "shop_default",
                    "Privileged": false,
                    "CapAdd": null,
                    "PortBindings": {
                        "53/udp": null,
                        "80/tcp": [{ "HostIp": "", "HostPort": "8080" }, { "HostIp": "::1", "HostPort": "" }],
                    },
                },
            }),
            json!({
                "Id": "4567",
                "Name": "/probe",
                "Config": { "Labels": null },
                "HostConfig": { "NetworkMode": "container:0123", "CapAdd": ["NET_ADMIN"] },
            }),
        ];
        let containers = containers(documents).expect("valid");
        let [db, probe] = &containers[..] else {
            panic!("{containers:?}")
        };
        assert_eq!(
            (db.name.as_str(), db.project()),
            ("shop-db-1", Some("shop"))
        );
        insta::assert_debug_snapshot!(db.published, @r"
        [
            Published {
                host_ip: 0.0.0.0,
                host_port: 8080,
                container_port: 80,
                protocol: 6,
            },
            Published {
                host_ip: ::1,
                host_port: 0,
                container_port: 80,
                protocol: 6,
            },
        ]
        ");
        assert_eq!(probe.shares.as_deref(), Some("0123"));
        assert_eq!(
            probe.unprotected,
            [Unprotected::Shared, Unprotected::NetAdmin]
        );
    }

    #[test]
    fn something_else_is_said_to_be_so() {
        insta::assert_snapshot!(containers(vec![json!({ "Id": "sha256:0", "RepoTags": [] })]).expect_err("an image"), @"this is not a container as docker inspect prints it: missing field `Name`");
    }
}
