//! `dfw explain`: what becomes of one connection, which rule decides, and what is missing.
//!
//! Nothing here matches rules. An imaginary packet goes through the kernel's own decision, over plain maps that hold what
//! was compiled (`trial`); the rest finds out who is meant (`ends`, `pairs`) and puts the outcome into words.

mod ceilings;
mod ends;
mod hint;
pub(super) mod pairs;
pub(super) mod trial;

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use dfw_common::{
    addr::Addr,
    decide::Tally,
    key::{AddressKey, proto},
    reason::{Direction, Reason, Verdict},
};
use serde::{Deserialize, Serialize};

pub(super) use self::ends::{End, list};
use self::{
    ceilings::Ceilings,
    hint::Other,
    pairs::{Pair, Spot},
    trial::{Kernel, Packet, Sides},
};
use super::{
    compile::{Compiled, CompiledEndpoint, Compiler, Options},
    intern::Held,
    mode::Mode,
    parse::parse_rules,
    problem::shown,
    rule::{Item, PortRange, Ports},
};
use crate::model::{Container, Endpoint, Inventory, Unanswerable};

/// What is in force: what it was compiled from, and the entries.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Containers, networks and addresses.
    pub inventory: Arc<Inventory>,
    /// What the kernel holds for them.
    pub compiled: Compiled,
    /// Settings, policy file and modes for a while.
    pub options: Options,
}

/// May FROM open a connection to TO? Both are a container's name, `PROJECT/SERVICE`, a service, `container:N`,
/// `service:N`, an address, `host` or `world`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Who opens it.
    pub from: String,
    /// Whom it goes to.
    pub to: String,
    /// Protocol and port as in a label, e.g. `tcp/5432`.
    pub ports: String,
}

/// The answer. It goes over the command socket, so fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether it passes on every path.
    pub passes: bool,
    /// Pairs of ends, those that fare alike together.
    pub paths: Vec<Path>,
    /// What else is worth knowing, one sentence each.
    pub notes: Vec<String>,
}

/// Pairs of ends that fare alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Who they are.
    pub pairs: Vec<Names>,
    /// Whether it passes.
    pub passes: bool,
    /// The sides that are judged: egress, ingress.
    pub sides: Vec<Side>,
}

/// One pair: containers by name, or `host`, `world` or an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Who opens the connection.
    pub from: String,
    /// Whom it goes to.
    pub to: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
}

/// What one end says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// `egress` or `ingress`.
    pub direction: String,
    /// Whose side it is.
    pub endpoint: String,
    /// enforce, audit or off; empty while the kernel does not know the endpoint.
    pub mode: String,
    /// Whether its labels or the node's file govern it, or `--unlabelled`.
    pub governed: bool,
    /// allow, deny, audit, or off where nothing is judged.
    pub verdict: String,
    /// Reason as in the metrics; empty where nothing is judged.
    pub reason: String,
    /// The rule that decides, if one does.
    pub rule: Option<Source>,
    /// All of this in words.
    pub why: String,
    /// What to change, where something has to be.
    pub hint: Option<Hint>,
}

/// A rule and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Key of the label, or file, line and key in the node's file.
    pub label: String,
    /// Canonical text.
    pub text: String,
    /// It is part of a ceiling, and takes away what it does not allow.
    pub ceiling: bool,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: \"{}\"", self.label, self.text)
    }
}

/// What would let it pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The service or container to change, or the node.
    pub on: String,
    /// A label as a line to paste, or what to do.
    pub text: String,
}

impl InForce {
    /// What would be in force on a host of its own.
    pub fn planned(inventory: Inventory, options: Options) -> Self {
        let compiled = Compiler::new(1, Held::default()).compile(&inventory, &options);
        Self {
            inventory: Arc::new(inventory),
            compiled,
            options,
        }
    }

    pub(super) fn endpoints_of(&self, container: &Container) -> impl Iterator<Item = &Endpoint> {
        let endpoints = self.inventory.endpoints.iter();
        endpoints.filter(move |endpoint| endpoint.container.id == container.id)
    }

    /// The rule that decides for an endpoint.
    fn rule(&self, endpoint: &Endpoint, tally: Tally) -> Option<Source> {
        let spec = self.compiled.endpoints.get(&endpoint.ifindex)?;
        let rule = self.compiled.rules.get(&(spec.policy, tally.rule))?;
        Some(Source {
            label: rule.label.clone(),
            text: rule.text.clone(),
            ceiling: rule.ceiling,
        })
    }

