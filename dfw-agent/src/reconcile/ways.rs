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

#[cfg(test)]
mod tests {
    use dfw_common::addr::Mac;

    use super::*;
    use crate::{
        model::{BoundNetwork, Link, Network},
        policy::{CompiledEndpoint, State},
    };

    const BRIDGE: u32 = 1;
    const PORT: u32 = 2;

    fn link(ifindex: u32, kind: LinkKind) -> Link {
        Link {
            ifindex,
            name: format!("l{ifindex}"),
            kind,
            up: true,
            bridge: None,
            peer_here: None,
            peer: None,
            detour: None,
        }
    }

    /// One endpoint that enforces, and nothing against it; what each test changes of that.
    fn of_one(
        change: impl FnOnce(&mut Compiled, &mut Inventory, &mut Links),
        all: Option<Detour>,
        crowded: &[u32],
    ) -> Option<Detour> {
        let (mut compiled, mut inventory, mut links) =
            (Compiled::default(), Inventory::default(), Links::default());
        let one = CompiledEndpoint {
            network: BRIDGE,
            mac: Mac::default(),
            mode: Mode::Enforce,
            policy: 0,
            governed: true,
            overridden: false,
            project: String::new(),
            service: String::new(),
            state: State::Ready,
            rules: Vec::new(),
        };
        compiled.endpoints.insert(PORT, one);
        links.links.insert(BRIDGE, link(BRIDGE, LinkKind::Bridge));
        links.links.insert(PORT, link(PORT, LinkKind::Veth));
        inventory.networks.push(BoundNetwork {
            ifindex: BRIDGE,
            network: Network {
                id: "n".to_owned(),
                name: "n".to_owned(),
                project: None,
                short_name: None,
                bridge: "br".to_owned(),
                subnets: Vec::new(),
                filtered: false,
            },
            foreign_ports: Vec::new(),
        });
        change(&mut compiled, &mut inventory, &mut links);
        let crowded = crowded.iter().copied().collect();
        let found = detours(&compiled, &inventory, &links, all, &crowded);
        found.get(&PORT).copied()
    }

    fn with_link(ifindex: u32, change: fn(&mut Link)) -> Option<Detour> {
        let change = |links: &mut Links| links.links.get_mut(&ifindex).into_iter().for_each(change);
        of_one(|_, _, links| change(links), None, &[])
    }

    #[test]
    fn each_reason_keeps_an_endpoint_on_its_bridge() {
        let same = |_: &mut Compiled, _: &mut Inventory, _: &mut Links| ();
        assert_eq!(of_one(same, None, &[]), None);
        assert_eq!(of_one(same, None, &[BRIDGE]), None, "another's programs");
        assert_eq!(of_one(same, None, &[PORT]), Some(Detour::Program));
        for all in [Detour::Off, Detour::Kernel] {
            assert_eq!(of_one(same, Some(all), &[PORT]), Some(all));
        }
        for mode in [Mode::Audit, Mode::Off] {
            let set = |compiled: &mut Compiled| {
                let endpoints = compiled.endpoints.values_mut();
                endpoints.for_each(|one| one.mode = mode);
            };
            let found = of_one(|compiled, _, _| set(compiled), None, &[]);
            assert_eq!(found, Some(Detour::Mode));
        }
        let filtered = of_one(
            |_, inv, _| inv.networks[0].network.filtered = true,
            None,
            &[],
        );
        assert_eq!(filtered, Some(Detour::Network));
        let vlan = with_link(BRIDGE, |bridge| bridge.detour = Some(Detour::Vlan));
        assert_eq!(vlan, Some(Detour::Vlan));
        let queue = with_link(PORT, |port| port.detour = Some(Detour::Queue));
        assert_eq!(queue, Some(Detour::Queue));
        for change in [
            (|port| port.kind = LinkKind::Other) as fn(&mut Link),
            |port| port.peer_here = Some(9),
        ] {
            assert_eq!(with_link(PORT, change), Some(Detour::Interface));
        }
        let gone = of_one(|_, _, links| links.links.clear(), None, &[]);
        assert_eq!(gone, Some(Detour::Interface), "nothing is known of it");
    }
}
