//! The maps that policy lives in: what the kernel holds, what it shall hold, and the way from one to the other.
//!
//! The order of the writes is what makes a change safe; [`crate::policy::Compiled`] says why.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, PerCpuValues},
};
use dfw_common::{
    key::{AddressKey, PolicyKey, PrefixKey},
    maps as layout,
    value::{Address, Endpoint, PolicyEntry, Prefix, Settings, mode},
};

use super::{
    load::LoadError,
    mirror::Mirror,
    rings::{Part, Rings},
    sys,
};
use crate::{
    policy::{Compiled, CompiledEndpoint, Held, Mode},
    reconcile::Applied,
};

/// How full the maps are and which slots are taken, for metrics.
#[derive(Debug, Default)]
pub struct Occupancy {
    /// Slot and ifindex of each endpoint.
    pub slots: Vec<(u32, u32)>,
    /// Entries of addresses, prefixes and policy.
    pub addresses: u64,
    /// See `addresses`.
    pub prefixes: u64,
    /// See `addresses`.
    pub policy: u64,
}

/// The maps and a copy of what they hold.
pub struct Tables {
    settings_map: Array<MapData, Settings>,
    endpoints_map: Array<MapData, Endpoint>,
    /// The same map, to be read as a whole.
    endpoints_fd: OwnedFd,
    counters_map: PerCpuArray<MapData, u64>,
    settings: Settings,
    /// By slot.
    endpoints: BTreeMap<u32, Endpoint>,
    addresses: Mirror<HashMap<MapData, AddressKey, Address>, AddressKey, Address>,
    prefixes: Mirror<LpmTrie<MapData, PrefixKey, Prefix>, (u32, PrefixKey), Prefix>,
    policy: Mirror<HashMap<MapData, PolicyKey, PolicyEntry>, PolicyKey, PolicyEntry>,
    rings: Rings,
    occupancy: Arc<Mutex<Occupancy>>,
}

fn failed(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}

/// Takes a map out of the object by its name in the layout.
pub(super) fn take<M: TryFrom<aya::maps::Map, Error = MapError>>(
    object: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    let map = object.take_map(name).ok_or(LoadError::Missing(name))?;
    M::try_from(map).map_err(failed(name))
}

