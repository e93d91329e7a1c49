//! Random nodes and rules, from few words, so that much of it meets.

use std::sync::Arc;

use dfw_common::reason::Direction;
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::node::{Node, container, ip, net};
use crate::{
    model::{Container, Inventory, LABEL_PROJECT, LABEL_SERVICE},
    policy::{Action, Item, Peer, PortRange, Ports, Protocol, Rule},
};

pub(super) const ADDRESSES: [&str; 26] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.9",
    "10.0.0.255",
    "10.0.1.2",
    "10.0.1.255",
    "10.0.255.255",
    "10.9.0.1",
    "192.0.2.1",
    "192.0.2.7",
    "198.51.100.1",
    "127.0.0.1",
    "127.9.9.9",
    "224.0.0.1",
    "255.255.255.255",
    "fd00::1",
    "fd00::2",
    "fd00:0:0:1::2",
    "fd01::2",
    "2001:db8::1",
    "::1",
    "fe80::1",
    "fe80::2",
    "fe80:0:0:1::2",
    "ff02::1",
];
const SUBNETS: [&str; 9] = [
    "10.0.0.0/24",
    "10.0.1.0/24",
    "10.0.0.0/23",
    "10.0.0.0/16",
    "10.0.0.2/31",
    "192.0.2.0/28",
    "fd00::/64",
    "fd00::/48",
    "fd01::/64",
];
const CIDRS: [&str; 21] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.2/32",
    "10.0.1.0/24",
    "192.0.2.0/24",
    "192.0.2.7/32",
    "224.0.0.0/3",
    "240.0.0.0/4",
    "127.0.0.0/8",
    "127.9.0.0/16",
    "::/0",
    "fd00::/16",
    "fd00::/64",
    "fd00::2/128",
    "fe80::/64",
    "fe80::/9",
    "2000::/3",
    "fe00::/7",
];
pub(super) const FLOWS: [(u8, u16); 17] = [
    (6, 0),
    (6, 1),
    (6, 79),
    (6, 80),
    (6, 81),
    (6, 443),
    (6, 8000),
    (6, 65535),
    (17, 53),
    (17, 80),
    (1, 0),
    (1, 8),
    (1, 255),
    (58, 128),
    (58, 8),
    (132, 80),
    (47, 0),
];

fn ports() -> impl Strategy<Value = Ports> {
    let range = |low, high| Some(PortRange { low, high });
    let port = select(vec![
        None,
        range(80, 80),
        range(1, 80),
        range(79, 443),
        range(81, 65535),
        range(1, 65535),
        range(53, 53),
        range(8000, 8100),
        range(64, 127),
    ]);
    let icmp = select(vec![None, range(8, 8), range(0, 255), range(128, 255)]);
    let item = prop_oneof![
        4 => (select(vec![6u8, 17, 132]), port),
        1 => (select(vec![1u8, 58]), icmp),
        1 => Just((47u8, None)),
    ];
    let item = item.prop_map(|(number, range)| Item {
        protocol: Protocol(number),
        range,
    });
    prop_oneof![1 => Just(Ports::Any), 5 => vec(item, 1..4).prop_map(Ports::Items)]
}

fn peer() -> impl Strategy<Value = Peer> {
    let text = |texts: &'static [&'static str]| select(texts).prop_map(str::to_owned);
    prop_oneof![
        3 => (option::of(text(&["p", "q"])), text(&["a", "b"]))
            .prop_map(|(project, name)| Peer::Service { project, name }),
        1 => text(&["p", "q"]).prop_map(Peer::Project),
        2 => text(&["g", "h"]).prop_map(Peer::Group),
        1 => text(&["c0", "c1", "c2"]).prop_map(Peer::Container),
        2 => text(&["n0", "n1", "s"]).prop_map(Peer::Net),
        1 => text(&["red", "a,b"]).prop_map(|value| Peer::Label { key: "color".to_owned(), value }),
        6 => select(CIDRS.to_vec()).prop_map(|cidr| Peer::Cidr(net(cidr))),
        1 => Just(Peer::Host),
        1 => Just(Peer::World),
        1 => Just(Peer::Any),
    ]
}