    /// Whether an address was given to an endpoint: it may claim one that is another's.
    fn has(&self, endpoint: &Endpoint, address: IpAddr) -> bool {
        let key = AddressKey {
            network: endpoint.network,
            addr: Addr::from(address),
        };
        let holder = self.compiled.addresses.get(&key);
        holder.is_some_and(|holder| holder.ifindex == endpoint.ifindex)
    }
}

/// Answers a question.
///
/// # Errors
/// An end that is nobody or several, no single port, or ends that do not meet.
pub fn explain(node: &InForce, question: &Question) -> Result<Explanation, Unanswerable> {
    let item = single(&question.ports)?;
    let mut notes = BTreeSet::new();
    let from = ends::find(node, &question.from, &mut notes)?;
    let to = ends::find(node, &question.to, &mut notes)?;
    let mut kernel = Kernel::new(&node.compiled);
    let mut ceilings = Ceilings::new(node);
    let mut paths: Vec<Path> = Vec::new();
    for pair in pairs::of(node, &kernel, &from, &to, &item)? {
        notes.extend(pair.note());
        let mut path = path(node, &mut kernel, &pair, &item);
        ceilings.heed(&mut path, &pair, &item);
        match paths.iter_mut().find(|known| known.is_like(&path)) {
            Some(known) => known.pairs.extend(path.pairs),
            None => paths.push(path),
        }
    }
    Ok(Explanation {
        passes: paths.iter().all(|path| path.passes),
        paths,
        notes: notes.into_iter().collect(),
    })
}

/// Sends one packet, and puts into words what becomes of it.
pub(super) fn path(node: &InForce, kernel: &mut Kernel, pair: &Pair<'_>, item: &Item) -> Path {
    let sent = send(kernel, pair, item);
    let mut path = Path {
        pairs: vec![pair.names()],
        passes: sent.pass(),
        sides: Vec::new(),
    };
    for (direction, tally, own, other) in [
        (Direction::Egress, sent.egress, &pair.from, &pair.to),
        (Direction::Ingress, sent.ingress, &pair.to, &pair.from),
    ] {
        let Some(endpoint) = own.endpoint() else {
            continue;
        };
        let mut side = side(node, endpoint, direction, tally);
        // As this end knows it: on another network the address may be somebody else's.
        let class = kernel.class(endpoint.network, other.address());
        let other = match *other {
            Spot::World(_) => Other::World,
            Spot::Endpoint(other, address) if class.ifindex == other.ifindex => {
                Other::Endpoint(other, address)
            }
            Spot::Endpoint(_, address) | Spot::Host(address) | Spot::Address(address) => {
                Other::Address(class.kind, address)
            }
        };
        side.hint = hint::of(node, endpoint, direction, &side, item, &other);
        path.sides.push(side);
    }
    path
}

/// What one side says of each packet between two ends; none where no packet goes between them.
pub(super) fn sides(
    node: &InForce,
    kernel: &mut Kernel,
    from: &End<'_>,
    to: &End<'_>,
    item: &Item,
    direction: Direction,
) -> Vec<Side> {
    let pairs = pairs::of(node, kernel, from, to, item).unwrap_or_default();
    let sides = pairs
        .iter()
        .flat_map(|pair| path(node, kernel, pair, item).sides);
    sides
        .filter(|side| side.direction == direction.name())
        .collect()
}

fn send(kernel: &mut Kernel, pair: &Pair<'_>, item: &Item) -> Sides {
    let packet = Packet {
        source: pair.from.address(),
        destination: pair.to.address(),
        protocol: item.protocol.0,
        port: dialled(item),
    };
    let ifindex = |spot: &Spot<'_>| spot.endpoint().map(|endpoint| endpoint.ifindex);
    kernel.send(&packet, ifindex(&pair.from), ifindex(&pair.to))
}

/// The ways into an endpoint from `world` and from `host`.
pub(super) fn outsiders<'a>(
    node: &'a InForce,
    kernel: &Kernel,
    endpoint: &'a Endpoint,
) -> Vec<Pair<'a>> {
    pairs::into_endpoint(node, kernel, &[End::World, End::Host], endpoint, None)
}

impl Path {
    /// Whether it differs in nothing but in which containers of the same services it is about.
    fn is_like(&self, other: &Self) -> bool {
        (self.passes, &self.sides) == (other.passes, &other.sides)
    }
}

