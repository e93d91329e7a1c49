//! Who there is, and what rules call them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use dfw_common::addr::Addr;

use super::{Form, world::nets};
use crate::{
    model::{Container, Endpoint, LABEL_PROJECT, LABEL_SERVICE, LABEL_SWARM_SERVICE},
    policy::{explain::InForce, label, mode::Mode, parse::is_name, rule::Peer, seen::Subject},
};

/// The endpoints of the node by whose they are, and the words for several.
pub(super) struct Who<'a> {
    endpoints: BTreeMap<Subject, Vec<&'a Endpoint>>,
    /// Those who could have labels: not a port that nobody claims.
    labelled: BTreeSet<Subject>,
    modes: BTreeMap<u32, Mode>,
    /// From the largest; a group before a project before a network.
    crowds: Vec<Crowd>,
}

/// A word for several, and whom it means: all endpoints of exactly these.
struct Crowd {
    peer: Peer,
    members: BTreeSet<Subject>,
}

impl<'a> Who<'a> {
    pub(super) fn new(node: &'a InForce) -> Self {
        let mut endpoints: BTreeMap<Subject, Vec<&Endpoint>> = BTreeMap::new();
        for endpoint in &node.inventory.endpoints {
            let own = endpoints
                .entry(Subject::from(&*endpoint.container))
                .or_default();
            own.push(endpoint);
        }
        let containers = node.inventory.containers.iter();
        let labelled = containers.map(|one| Subject::from(&**one)).collect();
        let compiled = node.compiled.endpoints.iter();
        let modes = compiled
            .map(|(ifindex, one)| (*ifindex, one.mode))
            .collect();
        let crowds = crowds(node, &endpoints);
        Self {
            endpoints,
            labelled,
            modes,
            crowds,
        }
    }