impl Tables {
    /// Takes the maps of a loaded object and reads what an earlier agent left in them. `counters` is a second handle on
    /// the endpoints' counters.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn open(object: &mut Ebpf, counters: PerCpuArray<MapData, u64>) -> Result<Self, LoadError> {
        let policy_capacity = capacity_of(object, layout::POLICY)? as usize;
        let rings = Rings::new(capacity_of(object, layout::FLOW_RING)? as u32);
        let endpoints_fd = descriptor(object, layout::ENDPOINTS)?;
        let mut tables = Self {
            endpoints_fd,
            settings_map: take(object, layout::SETTINGS)?,
            endpoints_map: take(object, layout::ENDPOINTS)?,
            counters_map: counters,
            settings: Settings::default(),
            endpoints: BTreeMap::new(),
            addresses: Mirror::new(
                layout::ADDRESSES,
                layout::ADDRESSES_MAX as usize,
                take(object, layout::ADDRESSES)?,
            ),
            prefixes: Mirror::new(
                layout::PREFIXES,
                layout::PREFIXES_MAX as usize,
                take(object, layout::PREFIXES)?,
            ),
            policy: Mirror::new(
                layout::POLICY,
                policy_capacity,
                take(object, layout::POLICY)?,
            ),
            rings,
            occupancy: Arc::default(),
        };
        tables.read()?;
        Ok(tables)
    }

    fn read(&mut self) -> Result<(), LoadError> {
        self.settings = self.settings_in_kernel()?;
        self.addresses.reread()?;
        self.policy.reread()?;
        self.prefixes.reread()?;
        for (slot, endpoint) in (0..).zip(self.endpoints_in_kernel()?) {
            if endpoint.ifindex == 0 {
                continue;
            }
            let part = Part {
                base: endpoint.ring_base,
                size: endpoint.ring_mask.wrapping_add(1),
            };
            // An entry that no agent of this version wrote is no endpoint; its slot is written over.
            if self.rings.restore(endpoint.ifindex, part) {
                self.endpoints.insert(slot, endpoint);
            } else {
                self.put_endpoint(slot, Endpoint::default())?;
            }
        }
        self.publish();
        Ok(())
    }

    fn settings_in_kernel(&self) -> Result<Settings, LoadError> {
        self.settings_map
            .get(&0, 0)
            .map_err(failed(layout::SETTINGS))
    }

    fn endpoints_in_kernel(&self) -> Result<Vec<Endpoint>, LoadError> {
        sys::read_array(self.endpoints_fd.as_fd(), layout::ENDPOINT_SLOTS).map_err(|source| {
            LoadError::Bpf {
                action: format!("read the map {}", layout::ENDPOINTS),
                source,
            }
        })
    }

    /// Puts back what others changed: settings and port table, and when `thorough` everything. For each map the number of
    /// entries that were not as they should be.
    pub fn repair(&mut self, thorough: bool) -> Vec<(&'static str, Result<usize, LoadError>)> {
        let mut maps = vec![
            (layout::SETTINGS, self.repair_settings()),
            (layout::ENDPOINTS, self.repair_endpoints()),
        ];
        if thorough {
            maps.push((layout::ADDRESSES, self.addresses.repair()));
            maps.push((layout::PREFIXES, self.prefixes.repair()));
            maps.push((layout::POLICY, self.policy.repair()));
        }
        maps.retain(|(_, result)| !matches!(result, Ok(0)));
        if !maps.is_empty() {
            // Flows that were judged by what was there meanwhile are judged again.
            let again = self.set(|settings| settings.epoch = settings.epoch.wrapping_add(1));
            maps.extend(again.err().map(|error| (layout::SETTINGS, Err(error))));
        }
        maps
    }

    fn repair_settings(&mut self) -> Result<usize, LoadError> {
        if self.settings_in_kernel()? == self.settings {
            return Ok(0);
        }
        self.settings_map
            .set(0, self.settings, 0)
            .map_err(failed(layout::SETTINGS))?;
        Ok(1)
    }

    fn repair_endpoints(&mut self) -> Result<usize, LoadError> {
        let mut repaired = 0;
        for (slot, found) in (0..).zip(self.endpoints_in_kernel()?) {
            let endpoint = match self.endpoints.get(&slot) {
                Some(held) if *held != found => *held,
                None if found.ifindex != 0 => Endpoint::default(),
                Some(_) | None => continue,
            };
            self.put_endpoint(slot, endpoint)?;
            repaired += 1;
        }
        Ok(repaired)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What metrics say of the maps.
    pub fn occupancy(&self) -> Arc<Mutex<Occupancy>> {
        Arc::clone(&self.occupancy)
    }

    /// ifindexes of the endpoints that the kernel knows.
    pub fn endpoints(&self) -> impl Iterator<Item = u32> + '_ {
        self.endpoints.values().map(|endpoint| endpoint.ifindex)
    }

    /// The identities that are in the kernel, and a number above each policy and identity there.
    pub fn held(&self) -> (u32, Held) {
        let held = Held {
            addresses: self
                .addresses
                .held()
                .iter()
                .map(|(key, value)| (*key, value.identity))
                .collect(),
            prefixes: self
                .prefixes
                .held()
                .iter()
                .map(|(key, value)| (*key, value.identity))
                .collect(),
        };
        let used = self
            .policy
            .held()
            .keys()
            .flat_map(|key| [key.policy, key.identity]);
        let used = used
            .chain(held.addresses.values().copied())
            .chain(held.prefixes.values().copied())
            .chain(self.endpoints.values().map(|endpoint| endpoint.policy));
        (used.max().unwrap_or(0).saturating_add(1), held)
    }

    /// Writes settings; the epoch is kept, or begun.
    ///
    /// # Errors
    /// The map refuses.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), LoadError> {
        let mut settings = self.settings;
        change(&mut settings);
        settings.epoch = settings.epoch.max(1);
        if settings != self.settings {
            self.settings_map
                .set(0, settings, 0)
                .map_err(failed(layout::SETTINGS))?;
            self.settings = settings;
        }
        Ok(())
    }

    /// Makes the kernel hold what was compiled. Without a wrong verdict on the way; when it fails half-way, what was in
    /// force is still in force for everybody whose turn did not come.
    ///
    /// # Errors
    /// [`LoadError::Full`] before anything is written when it would not fit; else what a map refuses, or what it reads
    /// back differently.
    pub fn apply(
        &mut self,
        compiled: &Compiled,
        enforcing: bool,
        redirects: &BTreeSet<u32>,
    ) -> Result<Applied, LoadError> {
        self.policy.check_room(&compiled.policy)?;
        self.addresses.check_room(&compiled.addresses)?;
        self.prefixes.check_room(&compiled.prefixes)?;
        let mut writes = self.policy.add(&compiled.policy)?;
        writes += self.prefixes.add(&compiled.prefixes)?;
        writes += self.addresses.add(&compiled.addresses)?;
        writes += self.addresses.prune(&compiled.addresses)?;
        writes += self.prefixes.prune(&compiled.prefixes)?;
        let (changes, unplaced) = self.place(compiled, redirects)?;
        writes += changes;
        let next = self
            .settings
            .epoch
            .wrapping_add(u32::from(writes > 0))
            .max(1);
        self.set(|settings| {
            settings.epoch = next;
            settings.enforcing = u32::from(enforcing);
        })?;
        writes += self.policy.prune(&compiled.policy)?;
        self.publish();
        Ok(Applied {
            writes,
            epoch: self.settings.epoch,
            unplaced,
        })
    }

    /// Gives every endpoint its slot and its part of the flow ring; those that are gone lose theirs first.
    fn place(
        &mut self,
        compiled: &Compiled,
        redirects: &BTreeSet<u32>,
    ) -> Result<(usize, Vec<u32>), LoadError> {
        let mut writes = 0;
        let gone: Vec<(u32, Endpoint)> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| !compiled.endpoints.contains_key(&endpoint.ifindex))
            .map(|(slot, endpoint)| (*slot, *endpoint))
            .collect();
        for (slot, endpoint) in gone {
            self.put_endpoint(
                slot,
                Endpoint {
                    ifindex: 0,
                    ..endpoint
                },
            )?;
            self.endpoints.remove(&slot);
            self.rings.release(endpoint.ifindex);
            writes += 1;
        }
        let mut unplaced = Vec::new();
        let mut halved = Vec::new();
        for (ifindex, spec) in &compiled.endpoints {
            let known = self.slot_of(*ifindex);
            let Some(slot) = known.or_else(|| self.free_slot(*ifindex)) else {
                unplaced.push(*ifindex);
                continue;
            };
            let part = match self.rings.of(*ifindex) {
                Some(part) => part,
                None => match self.rings.give(*ifindex) {
                    Some((part, loser)) => {
                        halved.extend(loser);
                        part
                    }
                    None => {
                        unplaced.push(*ifindex);
                        continue;
                    }
                },
            };
            let endpoint = value(*ifindex, spec, part, redirects.contains(ifindex));
            if self.endpoints.get(&slot) == Some(&endpoint) {
                continue;
            }
            if known.is_none() {
                self.zero_counters(slot)?;
                // Its number last: before that nobody finds it.
                self.put_endpoint(
                    slot,
                    Endpoint {
                        ifindex: 0,
                        ..endpoint
                    },
                )?;
            }
            self.put_endpoint(slot, endpoint)?;
            self.endpoints.insert(slot, endpoint);
            writes += 1;
        }
        for loser in halved {
            if let (Some(slot), Some(part)) = (self.slot_of(loser), self.rings.of(loser))
                && let Some(endpoint) = self.endpoints.get(&slot).copied()
            {
                let endpoint = Endpoint {
                    ring_mask: part.size - 1,
                    ..endpoint
                };
                self.put_endpoint(slot, endpoint)?;
                self.endpoints.insert(slot, endpoint);
                writes += 1;
            }
        }
        Ok((writes, unplaced))
    }

    fn slot_of(&self, ifindex: u32) -> Option<u32> {
        slots(ifindex).find(|slot| {
            self.endpoints
                .get(slot)
                .is_some_and(|held| held.ifindex == ifindex)
        })
    }

    fn free_slot(&self, ifindex: u32) -> Option<u32> {
        slots(ifindex).find(|slot| !self.endpoints.contains_key(slot))
    }

    fn put_endpoint(&mut self, slot: u32, endpoint: Endpoint) -> Result<(), LoadError> {
        self.endpoints_map
            .set(slot, endpoint, 0)
            .map_err(failed(layout::ENDPOINTS))?;
        let read = self
            .endpoints_map
            .get(&slot, 0)
            .map_err(failed(layout::ENDPOINTS))?;
        if read == endpoint {
            Ok(())
        } else {
            Err(LoadError::ReadBack {
                name: layout::ENDPOINTS,
            })
        }
    }

    fn zero_counters(&mut self, slot: u32) -> Result<(), LoadError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| LoadError::Bpf {
            action: "count the processors".to_owned(),
            source,
        })?;
        let first = layout::endpoint_counter_index(
            slot,
            dfw_common::reason::Direction::Ingress,
            dfw_common::reason::Verdict::Allow,
        );
        let next = first + layout::ENDPOINT_COUNTERS_LEN / layout::ENDPOINT_SLOTS;
        for index in first..next {
            let zeros = PerCpuValues::try_from(vec![0; cpus]).map_err(|source| LoadError::Bpf {
                action: "make values for each processor".to_owned(),
                source,
            })?;
            self.counters_map
                .set(index, zeros, 0)
                .map_err(failed(layout::ENDPOINT_COUNTERS))?;
        }
        Ok(())
    }

    fn publish(&self) {
        let mut occupancy = self
            .occupancy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        occupancy.slots = self
            .endpoints
            .iter()
            .map(|(slot, held)| (*slot, held.ifindex))
            .collect();
        occupancy.addresses = self.addresses.held().len() as u64;
        occupancy.prefixes = self.prefixes.held().len() as u64;
        occupancy.policy = self.policy.held().len() as u64;
    }
}

