//! Random nodes and rules: the compiled maps give the verdicts that the oracle gives.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use dfw_common::{
    reason::Direction,
    value::{PolicyEntry, kind},
};
use proptest::prelude::*;

use super::{
    kernel::Kernel,
    node::{ip, options},
    oracle::{self, Oracle, Who},
    random::{ADDRESSES, FLOWS, inventory, rule},
};
use crate::{
    model::{Endpoint, Inventory},
    policy::{Action, Compiled, Compiler, Held, Mode, Peer, Rule, parse_rules},
};

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

fn compile(inventory: &Inventory) -> Compiled {
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
    #![proptest_config(ProptestConfig::with_cases(128))]

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
