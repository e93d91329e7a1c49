//! The lists that uplinks judge by: written beside those in force, then named in one step.
//!
//! A packet reads which list it is judged by once. So the new blocks and their bits are there before any packet can ask for them,
//! and the former ones stay until no program runs that began under them.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use dfw_common::{
    key::BlockKey,
    maps as layout,
    value::{Block, List, Uplink},
};

use super::{
    load::LoadError,
    sys,
    tables::{descriptor, take},
};
use crate::policy::Blocks;

/// The two numbers of each list, in turn. They differ in one byte.
const DENIED: [u32; 2] = [1, 2];
const SUBNETS: [u32; 2] = [3, 4];
/// Where the kernel does not say when programs have ended.
const SURELY: Duration = Duration::from_secs(1);

/// The maps of the uplinks and what they hold.
pub(super) struct Lists {
    map: Array<MapData, Uplink>,
    blocks: OwnedFd,
    filter: OwnedFd,
    uplink: Uplink,
    denied: Arc<Blocks>,
    subnets: Arc<Blocks>,
}

impl Lists {
    /// Takes the maps of a loaded object and reads what an earlier agent left in them.
    pub(super) fn open(object: &mut Ebpf) -> Result<Self, LoadError> {
        let (blocks, filter) = (
            descriptor(object, layout::BLOCKS)?,
            descriptor(object, layout::BLOCK_FILTER)?,
        );
        let failed = |name| move |source| LoadError::Map { name, source };
        let map: Array<MapData, Uplink> = take(object, layout::UPLINK)?;
        let uplink = map.get(&0, 0).map_err(failed(layout::UPLINK))?;
        let held: HashMap<MapData, BlockKey, Block> = take(object, layout::BLOCKS)?;
        let held: Result<BTreeMap<BlockKey, Block>, MapError> = held.iter().collect();
        let held = held.map_err(failed(layout::BLOCKS))?;
        let of = |list| Arc::new(Blocks::held(list, held.iter().map(|(k, b)| (*k, *b))));
        let lists = Self {
            map,
            blocks,
            filter,
            uplink,
            denied: of(uplink.denied),
            subnets: of(uplink.subnets),
        };
        // What one wrote that died before it was in force.
        let in_force = [uplink.denied.number, uplink.subnets.number];
        let stale = held.into_keys().filter(|key| !in_force.contains(&key.list));
        lists.delete(stale.collect())?;
        Ok(lists)
    }

    /// Blocks in the kernel.
    pub(super) fn len(&self) -> usize {
        self.denied.len() + self.subnets.len()
    }

    /// Puts lists in force; without `denied` that one stays.
    pub(super) fn set(
        &mut self,
        denied: Option<&Arc<Blocks>>,
        subnets: &Arc<Blocks>,
    ) -> Result<(), LoadError> {
        let denied = denied.unwrap_or(&self.denied);
        let mut next = self.uplink;
        for (list, held, wanted, numbers) in [
            (&mut next.denied, &self.denied, denied, DENIED),
            (&mut next.subnets, &self.subnets, subnets, SUBNETS),
        ] {
            if !Arc::ptr_eq(held, wanted) && held != wanted {
                let number = if list.number == numbers[0] {
                    numbers[1]
                } else {
                    numbers[0]
                };
                *list = wanted.list(number);
            }
        }
        if next == self.uplink {
            return Ok(());
        }
        let (denied, subnets) = (Arc::clone(denied), Arc::clone(subnets));
        let needed = denied.len() + subnets.len();
        let capacity = layout::BLOCKS_MAX as usize - self.len();
        if needed > capacity {
            return Err(LoadError::Full {
                name: layout::BLOCKS,
                needed,
                capacity,
            });
        }
        for (list, former, wanted) in [
            (next.denied, self.uplink.denied, &denied),
            (next.subnets, self.uplink.subnets, &subnets),
        ] {
            if list != former {
                let (keys, values): (Vec<_>, Vec<_>) = wanted.numbered(list.number).unzip();
                if let Err(source) = sys::write_batch(self.blocks.as_fd(), &keys, &values) {
                    // Half of it must not be there when the number is used again.
                    self.delete(keys)?;
                    return Err(failed(layout::BLOCKS, source));
                }
            }
        }
        let bits = |list: List, blocks: &Blocks| -> Vec<_> {
            let blocks = blocks.numbered(list.number);
            let places = |(key, block): (BlockKey, Block)| -> Vec<_> {
                block.eights().map(|eight| key.filter(eight)).collect()
            };
            blocks.flat_map(places).collect()
        };
        let new: Vec<_> = [bits(next.denied, &denied), bits(next.subnets, &subnets)].concat();
        self.set_bits(&new, true)?;
        let former = std::mem::replace(&mut self.uplink, next);
        self.name(former, next)?;
        let (gone, stale) = (
            std::mem::replace(&mut self.denied, denied),
            std::mem::replace(&mut self.subnets, subnets),
        );
        let mut keys = Vec::new();
        for (former, now, blocks) in [
            (former.denied, next.denied, gone),
            (former.subnets, next.subnets, stale),
        ] {
            if former != now {
                keys.extend(blocks.numbered(former.number).map(|(key, _)| key));
            }
        }
        self.delete(keys)?;
        self.set_bits(&new, false)
    }

