//! Who is meant by a word: a container, a service, an address, `host` or `world`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::InForce;
use crate::{
    model::{Container, Endpoint, Unanswerable, Unprotected},
    policy::problem::{nearest, shown},
};

/// One end of a question.
#[derive(Clone, Debug)]
pub(in crate::policy) enum End<'a> {
    /// Ports of containers; not empty. With an address, only that one of theirs.
    Endpoints(Vec<&'a Endpoint>, Option<IpAddr>),
    /// This host, by whatever address the other end knows it.
    Host,
    /// Somebody who is neither a container nor this host, and whom no rule names by address.
    World,
    /// An address that no container has.
    Address(IpAddr),
}

/// How many names an error lists.
const NAMES: usize = 5;

/// Finds who is meant; what is worth knowing about that goes into the notes.
pub(super) fn find<'a>(
    node: &'a InForce,
    word: &str,
    notes: &mut BTreeSet<String>,
) -> Result<End<'a>, Unanswerable> {
    match word {
        "host" => return Ok(End::Host),
        "world" => return Ok(End::World),
        _ => {}
    }
    if let Ok(address) = word.parse::<IpAddr>() {
        return Ok(by_address(node, address.to_canonical()));
    }
    let containers = by_name(node, word)?;
    let mut endpoints = Vec::new();
    for container in &containers {
        match standing_in(node, container) {
            Some(owner) => {
                notes.insert(format!(
                    "{} shares the network of {}, whose rules govern it",
                    shown(&container.display_name()),
                    shown(&owner.display_name())
                ));
                endpoints.extend(node.endpoints_of(owner));
            }
            None => endpoints.extend(node.endpoints_of(container)),
        }
    }
    if !endpoints.is_empty() {
        return Ok(End::Endpoints(endpoints, None));
    }
    if containers
        .iter()
        .all(|c| c.unprotected.contains(&Unprotected::HostNetwork))
    {
        notes.insert(format!(
            "{} runs in the host's network: to rules it is `host`",
            shown(word)
        ));
        return Ok(End::Host);
    }
    Err(without_port(word, &containers))
}

fn by_address(node: &InForce, address: IpAddr) -> End<'_> {
    let endpoints: Vec<&Endpoint> = node
        .inventory
        .endpoints
        .iter()
        .filter(|endpoint| node.has(endpoint, address))
        .collect();
    if endpoints.is_empty() {
        End::Address(address)
    } else {
        End::Endpoints(endpoints, Some(address))
    }
}

/// The containers that a word names, all of which people know by one name.
fn by_name<'a>(node: &'a InForce, word: &str) -> Result<Vec<&'a Arc<Container>>, Unanswerable> {
    let all = containers(node);
    let mut found: BTreeMap<String, Vec<&Arc<Container>>> = BTreeMap::new();
    for container in all.values() {
        if is_named(container, word) {
            let name = container.display_name();
            found.entry(name).or_default().push(container);
        }
    }
    if found.len() > 1 {
        let names = list(found.keys().map(|name| shown(name)));
        let hint = match word.contains(':') {
            true => "name one of them".to_owned(),
            false => format!("name one of them, or write container:{word} for the container"),
        };
        return Err(Unanswerable::new(
            format!("{} is several: {names}", shown(word)),
            hint,
        ));
    }
    match found.pop_first() {
        Some((_, containers)) => Ok(containers),
        None => Err(nobody(&all, word)),
    }
}

/// Every container once, by id, those of ports without a name included.
fn containers(node: &InForce) -> BTreeMap<&str, &Arc<Container>> {
    let of_endpoints = node.inventory.endpoints.iter().map(|e| &e.container);
    let all = of_endpoints.chain(&node.inventory.containers);
    all.map(|container| (container.id.as_str(), container))
        .collect()
}

fn is_named(container: &Container, word: &str) -> bool {
    let is_service = |word: &str| match word.split_once('/') {
        Some((project, service)) => {
            container.project() == Some(project) && container.service() == Some(service)
        }
        None => container.service() == Some(word),
    };
    match word.split_once(':') {
        Some(("container", name)) => container.name == name,
        Some(("service", name)) => is_service(name),
        _ => {
            // As `docker ps` cuts it.
            let is_id = word.len() >= 12 && container.id.starts_with(word);
            container.name == word || is_service(word) || is_id
        }
    }
}

/// The container whose network another one is in.
fn standing_in<'a>(node: &'a InForce, container: &Container) -> Option<&'a Arc<Container>> {
    let owner = container.shares.as_ref()?;
    let mut all = node.inventory.containers.iter();
    all.find(|other| other.id == *owner)
}

fn nobody(all: &BTreeMap<&str, &Arc<Container>>, word: &str) -> Unanswerable {
    let display: Vec<String> = all.values().map(|one| one.display_name()).collect();
    let candidates = all
        .values()
        .flat_map(|one| [Some(one.name.as_str()), one.service()])
        .flatten()
        .chain(display.iter().map(String::as_str))
        .chain(["host", "world"]);
    let hint = match nearest(word, candidates) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "name a container, PROJECT/SERVICE, a service, an address, host or world".to_owned()
        }
    };
    Unanswerable::new(format!("nobody here is called {}", shown(word)), hint)
}

fn without_port(word: &str, containers: &[&Arc<Container>]) -> Unanswerable {
    let whys: BTreeSet<&str> = containers
        .iter()
        .flat_map(|one| &one.unprotected)
        .map(|why| why.name())
        .collect();
    let why = if whys.is_empty() {
        "it does not run, or its port is not known yet".to_owned()
    } else {
        list(whys.iter().map(|why| (*why).to_owned()))
    };
    Unanswerable::new(
        format!("{} has no port that is governed: {why}", shown(word)),
        "name somebody whom `dfw ls` lists".to_owned(),
    )
}

/// The first of some names.
pub(in crate::policy) fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES);
    let mut text = names.take(NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text += &format!(" and {more} more");
    }
    text
}
