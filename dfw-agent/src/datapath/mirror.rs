//! A map of the kernel and a copy of what it holds: the difference to what it shall hold is found without asking it.

use std::{borrow::BorrowMut, collections::BTreeMap};

use aya::{
    Pod,
    maps::{HashMap, LpmTrie, MapData, MapError, lpm_trie::Key},
};
use dfw_common::key::PrefixKey;

use super::load::LoadError;

/// A kind of map that keys with values can be put into.
pub(super) trait Store<K, V> {
    /// Writes an entry.
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Reads an entry.
    fn get(&self, key: &K) -> Result<V, MapError>;
    /// Removes an entry.
    fn delete(&mut self, key: &K) -> Result<(), MapError>;
    /// Reads everything.
    fn all(&self) -> Result<BTreeMap<K, V>, MapError>;
}

impl<T: BorrowMut<MapData>, K: Pod + Ord, V: Pod> Store<K, V> for HashMap<T, K, V> {
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn get(&self, key: &K) -> Result<V, MapError> {
        HashMap::get(self, key, 0)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        self.remove(key)
    }

    fn all(&self) -> Result<BTreeMap<K, V>, MapError> {
        self.iter().collect()
    }
}

/// By length in bits, those of the network included, and key.
impl<T: BorrowMut<MapData>, V: Pod> Store<(u32, PrefixKey), V> for LpmTrie<T, PrefixKey, V> {
    fn put(&mut self, key: &(u32, PrefixKey), value: &V) -> Result<(), MapError> {
        self.insert(&Key::new(key.0, key.1), value, 0)
    }

    fn get(&self, key: &(u32, PrefixKey)) -> Result<V, MapError> {
        LpmTrie::get(self, &Key::new(key.0, key.1), 0)
    }

    fn delete(&mut self, key: &(u32, PrefixKey)) -> Result<(), MapError> {
        self.remove(&Key::new(key.0, key.1))
    }

    fn all(&self) -> Result<BTreeMap<(u32, PrefixKey), V>, MapError> {
        let entries = self.iter();
        entries
            .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
            .collect()
    }
}

/// See the module.
pub(super) struct Mirror<S, K, V> {
    name: &'static str,
    capacity: usize,
    store: S,
    held: BTreeMap<K, V>,
}

impl<S: Store<K, V>, K: Copy + Ord, V: Copy + PartialEq> Mirror<S, K, V> {
    /// Of a map that has room for `capacity` entries. Holds nothing before [`Mirror::reread`].
    pub(super) fn new(name: &'static str, capacity: usize, store: S) -> Self {
        Self {
            name,
            capacity,
            store,
            held: BTreeMap::new(),
        }
    }

    /// What the kernel holds.
    pub(super) fn held(&self) -> &BTreeMap<K, V> {
        &self.held
    }

    /// Reads everything from the kernel.
    pub(super) fn reread(&mut self) -> Result<(), LoadError> {
        self.held = self.store.all().map_err(failed(self.name))?;
        Ok(())
    }

    /// Puts back what somebody else changed: only what was written here belongs there. How many entries.
    pub(super) fn repair(&mut self) -> Result<usize, LoadError> {
        let found = self.store.all().map_err(failed(self.name))?;
        let mut repaired = 0;
        // First what should not be there: it may be what opens something.
        for key in found.keys().filter(|key| !self.held.contains_key(key)) {
            remove(&mut self.store, key).map_err(failed(self.name))?;
            repaired += 1;
        }
        for (key, value) in &self.held {
            if found.get(key) != Some(value) {
                self.store.put(key, value).map_err(failed(self.name))?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }

    /// Whether what is desired fits in beside what goes only afterwards.
    pub(super) fn check_room(&self, desired: &BTreeMap<K, V>) -> Result<(), LoadError> {
        let needed = desired.len() + self.surplus(desired).len();
        if needed <= self.capacity {
            return Ok(());
        }
        Err(LoadError::Full {
            name: self.name,
            needed,
            capacity: self.capacity,
        })
    }

    /// Writes, and reads back, each entry that is not there or there with another value. How many.
    pub(super) fn add(&mut self, desired: &BTreeMap<K, V>) -> Result<usize, LoadError> {
        let mut writes = 0;
        for (key, value) in desired {
            if self.held.get(key) == Some(value) {
                continue;
            }
            self.store.put(key, value).map_err(failed(self.name))?;
            if self.store.get(key).map_err(failed(self.name))? != *value {
                return Err(LoadError::ReadBack { name: self.name });
            }
            self.held.insert(*key, *value);
            writes += 1;
        }
        Ok(writes)
    }

    /// Removes each entry that should not be there. How many.
    pub(super) fn prune(&mut self, desired: &BTreeMap<K, V>) -> Result<usize, LoadError> {
        let surplus = self.surplus(desired);
        for key in &surplus {
            remove(&mut self.store, key).map_err(failed(self.name))?;
            self.held.remove(key);
        }
        Ok(surplus.len())
    }

    fn surplus(&self, desired: &BTreeMap<K, V>) -> Vec<K> {
        let keys = self.held.keys();
        keys.filter(|key| !desired.contains_key(key))
            .copied()
            .collect()
    }
}

fn failed(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}

/// What is gone already needs no more work.
fn remove<K, V>(store: &mut impl Store<K, V>, key: &K) -> Result<(), MapError> {
    match store.delete(key) {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}
