//! Random nodes and rules: the compiled maps give the verdicts that the oracle gives.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use dfw_common::{
    reason::Direction,
    value::{PolicyEntry, kind},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

use super::{
    kernel::Kernel,
    node::{Node, container, ip, net, options},
    oracle::{self, Oracle, Who},
};
use crate::{
    model::{Container, Endpoint, Inventory, LABEL_PROJECT, LABEL_SERVICE},
    policy::{
        Action, Compiled, Compiler, Held, Item, Mode, Peer, PortRange, Ports, Protocol, Rule,
        parse_rules,
    },
};

const ADDRESSES: [&str; 26] = [
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
pub(super) fn label_sides(container: &mut Container, sides: &Sides) {
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

/// Judges every address and flow for one endpoint by the maps and by the oracle.
pub(super) fn compare(
    compiled: &Compiled,
    policy: u32,
    endpoint: &Endpoint,
    inventory: &Inventory,
) -> Result<(), TestCaseError> {
    let (kernel, oracle) = (Kernel(compiled), Oracle(inventory));
    let own = &endpoint.container;
    for direction in Direction::ALL {
        let rules = oracle::rules(own, direction);
        for address in ADDRESSES.map(ip) {
            let class = kernel.class(endpoint.network, address);
            let who = oracle.class(endpoint.network, address);
            let mut some_allowed = false;
            for flow in FLOWS {
                let judged = kernel.judge(policy, direction, class, flow);
                let answer = oracle.judge(own, &rules, who, address, flow);
                let context = || format!("{direction:?} {address} {who:?} {class:?} {flow:?}");
                prop_assert_eq!(judged.allowed, answer.allowed, "{}", context());
                prop_assert_eq!(judged.log, answer.log, "{}", context());
                if answer.decided {
                    let rule = compiled.rules.get(&(policy, judged.rule));
                    let text = rule.map(|rule| rule.text.as_str()).unwrap_or_default();
                    let alone = parse_rules(direction, text).expect("a rule");
                    let by_it = oracle.judge(own, &alone, who, address, flow);
                    let named = (by_it.decided, by_it.allowed);
                    prop_assert_eq!(named, (true, answer.allowed), "{} {}", context(), text);
                } else {
                    prop_assert_eq!(judged.rule, PolicyEntry::NO_RULE, "{}", context());
                }
                some_allowed |= judged.allowed;
            }
            let resolves = kernel.some_allowed(policy, direction, class);
            prop_assert!(resolves || !some_allowed);
        }
    }
    Ok(())
}

pub(super) fn compile(inventory: &Inventory) -> Compiled {
    Compiler::new(1, Held::default()).compile(inventory, &options(Mode::Audit))
}

fn kind_and_ifindex(who: Who<'_>) -> (u32, u32) {
    match who {
        Who::Group => (kind::GROUP, 0),
        Who::Host => (kind::HOST, 0),
        Who::Endpoint(endpoint) => (kind::ENDPOINT, endpoint.ifindex),
        Who::Unknown => (kind::UNKNOWN, 0),
        Who::World => (kind::WORLD, 0),
    }
}

/// All that the maps allow: endpoint, direction, address, flow.
fn reach(inventory: &Inventory) -> BTreeSet<(u32, Direction, IpAddr, (u8, u16))> {
    let compiled = compile(inventory);
    let kernel = Kernel(&compiled);
    let mut reach = BTreeSet::new();
    for (ifindex, endpoint) in &compiled.endpoints {
        for (direction, address) in Direction::ALL
            .into_iter()
            .flat_map(|d| ADDRESSES.map(|address| (d, ip(address))))
        {
            let peer = kernel.class(endpoint.network, address);
            let allowed = |flow: &(u8, u16)| {
                kernel
                    .judge(endpoint.policy, direction, peer, *flow)
                    .allowed
            };
            reach.extend(
                FLOWS
                    .into_iter()
                    .filter(allowed)
                    .map(|f| (*ifindex, direction, address, f)),
            );
        }
    }
    reach
}

/// The same node, with another text for one side of every container.
fn relabelled(inventory: &Inventory, side: Direction, text: impl Fn(&str) -> String) -> Inventory {
    let mut inventory = inventory.clone();
    for endpoint in &mut inventory.endpoints {
        let container = Arc::make_mut(&mut endpoint.container);
        if let Some(value) = container.labels.get_mut(&format!("dfw.{}", side.name())) {
            *value = text(value);
        }
    }
    inventory.containers = inventory
        .endpoints
        .iter()
        .map(|e| Arc::clone(&e.container))
        .collect();
    inventory
}

proptest! {
    #[test]
    fn classes_are_those_of_the_oracle(inventory in inventory()) {
        let compiled = compile(&inventory);
        let (kernel, oracle) = (Kernel(&compiled), Oracle(&inventory));
        for network in &inventory.networks {
            for address in ADDRESSES.map(ip) {
                let class = kernel.class(network.ifindex, address);
                let who = oracle.class(network.ifindex, address);
                let found = (class.kind, class.ifindex);
                prop_assert_eq!(found, kind_and_ifindex(who), "{} on {}", address, network.ifindex);
            }
        }
    }

    #[test]
    fn verdicts_are_those_of_the_oracle(inventory in inventory()) {
        let compiled = compile(&inventory);
        for endpoint in &inventory.endpoints {
            let policy = compiled.endpoints[&endpoint.ifindex].policy;
            compare(&compiled, policy, endpoint, &inventory)?;
        }
    }

    #[test]
    fn one_deny_more_never_adds_reach(inventory in inventory(), deny in rule(Direction::Ingress)) {
        let deny = Rule { action: Action::Deny, ..deny };
        let outside = deny.peers.iter().any(|p| matches!(p, Peer::Service { project: None, .. }));
        prop_assume!(!outside);
        let stricter = relabelled(&inventory, Direction::Ingress, |text| match text {
            "" => deny.to_string(),
            text => format!("{text};{deny}"),
        });
        prop_assert!(reach(&stricter).is_subset(&reach(&inventory)));
    }

    #[test]
    fn order_is_irrelevant(inventory in inventory()) {
        let reversed = relabelled(&inventory, Direction::Egress, |text| {
            text.split(';').rev().collect::<Vec<_>>().join(";")
        });
        let same = relabelled(&inventory, Direction::Egress, str::to_owned);
        let strip = |mut compiled: Compiled| {
            compiled.findings.clear();
            compiled
        };
        prop_assert_eq!(strip(compile(&reversed)), strip(compile(&same)));
    }

    #[test]
    fn empty_is_nobody(inventory in inventory()) {
        for side in Direction::ALL {
            let empty = relabelled(&inventory, side, |_| String::new());
            prop_assert!(reach(&empty).iter().all(|(_, direction, _, _)| *direction != side));
        }
    }
}
