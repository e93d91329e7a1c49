//! What is missing, as a line to paste.

use std::net::IpAddr;

use dfw_common::{
    reason::{Direction, Reason},
    value::kind,
};

use super::{Hint, InForce, Side, Source};
use crate::{
    model::{Container, Endpoint},
    policy::{
        parse::is_name,
        rule::{Item, preposition},
        standing::State,
    },
};

/// The other end of a side.
pub(super) enum Other<'a> {
    Endpoint(&'a Endpoint, IpAddr),
    /// An address of this kind.
    Address(u32, IpAddr),
    World,
}

/// What to change at an endpoint, so that this side allows it. None where nothing has to be, or a line would do harm: the
/// first rule of a container that has none shuts everything else.
pub(super) fn of(
    node: &InForce,
    endpoint: &Endpoint,
    direction: Direction,
    side: &Side,
    item: &Item,
    other: &Other<'_>,
) -> Option<Hint> {
    let compiled = node.compiled.endpoints.get(&endpoint.ifindex)?;
    let on = own_name(&endpoint.container).to_owned();
    if compiled.state != State::Ready {
        let text = "put its labels right: they are rejected, see `dfw status`".to_owned();
        return Some(Hint { on, text });
    }
    if let Some(rule) = &side.rule {
        let hint = if rule.ceiling {
            below(rule)
        } else {
            let text = format!("narrow {rule}, for deny beats allow");
            Hint { on, text }
        };
        return (side.reason == Reason::DenyRule.name()).then_some(hint);
    }
    let is_default = side.reason == Reason::NoRule.name();
    let would_shut = !compiled.governed && side.verdict != "deny";
    if !is_default || would_shut {
        return None;
    }
    let (peer, name) = peer(&endpoint.container, other)?;
    let label = free_label(node, &endpoint.container, direction, &name);
    let text = format!("{label}: \"{item} {} {peer}\"", preposition(direction));
    Some(Hint { on, text })
}

/// What to change where a ceiling denies, whatever labels say.
pub(super) fn below(ceiling: &Source) -> Hint {
    Hint {
        on: "the node".to_owned(),
        text: format!("widen {}, for no label goes beyond it", ceiling.label),
    }
}

/// The service inside its project, else the container.
fn own_name(container: &Container) -> &str {
    match (container.project(), container.service()) {
        (Some(_), Some(service)) => service,
        _ => &container.name,
    }
}

/// The other end as a rule of this container names it, and a name for the label.
fn peer(own: &Container, other: &Other<'_>) -> Option<(String, String)> {
    let (endpoint, address) = match other {
        Other::World => return Some(("world".to_owned(), "world".to_owned())),
        Other::Address(kind::HOST, _) => return Some(("host".to_owned(), "host".to_owned())),
        // No rule matches it.
        Other::Address(kind::UNKNOWN, _) => return None,
        Other::Address(_, address) => return Some((address.to_string(), "more".to_owned())),
        Other::Endpoint(endpoint, address) => (endpoint, address),
    };
    let container = &endpoint.container;
    let name = own_name(container).to_owned();
    let peer = match (container.project(), container.service()) {
        (Some(project), Some(service)) if is_name(project) && is_name(service) => {
            if own.project() == Some(project) {
                format!("service:{service}")
            } else {
                format!("service:{project}/{service}")
            }
        }
        _ if is_name(&container.name) => format!("container:{}", container.name),
        _ => return Some((address.to_string(), "more".to_owned())),
    };
    Some((peer, name))
}

/// A key that the container does not have: pasted, it must not take another's place.
fn free_label(node: &InForce, container: &Container, direction: Direction, name: &str) -> String {
    let first = format!("{}{}", node.options.prefix, direction.name());
    let second = format!("{first}.{name}");
    let numbered = (2..).map(|number| format!("{second}-{number}"));
    let mut keys = [first, second.clone()].into_iter().chain(numbered);
    let is_free = |key: &String| !container.labels.contains_key(key);
    // A container has no end of labels, but not so many.
    keys.find(is_free).unwrap_or(second)
}
