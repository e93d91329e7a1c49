//! Peers that are not there, or not within reach.

use super::{Member, Named, names};
use crate::{
    model::{BoundNetwork, Finding, Unprotected},
    policy::{
        rule::Peer,
        warn::{self, Present},
    },
};

/// Peers that match nobody: services of the same project, and whatever is spelt nearly as something that is there. Others
/// may be in projects that are not at hand.
pub(super) fn missing(members: &[Member<'_>], networks: &[BoundNetwork]) -> Vec<Finding> {
    // Who shares another's network is there too; `apart` has more to say of that.
    let present: Vec<Present<'_>> = members
        .iter()
        .map(|member| Present {
            container: member.container,
            declared: &member.declared,
            groups: &member.declared.groups,
        })
        .collect();
    let is_told = |own: Option<&str>, peer: &Peer, is_near: bool| match peer {
        Peer::Service { project, .. } => is_near || project.is_none() || project.as_deref() == own,
        Peer::Project(_)
        | Peer::Group(_)
        | Peer::Container(_)
        | Peer::Net(_)
        | Peer::Label { .. }
        | Peer::Cidr(_)
        | Peer::Host
        | Peer::World
        | Peer::Any => is_near,
    };
    let findings = warn::no_such_peer(&present, networks, is_told);
    findings
        .into_iter()
        .map(|finding| Finding {
            subject: display_name(members, &finding.subject),
            ..finding
        })
        .collect()
}

fn display_name(members: &[Member<'_>], name: &str) -> String {
    let mut members = members.iter();
    let member = members.find(|member| member.container.name == name);
    member.map_or_else(|| name.to_owned(), |member| member.container.display_name())
}

/// Peers that are there, but where a rule cannot mean them.
pub(super) fn apart(member: &Member<'_>, members: &[Member<'_>]) -> Vec<Finding> {
    let finding = |named: Named<'_>| {
        let others = named.members(members);
        let others: Vec<&Member<'_>> = others
            .into_iter()
            .filter(|other| other.container.id != member.container.id)
            .collect();
        let first = others.first()?;
        let text = named.text(member);
        let all = |is: fn(&Member<'_>) -> bool| others.iter().all(|other| is(other));
        let (code, message) = if all(|other| other.container.shares.is_some()) {
            let owner = first.container.shares.clone().unwrap_or_default();
            (
                "peer-is-shared",
                format!(
                    "`{text}` matches nobody, for it has no network of its own: name {owner}, whose network it shares"
                ),
            )
        } else if all(is_host) {
            (
                "peer-is-host",
                format!("`{text}` matches nobody, for it runs in the host's network: write `host`"),
            )
        } else if !others.iter().any(|other| other.shares_network(member)) {
            (
                "no-shared-network",
                format!(
                    "{} and {} share no network, and Docker keeps networks apart: attach both to one",
                    member.container.display_name(),
                    names(&others)
                ),
            )
        } else {
            return None;
        };
        Some(member.warn(named.rule, named.span, code, message))
    };
    member.peers().filter_map(finding).collect()
}

fn is_host(member: &Member<'_>) -> bool {
    member
        .container
        .unprotected
        .contains(&Unprotected::HostNetwork)
}
