//! What a whole project shows that no container shows alone: rules that match nothing, peers that are not there, ends that
//! do not let each other, services that nobody may reach.
//!
//! `peers` and `shadow` go by the labels; `reach` sends packets through the compiled entries, as `dfw explain` does.

mod peers;
mod reach;
mod shadow;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    check_container,
    compile::Options,
    explain::InForce,
    label::{self, Declared, DeclaredRule, warning},
    mode::Mode,
    resolve::{Selector, peer_selectors},
};
use crate::model::{Container, Finding, Inventory, Level};

/// Checks every container of projects that are known whole, offline: each alone as [`check_container`] does, and all of
/// them together. Sorted by container, label and place; the findings name the container.
pub fn check_project(inventory: Inventory, options: Options) -> Vec<Finding> {
    let node = InForce::planned(inventory, options);
    let members = members(&node);
    let containers = &node.inventory.containers;
    let mut findings: Vec<Finding> = containers
        .iter()
        .flat_map(|container| check_container(container, &node.options.prefix))
        .collect();
    findings.extend(peers::missing(&members, &node.inventory.networks));
    let judged = members.iter().filter(|member| member.is_judged());
    for member in judged.clone() {
        findings.extend(peers::apart(member, &members));
        findings.extend(shadow::of(member));
    }
    findings.extend(reach::of(&node, &members));
    let place = |finding: &Finding| {
        let Finding {
            subject,
            label,
            span,
            ..
        } = finding;
        (subject.clone(), label.clone(), *span)
    };
    findings.sort_by_key(place);
    findings.dedup();
    findings
}

/// A container of the project and its labels.
struct Member<'a> {
    container: &'a Arc<Container>,
    declared: Declared,
}

fn members(node: &InForce) -> Vec<Member<'_>> {
    let containers = node.inventory.containers.iter();
    containers
        .map(|container| Member {
            container,
            declared: label::read(&container.labels, &node.options.prefix),
        })
        .collect()
}

impl Member<'_> {
    /// Whether its rules decide anything: it is governed by labels that can be read.
    fn is_judged(&self) -> bool {
        self.container.shares.is_none()
            && self.declared.errors.is_empty()
            && !self.declared.policy_keys.is_empty()
            && self.declared.mode != Some(Mode::Off)
    }

    fn networks(&self) -> impl Iterator<Item = &str> {
        let attachments = self.container.attachments.iter();
        attachments.map(|attachment| attachment.network.as_str())
    }

    fn shares_network(&self, other: &Self) -> bool {
        self.networks()
            .any(|network| other.networks().any(|known| known == network))
    }

    /// The peers of its rules with the selectors that they mean; none for `any`.
    fn peers(&self) -> impl Iterator<Item = Named<'_>> {
        let project = self.container.project();
        self.declared.rules.iter().flat_map(move |rule| {
            let peers = rule.parsed.rule.peers.iter().zip(&rule.parsed.peer_spans);
            peers.filter_map(move |(peer, span)| {
                let selectors = peer_selectors(peer, project).ok()?;
                Some(Named {
                    rule,
                    span,
                    selectors,
                })
            })
        })
    }

    fn warn(
        &self,
        rule: &DeclaredRule,
        span: &Range<usize>,
        code: &str,
        message: String,
    ) -> Finding {
        Finding {
            subject: self.container.display_name(),
            ..warning(&self.container.labels, rule, span, code, message)
        }
    }

    /// A warning about the container as a whole, at a label of it.
    fn warn_at(&self, label: &str, code: &str, message: String) -> Finding {
        Finding {
            label: label::printable(label),
            ..Finding::new(
                Level::Warning,
                code,
                &self.container.display_name(),
                message,
            )
        }
    }
}

/// A peer of a rule.
struct Named<'a> {
    rule: &'a DeclaredRule,
    span: &'a Range<usize>,
    /// Empty for `any`.
    selectors: Vec<Selector>,
}

impl Named<'_> {
    /// The members that it names, wherever they are; none for `any`, an address, `host` and `world`.
    fn members<'m, 'a>(&self, members: &'m [Member<'a>]) -> Vec<&'m Member<'a>> {
        let is_named = |member: &&Member<'_>| {
            let Member {
                container,
                declared,
            } = member;
            let mut own = super::index::attributes(container, &declared.groups);
            own.any(|selector| self.selectors.contains(&selector))
        };
        members.iter().filter(is_named).collect()
    }

    /// As it is written.
    fn text(&self, member: &Member<'_>) -> String {
        let label = member.container.labels.get(&self.rule.label);
        let text = label.and_then(|text| text.get(self.span.clone()));
        text.unwrap_or_default().to_owned()
    }
}

/// The first of the members by the name that people know.
fn names(members: &[&Member<'_>]) -> String {
    let names: BTreeMap<String, ()> = members
        .iter()
        .map(|member| (member.container.display_name(), ()))
        .collect();
    super::explain::list(names.into_keys())
}
