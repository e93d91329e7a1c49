//! What a pass tells metrics and commands.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{
        self, Detour, Endpoint, EndpointView, Finding, Inventory, NetworkView, Role,
        UnprotectedView,
    },
    policy::Compiled,
};

/// What the view is made of.
pub(super) struct View<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) compiled: &'a Compiled,
    pub(super) governed: &'a BTreeSet<u32>,
    pub(super) attached: &'a BTreeSet<(u32, Role)>,
    pub(super) detours: &'a BTreeMap<u32, Detour>,
    pub(super) findings: Vec<Finding>,
}

impl View<'_> {
    pub(super) fn build(self) -> model::View {
        let names: BTreeMap<u32, &str> = self
            .inventory
            .networks
            .iter()
            .map(|network| (network.ifindex, network.network.name.as_str()))
            .collect();
        let mut endpoints: Vec<EndpointView> = self
            .inventory
            .endpoints
            .iter()
            .map(|endpoint| self.endpoint(endpoint, &names))
            .collect();
        endpoints.sort_by(|a, b| (&a.container, &a.network).cmp(&(&b.container, &b.network)));
        let networks = self.inventory.networks.iter().map(|network| NetworkView {
            name: network.network.name.clone(),
            bridge: network.network.bridge.clone(),
            ifindex: network.ifindex,
            subnets: network
                .network
                .subnets
                .iter()
                .map(ToString::to_string)
                .collect(),
            foreign_ports: network.foreign_ports.clone(),
        });
        let host = self.inventory.host_addresses.iter();
        let host: BTreeSet<_> = host.map(|address| address.net.addr()).collect();
        let unprotected = self.inventory.containers.iter().flat_map(|container| {
            container.unprotected.iter().map(|why| UnprotectedView {
                container: container.name.clone(),
                why: *why,
            })
        });
        model::View {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            networks: networks.collect(),
            host_addresses: host.into_iter().collect(),
            unprotected: unprotected.collect(),
            endpoints,
            findings: self.findings,
            ..model::View::default()
        }
    }

    fn endpoint(&self, endpoint: &Endpoint, names: &BTreeMap<u32, &str>) -> EndpointView {
        let container = &endpoint.container;
        let compiled = self.compiled.endpoints.get(&endpoint.ifindex);
        let is_ready = self.governed.contains(&endpoint.ifindex)
            && self.attached.contains(&(endpoint.ifindex, Role::Endpoint));
        EndpointView {
            container: container.name.clone(),
            id: container.id.clone(),
            project: compiled
                .map(|spec| spec.project.clone())
                .unwrap_or_default(),
            service: compiled
                .map(|spec| spec.service.clone())
                .unwrap_or_default(),
            network: names
                .get(&endpoint.network)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            interface: endpoint.interface.clone(),
            ifindex: endpoint.ifindex,
            addresses: endpoint.addresses.clone(),
            mac: endpoint.mac.to_string(),
            mode: compiled
                .map(|spec| spec.mode.to_string())
                .unwrap_or_default(),
            governed: compiled.is_some_and(|spec| spec.governed),
            overridden: compiled.is_some_and(|spec| spec.overridden),
            // Counted where it is asked for.
            audited: 0,
            state: match (is_ready, compiled) {
                (true, Some(spec)) => spec.state.name().to_owned(),
                _ => "not-ready".to_owned(),
            },
            detour: self.detours.get(&endpoint.ifindex).copied(),
            rules: compiled.map(|spec| spec.rules.clone()).unwrap_or_default(),
        }
    }
}
