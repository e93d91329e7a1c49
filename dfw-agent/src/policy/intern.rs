//! Numbers for policies and identities that never change their meaning.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use dfw_common::{
    key::{AddressKey, PrefixKey},
    value::IDENTITY_OTHER,
};

use super::{
    index::{Index, Set},
    resolve::{Policy, Selector},
};

/// The identities that the kernel's maps hold when the agent starts. An address that is still what it was keeps its
/// number, so that no policy in force meets a number it does not know while the new ones are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Identity by key of the exact addresses.
    pub addresses: BTreeMap<AddressKey, u32>,
    /// Identity by length and key of the prefixes.
    pub prefixes: BTreeMap<(u32, PrefixKey), u32>,
}

/// The numbers given so far. A number is never given twice; the meanings that went out of use are forgotten.
#[derive(Debug)]
pub(super) struct Interner {
    next: u32,
    policies: HashMap<Policy, u32>,
    identities: HashMap<Vec<Selector>, u32>,
}

impl Interner {
    /// `first`: above every policy and identity that the kernel holds.
    pub(super) fn new(first: u32) -> Self {
        Self {
            next: first.max(1),
            policies: HashMap::new(),
            identities: HashMap::new(),
        }
    }

    fn take(next: &mut u32) -> u32 {
        let id = *next;
        *next = id
            .checked_add(1)
            .expect("fewer than 2^32 policies and identities");
        id
    }

    /// Number of a policy; 0 for the empty one, by which nothing is allowed.
    pub(super) fn policy(&mut self, rules: &Policy) -> u32 {
        if rules.is_empty() {
            return 0;
        }
        if let Some(id) = self.policies.get(rules) {
            return *id;
        }
        let id = Self::take(&mut self.next);
        self.policies.insert(Policy::clone(rules), id);
        id
    }

    /// Forgets every policy but these.
    pub(super) fn retain_policies(&mut self, in_force: &BTreeMap<u32, Policy>) {
        self.policies.retain(|_, id| in_force.contains_key(id));
    }

    /// Starts the naming of one compilation's sets.
    pub(super) fn identities<'a>(&'a mut self, index: &'a Index) -> Identities<'a> {
        let given = self.identities.values().copied().collect();
        Identities {
            interner: self,
            index,
            given,
            by_set: HashMap::new(),
        }
    }
}

/// Identities of the sets of one compilation.
pub(super) struct Identities<'a> {
    interner: &'a mut Interner,
    index: &'a Index,
    given: HashSet<u32>,
    by_set: HashMap<Set, u32>,
}

impl Identities<'_> {
    /// The identity of a set. `held`: the one that the kernel holds for the same address or prefix.
    pub(super) fn name(&mut self, set: &Set, held: Option<u32>) -> u32 {
        if set.is_empty() {
            return IDENTITY_OTHER;
        }
        if let Some(id) = self.by_set.get(set) {
            return *id;
        }
        let selectors = self.index.selectors(set);
        let next = &mut self.interner.next;
        let id = *self
            .interner
            .identities
            .entry(selectors)
            .or_insert_with(|| {
                held.filter(|id| *id != IDENTITY_OTHER && !self.given.contains(id))
                    .unwrap_or_else(|| Interner::take(next))
            });
        self.given.insert(id);
        self.by_set.insert(set.clone(), id);
        id
    }

    /// For each selector, by position, the identities that hold it. Forgets every identity that no set has any more.
    pub(super) fn finish(self) -> HashMap<u32, Vec<u32>> {
        let live: BTreeSet<u32> = self.by_set.values().copied().collect();
        self.interner.identities.retain(|_, id| live.contains(id));
        let mut holders: HashMap<u32, Vec<u32>> = HashMap::new();
        for (set, id) in &self.by_set {
            for position in set {
                holders.entry(*position).or_default().push(*id);
            }
        }
        holders
    }
}