fn slots(ifindex: u32) -> impl Iterator<Item = u32> {
    (0..layout::ENDPOINT_PROBES).map(move |probe| layout::endpoint_slot(ifindex, probe))
}

fn value(ifindex: u32, spec: &CompiledEndpoint, part: Part, redirects: bool) -> Endpoint {
    Endpoint {
        ifindex,
        network: spec.network,
        mode: match spec.mode {
            Mode::Off => mode::OFF,
            Mode::Audit => mode::AUDIT,
            Mode::Enforce => mode::ENFORCE,
        },
        policy: spec.policy,
        ring_base: part.base,
        ring_mask: part.size - 1,
        mac: spec.mac,
        redirects: u32::from(redirects),
        pad: 0,
    }
}

/// A descriptor of a map that is pinned, to be had before the map is taken out of the object.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya has some thirty kinds of maps and gets more"
)]
pub(super) fn descriptor(object: &Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let map = object.map(name).ok_or(LoadError::Missing(name))?;
    let data = match map {
        aya::maps::Map::Array(data)
        | aya::maps::Map::HashMap(data)
        | aya::maps::Map::LpmTrie(data)
        | aya::maps::Map::PerCpuArray(data)
        | aya::maps::Map::RingBuf(data) => data,
        _ => return Err(LoadError::Missing(name)),
    };
    data.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| LoadError::Bpf {
            action: format!("hold the map {name}"),
            source,
        })
}

/// Entries that a hash or array of the object has room for.
pub(super) fn capacity_of(object: &Ebpf, name: &'static str) -> Result<u64, LoadError> {
    let map = object.map(name).ok_or(LoadError::Missing(name))?;
    capacity(map)
        .map(|entries| entries as u64)
        .map_err(failed(name))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya has some thirty kinds of maps and gets more"
)]
fn capacity(map: &aya::maps::Map) -> Result<usize, MapError> {
    let data = match map {
        aya::maps::Map::HashMap(data) | aya::maps::Map::Array(data) => data,
        _ => return Ok(0),
    };
    Ok(data.info()?.max_entries() as usize)
}
