//! One bridge, a client and a server with many rules: compiled by the agent's own compiler.

use std::{net::IpAddr, sync::Arc};

use dfw_agent::{
    model::{BoundNetwork, Container, Endpoint, Inventory, Network},
    policy::{Compiler, Held, Mode, Options},
};
use dfw_common::{
    addr::Mac,
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

/// Ports of a rule, and peers: a rule counts for each port and peer.
const PORTS: usize = 20;
const PEERS: usize = 4;

/// The labels of the server: `rules` ports allowed to one peer each, half of them IPv4.
fn labels(rules: usize) -> Vec<(String, String)> {
    let mut labels = vec![(
        "dfw.ingress.client".to_owned(),
        format!("tcp/80 from {}/32, {}/128", CLIENT_IPS[0], CLIENT_IPS[1]),
    )];
    let (ports, peers) = if rules < PORTS * PEERS {
        (rules / 2, 2)
    } else {
        (PORTS, PEERS)
    };
    for number in 0..rules / (ports * peers) {
        let ports: Vec<_> = (0..ports)
            .map(|port| (443 + port * 2).to_string())
            .collect();
        let peers = (0..peers).map(|peer| {
            let net = number * PEERS / 2 + peer / 2;
            let (high, low) = (net / 256, net % 256);
            match peer % 2 {
                0 => format!("20.{high}.{low}.0/24"),
                _ => format!("2600:{net:x}::/32"),
            }
        });
        let peers: Vec<_> = peers.collect();
        let text = format!("tcp/{} from {}", ports.join(","), peers.join(","));
        labels.push((format!("dfw.ingress.r{number}"), text));
    }
    labels
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
pub(crate) fn tables(rules: usize) -> Tables {
    let any = vec![("dfw.egress".to_owned(), "any to any".to_owned())];
    let network = Network {
        id: "lan".to_owned(),
        name: "lan".to_owned(),
        project: None,
        short_name: None,
        filtered: false,
        bridge: format!("i{BRIDGE}"),
        subnets: ["10.77.0.0/24", "fd77::/64"]
            .iter()
            .map(|net| net.parse().expect("a net"))
            .collect(),
    };
    let inventory = Inventory {
        endpoints: vec![
            endpoint(CLIENT, CLIENT_IPS, any),
            endpoint(SERVER, SERVER_IPS, labels(rules)),
        ],
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
        let value = value::Endpoint {
            ifindex: *ifindex,
            network: endpoint.network,
            mode: mode::ENFORCE,
            policy: endpoint.policy,
            ring_base: (ifindex - CLIENT) * 8192,
            ring_mask: 8191,
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
