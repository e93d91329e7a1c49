//! One bridge, a client and a server with many rules: compiled by the agent's own compiler.

use std::{net::IpAddr, sync::Arc};

use dfw_agent::{
    model::{BoundNetwork, Container, Endpoint, Inventory, Network},
    policy::{Compiler, Held, Mode, Options},
};
use dfw_common::{
    addr::Mac,
    maps::FLOWS_MAX,
    plain::Tables,
    value::{self, Settings, mode},
};

/// The bridge.
pub(crate) const BRIDGE: u32 = 10;
/// The client's interface.
pub(crate) const CLIENT: u32 = 11;
/// The server's.
pub(crate) const SERVER: u32 = 12;
/// Where the world is.
pub(crate) const UPLINK: u32 = 13;

/// Every interface.
pub(crate) const INTERFACES: [u32; 4] = [BRIDGE, CLIENT, SERVER, UPLINK];

/// The client's addresses.
pub(crate) const CLIENT_IPS: [&str; 2] = ["10.77.0.2", "fd77::2"];
/// The server's.
pub(crate) const SERVER_IPS: [&str; 2] = ["10.77.0.3", "fd77::3"];
/// Somebody in the world whom the last rule names.
pub(crate) const WORLD_IPS: [&str; 2] = ["20.0.0.1", "2600::1"];

/// MAC of an interface's other end.
pub(crate) fn mac(ifindex: u32) -> [u8; 6] {
    [2, 0, 0, 0, 0, ifindex as u8]
}

/// What is asked for: everything else is the least of it.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Rules of the server besides the client's.
    pub(crate) rules: usize,
    /// Of the node; client and server are two of them.
    pub(crate) endpoints: usize,
    /// How many the client may have at once; a power of two.
    pub(crate) flows: u32,
}

impl Size {
    pub(crate) const LEAST: Self = Self {
        rules: 1,
        endpoints: 2,
        flows: 8192,
    };
}

/// The server's labels.
fn labels(rules: usize) -> Vec<(String, String)> {
    let client = format!("tcp/80-83 from {}/32, {}/128", CLIENT_IPS[0], CLIENT_IPS[1]);
    let mut labels = dfw_tests::rules::many(rules);
    labels.push(("dfw.ingress.client".to_owned(), client));
    // Somebody in the world, whatever the number of rules.
    labels.push((
        "dfw.ingress.world".to_owned(),
        "tcp/443 from 20.0.0.0/24, 2600:0::/32".to_owned(),
    ));
    labels
}

/// Somebody else on the bridge, with a rule.
fn other(number: usize) -> Endpoint {
    let ips = [
        format!("10.77.{}.{}", 1 + number / 250, 1 + number % 250),
        format!("fd77::1:{number:x}"),
    ];
    let labels = vec![("dfw.ingress".to_owned(), "tcp/80 from any".to_owned())];
    let ifindex = UPLINK + 1 + number as u32;
    let mut endpoint = endpoint(ifindex, [&ips[0], &ips[1]], labels);
    endpoint.mac = Mac::new([2, 0, 1, 0, (number >> 8) as u8, number as u8]);
    endpoint
}

fn endpoint(ifindex: u32, ips: [&str; 2], labels: Vec<(String, String)>) -> Endpoint {
    let name = format!("c{ifindex}");
    Endpoint {
        ifindex,
        interface: format!("i{ifindex}"),
        network: BRIDGE,
        container: Arc::new(Container {
            id: name.clone(),
            name,
            labels: labels.into_iter().collect(),
            running: true,
            ..Container::default()
        }),
        mac: Mac::new(mac(ifindex)),
        addresses: ips.iter().map(|ip| address(ip)).collect(),
    }
}

/// An address of this file.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// What the agent would write.
pub(crate) fn tables(size: Size) -> Tables {
    let any = vec![("dfw.egress".to_owned(), "any to any".to_owned())];
    let network = Network {
        id: "lan".to_owned(),
        name: "lan".to_owned(),
        project: None,
        short_name: None,
        filtered: false,
        bridge: format!("i{BRIDGE}"),
        subnets: ["10.77.0.0/16", "fd77::/64"]
            .iter()
            .map(|net| net.parse().expect("a net"))
            .collect(),
    };
    let inventory = Inventory {
        endpoints: [
            endpoint(CLIENT, CLIENT_IPS, any),
            endpoint(SERVER, SERVER_IPS, labels(size.rules)),
        ]
        .into_iter()
        .chain((2..size.endpoints).map(other))
        .collect(),
        networks: vec![BoundNetwork {
            ifindex: BRIDGE,
            network,
            foreign_ports: Vec::new(),
        }],
        ..Inventory::default()
    };
    let options = Options {
        unlabelled: Mode::Enforce,
        ..Options::default()
    };
    let compiled = Compiler::new(1, Held::default()).compile(&inventory, &options);
    let errors: Vec<_> = compiled.findings.iter().map(|f| &f.message).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let endpoints = compiled.endpoints.iter().map(|(ifindex, endpoint)| {
        // The client's part of the ring comes first; those that send nothing share one.
        let (ring_base, ring_mask) = match *ifindex {
            CLIENT => (0, size.flows - 1),
            _ => (size.flows % FLOWS_MAX, 8191),
        };
        let value = value::Endpoint {
            ifindex: *ifindex,
            network: endpoint.network,
            mode: mode::ENFORCE,
            policy: endpoint.policy,
            ring_base,
            ring_mask,
            mac: endpoint.mac,
            redirects: 1,
            pad: 0,
        };
        (*ifindex, value)
    });
    Tables {
        settings: Settings {
            epoch: 1,
            hz: 250,
            event_rate: 2000,
            ..Settings::default()
        },
        endpoints: endpoints.collect(),
        addresses: compiled.addresses.into_iter().collect(),
        prefixes: compiled.prefixes,
        policy: compiled.policy.into_iter().collect(),
        ..Tables::default()
    }
}