pub(super) fn rule(direction: Direction) -> impl Strategy<Value = Rule> {
    let action = prop_oneof![2 => Just(Action::Allow), 1 => Just(Action::Deny)];
    (
        action,
        ports(),
        vec(peer(), 1..4),
        prop::bool::weighted(0.2),
    )
        .prop_map(move |(action, ports, peers, log)| Rule {
            direction,
            action,
            ports,
            peers,
            log,
        })
}

/// The rules of both sides, as a container may have them: each side may be absent.
type Sides = [Option<Vec<Rule>>; 2];

fn sides() -> impl Strategy<Value = Sides> {
    let side = |direction| option::weighted(0.8, vec(rule(direction), 0..5));
    (side(Direction::Ingress), side(Direction::Egress)).prop_map(|(a, b)| [a, b])
}

fn containers() -> impl Strategy<Value = Vec<Container>> {
    let attributes = (
        option::weighted(0.8, select(vec!["p", "q"])),
        select(vec!["a", "b"]),
        subsequence(vec!["g", "h"], 0..=2),
        option::of(select(vec!["red", "a,b"])),
    );
    vec((attributes, sides()), 1..6).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(number, ((project, service, groups, color), sides))| {
            let mut one = container(&format!("c{number}"), &[]);
            let mut label = |key: &str, value: &str| {
                one.labels.insert(key.to_owned(), value.to_owned());
            };
            if let Some(project) = project {
                label(LABEL_PROJECT, project);
                label(LABEL_SERVICE, service);
            }
            if !groups.is_empty() {
                label("dfw.group", &groups.join(","));
            }
            if let Some(color) = color {
                label("color", color);
            }
            label_sides(&mut one, &sides);
            one
        })
        .collect()
    })
}

/// Writes rules into labels; a service without a project is made one of `p` where the container has none.
fn label_sides(container: &mut Container, sides: &Sides) {
    let outside = container.project().is_none();
    for (direction, rules) in Direction::ALL.into_iter().zip(sides) {
        let Some(rules) = rules else {
            continue;
        };
        let text = rules.iter().map(|rule| {
            let mut rule = rule.clone();
            for peer in &mut rule.peers {
                if let (
                    true,
                    Peer::Service {
                        project: project @ None,
                        ..
                    },
                ) = (outside, peer)
                {
                    *project = Some("p".to_owned());
                }
            }
            rule.to_string()
        });
        let text: Vec<String> = text.collect();
        container
            .labels
            .insert(format!("dfw.{}", direction.name()), text.join(";"));
    }
}

pub(super) fn inventory() -> impl Strategy<Value = Inventory> {
    let subnets = subsequence(SUBNETS.to_vec(), 1..=3);
    let networks = vec(
        (subnets, option::of(Just("p")), prop::bool::weighted(0.2)),
        1..=3,
    );
    let addresses = ADDRESSES.to_vec();
    let hosts = vec(
        (select(vec![1u32, 10, 11]), select(addresses.clone())),
        0..4,
    );
    let legs = vec((0..6usize, 0..3u32, subsequence(addresses, 0..=4)), 1..8);
    (networks, containers(), hosts, legs).prop_map(|(networks, containers, hosts, legs)| {
        let containers: Vec<Arc<Container>> = containers.into_iter().map(Arc::new).collect();
        let mut node = Node::default();
        let count = networks.len() as u32;
        for (number, (subnets, project, foreign)) in (0..).zip(networks) {
            node = node.network(10 + number, &format!("n{number}"), &subnets);
            let bound = node.0.networks.last_mut().expect("just added");
            bound.network.project = project.map(str::to_owned);
            bound.network.short_name = project.map(|_| "s".to_owned());
            bound.foreign_ports = if foreign {
                vec!["eth1".to_owned()]
            } else {
                Vec::new()
            };
        }
        for (ifindex, address) in hosts {
            if !ip(address).is_multicast() && address != "255.255.255.255" {
                node = node.host(
                    ifindex,
                    &format!("{address}/{}", if address.contains(':') { 64 } else { 24 }),
                );
            }
        }
        for container in &containers {
            node = node.with(container);
        }
        for (number, (container, network, addresses)) in (0..).zip(legs) {
            let container = &containers[container % containers.len()];
            node = node.endpoint(100 + number, 10 + network % count, container, &addresses);
        }
        node.0
    })
}
