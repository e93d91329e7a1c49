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
    seen::Subject,
};
use crate::model::{Container, Inventory, Network};

/// Containers that satisfy every word of it; none means all containers. Its `Display` is the canonical text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Select(BTreeSet<Selector>);

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
        let mut words = BTreeSet::new();
        for token in &tokens {
            let word = text.get(token.span.clone()).unwrap_or_default();
            let read = match token.kind {
                Kind::Word => selector(word),
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
        Self(BTreeSet::new())
    }

    /// Whether somebody with these attributes is meant.
    pub(super) fn selects(&self, attributes: &HashSet<Selector>) -> bool {
        self.0.iter().all(|selector| attributes.contains(selector))
    }
}

/// What a word asks; nothing for `any`.
fn selector(word: &str) -> Result<Option<Selector>, What> {
    let peer = parse::peer(word)?;
    match peer {
        Peer::Any => return Ok(None),
        Peer::Cidr(_) | Peer::Host | Peer::World => return Err(What::NotASelector(shown(word))),
        Peer::Service { .. }
        | Peer::Project(_)
        | Peer::Group(_)
        | Peer::Container(_)
        | Peer::Net(_)
        | Peer::Label { .. } => {}
    }
    let selectors = peer_selectors(&peer, None).map_err(no_project)?;
    Ok(selectors.into_iter().next())
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
        for (position, text) in self.0.iter().filter_map(word).enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&text)?;
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
    let containers = selected_containers(select, inventory, options)?;
    Ok(containers
        .into_iter()
        .map(Container::display_name)
        .collect())
}

fn selected_containers<'a>(
    select: &Select,
    inventory: &'a Inventory,
    options: &Options,
) -> Result<Vec<&'a Container>, String> {
    let networks: BTreeMap<u32, &Network> = inventory
        .networks
        .iter()
        .map(|bound| (bound.ifindex, &bound.network))
        .collect();
    let mut found = Vec::new();
    let mut known: HashSet<Selector> = HashSet::new();
    for endpoint in &inventory.endpoints {
        let container = &endpoint.container;
        let groups = label::read(&container.labels, &options.prefix).groups;
        let network = networks.get(&endpoint.network).copied();
        let attributes = attributes_of(container, &groups, network);
        if select.selects(&attributes) {
            found.push(&**container);
        }
        known.extend(attributes);
    }
    if found.is_empty() {
        Err(nobody(select, &known))
    } else {
        Ok(found)
    }
}

/// The subjects that are selected: by a container that is there, or by their own name where none is.
///
/// # Errors
/// Nobody is; says what to write instead.
pub fn select_subjects<'a>(
    select: &Select,
    inventory: &Inventory,
    options: &Options,
    known: impl Iterator<Item = &'a Subject>,
) -> Result<BTreeSet<Subject>, String> {
    let named = known.filter(|subject| select.selects(&names_of(subject)));
    let mut subjects: BTreeSet<Subject> = named.cloned().collect();
    match selected_containers(select, inventory, options) {
        Ok(containers) => {
            subjects.extend(containers.into_iter().map(Subject::from));
            Ok(subjects)
        }
        Err(_) if !subjects.is_empty() => Ok(subjects),
        Err(why) => Err(why),
    }
}

/// What a subject is called where its containers are gone.
fn names_of(subject: &Subject) -> HashSet<Selector> {
    match subject.clone() {
        Subject::Service { project, service } => HashSet::from([
            Selector::Project(project.clone()),
            Selector::Service {
                project,
                name: service,
            },
        ]),
        Subject::Container(name) => HashSet::from([Selector::Container(name)]),
    }
}

/// Why nobody is selected: the first word that nobody satisfies, with the nearest that somebody does.
pub(super) fn nobody(select: &Select, known: &HashSet<Selector>) -> String {
    let unknown = select.0.iter().find(|selector| !known.contains(selector));
    match unknown.and_then(|selector| Some((word(selector)?, similar(selector, known)))) {
        Some((text, Some(near))) => {
            format!("`{text}` selects nobody at present: did you mean `{near}`?")
        }
        Some((text, None)) => {
            format!("`{text}` selects nobody at present: `dfw ls` shows who there is")
        }
        None if select.0.is_empty() => "there is no container".to_owned(),
        None => format!("`{select}`: no container has all of it"),
    }
}

/// The word of the same kind that was probably meant.
pub(super) fn similar(selector: &Selector, known: &HashSet<Selector>) -> Option<String> {
    let kind = std::mem::discriminant(selector);
    let alike = known
        .iter()
        .filter(|other| std::mem::discriminant(*other) == kind);
    // The kind does not make them more alike.
    let name = |word: &str| word.split_once(':').map(|(_, name)| name.to_owned());
    let names: BTreeMap<String, String> = alike
        .filter_map(|other| word(other).and_then(|word| Some((name(&word)?, word))))
        .collect();
    let near = nearest(
        &word(selector).as_deref().and_then(name)?,
        names.keys().map(String::as_str),
    )?;
    names.get(near).cloned()
}

/// The peer by which a rule names what a container is.
pub(super) fn word(selector: &Selector) -> Option<String> {
    let peer = match selector.clone() {
        Selector::Service { project, name } => Peer::Service {
            project: Some(project),
            name,
        },
        Selector::Project(name) => Peer::Project(name),
        Selector::Group(name) => Peer::Group(name),
        Selector::Container(name) => Peer::Container(name),
        Selector::Net(name) => Peer::Net(name),
        Selector::Label { key, value } => Peer::Label { key, value },
        Selector::ProjectNet { .. } | Selector::Cidr(_) | Selector::Host | Selector::World => {
            return None;
        }
    };
    Some(peer.to_string())
}
