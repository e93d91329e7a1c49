//! What the engine said last, and the snapshot that follows from it. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    convert::{Meta, NetworkKind, NetworkState, Powers},
    labels,
};
use crate::model::{Attachment, Container, Finding, Level, Network, Snapshot, Unprotected};

/// The last good answers, by id.
#[derive(Debug, Default)]
pub(super) struct Cache {
    prefix: String,
    containers: BTreeMap<String, Record>,
    networks: BTreeMap<String, NetworkState>,
    images: BTreeMap<String, Image>,
    changed: bool,
}

#[derive(Debug)]
struct Record {
    meta: Meta,
    powers: Option<Powers>,
    /// As it stands in the snapshot, until something it is made of changes.
    built: Option<Arc<Container>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Image {
    Labels(BTreeMap<String, String>),
    Gone,
}

impl Cache {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            changed: true,
            ..Self::default()
        }
    }

    /// Whether the snapshot or the findings may differ since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn knows_container(&self, id: &str) -> bool {
        self.containers.contains_key(id)
    }

    pub(super) fn container_ids(&self) -> Vec<String> {
        self.containers.keys().cloned().collect()
    }

    pub(super) fn network_ids(&self) -> Vec<String> {
        self.networks.keys().cloned().collect()
    }

    /// Whether an inspection would say more than the listing did.
    pub(super) fn lacks_powers(&self, id: &str) -> bool {
        self.containers
            .get(id)
            .is_some_and(|record| record.powers.is_none())
    }

    /// The image of a container, if its labels were not read yet.
    pub(super) fn lacks_image(&self, id: &str) -> Option<&str> {
        let image = self.containers.get(id)?.meta.image.as_str();
        (!self.images.contains_key(image)).then_some(image)
    }

    /// Takes in a container; whether it was known and differs.
    pub(super) fn set_meta(&mut self, id: &str, meta: Meta) -> bool {
        let Some(record) = self.containers.get_mut(id) else {
            self.containers.insert(
                id.to_owned(),
                Record {
                    meta,
                    powers: None,
                    built: None,
                },
            );
            self.changed = true;
            return false;
        };
        if record.meta == meta {
            return false;
        }
        record.meta = meta;
        record.built = None;
        self.changed = true;
        true
    }

    pub(super) fn set_powers(&mut self, id: &str, powers: Powers) {
        if let Some(record) = self
            .containers
            .get_mut(id)
            .filter(|record| record.powers != Some(powers))
        {
            record.powers = Some(powers);
            record.built = None;
            self.changed = true;
        }
    }

    pub(super) fn forget_container(&mut self, id: &str) {
        self.changed |= self.containers.remove(id).is_some();
    }

    /// Takes in a network, or that it is no more.
    pub(super) fn set_network(&mut self, id: &str, state: Option<NetworkState>) {
        if self.networks.get(id) == state.as_ref() {
            return;
        }
        let before = match &state {
            Some(state) => self.networks.insert(id.to_owned(), state.clone()),
            None => self.networks.remove(id),
        };
        for container in before
            .iter()
            .chain(&state)
            .flat_map(|state| state.endpoints.keys())
        {
            if let Some(record) = self.containers.get_mut(container) {
                record.built = None;
            }
        }
        self.changed = true;
    }

    /// Those on a network, whether known or not.
    pub(super) fn on_network(&self, id: &str) -> impl Iterator<Item = &String> {
        self.networks
            .get(id)
            .into_iter()
            .flat_map(|state| state.endpoints.keys())
    }

    /// Takes in the labels of an image, or that it is no more. An image is named by a hash of what it is, so what was read
    /// once stays true.
    pub(super) fn set_image(&mut self, id: &str, labels: Option<BTreeMap<String, String>>) {
        self.images
            .insert(id.to_owned(), labels.map_or(Image::Gone, Image::Labels));
        for record in self
            .containers
            .values_mut()
            .filter(|record| record.meta.image == id)
        {
            record.built = None;
        }
        self.changed = true;
    }

    /// Forgets the images that no container has any more.
    pub(super) fn prune_images(&mut self) {
        let used: BTreeSet<&str> = self
            .containers
            .values()
            .map(|record| record.meta.image.as_str())
            .collect();
        self.images.retain(|id, _| used.contains(id.as_str()));
    }

    /// What is known now. A container whose image was not read yet is left out: nobody knows which of its labels count.
    pub(super) fn snapshot(&mut self) -> Snapshot {
        let mut attachments: BTreeMap<&str, Vec<Attachment>> = BTreeMap::new();
        let mut unprotected: BTreeMap<&str, BTreeSet<Unprotected>> = BTreeMap::new();
        let mut networks: Vec<Network> = Vec::new();
        for (id, state) in &self.networks {
            if let NetworkKind::Bridge(network) = &state.kind {
                networks.push(network.clone());
            }
            for (container, endpoint) in &state.endpoints {
                match &state.kind {
                    NetworkKind::Bridge(_) => {
                        attachments.entry(container).or_default().push(Attachment {
                            network: id.clone(),
                            interface: None,
                            mac: endpoint.mac,
                            addresses: endpoint.addresses.clone(),
                        })
                    }
                    NetworkKind::Unprotected(why) => {
                        unprotected.entry(container).or_default().insert(*why);
                    }
                    NetworkKind::Null => {
                        attachments.entry(container).or_default();
                    }
                }
            }
        }
        let names: BTreeMap<String, String> = self
            .containers
            .iter()
            .map(|(id, record)| (record.meta.name.clone(), id.clone()))
            .collect();

        let mut containers = Vec::new();
        for (id, record) in &mut self.containers {
            // An endpoint comes before the listing says that a container is started again.
            let on_some_network =
                attachments.contains_key(id.as_str()) || unprotected.contains_key(id.as_str());
            let Some(image) = self
                .images
                .get(&record.meta.image)
                .filter(|_| record.meta.live || on_some_network)
            else {
                continue;
            };
            let shares = record
                .meta
                .joined
                .as_ref()
                .map(|joined| names.get(joined).unwrap_or(joined).clone());
            let built = record.built.get_or_insert_with(|| {
                let nothing = BTreeMap::new();
                let of_image = match image {
                    Image::Labels(labels) => labels,
                    Image::Gone => &nothing,
                };
                let (labels, image_labels) =
                    labels::that_count(&record.meta.labels, of_image, &self.prefix);
                let mut why = unprotected.remove(id.as_str()).unwrap_or_default();
                let powers = record.powers.unwrap_or_default();
                let traits = [
                    (record.meta.host_network, Unprotected::HostNetwork),
                    (shares.is_some(), Unprotected::Shared),
                    (powers.privileged, Unprotected::Privileged),
                    (powers.net_admin, Unprotected::NetAdmin),
                ];
                why.extend(
                    traits
                        .into_iter()
                        .filter_map(|(is_so, why)| is_so.then_some(why)),
                );
                Arc::new(Container {
                    id: id.clone(),
                    name: record.meta.name.clone(),
                    labels,
                    image_labels,
                    attachments: attachments.remove(id.as_str()).unwrap_or_default(),
                    unprotected: why.into_iter().collect(),
                    shares: None,
                    running: record.meta.running,
                    published: record.meta.published.clone(),
                })
            });
            // The one it joins may be renamed at any time.
            if built.shares != shares {
                Arc::make_mut(built).shares = shares;
            }
            containers.push(Arc::clone(built));
        }
        Snapshot {
            networks,
            containers,
        }
    }

    /// What is wrong with the answers.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let gone = self
            .containers
            .values()
            .filter(|record| self.images.get(&record.meta.image) == Some(&Image::Gone));
        gone.filter(|record| record.meta.live)
            .map(|record| {
                Finding::new(
                    Level::Warning,
                    "image-gone",
                    &record.meta.name,
                    "its image was removed, so all its labels count, also those it may have from the image; \
                     recreate the container"
                        .to_owned(),
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
