//! Figures of the kernel for metrics, on map handles of their own: reading never waits for a change of policy.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuValues},
};
use dfw_common::{
    conntrack,
    key::FlowKey,
    maps as layout,
    reason::{Direction, Reason, Verdict},
    value::{Count, EventBudget, Flow, Settings},
};

use super::{
    fence::Dropped,
    flows::Flows,
    load::LoadError,
    seen::Sightings,
    tables::{Occupancy, take},
};
use crate::telemetry::{EndpointCounter, Kernel, KernelFigures, MapFill, ReasonCounter};

/// How the drops of the fence are counted: it belongs to the backstop, and stands where the sender's frame would go on.
const FENCED: (Direction, Verdict, Reason) = (Direction::Egress, Verdict::Deny, Reason::Unmanaged);

/// Reads counters and the flow table.
pub struct Figures {
    counters: PerCpuArray<MapData, Count>,
    endpoints: PerCpuArray<MapData, u64>,
    budget: PerCpuArray<MapData, EventBudget>,
    flows: Mutex<Flows>,
    sightings: Arc<Sightings>,
    flow_capacity: u64,
    policy_capacity: u64,
    occupancy: Arc<Mutex<Occupancy>>,
    /// What the fence dropped since the agent started.
    fenced: Mutex<Dropped>,
    /// Blocks of the uplinks' lists.
    blocks: AtomicU64,
}

impl Figures {
    /// Takes the maps that only figures read.
    ///
    /// # Errors
    /// A map that is not there.
    pub(super) fn open(
        object: &mut Ebpf,
        sightings: Arc<Sightings>,
        endpoints: PerCpuArray<MapData, u64>,
        occupancy: Arc<Mutex<Occupancy>>,
        capacities: (u64, u64),
    ) -> Result<Self, LoadError> {
        Ok(Self {
            counters: take(object, layout::COUNTERS)?,
            endpoints,
            budget: take(object, layout::EVENT_BUDGET)?,
            flows: Mutex::new(Flows::new(
                take(object, layout::FLOWS)?,
                take(object, layout::FLOW_RING)?,
            )),
            sightings,
            policy_capacity: capacities.0,
            flow_capacity: capacities.1,
            occupancy,
            fenced: Mutex::default(),
            blocks: AtomicU64::new(0),
        })
    }

    /// Adds what the fence dropped: it has counters of its own.
    pub(super) fn note_fenced(&self, dropped: Dropped) {
        let mut fenced = self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        fenced.packets += dropped.packets;
        fenced.bytes += dropped.bytes;
    }

    /// So many blocks are in the kernel.
    pub(super) fn note_blocks(&self, blocks: usize) {
        self.blocks.store(blocks as u64, Ordering::Relaxed);
    }

    /// Flows in the table.
    fn count_flows(&self) -> u64 {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.keys().count() as u64
    }

    /// Removes flows that nobody will miss: of endpoints that are gone, and those that expired an hour ago. (What
    /// expired just now might be about to be used again; the datapath itself never takes it for live.)
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn sweep(&self, settings: &Settings, now: u32) -> Result<usize, MapError> {
        const GRACE_SECONDS: u32 = 3600;
        let alive: std::collections::BTreeSet<u32> = {
            let occupancy = self
                .occupancy
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            occupancy
                .slots
                .iter()
                .map(|(_, ifindex)| *ifindex)
                .collect()
        };
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |key: &FlowKey, flow: &Flow| {
            let orphaned = flow
                .ifindex
                .iter()
                .any(|end| *end != 0 && !alive.contains(end));
            let earlier = now.wrapping_sub(GRACE_SECONDS.wrapping_mul(settings.hz));
            // The difference is signed: a flow seen after `earlier` is young, not 2^32 jiffies old.
            let is_old = (earlier.wrapping_sub(flow.seen) as i32) > 0
                && conntrack::is_expired(flow, key.protocol, earlier, settings.hz);
            orphaned || is_old
        };
        let dead: Vec<FlowKey> = flows
            .iter()
            .filter(|(key, flow)| is_gone(key, flow))
            .map(|(key, _)| key)
            .collect();
        for key in &dead {
            // Recycled meanwhile: as good as removed.
            let _ = flows.remove(key);
        }
        Ok(dead.len())
    }

    fn endpoint_counters(&self) -> Result<Vec<EndpointCounter>, MapError> {
        let slots = self
            .occupancy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .slots
            .clone();
        let mut counters = Vec::with_capacity(slots.len());
        for (slot, ifindex) in slots {
            for direction in Direction::ALL {
                for verdict in Verdict::ALL {
                    let index = layout::endpoint_counter_index(slot, direction, verdict);
                    let packets = self.endpoints.get(&index, 0)?.iter().sum();
                    counters.push(EndpointCounter {
                        ifindex,
                        direction,
                        verdict,
                        packets,
                    });
                }
            }
        }
        Ok(counters)
    }

    fn reason_counters(&self) -> Result<Vec<ReasonCounter>, MapError> {
        let fenced = *self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counters = Vec::new();
        for direction in Direction::ALL {
            for verdict in Verdict::ALL {
                for reason in Reason::ALL {
                    let index = layout::counter_index(direction, verdict, *reason);
                    let values = self.counters.get(&index, 0)?;
                    let mut packets = values.iter().map(|count| count.packets).sum();
                    let mut bytes = values.iter().map(|count| count.bytes).sum();
                    if (direction, verdict, *reason) == FENCED {
                        packets += fenced.packets;
                        bytes += fenced.bytes;
                    }
                    if packets > 0 {
                        counters.push(ReasonCounter {
                            direction,
                            verdict,
                            reason: *reason,
                            packets,
                            bytes,
                        });
                    }
                }
            }
        }
        Ok(counters)
    }
}

impl Kernel for Figures {
    fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>> {
        let budgets = self.budget.get(&0, 0)?;
        let flows = self.count_flows();
        let fills = {
            let occupancy = self
                .occupancy
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            [
                (
                    layout::ENDPOINTS,
                    occupancy.slots.len() as u64,
                    u64::from(layout::ENDPOINT_SLOTS),
                ),
                (
                    layout::ADDRESSES,
                    occupancy.addresses,
                    u64::from(layout::ADDRESSES_MAX),
                ),
                (
                    layout::PREFIXES,
                    occupancy.prefixes,
                    u64::from(layout::PREFIXES_MAX),
                ),
                (layout::POLICY, occupancy.policy, self.policy_capacity),
                (layout::FLOWS, flows, self.flow_capacity),
                (
                    layout::SEEN,
                    self.sightings.count(),
                    u64::from(layout::SEEN_MAX),
                ),
                (
                    layout::BLOCKS,
                    self.blocks.load(Ordering::Relaxed),
                    u64::from(layout::BLOCKS_MAX),
                ),
            ]
        };
        Ok(KernelFigures {
            counters: self.reason_counters()?,
            endpoints: self.endpoint_counters()?,
            flows,
            maps: fills
                .into_iter()
                .map(|(name, entries, capacity)| MapFill {
                    name,
                    entries,
                    capacity,
                })
                .collect(),
            events: budgets.iter().map(|budget| budget.sent).sum(),
            events_lost: lost(&budgets),
        })
    }

    fn events_lost(&self) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(lost(&self.budget.get(&0, 0)?))
    }
}

fn lost(budgets: &PerCpuValues<EventBudget>) -> u64 {
    budgets.iter().map(|budget| budget.lost).sum()
}
