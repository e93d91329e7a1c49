//! Ends that do not let each other, and services that nobody may reach: found out by sending packets through the compiled
//! entries.

use std::collections::BTreeSet;

use dfw_common::{key::proto, reason::Direction};

use super::{Member, Named, names};
use crate::{
    model::{Endpoint, Finding},
    policy::{
        explain::{
            self, Hint, InForce, Side,
            pairs::{Pair, Spot},
            trial::Kernel,
        },
        label::DeclaredRule,
        mode::Mode,
        resolve::PortSet,
        rule::{Action, Item, Peer, PortRange, Ports, Protocol},
    },
};

/// Ports that one item of a rule is tried on; beyond that it is taken for good.
const TRIES: usize = 64;

pub(super) fn of(node: &InForce, members: &[Member<'_>]) -> Vec<Finding> {
    let mut kernel = Kernel::new(&node.compiled);
    let mut findings = Vec::new();
    for member in members.iter().filter(|member| member.is_judged()) {
        for named in member.peers() {
            if named.rule.parsed.rule.action == Action::Allow {
                findings.extend(closed(node, &mut kernel, member, &named, members));
            }
        }
        findings.extend(unreachable(node, &mut kernel, member));
    }
    findings
}

/// Ports of a rule that the other end allows none of.
fn closed(
    node: &InForce,
    kernel: &mut Kernel,
    member: &Member<'_>,
    named: &Named<'_>,
    members: &[Member<'_>],
) -> Vec<Finding> {
    let rule = &named.rule.parsed.rule;
    let others: Vec<&Member<'_>> = named
        .members(members)
        .into_iter()
        .filter(|other| other.container.id != member.container.id && other.shares_network(member))
        .collect();
    if others.is_empty() || others.iter().any(|other| !other.is_judged()) {
        return Vec::new();
    }
    let items: Vec<Option<Item>> = match &rule.ports {
        Ports::Any => vec![None],
        Ports::Items(items) => items.iter().copied().map(Some).collect(),
    };
    let mut findings = Vec::new();
    for item in items {
        let is_open = others.iter().any(|other| {
            let mut tries = tries(item, other, rule.direction);
            tries.len() > TRIES
                || tries.any(|item| {
                    let side = other_side(node, kernel, rule.direction, member, other, &item);
                    side.is_none_or(|side| side.verdict == "allow")
                })
        });
        let Some(first) = others.first().filter(|_| !is_open) else {
            continue;
        };
        // The line to paste is for all of it.
        let ask = |item| other_side(node, kernel, rule.direction, member, first, item);
        let hint = item.as_ref().and_then(ask).and_then(|side| side.hint);
        let remedy = match hint {
            Some(Hint { on, text }) if text.starts_with(&node.options.prefix) => {
                format!("add {text} on {on}")
            }
            Some(Hint { on, text }) => format!("on {on} {text}"),
            None => "allow it there".to_owned(),
        };
        let ports = item.map_or_else(|| "any port".to_owned(), |item| item.to_string());
        let (own, others) = (member.container.display_name(), names(&others));
        let message = match rule.direction {
            Direction::Egress => {
                format!("{others} does not let {own} in on {ports}: {remedy}, or drop it here")
            }
            Direction::Ingress => {
                format!("{others} may not go to {own} on {ports}: {remedy}, or drop it here")
            }
        };
        findings.push(member.warn(named.rule, named.span, "closed-at-peer", message));
    }
    findings
}

/// The ports of an item that can make a difference: its own ends, and those of the other end's rules inside it.
fn tries(item: Option<Item>, other: &Member<'_>, direction: Direction) -> std::vec::IntoIter<Item> {
    let wanted = match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    let of_side = other
        .declared
        .rules
        .iter()
        .map(|rule| &rule.parsed.rule)
        .filter(|rule| rule.direction == wanted);
    let theirs = of_side.flat_map(|rule| match &rule.ports {
        Ports::Any => &[][..],
        Ports::Items(items) => items,
    });
    let usual = Item {
        protocol: Protocol(proto::TCP),
        range: Some(PortRange { low: 1, high: 1 }),
    };
    let item_or_any = item.unwrap_or(usual);
    let inside = |port: &(Protocol, u16)| match item {
        None => true,
        Some(item) => {
            item.protocol == port.0
                && item
                    .range
                    .is_none_or(|range| (range.low..=range.high).contains(&port.1))
        }
    };
    let ports: BTreeSet<(Protocol, u16)> = theirs
        .chain([&item_or_any])
        .flat_map(ends)
        .filter(inside)
        .collect();
    let one = |(protocol, port): (Protocol, u16)| Item {
        protocol,
        range: protocol.port_limits().map(|_| PortRange {
            low: port,
            high: port,
        }),
    };
    let ports: Vec<Item> = ports.into_iter().map(one).collect();
    ports.into_iter()
}

/// The first and last port of an item.
fn ends(item: &Item) -> [(Protocol, u16); 2] {
    let (low, high) = match (item.range, item.protocol.0) {
        (Some(range), _) => (range.low, range.high),
        // An echo request, which is what is meant.
        (None, proto::ICMP) => (8, 8),
        (None, proto::ICMP6) => (128, 128),
        (None, _) => item.protocol.port_limits().unwrap_or_default(),
    };
    [(item.protocol, low), (item.protocol, high)]
}

/// What the other end of a rule says to a port; none where no packet of it can go between the two.
fn other_side(
    node: &InForce,
    kernel: &mut Kernel,
    direction: Direction,
    member: &Member<'_>,
    other: &Member<'_>,
    item: &Item,
) -> Option<Side> {
    let (from, to, wanted) = match direction {
        Direction::Egress => (member, other, Direction::Ingress),
        Direction::Ingress => (other, member, Direction::Egress),
    };
    let to: Vec<&Endpoint> = node.endpoints_of(to.container).collect();
    let ends = node.endpoints_of(from.container).flat_map(|from| {
        let to = to.iter().filter(|to| to.network == from.network);
        to.map(move |to| (from, *to))
    });
    let pair = ends
        .flat_map(|(from, to)| spots(from).flat_map(move |a| spots(to).map(move |b| (a, b))))
        .map(|(from, to)| Pair { from, to })
        .find(|pair| pair.can_carry(item))?;
    let path = explain::path(node, kernel, &pair, item);
    path.sides
        .into_iter()
        .find(|side| side.direction == wanted.name())
}

fn spots(endpoint: &Endpoint) -> impl Iterator<Item = Spot<'_>> {
    let addresses = endpoint.addresses.iter();
    addresses.map(move |address| Spot::Endpoint(endpoint, *address))
}

/// A service that nobody may enter, though it does not say so, or a published port that nobody from outside may.
fn unreachable(node: &InForce, kernel: &mut Kernel, member: &Member<'_>) -> Option<Finding> {
    let container = member.container;
    let ingress = format!("{}{}", node.options.prefix, Direction::Ingress.name());
    let first = member.declared.policy_keys.first()?;
    // Who only tries rules out has not written all of them yet.
    if member.declared.mode != Some(Mode::Audit)
        && !member
            .declared
            .policy_keys
            .iter()
            .any(|key| key.starts_with(&ingress))
    {
        let message = format!(
            "nobody may reach it, for it has no ingress rule: add {ingress}: \"PORTS from PEER\", or {ingress}: \"\" if that is meant"
        );
        return Some(member.warn_at(first, "nobody-may-enter", message));
    }
    let endpoint = node.endpoints_of(container).next()?;
    let items = container.published.iter().map(|published| {
        let (low, high) = (published.container_port, published.container_port);
        Item {
            protocol: Protocol(published.protocol),
            range: Some(PortRange { low, high }),
        }
    });
    let item = items.into_iter().find(|item| {
        !names_addresses(member, item)
            && explain::outsiders(node, kernel, endpoint)
                .into_iter()
                .all(|pair| {
                    let path = explain::path(node, kernel, &pair, item);
                    path.sides.iter().all(|side| side.verdict != "allow")
                })
    })?;
    let message = format!(
        "{item} is published on the host, but neither `world` nor `host` may enter there: add {ingress}.NAME: \"{item} from world,host\", or do not publish it"
    );
    Some(member.warn_at(first, "published-but-closed", message))
}

/// Whether some rule lets addresses in on this port: whoever they are, they were meant.
fn names_addresses(member: &Member<'_>, item: &Item) -> bool {
    let is_meant = |rule: &DeclaredRule| {
        let rule = &rule.parsed.rule;
        let is_address = |peer: &Peer| matches!(peer, Peer::Cidr(_));
        let port = item.range.map_or(0, |range| range.low);
        rule.direction == Direction::Ingress
            && rule.action == Action::Allow
            && rule.peers.iter().any(is_address)
            && PortSet::new(&rule.ports).contains(item.protocol.0, port)
    };
    member.declared.rules.iter().any(is_meant)
}