    /// Those who have an endpoint and could have labels.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        let subjects = self.endpoints.keys();
        subjects.filter(|subject| self.labelled.contains(subject))
    }

    pub(super) fn endpoints(&self, subject: &Subject) -> &[&'a Endpoint] {
        self.endpoints
            .get(subject)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// One of its containers, whose labels are those of all of them.
    pub(super) fn container(&self, subject: &Subject) -> Option<&'a Container> {
        self.endpoints(subject)
            .first()
            .map(|endpoint| &*endpoint.container)
    }

    pub(super) fn names(&self, subject: &Subject) -> Vec<String> {
        let endpoints = self.endpoints(subject).iter();
        let names: BTreeSet<&str> = endpoints.map(|one| one.container.name.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// The mode of its freest endpoint; none where it has none.
    pub(super) fn mode(&self, subject: &Subject) -> Option<Mode> {
        let endpoints = self.endpoints(subject).iter();
        let modes = endpoints.filter_map(|endpoint| self.modes.get(&endpoint.ifindex).copied());
        modes.min()
    }

    /// Whether it would be governed with other labels; then a side of which they say nothing is closed.
    pub(super) fn is_governed(
        &self,
        node: &InForce,
        subject: &Subject,
        labels: impl Fn(&Container) -> BTreeMap<String, String>,
    ) -> bool {
        self.endpoints(subject).iter().any(|endpoint| {
            let mut networks = node.inventory.networks.iter();
            let network = networks.find(|bound| bound.ifindex == endpoint.network);
            let container = Container {
                labels: labels(&endpoint.container),
                ..Container::clone(&endpoint.container)
            };
            network.is_some_and(|bound| node.options.governs(&container, &bound.network))
        })
    }

    pub(super) fn is_compose(&self, subject: &Subject) -> bool {
        let Subject::Service { project, service } = subject else {
            return false;
        };
        let named = |key| {
            self.container(subject)
                .is_none_or(|one| one.labels.contains_key(key))
        };
        is_name(project) && is_name(service) && named(LABEL_PROJECT) && named(LABEL_SERVICE)
    }

    /// The word of a policy file that selects exactly it.
    pub(super) fn selector(&self, subject: &Subject) -> Option<String> {
        match self.words(subject)[..] {
            [ref word] if !matches!(word, Peer::Cidr(_)) => Some(word.to_string()),
            _ => None,
        }
    }

    /// Whether a rule can name it.
    pub(super) fn is_nameable(&self, subject: &Subject) -> bool {
        !self.words(subject).is_empty()
    }

    /// The fewest peers that mean exactly these, in rules of `own`.
    pub(super) fn peers(
        &self,
        own: &Subject,
        mut others: BTreeSet<Subject>,
        form: Form,
    ) -> Vec<Peer> {
        let mut peers = Vec::new();
        for crowd in &self.crowds {
            if crowd.members.is_subset(&others) {
                others.retain(|other| !crowd.members.contains(other));
                peers.push(crowd.peer.clone());
            }
        }
        let own = match own {
            Subject::Service { project, .. } if form == Form::Labels => Some(project),
            Subject::Service { .. } | Subject::Container(_) => None,
        };
        for mut peer in others.iter().flat_map(|other| self.words(other)) {
            if let Peer::Service { project, .. } = &mut peer
                && project.as_ref() == own
            {
                *project = None;
            }
            peers.push(peer);
        }
        peers
    }

    /// What means it and nobody else: its service, else each of its containers, else their addresses. None where nothing does.
    fn words(&self, subject: &Subject) -> Vec<Peer> {
        match subject {
            Subject::Service { project, service } if is_name(project) && is_name(service) => {
                return vec![Peer::Service {
                    project: Some(project.clone()),
                    name: service.clone(),
                }];
            }
            Subject::Service { project, service } if project.is_empty() && is_name(service) => {
                let key = LABEL_SWARM_SERVICE;
                let has_it = |container: &Container| container.labels.get(key) == Some(service);
                if self.container(subject).is_none_or(has_it) {
                    return vec![Peer::Label {
                        key: key.to_owned(),
                        value: service.clone(),
                    }];
                }
            }
            Subject::Container(name) if is_name(name) => {
                return vec![Peer::Container(name.clone())];
            }
            Subject::Service { .. } | Subject::Container(_) => {}
        }
        let names = self.names(subject);
        if names.iter().all(|name| is_name(name)) {
            return names.into_iter().map(Peer::Container).collect();
        }
        let addresses = self
            .endpoints(subject)
            .iter()
            .flat_map(|one| &one.addresses);
        let addresses = addresses.filter(|address| !Addr::from(**address).is_link_local_v6());
        nets(addresses.map(IpAddr::to_canonical))
            .into_iter()
            .map(Peer::Cidr)
            .collect()
    }
}

/// Words for several, that which says most about what is meant first.
const WORDS: [fn(String) -> Peer; 3] = [Peer::Group, Peer::Project, Peer::Net];

/// The words that mean all endpoints of two subjects or more, and no others.
fn crowds(node: &InForce, endpoints: &BTreeMap<Subject, Vec<&Endpoint>>) -> Vec<Crowd> {
    let networks = node.inventory.networks.iter();
    let networks: BTreeMap<u32, &str> = networks
        .map(|bound| (bound.ifindex, bound.network.name.as_str()))
        .collect();
    // By word and name: of each subject, how many endpoints.
    let mut meant: BTreeMap<(usize, String), BTreeMap<&Subject, usize>> = BTreeMap::new();
    for (subject, endpoint) in endpoints
        .iter()
        .flat_map(|(subject, all)| all.iter().map(move |one| (subject, one)))
    {
        let container = &endpoint.container;
        let groups = label::read(&container.labels, &node.options.prefix).groups;
        let project = container.project().map(str::to_owned);
        let network = networks
            .get(&endpoint.network)
            .map(|name| (*name).to_owned());
        let words = groups.into_iter().map(|name| (0, name));
        let words = words.chain(project.map(|name| (1, name)));
        for key in words.chain(network.map(|name| (2, name))) {
            *meant.entry(key).or_default().entry(subject).or_default() += 1;
        }
    }
    let is_whole = |(subject, count): (&&Subject, &usize)| endpoints[*subject].len() == *count;
    meant.retain(|(_, name), members| {
        members.len() > 1 && is_name(name) && members.iter().all(is_whole)
    });
    let mut meant: Vec<_> = meant.into_iter().collect();
    meant.sort_by_key(|((word, _), members)| (usize::MAX - members.len(), *word));
    meant
        .into_iter()
        .map(|((word, name), members)| Crowd {
            peer: WORDS[word](name),
            members: members.into_keys().cloned().collect(),
        })
        .collect()
}
