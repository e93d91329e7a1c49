//! Which of the selectors in force an address satisfies.

use std::collections::{BTreeSet, HashMap};

use dfw_common::value::kind;
use ipnet::IpNet;

use super::{
    prefix_table::PrefixTable,
    resolve::{Resolved, Selector},
};
use crate::model::{Container, Network};

/// Positions of satisfied selectors, ascending.
pub(super) type Set = Vec<u32>;

/// The distinct selectors of all policies in force, in their order.
pub(super) struct Index {
    selectors: Vec<Selector>,
    positions: HashMap<Selector, u32>,
    cidrs: PrefixTable<u32>,
}

impl Index {
    pub(super) fn new<'a>(rules: impl IntoIterator<Item = &'a Resolved>) -> Self {
        let distinct: BTreeSet<&Selector> =
            rules.into_iter().flat_map(|rule| &rule.selectors).collect();
        let selectors: Vec<Selector> = distinct.into_iter().cloned().collect();
        let mut positions = HashMap::with_capacity(selectors.len());
        let mut cidrs = PrefixTable::default();
        for (position, selector) in (0..).zip(&selectors) {
            positions.insert(selector.clone(), position);
            if let Selector::Cidr(net) = selector {
                cidrs.entry(*net).insert_entry(position);
            }
        }
        Self {
            selectors,
            positions,
            cidrs,
        }
    }

    /// Position of a selector in force.
    pub(super) fn position(&self, selector: &Selector) -> Option<u32> {
        self.positions.get(selector).copied()
    }

    /// The selectors at these positions.
    pub(super) fn selectors(&self, set: &Set) -> Vec<Selector> {
        set.iter()
            .filter_map(|position| self.selectors.get(*position as usize).cloned())
            .collect()
    }

    /// Every CIDR peer.
    pub(super) fn cidrs(&self) -> impl Iterator<Item = IpNet> {
        self.cidrs.nets()
    }

    /// What an endpoint satisfies by what it is, whatever its address.
    pub(super) fn of_endpoint(
        &self,
        container: &Container,
        groups: &[String],
        network: Option<&Network>,
    ) -> Set {
        let mut set: Set = attributes(container, groups)
            .chain(network.into_iter().flat_map(network_names))
            .filter_map(|selector| self.position(&selector))
            .collect();
        set.sort_unstable();
        set.dedup();
        set
    }

    /// What the addresses of a net satisfy, none of which has a more specific entry. `own`: what the endpoint satisfies.
    pub(super) fn of_net(&self, net: IpNet, of_kind: u32, own: &Set) -> Set {
        let by_kind = match of_kind {
            // Nothing matches it.
            kind::UNKNOWN => return Set::new(),
            kind::HOST => self.position(&Selector::Host),
            kind::WORLD => self.position(&Selector::World),
            _ => None,
        };
        let mut set = own.clone();
        set.extend(self.cidrs.covering(net).map(|(_, position)| *position));
        set.extend(by_kind);
        set.sort_unstable();
        set
    }
}

/// Every selector that a container satisfies wherever it is attached.
pub(super) fn attributes<'a>(
    container: &'a Container,
    groups: &'a [String],
) -> impl Iterator<Item = Selector> + 'a {
    let project = container.project();
    let service = project
        .zip(container.service())
        .map(|(project, name)| Selector::Service {
            project: project.to_owned(),
            name: name.to_owned(),
        });
    let labels = container.labels.iter().map(|(key, value)| Selector::Label {
        key: key.clone(),
        value: value.clone(),
    });
    project
        .map(|project| Selector::Project(project.to_owned()))
        .into_iter()
        .chain(service)
        .chain([Selector::Container(container.name.clone())])
        .chain(groups.iter().cloned().map(Selector::Group))
        .chain(labels)
}

/// Every selector that the endpoints of a network satisfy.
pub(super) fn network_names(network: &Network) -> impl Iterator<Item = Selector> {
    let short = network.project.clone().zip(network.short_name.clone());
    [Selector::Net(network.name.clone())]
        .into_iter()
        .chain(short.map(|(project, name)| Selector::ProjectNet { project, name }))
}
