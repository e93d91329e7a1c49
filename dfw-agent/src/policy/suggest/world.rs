//! Addresses of the world: few ones as they are, summed up without loss; many on one port as `world`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{ports::Port, side::Share};
use crate::policy::seen::Times;

/// What was seen of the world.
#[derive(Debug, Default)]
pub(super) struct World {
    seen: BTreeMap<Port, BTreeMap<IpAddr, Times>>,
}

/// What is to be allowed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// `world` on these ports, and how many addresses it stands for.
    pub(super) everybody: Share,
    pub(super) widened: usize,
    /// Single addresses.
    pub(super) single: BTreeMap<IpAddr, Share>,
}

impl World {
    pub(super) fn add(&mut self, port: Port, address: IpAddr, times: Times) {
        self.seen
            .entry(port)
            .or_default()
            .insert(address.to_canonical(), times);
    }

    /// Ports with more than so many addresses are for everybody.
    pub(super) fn sum_up(self, world_after: usize) -> Summary {
        let mut summary = Summary::default();
        let mut widened = BTreeSet::new();
        for (port, addresses) in self.seen {
            if addresses.len() > world_after {
                for (address, times) in addresses {
                    summary.everybody.add(port, times);
                    widened.insert(address);
                }
            } else {
                for (address, times) in addresses {
                    summary.single.entry(address).or_default().add(port, times);
                }
            }
        }
        summary.widened = widened.len();
        summary
    }
}

/// The fewest nets with exactly these addresses.
pub(super) fn nets(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpNet> {
    let nets: Vec<IpNet> = addresses.into_iter().map(IpNet::from).collect();
    let mut nets = IpNet::aggregate(&nets);
    nets.sort_unstable();
    nets
}
