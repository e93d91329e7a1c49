//! What was seen in audit, read from the kernel and taken away there.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use dfw_common::{
    key::SeenKey,
    maps as layout,
    value::{SeenQuota, SeenTimes},
};

use super::{
    load::LoadError,
    sys,
    tables::{descriptor, take},
};

/// The maps, to be read from any thread.
pub struct Sightings {
    seen_fd: OwnedFd,
    quotas_fd: OwnedFd,
    maps: Mutex<Maps>,
    /// Jiffies at some moment, and how many there are in a second.
    clock: (u32, Instant),
    hz: u32,
}

struct Maps {
    seen: HashMap<MapData, SeenKey, SeenTimes>,
    quotas: Array<MapData, SeenQuota>,
}

/// What the maps held at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    /// Each entry once.
    pub seen: BTreeMap<SeenKey, SeenTimes>,
    /// By slot, of those who have any.
    pub quotas: BTreeMap<u32, SeenQuota>,
}

impl Sightings {
    /// `now` is the present time in jiffies.
    ///
    /// # Errors
    /// A map that is not there.
    pub(super) fn open(object: &mut Ebpf, now: u32, hz: u32) -> Result<Self, LoadError> {
        Ok(Self {
            seen_fd: descriptor(object, layout::SEEN)?,
            quotas_fd: descriptor(object, layout::SEEN_QUOTA)?,
            maps: Mutex::new(Maps {
                seen: take(object, layout::SEEN)?,
                quotas: take(object, layout::SEEN_QUOTA)?,
            }),
            clock: (now, Instant::now()),
            hz: hz.max(1),
        })
    }

    /// How long ago a time of the maps was.
    pub fn age(&self, jiffies: u32) -> Duration {
        let (then, instant) = self.clock;
        let passed = instant.elapsed().as_millis().wrapping_mul(self.hz.into()) / 1000;
        let age = then.wrapping_add(passed as u32).wrapping_sub(jiffies);
        // The difference is signed: what has just been seen may be a tick ahead of this clock.
        let ticks = u32::try_from(age as i32).unwrap_or(0);
        Duration::from_secs((ticks / self.hz).into())
    }

    /// Entries that wait to be read.
    pub(super) fn count(&self) -> u64 {
        let maps = self.maps();
        let keys = maps.seen.keys().take(layout::SEEN_MAX as usize);
        keys.filter(Result::is_ok).count() as u64
    }

    /// Everything that is there.
    ///
    /// # Errors
    /// A map that cannot be read.
    pub fn read(&self) -> Result<Reading, LoadError> {
        let quotas: Vec<SeenQuota> =
            sys::read_array(self.quotas_fd.as_fd(), layout::ENDPOINT_SLOTS)
                .map_err(|source| failed(layout::SEEN_QUOTA, source))?;
        let quotas = (0..).zip(quotas);
        let quotas = quotas.filter(|(_, quota)| quota.used + quota.missing > 0);
        let maps = self.maps();
        // A walk begins anew when its place is deleted under it, which nobody else does: bounded all the same.
        let entries = maps.seen.iter().take(2 * layout::SEEN_MAX as usize);
        let seen = entries.collect::<Result<_, _>>();
        Ok(Reading {
            quotas: quotas.collect(),
            seen: seen.map_err(|source| LoadError::Map {
                name: layout::SEEN,
                source,
            })?,
        })
    }

    /// Takes away what was read, and gives everybody room again. Returns what came meanwhile, and is gone too.
    ///
    /// # Errors
    /// A map that cannot be written.
    pub fn take(&self, reading: &Reading) -> Result<Reading, LoadError> {
        let mut meanwhile = Reading::default();
        for (key, read) in &reading.seen {
            let last: Option<SeenTimes> = sys::take_element(self.seen_fd.as_fd(), key)
                .map_err(|source| failed(layout::SEEN, source))?;
            if let Some(last) = last
                && last.flows > read.flows
            {
                let flows = last.flows - read.flows;
                meanwhile.seen.insert(*key, SeenTimes { flows, ..last });
            }
        }
        let failed = |source| LoadError::Map {
            name: layout::SEEN_QUOTA,
            source,
        };
        let mut maps = self.maps();
        for (slot, read) in &reading.quotas {
            let last = maps.quotas.get(slot, 0).map_err(failed)?;
            maps.quotas
                .set(*slot, SeenQuota::default(), 0)
                .map_err(failed)?;
            let missing = last.missing.saturating_sub(read.missing);
            if missing > 0 {
                meanwhile
                    .quotas
                    .insert(*slot, SeenQuota { missing, ..last });
            }
        }
        Ok(meanwhile)
    }

    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(name: &str, source: std::io::Error) -> LoadError {
    LoadError::Bpf {
        action: format!("read the map {name}"),
        source,
    }
}
