//! Who has to be left on the bridge: where others have a say in packets between neighbours, or look at them, dfw takes none
//! past it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Detour, Inventory, LinkKind, Links},
    policy::{Compiled, Mode},
};

/// Endpoints whose packets take the bridge, and why; those of all others may be redirected. `all` keeps everybody there,
/// `crowded` are interfaces that have programs of others.
pub(super) fn detours(
    compiled: &Compiled,
    inventory: &Inventory,
    links: &Links,
    all: Option<Detour>,
    crowded: &BTreeSet<u32>,
) -> BTreeMap<u32, Detour> {
    let filtered: BTreeSet<u32> = inventory
        .networks
        .iter()
        .filter(|bound| bound.network.filtered)
        .map(|bound| bound.ifindex)
        .collect();
    let of_link = |ifindex: u32| links.links.get(&ifindex).and_then(|link| link.detour);
    let leads_away = |ifindex: u32| {
        let link = links.links.get(&ifindex);
        link.is_some_and(|link| link.kind == LinkKind::Veth && link.peer_here.is_none())
    };
    let detour = |ifindex: u32, network: u32, mode: Mode| {
        let found = [
            all,
            (mode != Mode::Enforce).then_some(Detour::Mode),
            filtered.contains(&network).then_some(Detour::Network),
            of_link(network),
            of_link(ifindex),
            (!leads_away(ifindex)).then_some(Detour::Interface),
            crowded.contains(&ifindex).then_some(Detour::Program),
        ];
        found.into_iter().flatten().next()
    };
    let endpoints = compiled.endpoints.iter();
    endpoints
        .filter_map(|(ifindex, one)| Some((*ifindex, detour(*ifindex, one.network, one.mode)?)))
        .collect()
}
