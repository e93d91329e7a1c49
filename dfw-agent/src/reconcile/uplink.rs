//! Uplinks: which interfaces they are, and which subnets nobody outside may claim.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::{Datapath, Reconciler, node_error};
use crate::{
    model::{Finding, Inventory, Level, Link, Links, UplinkView},
    policy::Blocks,
};

/// What the node's edge is to be.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// `--uplink`, names of interfaces.
    pub uplinks: Vec<String>,
    /// Whose packets no uplink lets in; none while the lists cannot be read: what the kernel has stays.
    pub denied: Option<Arc<Blocks>>,
}

/// Uplinks as they are at this pass.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names by ifindex.
    pub(super) wanted: BTreeMap<u32, String>,
    /// Those that are not attached, and why not.
    pub(super) others: Vec<UplinkView>,
    /// Subnets of containers.
    pub(super) subnets: Blocks,
    pub(super) findings: Vec<Finding>,
}

impl Edge {
    pub(super) fn plan(&self, inventory: &Inventory, links: &Links) -> Plan {
        let mut plan = Plan::default();
        for name in &self.uplinks {
            let link = links.links.values().find(|link| link.name == *name);
            let (state, finding) = match link {
                None => ("absent", absent(name)),
                Some(link) => match refusal(link, inventory) {
                    None => {
                        plan.wanted.insert(link.ifindex, name.clone());
                        continue;
                    }
                    Some(why) => (
                        "refused",
                        node_error(
                            "bad-uplink",
                            format!(
                                "{name} is no uplink: {why}; name the interface that leads out of this node with --uplink"
                            ),
                        ),
                    ),
                },
            };
            plan.findings.push(finding);
            plan.others.push(UplinkView {
                interface: name.clone(),
                state: state.to_owned(),
            });
        }
        if !self.uplinks.is_empty() {
            plan.subnets = Blocks::of(plan.judged(inventory, links));
        } else if self
            .denied
            .as_ref()
            .is_some_and(|denied| !denied.is_empty())
        {
            let what = "the policy file has deny lists, and they hold at uplinks only: name one with --uplink";
            plan.findings.push(Finding::new(
                Level::Warning,
                "deny-without-uplink",
                "",
                what.to_owned(),
            ));
        }
        plan
    }
}

impl Plan {
    /// Subnets that are this host's containers' alone. What is a network beyond some other interface as well is somebody's
    /// LAN, and its packets are honest.
    fn judged(&mut self, inventory: &Inventory, links: &Links) -> Vec<IpNet> {
        let is_managed = |ifindex: u32| {
            inventory
                .networks
                .iter()
                .any(|network| network.ifindex == ifindex)
        };
        let mut judged = Vec::new();
        for bound in inventory
            .networks
            .iter()
            .filter(|bound| bound.foreign_ports.is_empty())
        {
            for subnet in &bound.network.subnets {
                let beyond = inventory.host_addresses.iter().find(|address| {
                    let net = address.net.trunc();
                    !is_managed(address.ifindex) && (net.contains(subnet) || subnet.contains(&net))
                });
                match beyond {
                    None => judged.push(*subnet),
                    Some(address) => {
                        let interface = links
                            .links
                            .get(&address.ifindex)
                            .map(|link| link.name.as_str());
                        let (network, interface) =
                            (&bound.network.name, interface.unwrap_or_default());
                        let what = format!(
                            "{subnet} of the network {network} is beyond {interface} too ({}): uplinks do not judge it; give the network another subnet",
                            address.net
                        );
                        self.findings.push(Finding::new(
                            Level::Warning,
                            "subnet-outside",
                            "",
                            what,
                        ));
                    }
                }
            }
        }
        judged
    }
}

impl<D: Datapath> Reconciler<D> {
    /// The lists first: an uplink judges by them from its first packet on.
    pub(super) fn uplinks(
        &mut self,
        inventory: &Inventory,
        links: &Links,
        findings: &mut Vec<Finding>,
    ) -> Vec<UplinkView> {
        let plan = self.edge.plan(inventory, links);
        findings.extend(plan.findings);
        let (none, subnets) = (Arc::default(), Arc::new(plan.subnets));
        let denied = if self.edge.uplinks.is_empty() {
            Some(&none)
        } else {
            self.edge.denied.as_ref()
        };
        if let Err(error) = self.datapath.set_lists(denied, &subnets) {
            findings.push(node_error("lists-not-written", error.to_string()));
        }
        let mut uplinks = plan.others;
        for (ifindex, result) in self.datapath.set_uplinks(&plan.wanted) {
            let state = match result {
                Ok(mode) => mode.name(),
                Err(error) => {
                    findings.push(node_error("uplink-failed", error.to_string()));
                    "failed"
                }
            };
            let interface = plan.wanted.get(&ifindex).cloned().unwrap_or_default();
            uplinks.push(UplinkView {
                interface,
                state: state.to_owned(),
            });
        }
        uplinks
    }
}

/// Why no program is attached there. Containers' own ports are judged by other programs, and XDP takes segmentation offload
/// from a veth.
fn refusal(link: &Link, inventory: &Inventory) -> Option<String> {
    let network = |bridge| {
        let mut networks = inventory.networks.iter();
        networks.find(|network| Some(network.ifindex) == bridge)
    };
    if link.name == "lo" {
        return Some("it leads nowhere".to_owned());
    }
    if let Some(network) = network(Some(link.ifindex)) {
        return Some(format!(
            "it is the bridge of the network {}",
            network.network.name
        ));
    }
    let network = network(link.bridge)?;
    Some(format!(
        "it is a port of the network {}",
        network.network.name
    ))
}

fn absent(name: &str) -> Finding {
    let what = format!("there is no interface {name}: nothing is dropped there until there is one");
    Finding::new(Level::Warning, "no-uplink", "", what)
}
