//! Rules in the context of their container: peers become selectors, ports become disjoint ranges, order and spelling no
//! longer matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dfw_common::reason::Direction;
use ipnet::IpNet;

use super::{
    label::{Declared, error},
    problem::What,
    rule::{Action, Peer, PortRange, Ports, Rule},
};
use crate::model::Finding;

/// What a peer asks of an address. `any` is none: it asks nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Endpoint of a service of a project.
    Service {
        /// Compose project or Swarm stack.
        project: String,
        /// Compose or Swarm service.
        name: String,
    },
    /// Endpoint of a project.
    Project(String),
    /// Endpoint with a group.
    Group(String),
    /// Endpoint of the container of this name.
    Container(String),
    /// Endpoint on the network that the engine calls so.
    Net(String),
    /// Endpoint on the network that compose calls so inside a project.
    ProjectNet {
        /// The project.
        project: String,
        /// Compose's name of the network.
        name: String,
    },
    /// Endpoint with a label.
    Label {
        /// Key.
        key: String,
        /// Exact value.
        value: String,
    },
    /// Any address inside; IPv4 nets hold IPv4 addresses only, IPv6 nets IPv6 ones only.
    Cidr(IpNet),
    /// An address of the host.
    Host,
    /// An address that is neither a container's nor the host's.
    World,
}

/// Ports of a rule: disjoint ascending ranges by protocol number, nothing adjacent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PortSet {
    Any,
    Only(BTreeMap<u8, Vec<PortRange>>),
}

/// What a rule is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// What the container may do, by its labels or by the node's file.
    Own,
    /// What a ceiling, told apart by its number, lets it do at most.
    Ceiling(u16),
    /// What that ceiling says of peers that match this one, where none of its rules matches: nothing.
    End(u16),
}

/// A rule as it is in force. The derived order is the canonical one, in which rules are numbered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Resolved {
    pub(super) part: Part,
    pub(super) direction: Direction,
    pub(super) action: Action,
    pub(super) ports: PortSet,
    pub(super) any_peer: bool,
    /// Empty when `any_peer`.
    pub(super) selectors: BTreeSet<Selector>,
    pub(super) log: bool,
    /// Where it stands, for people: key of the label, or file and line.
    pub(super) label: String,
    /// Canonical text as written, for people.
    pub(super) text: String,
}

/// The rules of a container in canonical order, both directions. Shared: most endpoints have it from one pass to the next.
pub(super) type Policy = Arc<[Resolved]>;

