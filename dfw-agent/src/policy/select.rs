//! Which containers are meant, where no container's own label says it: in the node's file and in `dfw mode`.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use super::{
    compile::Options,
    index::{attributes, network_names},
    label,
    lex::{Kind, lex},
    parse,
    problem::{Problem, What, nearest, shown},
    resolve::{Selector, peer_selectors},
    rule::Peer,
};
use crate::model::{Container, Inventory, Network};

/// Containers that satisfy every word of it; none means all containers. Its `Display` is the canonical text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Select(BTreeMap<Selector, String>);

impl Select {
    /// Reads peers with blanks between. `service:N` has to name its project.
    ///
    /// # Errors
    /// Every problem with its place.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        if text.len() > parse::MAX_LABEL_BYTES {
            return Err(vec![What::TooLong(text.len()).at(0..0)]);
        }
        let tokens = lex(text).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let mut words = BTreeMap::new();
        for token in &tokens {
            let word = text.get(token.span.clone()).unwrap_or_default();
            let read = match token.kind {
                Kind::Word => selectors(word),
                Kind::Comma | Kind::Semicolon => Err(What::SelectorList),
            };
            match read {
                Ok(found) => words.extend(found),
                Err(what) => problems.push(what.at(token.span.clone())),
            }
        }
        if tokens.is_empty() {
            problems.push(What::NoSelector.at(0..text.len()));
        }
        problems.truncate(parse::MAX_PROBLEMS);
        if problems.is_empty() {
            Ok(Self(words))
        } else {
            Err(problems)
        }
    }

    /// All containers.
    pub(super) fn everybody() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether somebody with these attributes is meant.
    pub(super) fn selects(&self, attributes: &HashSet<Selector>) -> bool {
        self.0.keys().all(|selector| attributes.contains(selector))
    }
}

/// A word as selector and canonical text; nothing for `any`.
fn selectors(word: &str) -> Result<Option<(Selector, String)>, What> {
    let peer = parse::peer(word)?;
    match &peer {
        Peer::Any => return Ok(None),
        Peer::Cidr(_) | Peer::Host | Peer::World => return Err(What::NotASelector(shown(word))),
        Peer::Service { .. }
        | Peer::Project(_)
        | Peer::Group(_)
        | Peer::Container(_)
        | Peer::Net(_)
        | Peer::Label { .. } => {}
    }
    let text = peer.to_string();
    let selectors = peer_selectors(&peer, None).map_err(no_project)?;
    Ok(selectors.into_iter().next().map(|one| (one, text)))
}

/// Where no container is at hand, there is no project of its own either.
pub(super) fn no_project(what: What) -> What {
    if let What::OutsideCompose(name) = what {
        What::NoProject(name)
    } else {
        what
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        for (position, text) in self.0.values().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(text)?;
        }
        Ok(())
    }
}

/// Everything that an endpoint may be selected by.
pub(super) fn attributes_of(
    container: &Container,
    groups: &[String],
    network: Option<&Network>,
) -> HashSet<Selector> {
    attributes(container, groups)
        .chain(network.into_iter().flat_map(network_names))
        .collect()
}

/// Names of the containers with an endpoint that is selected.
///
/// # Errors
/// Nobody is; says what to write instead.
pub fn selected(
    select: &Select,
    inventory: &Inventory,
    options: &Options,
) -> Result<BTreeSet<String>, String> {
    let networks: BTreeMap<u32, &Network> = inventory
        .networks
        .iter()
        .map(|bound| (bound.ifindex, &bound.network))
        .collect();
    let mut names = BTreeSet::new();
    let mut known: HashSet<Selector> = HashSet::new();
    for endpoint in &inventory.endpoints {
        let container = &endpoint.container;
        let groups = label::read(&container.labels, &options.prefix).groups;
        let network = networks.get(&endpoint.network).copied();
        let attributes = attributes_of(container, &groups, network);
        if select.selects(&attributes) {
            names.insert(container.display_name());
        }
        known.extend(attributes);
    }
    if names.is_empty() {
        Err(nobody(select, &known))
    } else {
        Ok(names)
    }
}

/// Why nobody is selected: the first word that nobody satisfies, with the nearest that somebody does.
pub(super) fn nobody(select: &Select, known: &HashSet<Selector>) -> String {
    let unknown = select
        .0
        .iter()
        .find(|(selector, _)| !known.contains(selector));
    let Some((selector, text)) = unknown else {
        return if select.0.is_empty() {
            "there is no container".to_owned()
        } else {
            format!("`{select}`: no container has all of it")
        };
    };
    // All are of one kind, whose word does not make them alike.
    let name = |text: &str| {
        text.split_once(':')
            .map_or(String::new(), |(_, name)| name.to_owned())
    };
    let words: BTreeSet<String> = known
        .iter()
        .filter_map(|other| word(selector, other))
        .collect();
    let names: BTreeMap<String, &String> = words.iter().map(|text| (name(text), text)).collect();
    match nearest(&name(text), names.keys().map(String::as_str)) {
        Some(near) => format!(
            "`{text}` selects nobody at present: did you mean `{}`?",
            names[near]
        ),
        None => format!("`{text}` selects nobody at present: `dfw ls` shows who there is"),
    }
}

/// The word for what somebody is, where it is of the same kind as what was asked for.
fn word(asked: &Selector, other: &Selector) -> Option<String> {
    let peer = match other {
        Selector::Service { project, name } => Peer::Service {
            project: Some(project.clone()),
            name: name.clone(),
        },
        Selector::Project(name) => Peer::Project(name.clone()),
        Selector::Group(name) => Peer::Group(name.clone()),
        Selector::Container(name) => Peer::Container(name.clone()),
        Selector::Net(name) => Peer::Net(name.clone()),
        Selector::Label { key, value } => Peer::Label {
            key: key.clone(),
            value: value.clone(),
        },
        Selector::ProjectNet { .. } | Selector::Cidr(_) | Selector::Host | Selector::World => {
            return None;
        }
    };
    (std::mem::discriminant(asked) == std::mem::discriminant(other)).then(|| peer.to_string())
}
