//! What is allowed but probably not meant (docs/semantics.md section 13).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dfw_common::{key::proto, reason::Direction};
use ipnet::IpNet;

use super::{
    index::{attributes, network_names},
    label::{Declared, DeclaredRule, printable, warning},
    problem::nearest,
    resolve::{PortSet, Selector, peer_selectors},
    rule::{Action, Peer, Ports, Rule},
};
use crate::model::{BoundNetwork, Container, Finding, Level, Unprotected};

type Labels = BTreeMap<String, String>;

/// Warnings that need nothing but the labels.
pub(super) fn of_rules(declared: &Declared, labels: &Labels) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: HashMap<_, &str> = HashMap::new();
    for rule in &declared.rules {
        let written = &rule.parsed.rule;
        let peers: BTreeSet<String> = written.peers.iter().map(Peer::to_string).collect();
        let ports = PortSet::new(&written.ports);
        let meaning = (written.direction, written.action, ports, peers, written.log);
        if let Some(first) = known.get(&meaning) {
            let message = format!("the rule stands in {first} already: remove one of the two");
            findings.push(warning(
                labels,
                rule,
                &rule.parsed.span,
                "duplicate-rule",
                message,
            ));
        } else {
            known.insert(meaning, &rule.label);
        }
    }
    findings.extend(without_dns(declared, labels));
    findings
}

fn without_dns(declared: &Declared, labels: &Labels) -> Option<Finding> {
    let allows = |rule: &&DeclaredRule| {
        let rule = &rule.parsed.rule;
        rule.direction == Direction::Egress && rule.action == Action::Allow
    };
    let first = declared.rules.iter().find(allows)?;
    let asks = declared.rules.iter().filter(allows).any(|rule| {
        let ports = PortSet::new(&rule.parsed.rule.ports);
        ports.contains(proto::UDP, 53) || ports.contains(proto::TCP, 53)
    });
    let message = "no egress rule allows DNS: add udp/53,tcp/53 to where the container asks, if it resolves names beyond its networks";
    (!asks).then(|| {
        warning(
            labels,
            first,
            &first.parsed.span,
            "no-dns",
            message.to_owned(),
        )
    })
}

/// Warnings that need the container itself. `has_v6`: it has an IPv6 address beyond link-local.
pub(super) fn of_container(
    declared: &Declared,
    container: &Container,
    has_v6: bool,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = container
        .image_labels
        .iter()
        .map(|label| {
            let message = "the image carries this label, so it does not count: set it on the container if it is meant";
            of_label(label, Level::Warning, "image-label", message.to_owned())
        })
        .collect();
    if let Some(owner) = &container.shares {
        findings.extend(declared.policy_keys.iter().map(|label| {
            let owner: String = owner.chars().take(12).collect();
            let message = format!(
                "this container shares the network of {owner}, whose rules govern it: move the label there"
            );
            of_label(label, Level::Error, "rules-on-joiner", message)
        }));
        return findings;
    }
    findings.extend(beyond_reach(declared, container));
    for rule in &declared.rules {
        let written = &rule.parsed.rule;
        if has_v6 && is_icmp_of_v4_only(declared, written) {
            let message = "icmp is that of IPv4 only, and this container has IPv6 too: write icmp,icmp6 if both are meant";
            findings.push(warning(
                &container.labels,
                rule,
                &rule.parsed.span,
                "icmp-v4-only",
                message.to_owned(),
            ));
        }
        if let Some((port, span)) = host_is_world(rule, container) {
            let message = format!(
                "port {port} is published beyond loopback, and what docker-proxy carries arrives as `host`, clients from the world included: publish it on 127.0.0.1, or write `world` if that is meant"
            );
            findings.push(warning(
                &container.labels,
                rule,
                &span,
                "host-is-world",
                message,
            ));
        }
    }
    findings
}

fn of_label(label: &str, level: Level, code: &str, message: String) -> Finding {
    Finding {
        level,
        code: code.to_owned(),
        subject: String::new(),
        label: printable(label),
        message,
        text: String::new(),
        span: None,
    }
}

/// Rules on a container with a leg where dfw has no hook.
fn beyond_reach(declared: &Declared, container: &Container) -> Option<Finding> {
    let label = declared.policy_keys.first()?;
    let why = container.unprotected.iter().find(|why| match why {
        Unprotected::HostNetwork
        | Unprotected::Macvlan
        | Unprotected::Ipvlan
        | Unprotected::Overlay
        | Unprotected::OtherDriver => true,
        Unprotected::Shared | Unprotected::Privileged | Unprotected::NetAdmin => false,
    })?;
    let message = format!(
        "rules do not reach this container on one of its networks ({}): attach it to bridge networks only",
        why.name()
    );
    Some(of_label(label, Level::Warning, "not-enforced", message))
}

fn is_icmp_of_v4_only(declared: &Declared, rule: &Rule) -> bool {
    let names = |rule: &Rule, protocol: u8| match &rule.ports {
        Ports::Any => true,
        Ports::Items(items) => items.iter().any(|item| item.protocol.0 == protocol),
    };
    let mut same_side = declared
        .rules
        .iter()
        .map(|other| &other.parsed.rule)
        .filter(|other| other.direction == rule.direction && other.action == rule.action);
    names(rule, proto::ICMP)
        && rule
            .peers
            .iter()
            .any(|peer| !matches!(peer, Peer::Cidr(IpNet::V4(_))))
        && !same_side.any(|other| names(other, proto::ICMP6))
}

