//! Random nodes under random ceilings: what passes is what rules and ceilings both allow.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use dfw_common::reason::Direction;
use proptest::{collection::vec, prelude::*};

use super::{
    kernel::Kernel,
    node::{ip, options},
    oracle::{self, Oracle, Who},
    random::{ADDRESSES, FLOWS, inventory, rule},
};
use crate::{
    model::Inventory,
    policy::{Compiled, Compiler, Held, Mode, NodePolicy, Options, Peer, Rule},
};

/// Endpoint, side, address, protocol and port.
type Reach = BTreeSet<(u32, Direction, IpAddr, (u8, u16))>;

fn options_with(text: &str) -> Options {
    let node = NodePolicy::parse("policy.toml", text);
    Options {
        node: Arc::new(node.unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"))),
        ..options(Mode::Audit)
    }
}

fn compile(inventory: &Inventory, text: &str) -> Compiled {
    Compiler::new(1, Held::default()).compile(inventory, &options_with(text))
}

fn reach(inventory: &Inventory, text: &str) -> Reach {
    let compiled = compile(inventory, text);
    let kernel = Kernel(&compiled);
    let mut reach = Reach::new();
    for (ifindex, endpoint) in &compiled.endpoints {
        for direction in Direction::ALL {
            for address in ADDRESSES.map(ip) {
                let peer = kernel.class(endpoint.network, address);
                let allowed = |flow: &(u8, u16)| {
                    kernel
                        .judge(endpoint.policy, direction, peer, *flow)
                        .allowed
                };
                let flows = FLOWS.into_iter().filter(allowed);
                reach.extend(flows.map(|flow| (*ifindex, direction, address, flow)));
            }
        }
    }
    reach
}

/// Rules as a file takes them: without a project of one's own.
fn rules(direction: Direction) -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(direction), 0..4).prop_map(|mut rules| {
        for peer in rules.iter_mut().flat_map(|rule| &mut rule.peers) {
            if let Peer::Service {
                project: project @ None,
                ..
            } = peer
            {
                *project = Some("p".to_owned());
            }
        }
        rules
    })
}

fn text(rules: &[Rule]) -> String {
    let rules: Vec<String> = rules.iter().map(Rule::to_string).collect();
    // A string of JSON is one of TOML.
    serde_json::to_string(&rules.join(";")).expect("text")
}

fn ceiling(select: &str, ingress: &[Rule]) -> String {
    format!(
        "[[ceiling]]\nfor = \"{select}\"\ningress = {}\n",
        text(ingress)
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_ceiling_is_what_passes_at_most(inventory in inventory(), limit in rules(Direction::Ingress)) {
        let free = reach(&inventory, "");
        let bound = reach(&inventory, &ceiling("any", &limit));
        let compiled = compile(&inventory, "");
        let oracle = Oracle(&inventory);
        let expected: Reach = free
            .into_iter()
            .filter(|(ifindex, direction, address, flow)| {
                let endpoint = inventory.endpoints.iter().find(|e| e.ifindex == *ifindex).expect("known");
                let who = oracle.class(compiled.endpoints[ifindex].network, *address);
                let by_ceiling = oracle.judge(&endpoint.container, &limit, who, *address, *flow);
                *direction == Direction::Egress || by_ceiling.allowed
            })
            .collect();
        // A net of the container's own project is not meant in a file.
        let names_net = limit.iter().flat_map(|rule| &rule.peers).any(|peer| *peer == Peer::Net("s".to_owned()));
        prop_assume!(!names_net);
        prop_assert_eq!(bound, expected);
    }

    #[test]
    fn one_ceiling_more_never_adds_reach(
        inventory in inventory(),
        first in rules(Direction::Ingress),
        second in rules(Direction::Ingress),
    ) {
        let one = ceiling("any", &first);
        let two = format!("{one}{}", ceiling("project:p", &second));
        prop_assert!(reach(&inventory, &two).is_subset(&reach(&inventory, &one)));
        prop_assert!(reach(&inventory, &one).is_subset(&reach(&inventory, "")));
    }

    #[test]
    fn an_empty_ceiling_allows_nobody(inventory in inventory()) {
        let reach = reach(&inventory, &ceiling("any", &[]));
        prop_assert!(reach.iter().all(|(_, direction, _, _)| *direction == Direction::Egress));
    }

    #[test]
    fn the_order_of_entries_is_irrelevant(
        inventory in inventory(),
        limit in rules(Direction::Ingress),
        other in rules(Direction::Ingress),
        more in rules(Direction::Egress),
    ) {
        let rules = format!("[[rules]]\nfor = \"project:p\"\negress = {}\n", text(&more));
        let (a, b) = (ceiling("any", &limit), ceiling("group:g", &other));
        prop_assert_eq!(
            reach(&inventory, &format!("{a}{b}{rules}")),
            reach(&inventory, &format!("{rules}{b}{a}"))
        );
    }

    #[test]
    fn the_edge_limits_what_comes_from_outside_only(inventory in inventory()) {
        let free = reach(&inventory, "");
        let closed = reach(&inventory, "[edge]\npublished = \"\"\nhost = \"\"\n");
        let oracle = Oracle(&inventory);
        let compiled = compile(&inventory, "");
        let expected: Reach = free
            .into_iter()
            .filter(|(ifindex, direction, address, _)| {
                match oracle.class(compiled.endpoints[ifindex].network, *address) {
                    Who::Host => false,
                    Who::World => *direction == Direction::Egress,
                    Who::Group | Who::Endpoint(_) | Who::Unknown => true,
                }
            })
            .collect();
        prop_assert_eq!(closed, expected);
    }

    /// The same rules, in a label or in the file.
    #[test]
    fn a_file_says_what_a_label_would(inventory in inventory()) {
        let mut bare = inventory.clone();
        let mut file = String::new();
        for endpoint in &mut bare.endpoints {
            let container = Arc::make_mut(&mut endpoint.container);
            let has_own_project = Direction::ALL.into_iter().flat_map(|side| oracle::rules(container, side)).any(|rule| {
                rule.peers.iter().any(|peer| matches!(peer, Peer::Service { project: None, .. } | Peer::Net(_)))
            });
            prop_assume!(!has_own_project);
            let mut sides = String::new();
            for side in Direction::ALL {
                if let Some(text) = container.labels.remove(&format!("dfw.{}", side.name())) {
                    sides += &format!("{} = {}\n", side.name(), serde_json::to_string(&text).expect("text"));
                }
            }
            let entry = format!("[[rules]]\nfor = \"container:{}\"\n{sides}", container.name);
            if !sides.is_empty() && !file.contains(&entry) {
                file += &entry;
            }
        }
        bare.containers = bare.endpoints.iter().map(|e| Arc::clone(&e.container)).collect();
        prop_assert_eq!(reach(&bare, &file), reach(&inventory, ""));
    }
}
