//! What one compilation owes to those before it: numbers keep their meaning, and no verdict is wrong on the way.

use std::{collections::BTreeMap, sync::Arc};

use dfw_common::{key::PolicyKey, value::PolicyEntry};
use proptest::prelude::*;

use super::{
    node::{Node, container, options},
    properties::compare,
    random::inventory,
};
use crate::policy::{Compiled, Compiler, Held, Mode};

fn held(compiled: &Compiled) -> Held {
    let addresses = compiled
        .addresses
        .iter()
        .map(|(key, value)| (*key, value.identity));
    let prefixes = compiled
        .prefixes
        .iter()
        .map(|(key, value)| (*key, value.identity));
    Held {
        addresses: addresses.collect(),
        prefixes: prefixes.collect(),
    }
}

type Facts = BTreeMap<(u32, u32), BTreeMap<PolicyKey, PolicyEntry>>;

/// Entries by policy and identity.
fn facts(compiled: &Compiled) -> Facts {
    let mut facts = Facts::new();
    for (key, entry) in &compiled.policy {
        facts
            .entry((key.policy, key.identity))
            .or_default()
            .insert(*key, *entry);
    }
    facts
}

fn one(labels: &[(&str, &str)], peer: &[(&str, &str)]) -> Node {
    Node::default()
        .network(10, "lan", &["10.0.0.0/24"])
        .endpoint(100, 10, &Arc::new(container("c", labels)), &["10.0.0.2"])
        .endpoint(101, 10, &Arc::new(container("peer", peer)), &["10.0.0.3"])
}

#[test]
fn a_policy_gets_the_same_number_while_it_is_in_force_and_never_again() {
    let mut compiler = Compiler::new(7, Held::default());
    let mut policy = |rule: &str| {
        let node = one(&[("dfw.ingress", rule)], &[("dfw.group", "g")]);
        compiler.compile(&node.0, &options(Mode::Audit)).endpoints[&100].policy
    };
    let first = policy("any from group:g");
    assert!(first >= 7);
    assert_eq!(policy(" allow any   from group:g;"), first);
    let second = policy("any from group:h");
    assert!(second > first);
    assert_eq!(
        policy("any from group:g"),
        first,
        "still known as the outgoing one"
    );
    policy("any from any");
    policy("any from host");
    assert!(policy("any from group:g") > second);
}

#[test]
fn equal_endpoints_share_a_policy() {
    let rules = [("dfw.egress", "any to any"), ("dfw.mode", "audit")];
    let compiled = one(&rules, &rules).compile();
    assert_eq!(
        compiled.endpoints[&100].policy,
        compiled.endpoints[&101].policy
    );
    assert_eq!(compiled.policy.len(), 1);
}

#[test]
fn the_outgoing_policy_stays_for_one_compilation() {
    let mut compiler = Compiler::new(1, Held::default());
    let before = one(
        &[("dfw.ingress", "any from any; deny any from group:g")],
        &[("dfw.group", "g")],
    );
    let after = one(&[("dfw.ingress", "")], &[("dfw.group", "g")]);
    let old = compiler.compile(&before.0, &options(Mode::Audit)).endpoints[&100].policy;
    let moving = compiler.compile(&after.0, &options(Mode::Audit));
    assert_eq!(moving.endpoints[&100].policy, 0);
    assert!(
        moving
            .policy
            .keys()
            .any(|key| key.policy == old && key.identity != 0)
    );
    assert!(
        compiler
            .compile(&after.0, &options(Mode::Audit))
            .policy
            .is_empty()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn numbers_keep_their_meaning(first in inventory(), second in inventory()) {
        let mut compiler = Compiler::new(1, Held::default());
        let one = compiler.compile(&first, &options(Mode::Audit));
        let two = compiler.compile(&second, &options(Mode::Audit));
        let (before, after) = (facts(&one), facts(&two));
        for (pair, entries) in &before {
            if let Some(now) = after.get(pair) {
                prop_assert_eq!(now, entries);
            }
        }
    }

    #[test]
    fn the_outgoing_policy_judges_the_new_identities_right(first in inventory(), second in inventory()) {
        let mut compiler = Compiler::new(1, Held::default());
        let one = compiler.compile(&first, &options(Mode::Audit));
        let two = compiler.compile(&second, &options(Mode::Audit));
        for endpoint in &first.endpoints {
            let network = endpoint.network;
            if second.networks.iter().any(|bound| bound.ifindex == network) {
                let policy = one.endpoints[&endpoint.ifindex].policy;
                compare(&two, policy, endpoint, &second)?;
            }
        }
    }

    #[test]
    fn a_restarted_agent_keeps_every_identity(inventory in inventory()) {
        let compiled = Compiler::new(1, Held::default()).compile(&inventory, &options(Mode::Audit));
        let mut restarted = Compiler::new(1000, held(&compiled));
        let again = restarted.compile(&inventory, &options(Mode::Audit));
        prop_assert_eq!(&again.addresses, &compiled.addresses);
        prop_assert_eq!(&again.prefixes, &compiled.prefixes);
        prop_assert!(again.policy.keys().all(|key| key.policy >= 1000));
    }

    #[test]
    fn what_the_kernel_held_never_gives_two_sets_one_number(first in inventory(), second in inventory()) {
        let old = Compiler::new(1, Held::default()).compile(&first, &options(Mode::Audit));
        let mut restarted = Compiler::new(1000, held(&old));
        let new = restarted.compile(&second, &options(Mode::Audit));
        for endpoint in &second.endpoints {
            let policy = new.endpoints[&endpoint.ifindex].policy;
            compare(&new, policy, endpoint, &second)?;
        }
    }
}