/// A published port that `from host` opens further than it says, and the place of `host`.
fn host_is_world(
    rule: &DeclaredRule,
    container: &Container,
) -> Option<(u16, std::ops::Range<usize>)> {
    let written = &rule.parsed.rule;
    let open = [Peer::World, Peer::Any]
        .iter()
        .any(|peer| written.peers.contains(peer));
    if open || written.direction != Direction::Ingress || written.action != Action::Allow {
        return None;
    }
    let position = written.peers.iter().position(|peer| *peer == Peer::Host)?;
    let ports = PortSet::new(&written.ports);
    let mut published = container
        .published
        .iter()
        .filter(|p| !p.host_ip.is_loopback());
    let port = published
        .find(|p| ports.contains(p.protocol, p.container_port))?
        .container_port;
    Some((port, rule.parsed.peer_spans.get(position)?.clone()))
}

/// A container for the search of missing peers.
pub(super) struct Present<'a> {
    pub(super) container: &'a Container,
    pub(super) declared: &'a Declared,
    pub(super) groups: &'a [String],
}

/// How many missing peers of a node are compared with what there is.
const SUGGESTIONS: usize = 32;

/// Peers that match nobody at present, with [`Finding::subject`]. `is_told` says of each, by the project of its rule and
/// whether something is spelt nearly so, whether that is worth telling.
pub(super) fn no_such_peer(
    present: &[Present<'_>],
    networks: &[BoundNetwork],
    is_told: impl Fn(Option<&str>, &Peer, bool) -> bool,
) -> Vec<Finding> {
    let mut missing: HashMap<Selector, bool> = HashMap::new();
    for one in present {
        for peer in one
            .declared
            .rules
            .iter()
            .flat_map(|rule| &rule.parsed.rule.peers)
        {
            if let Ok(selectors) = peer_selectors(peer, one.container.project()) {
                missing.extend(selectors.into_iter().map(|selector| (selector, true)));
            }
        }
    }
    let there = present
        .iter()
        .flat_map(|one| attributes(one.container, one.groups))
        .chain(
            networks
                .iter()
                .flat_map(|bound| network_names(&bound.network)),
        );
    for selector in there {
        if let Some(missing) = missing.get_mut(&selector) {
            *missing = false;
        }
    }
    missing.retain(|selector, missing| {
        *missing
            && !matches!(
                selector,
                Selector::Cidr(_) | Selector::Host | Selector::World
            )
    });
    let mut findings = Vec::new();
    for one in present {
        let project = one.container.project();
        for rule in &one.declared.rules {
            let parsed = &rule.parsed;
            for (peer, span) in parsed.rule.peers.iter().zip(&parsed.peer_spans) {
                let Ok(selectors) = peer_selectors(peer, project) else {
                    continue;
                };
                if selectors.is_empty() || !selectors.iter().all(|s| missing.contains_key(s)) {
                    continue;
                }
                let near = if findings.len() < SUGGESTIONS {
                    similar(peer, &selectors, present, networks)
                } else {
                    None
                };
                if !is_told(project, peer, near.is_some()) {
                    continue;
                }
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "it counts as soon as there is one".to_owned(),
                };
                let message = format!("`{peer}` matches nobody at present: {hint}");
                let labels = &one.container.labels;
                let finding = warning(labels, rule, span, "no-such-peer", message);
                findings.push(Finding {
                    subject: one.container.name.clone(),
                    ..finding
                });
            }
        }
    }
    findings
}

/// The peer that was probably meant, of the same kind.
fn similar(
    peer: &Peer,
    selectors: &[Selector],
    present: &[Present<'_>],
    networks: &[BoundNetwork],
) -> Option<Peer> {
    let containers = || present.iter().map(|one| one.container);
    match peer {
        Peer::Service {
            project: named,
            name,
        } => {
            let [Selector::Service { project, .. }] = selectors else {
                return None;
            };
            let services = containers()
                .filter(|container| container.project() == Some(project.as_str()))
                .filter_map(Container::service);
            let name = nearest(name, services)?.to_owned();
            Some(Peer::Service {
                project: named.clone(),
                name,
            })
        }
        Peer::Project(name) => nearest(name, containers().filter_map(Container::project))
            .map(|n| Peer::Project(n.to_owned())),
        Peer::Group(name) => {
            let groups = present
                .iter()
                .flat_map(|one| one.groups)
                .map(String::as_str);
            nearest(name, groups).map(|n| Peer::Group(n.to_owned()))
        }
        Peer::Container(name) => nearest(name, containers().map(|c| c.name.as_str()))
            .map(|n| Peer::Container(n.to_owned())),
        Peer::Net(name) => {
            let own = selectors.iter().find_map(|selector| {
                if let Selector::ProjectNet { project, .. } = selector {
                    Some(project.as_str())
                } else {
                    None
                }
            });
            let names = networks.iter().flat_map(|bound| {
                let network = &bound.network;
                let is_own = own.is_some() && network.project.as_deref() == own;
                let short = network.short_name.as_deref().filter(|_| is_own);
                short.into_iter().chain([network.name.as_str()])
            });
            nearest(name, names).map(|n| Peer::Net(n.to_owned()))
        }
        Peer::Label { .. } | Peer::Cidr(_) | Peer::Host | Peer::World | Peer::Any => None,
    }
}
