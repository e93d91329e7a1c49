//! Rules that can never match, whoever is there.

use dfw_common::key::proto;
use ipnet::IpNet;

use super::Member;
use crate::{
    model::Finding,
    policy::{
        label::DeclaredRule,
        resolve::PortSet,
        rule::{Action, Peer, Ports},
    },
};

/// Rules whose ports and peers are of two families, and allow rules that one deny rule covers.
pub(super) fn of(member: &Member<'_>) -> Vec<Finding> {
    let rules = &member.declared.rules;
    let mut findings = Vec::new();
    for rule in rules {
        let span = &rule.parsed.span;
        if let Some((written, other)) = of_two_families(rule) {
            let message = format!(
                "the rule never matches: {written} has no addresses of this family; write {other}"
            );
            findings.push(member.warn(rule, span, "never-matches", message));
        }
        if let Some(deny) = rules.iter().find(|deny| covers(deny, rule)) {
            let message = format!(
                "the rule never matches: `{}` in {} denies all of it, and deny beats allow; remove one of the two",
                deny.parsed.rule, deny.label
            );
            findings.push(member.warn(rule, span, "never-matches", message));
        }
    }
    findings
}

/// The ICMP that is written and the one that is meant, where every peer is a net of the other family.
fn of_two_families(rule: &DeclaredRule) -> Option<(&'static str, &'static str)> {
    let Ports::Items(items) = &rule.parsed.rule.ports else {
        return None;
    };
    let all = |protocol| items.iter().all(|item| item.protocol.0 == protocol);
    let is_v4 = |peer: &Peer| matches!(peer, Peer::Cidr(IpNet::V4(_)));
    let is_v6 = |peer: &Peer| matches!(peer, Peer::Cidr(IpNet::V6(_)));
    let peers = &rule.parsed.rule.peers;
    if all(proto::ICMP) && peers.iter().all(is_v6) {
        Some(("icmp", "icmp6"))
    } else if all(proto::ICMP6) && peers.iter().all(is_v4) {
        Some(("icmp6", "icmp"))
    } else {
        None
    }
}

/// Whether nothing of an allow rule is left beside a deny rule of the same side.
fn covers(deny: &DeclaredRule, allow: &DeclaredRule) -> bool {
    let (deny, allow) = (&deny.parsed.rule, &allow.parsed.rule);
    let are_opposed = (deny.action, allow.action) == (Action::Deny, Action::Allow)
        && deny.direction == allow.direction;
    let is_covered = |peer: &Peer| deny.peers.iter().any(|other| includes(other, peer));
    are_opposed
        && PortSet::new(&deny.ports).includes(&PortSet::new(&allow.ports))
        && allow.peers.iter().all(is_covered)
}

fn includes(wide: &Peer, narrow: &Peer) -> bool {
    match (wide, narrow) {
        (Peer::Any, _) => true,
        (Peer::Cidr(wide), Peer::Cidr(narrow)) => wide.contains(narrow),
        _ => wide == narrow,
    }
}
