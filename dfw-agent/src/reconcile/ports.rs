//! Ports of bridges: which are to have programs, and whose they may be.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use crate::{
    model::{Container, Endpoint, Inventory, Link, Links, Role},
    policy::Options,
};

/// Where programs belong: on every port of a managed bridge that may lead to a container, and on the bridge itself unless
/// it has ports that are no containers, whose traffic the backstop does not know.
pub(super) fn wanted(inventory: &Inventory) -> BTreeSet<(u32, Role)> {
    let endpoints = inventory.endpoints.iter().map(|endpoint| endpoint.ifindex);
    let unclaimed = inventory.unclaimed.iter().map(|(ifindex, _)| *ifindex);
    let bridges = inventory
        .networks
        .iter()
        .filter(|network| network.foreign_ports.is_empty())
        .map(|network| (network.ifindex, Role::Bridge));
    endpoints
        .chain(unclaimed)
        .map(|ifindex| (ifindex, Role::Endpoint))
        .chain(bridges)
        .collect()
}

/// Those who are endpoints: whose port could not be closed, another one's address would let it pass the bridge.
pub(super) fn with_programs<'a>(
    inventory: &'a Inventory,
    attached: &BTreeSet<(u32, Role)>,
) -> Cow<'a, Inventory> {
    let has_programs = |endpoint: &Endpoint| attached.contains(&(endpoint.ifindex, Role::Endpoint));
    if inventory.endpoints.iter().all(has_programs) {
        return Cow::Borrowed(inventory);
    }
    let mut known = inventory.clone();
    known.endpoints.retain(has_programs);
    Cow::Owned(known)
}

/// Ports that an earlier agent would have closed; none when there was none.
pub(super) fn born_unseen(
    wanted: &BTreeSet<(u32, Role)>,
    touched: &BTreeSet<(u32, Role)>,
) -> BTreeSet<u32> {
    if touched.is_empty() {
        return BTreeSet::new();
    }
    let unseen = wanted.difference(touched);
    unseen
        .filter(|(_, role)| *role == Role::Endpoint)
        .map(|(ifindex, _)| *ifindex)
        .collect()
}

/// Whether a container whose labels, or the node's file, govern it is on this bridge's network and has no port there yet. It need not run: a
/// busy engine may take longer than [`super::BIRTH`] between the two.
pub(super) fn is_awaited(inventory: &Inventory, bridge: u32, options: &Options) -> bool {
    let Some(network) = inventory
        .networks
        .iter()
        .find(|network| network.ifindex == bridge)
    else {
        return false;
    };
    let is_bound = |container: &Container| {
        inventory
            .endpoints
            .iter()
            .any(|endpoint| endpoint.network == bridge && endpoint.container.id == container.id)
    };
    inventory.containers.iter().any(|container| {
        let mut networks = container.attachments.iter().map(|place| &place.network);
        networks.any(|id| *id == network.network.id)
            && options.governs(container, &network.network)
            && !is_bound(container)
    })
}

/// An endpoint of which only the link is known.
pub(super) fn nameless_endpoint(link: &Link, bridge: u32) -> Endpoint {
    let peer = link.peer.as_ref();
    Endpoint {
        ifindex: link.ifindex,
        interface: link.name.clone(),
        network: bridge,
        container: Arc::new(Container {
            id: format!("interface {}", link.ifindex),
            name: link.name.clone(),
            running: true,
            ..Container::default()
        }),
        mac: peer.map(|peer| peer.mac).unwrap_or_default(),
        addresses: peer.map(|peer| peer.addresses.clone()).unwrap_or_default(),
    }
}

/// What people call what is behind an interface: its container, else the interface itself.
pub(super) fn name_of(ifindex: u32, inventory: &Inventory, links: &Links) -> String {
    let mut endpoints = inventory.endpoints.iter();
    let endpoint = endpoints.find(|endpoint| endpoint.ifindex == ifindex);
    let link = || links.links.get(&ifindex).map(|link| link.name.clone());
    endpoint
        .map(|endpoint| endpoint.container.display_name())
        .or_else(link)
        .unwrap_or_default()
}
