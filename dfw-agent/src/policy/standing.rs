//! How a container stands: its mode, and the rules that are in force for it.

use std::collections::{BTreeMap, HashMap};

use super::{
    label::Declared,
    mode::Mode,
    resolve::{self, Policy},
};
use crate::model::{Container, Finding};

/// Whether a container's labels are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// As written.
    Ready,
    /// They were rejected: the last good policy is in force, or nothing is allowed.
    Error,
}

impl State {
    /// The word in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Error => "error",
        }
    }
}

/// What a container's own labels say.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// Rules without a mode say enforce; none where the labels do not govern it.
    pub(super) mode: Option<Mode>,
    pub(super) state: State,
    pub(super) groups: Vec<String>,
    pub(super) rules: Policy,
}

/// What was in force by the last labels of a container that were right.
#[derive(Clone, Debug)]
struct Good {
    mode: Mode,
    groups: Vec<String>,
    rules: Policy,
}

/// Last good policies by container id.
#[derive(Debug, Default)]
pub(super) struct LastGood(HashMap<String, Good>);

impl LastGood {
    /// Judges a container's labels (docs/semantics.md section 1), with the errors of its rules.
    pub(super) fn stand(
        &mut self,
        container: &Container,
        declared: &Declared,
    ) -> (Standing, Vec<Finding>) {
        let rules = resolve::rules(declared, &container.labels, container.project());
        let rules = match rules {
            Ok(rules) if declared.errors.is_empty() => rules,
            Ok(_) => return (self.reject(container, declared), Vec::new()),
            Err(errors) => return (self.reject(container, declared), errors),
        };
        let governed = !declared.policy_keys.is_empty();
        let mode = declared.mode.or(governed.then_some(Mode::Enforce));
        let standing = Standing {
            mode,
            state: State::Ready,
            groups: declared.groups.clone(),
            rules,
        };
        if let Some(mode) = mode {
            let good = Good {
                mode,
                groups: standing.groups.clone(),
                rules: Policy::clone(&standing.rules),
            };
            self.0.insert(container.id.clone(), good);
        } else {
            self.0.remove(&container.id);
        }
        (standing, Vec::new())
    }

    fn reject(&self, container: &Container, declared: &Declared) -> Standing {
        let good = self.0.get(&container.id);
        let good_mode = good
            .filter(|_| declared.mode_rejected)
            .map(|good| good.mode);
        Standing {
            mode: Some(declared.mode.or(good_mode).unwrap_or(Mode::Enforce)),
            state: State::Error,
            groups: good.map_or_else(|| declared.groups.clone(), |good| good.groups.clone()),
            rules: good.map_or_else(Policy::default, |good| Policy::clone(&good.rules)),
        }
    }

    /// Forgets containers that are gone.
    pub(super) fn retain<V>(&mut self, containers: &BTreeMap<&str, V>) {
        self.0.retain(|id, _| containers.contains_key(id.as_str()));
    }
}
