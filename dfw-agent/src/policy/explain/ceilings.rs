//! Lines that would lead nowhere, for a ceiling takes away what they allow.

use std::sync::Arc;

use dfw_common::reason::{Direction, Reason};

use super::{
    InForce, Path, hint,
    pairs::Pair,
    send,
    trial::{Kernel, Sides},
};
use crate::{
    model::{Container, Inventory},
    policy::rule::Item,
};

/// The ceilings of a node's policy file.
pub(super) struct Ceilings<'a> {
    node: &'a InForce,
    /// The same host, but every label allows everything; made when it is asked for.
    widest: Option<(InForce, Kernel)>,
}

impl<'a> Ceilings<'a> {
    pub(super) const fn new(node: &'a InForce) -> Self {
        Self { node, widest: None }
    }

    /// Takes back each line to paste that a ceiling would make void, and names the ceiling instead.
    pub(super) fn heed(&mut self, path: &mut Path, pair: &Pair<'_>, item: &Item) {
        let is_void =
            |side: &super::Side| side.hint.is_some() && side.reason == Reason::NoRule.name();
        if !self.node.options.node.has_ceiling() || !path.sides.iter().any(is_void) {
            return;
        }
        let (widest, kernel) = self.widest.get_or_insert_with(|| {
            let widest = widest(self.node);
            let kernel = Kernel::new(&widest.compiled);
            (widest, kernel)
        });
        let Sides { egress, ingress } = send(kernel, pair, item);
        for side in path.sides.iter_mut().filter(|side| is_void(side)) {
            let (tally, own) = if side.direction == Direction::Egress.name() {
                (egress, &pair.from)
            } else {
                (ingress, &pair.to)
            };
            let rule = tally.zip(own.endpoint());
            let rule = rule.and_then(|(tally, endpoint)| widest.rule(endpoint, tally));
            if let Some(ceiling) = rule.filter(|rule| rule.ceiling) {
                side.hint = Some(hint::below(&ceiling));
            }
        }
    }
}

fn widest(node: &InForce) -> InForce {
    let mut inventory = Inventory::clone(&node.inventory);
    let endpoints = inventory.endpoints.iter_mut();
    let containers = endpoints.map(|endpoint| &mut endpoint.container);
    for container in containers.chain(&mut inventory.containers) {
        allow_all(Arc::make_mut(container), &node.options.prefix);
    }
    InForce::planned(inventory, node.options.clone())
}

fn allow_all(container: &mut Container, prefix: &str) {
    for (direction, rule) in [
        (Direction::Ingress, "any from any"),
        (Direction::Egress, "any to any"),
    ] {
        let label = format!("{prefix}{}", direction.name());
        container.labels.retain(|key, _| !key.starts_with(&label));
        container.labels.insert(label, rule.to_owned());
    }
}
