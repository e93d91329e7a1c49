//! A small builder of inventories.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use dfw_common::addr::Mac;
use ipnet::IpNet;

use crate::{
    model::{
        BoundNetwork, Container, Endpoint, Finding, HostAddress, Inventory, LABEL_PROJECT,
        LABEL_SERVICE, Network,
    },
    policy::{Compiled, Compiler, Held, Mode, Options},
};

pub(super) fn options(unlabelled: Mode) -> Options {
    Options {
        unlabelled,
        ..Options::default()
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().expect("a net")
}

/// A container with labels.
pub(super) fn container(name: &str, labels: &[(&str, &str)]) -> Container {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        labels: labels.iter().map(text).collect(),
        ..Container::default()
    }
}

/// A container of a compose service.
pub(super) fn service(project: &str, name: &str, labels: &[(&str, &str)]) -> Container {
    let mut container = container(&format!("{project}-{name}-1"), labels);
    container
        .labels
        .insert(LABEL_PROJECT.to_owned(), project.to_owned());
    container
        .labels
        .insert(LABEL_SERVICE.to_owned(), name.to_owned());
    container
}

#[derive(Default)]
pub(super) struct Node(pub(super) Inventory);

impl Node {
    pub(super) fn network(mut self, ifindex: u32, name: &str, subnets: &[&str]) -> Self {
        let network = Network {
            id: format!("net-{name}"),
            name: name.to_owned(),
            project: None,
            short_name: None,
            filtered: false,
            bridge: format!("br{ifindex}"),
            subnets: subnets.iter().map(|subnet| net(subnet)).collect(),
        };
        self.0.networks.push(BoundNetwork {
            ifindex,
            network,
            foreign_ports: Vec::new(),
        });
        self
    }

    pub(super) fn host(mut self, ifindex: u32, address: &str) -> Self {
        self.0.host_addresses.push(HostAddress {
            ifindex,
            net: net(address),
        });
        self
    }

    pub(super) fn endpoint(
        mut self,
        ifindex: u32,
        network: u32,
        container: &Arc<Container>,
        addresses: &[&str],
    ) -> Self {
        self.0.endpoints.push(Endpoint {
            ifindex,
            interface: format!("veth{ifindex}"),
            network,
            container: Arc::clone(container),
            mac: Mac::new([2, 0, 0, 0, 0, ifindex as u8]),
            addresses: addresses.iter().map(|address| ip(address)).collect(),
        });
        self.with(container)
    }

    pub(super) fn with(mut self, container: &Arc<Container>) -> Self {
        if !self
            .0
            .containers
            .iter()
            .any(|known| known.id == container.id)
        {
            self.0.containers.push(Arc::clone(container));
        }
        self
    }

    pub(super) fn compile(&self) -> Compiled {
        Compiler::new(1, Held::default()).compile(&self.0, &options(Mode::Audit))
    }
}

/// One container alone on a network of both families.
pub(super) fn alone(container: Container) -> Node {
    let container = Arc::new(container);
    Node::default()
        .network(10, "lan", &["10.0.0.0/24", "fd00::/64"])
        .endpoint(100, 10, &container, &["10.0.0.2"])
}

/// The codes of some findings.
pub(super) fn codes(findings: &[Finding]) -> Vec<&str> {
    findings
        .iter()
        .map(|finding| finding.code.as_str())
        .collect()
}

/// Labels as a map.
pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    container("x", pairs).labels
}