fn side(node: &InForce, endpoint: &Endpoint, direction: Direction, tally: Option<Tally>) -> Side {
    let spec = node.compiled.endpoints.get(&endpoint.ifindex);
    let rule = tally.and_then(|tally| node.rule(endpoint, tally));
    Side {
        direction: direction.name().to_owned(),
        endpoint: endpoint.container.display_name(),
        mode: spec.map_or("", |spec| spec.mode.name()).to_owned(),
        governed: spec.is_some_and(|spec| spec.governed),
        verdict: tally
            .map_or(Mode::Off.name(), |tally| tally.verdict.name())
            .to_owned(),
        reason: tally.map_or("", |tally| tally.reason.name()).to_owned(),
        why: why(node, &endpoint.container, tally, rule.as_ref(), spec),
        rule,
        hint: None,
    }
}

/// What decides, and where the mode comes from when that matters.
fn why(
    node: &InForce,
    container: &Container,
    tally: Option<Tally>,
    rule: Option<&Source>,
    spec: Option<&CompiledEndpoint>,
) -> String {
    let mode = |spec: &CompiledEndpoint| {
        let CompiledEndpoint { mode, governed, .. } = spec;
        let label = format!("{}mode", node.options.prefix);
        let is_label = container.labels.get(&label).map(String::as_str) == Some(mode.name());
        if spec.overridden {
            format!("`dfw mode` has switched it to {mode}")
        } else if !governed {
            format!("it has no rules, and the node's --unlabelled is {mode}")
        } else if is_label || node.options.node.is_empty() {
            format!("{label} is {mode}")
        } else {
            format!("the node's policy file makes it {mode}")
        }
    };
    let Some(tally) = tally else {
        return spec.map_or_else(String::new, |spec| format!("not judged: {}", mode(spec)));
    };
    let cause = match (rule, tally.reason) {
        (Some(rule), _) if rule.ceiling => format!("beyond the ceiling: {rule}"),
        (Some(rule), _) => rule.to_string(),
        (None, Reason::NoRule) => "nothing allows it".to_owned(),
        (None, reason) => {
            let sentence = reason.describe().trim_end_matches('.');
            let mut chars = sentence.chars();
            let first = chars.next().map(|c| c.to_ascii_lowercase());
            first.into_iter().chain(chars).collect()
        }
    };
    match spec {
        Some(spec) if tally.verdict == Verdict::Audit => {
            format!("{cause}; passes all the same, for {}", mode(spec))
        }
        Some(spec) if tally.verdict == Verdict::Deny && (spec.overridden || !spec.governed) => {
            format!("{cause}: {}", mode(spec))
        }
        _ => cause,
    }
}

/// One protocol and port, in the words of labels.
fn single(text: &str) -> Result<Item, Unanswerable> {
    let refuse = |message: String| {
        let hint =
            "name one protocol and port, as in tcp/5432, udp/53, icmp, icmp6/128 or proto-47";
        Unanswerable::new(message, hint.to_owned())
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || "/-".contains(c);
    if text.is_empty() || !text.chars().all(is_word) {
        return Err(refuse(format!("{} is not one port", shown(text))));
    }
    let rules = parse_rules(Direction::Ingress, &format!("{text} from any"));
    let rules = rules.map_err(|problems| {
        refuse(
            problems
                .first()
                .map_or_else(String::new, ToString::to_string),
        )
    })?;
    let items = rules.into_iter().next().map(|rule| rule.ports);
    let Some(Ports::Items(items)) = items else {
        return Err(refuse("`any` is not one port".to_owned()));
    };
    let [item] = items[..] else {
        return Err(refuse(format!("{} is not one port", shown(text))));
    };
    let protocol = item.protocol.0;
    match item.range {
        Some(PortRange { low, high }) if low != high => {
            Err(refuse(format!("{} is more than one port", shown(text))))
        }
        Some(PortRange { low: 133..=137, .. }) if protocol == proto::ICMP6 => Err(refuse(format!(
            "{item} is neighbour discovery, which needs no rule"
        ))),
        None if matches!(protocol, proto::TCP | proto::UDP | proto::SCTP) => {
            Err(refuse(format!("{} names no port", shown(text))))
        }
        _ => Ok(item),
    }
}

/// The port of the packet; ICMP without a type asks for an echo.
fn dialled(item: &Item) -> u16 {
    match (item.range, item.protocol.0) {
        (Some(range), _) => range.low,
        (None, proto::ICMP) => 8,
        (None, proto::ICMP6) => 128,
        (None, _) => 0,
    }
}