/// Every rule of a container in canonical order, without those that are there twice.
pub(super) fn rules(
    declared: &Declared,
    labels: &BTreeMap<String, String>,
    project: Option<&str>,
) -> Result<Policy, Vec<Finding>> {
    let mut resolved = Vec::with_capacity(declared.rules.len());
    let mut errors = Vec::new();
    for rule in &declared.rules {
        let mut selectors = BTreeSet::new();
        for (peer, span) in rule.parsed.rule.peers.iter().zip(&rule.parsed.peer_spans) {
            match peer_selectors(peer, project) {
                Ok(found) => selectors.extend(found),
                Err(what) => {
                    let text = labels
                        .get(&rule.label)
                        .map(String::as_str)
                        .unwrap_or_default();
                    errors.push(error(&rule.label, text, &what.at(span.clone())));
                }
            }
        }
        resolved.push(Resolved::new(&rule.parsed.rule, selectors, &rule.label));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(canonical(resolved))
}

/// In canonical order, without those that are there twice.
pub(super) fn canonical(mut rules: Vec<Resolved>) -> Policy {
    rules.sort_unstable();
    rules.dedup_by(|b, a| a.is_same(b));
    rules.into()
}

/// The selectors of a peer, any of which suffices; none for `any`.
pub(super) fn peer_selectors(peer: &Peer, project: Option<&str>) -> Result<Vec<Selector>, What> {
    Ok(vec![match peer {
        Peer::Any => return Ok(Vec::new()),
        Peer::Service {
            project: named,
            name,
        } => {
            let project = named.as_deref().or(project);
            let project = project
                .ok_or_else(|| What::OutsideCompose(name.clone()))?
                .to_owned();
            Selector::Service {
                project,
                name: name.clone(),
            }
        }
        Peer::Project(name) => Selector::Project(name.clone()),
        Peer::Group(name) => Selector::Group(name.clone()),
        Peer::Container(name) => Selector::Container(name.clone()),
        Peer::Net(name) => {
            let net = Selector::Net(name.clone());
            let Some(project) = project else {
                return Ok(vec![net]);
            };
            let short = Selector::ProjectNet {
                project: project.to_owned(),
                name: name.clone(),
            };
            return Ok(vec![net, short]);
        }
        Peer::Label { key, value } => Selector::Label {
            key: key.clone(),
            value: value.clone(),
        },
        Peer::Cidr(net) => Selector::Cidr(*net),
        Peer::Host => Selector::Host,
        Peer::World => Selector::World,
    }])
}

impl Resolved {
    pub(super) fn new(rule: &Rule, selectors: BTreeSet<Selector>, label: &str) -> Self {
        let any_peer = rule.peers.contains(&Peer::Any);
        Self {
            part: Part::Own,
            direction: rule.direction,
            action: rule.action,
            ports: PortSet::new(&rule.ports),
            any_peer,
            selectors: if any_peer { BTreeSet::new() } else { selectors },
            log: rule.log,
            label: label.to_owned(),
            text: rule.to_string(),
        }
    }

    /// The end of one side of a ceiling, for peers that hold one of the selectors; none: for everybody.
    pub(super) fn end(direction: Direction, selectors: BTreeSet<Selector>, label: &str) -> Self {
        Self {
            part: Part::End(0),
            direction,
            action: Action::Deny,
            ports: PortSet::Any,
            any_peer: selectors.is_empty(),
            selectors,
            log: false,
            label: label.to_owned(),
            text: "nothing beyond it".to_owned(),
        }
    }

    /// Whether two rules mean the same, wherever and however they are written.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let meaning = |rule: &Self| {
            let Self {
                part,
                direction,
                action,
                any_peer,
                log,
                ..
            } = rule;
            (*part, *direction, *action, *any_peer, *log)
        };
        meaning(self) == meaning(other)
            && self.ports == other.ports
            && self.selectors == other.selectors
    }

    /// `label: "text"`, as commands show it.
    pub(super) fn display(&self) -> String {
        format!("{}: \"{}\"", self.label, self.text)
    }
}

impl PortSet {
    pub(super) fn new(ports: &Ports) -> Self {
        let Ports::Items(items) = ports else {
            return Self::Any;
        };
        let mut by_protocol: BTreeMap<u8, Vec<PortRange>> = BTreeMap::new();
        for item in items {
            let range = item.range.unwrap_or(PortRange {
                low: 0,
                high: u16::MAX,
            });
            by_protocol.entry(item.protocol.0).or_default().push(range);
        }
        for ranges in by_protocol.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| {
                let joins = next.low <= kept.high.saturating_add(1);
                if joins {
                    kept.high = kept.high.max(next.high);
                }
                joins
            });
        }
        Self::Only(by_protocol)
    }

    /// Whether all of another set is among them.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let (Self::Only(own), Self::Only(others)) = (self, other) else {
            return matches!(self, Self::Any);
        };
        others.iter().all(|(protocol, ranges)| {
            let own = own.get(protocol).map(Vec::as_slice).unwrap_or_default();
            let is_inside = |range: &PortRange| {
                own.iter()
                    .any(|wide| wide.low <= range.low && range.high <= wide.high)
            };
            ranges.iter().all(is_inside)
        })
    }

    /// Whether a port of a protocol is among them.
    pub(super) fn contains(&self, protocol: u8, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(by_protocol) => by_protocol.get(&protocol).is_some_and(|ranges| {
                ranges
                    .iter()
                    .any(|range| (range.low..=range.high).contains(&port))
            }),
        }
    }
}