    /// From the former lists to the next: a packet that reads the words of one list at different moments finds the blocks of one
    /// of both under the lengths of both.
    fn name(&mut self, former: Uplink, next: Uplink) -> Result<(), LoadError> {
        let both = |numbers: Uplink| Uplink {
            denied: List {
                number: numbers.denied.number,
                octets: former.denied.octets | next.denied.octets,
            },
            subnets: List {
                number: numbers.subnets.number,
                octets: former.subnets.octets | next.subnets.octets,
            },
        };
        for uplink in [both(former), both(next), next] {
            self.map
                .set(0, uplink, 0)
                .map_err(|source| LoadError::Map {
                    name: layout::UPLINK,
                    source,
                })?;
            if sys::wait_for_programs().is_err() {
                sleep(SURELY);
            }
        }
        Ok(())
    }

    fn delete(&self, keys: Vec<BlockKey>) -> Result<(), LoadError> {
        sys::delete_batch(self.blocks.as_fd(), &keys)
            .map_err(|source| failed(layout::BLOCKS, source))
    }

    /// Sets bits of the filter, and unless they are `more` clears all others.
    fn set_bits(&self, bits: &[(u32, u32)], more: bool) -> Result<(), LoadError> {
        let failed = |source| failed(layout::BLOCK_FILTER, source);
        let held: Vec<u64> =
            sys::read_array(self.filter.as_fd(), layout::FILTER_WORDS).map_err(failed)?;
        let mut words = if more {
            held.clone()
        } else {
            vec![0; held.len()]
        };
        for (word, bit) in bits {
            if let Some(word) = words.get_mut(*word as usize) {
                *word |= 1 << bit;
            }
        }
        let changed = (0_u32..).zip(held.iter().zip(&words));
        let changed = changed.filter(|(_, (held, wanted))| held != wanted);
        let (places, values): (Vec<u32>, Vec<u64>) =
            changed.map(|(place, (_, wanted))| (place, *wanted)).unzip();
        sys::write_batch(self.filter.as_fd(), &places, &values).map_err(failed)
    }

    /// Puts back what others wrote over the lists' names. Whether there was anything.
    pub(super) fn repair(&mut self) -> Result<bool, LoadError> {
        let failed = |source| LoadError::Map {
            name: layout::UPLINK,
            source,
        };
        if self.map.get(&0, 0).map_err(failed)? == self.uplink {
            return Ok(false);
        }
        self.map.set(0, self.uplink, 0).map_err(failed)?;
        Ok(true)
    }
}

fn failed(name: &str, source: io::Error) -> LoadError {
    LoadError::Bpf {
        action: format!("write the map {name}"),
        source,
    }
}
