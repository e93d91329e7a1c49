//! What holds for an endpoint in the end: its labels, the entries of the node's file that select it, and what `dfw mode` has
//! switched for a while (docs/semantics.md sections 15 and 16).

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    compile::Options,
    file::{Entry, Kind},
    mode::Mode,
    resolve::{Part, Policy, Resolved, Selector, canonical},
    select::{Select, attributes_of, nobody, similar, word},
    standing::Standing,
};
use crate::model::{Container, Finding, Level, Network};

/// A mode that holds for a while, whatever labels and file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// For whom.
    pub select: Select,
    /// The mode.
    pub mode: Mode,
}

/// What an endpoint is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stance {
    pub(super) mode: Mode,
    /// By labels or the node's file, not by `--unlabelled`.
    pub(super) governed: bool,
    /// Switched by `dfw mode`.
    pub(super) overridden: bool,
    /// Some ceiling selects it.
    pub(super) is_under_ceiling: bool,
    pub(super) rules: Policy,
}

/// Joins labels and file, and remembers who was selected.
pub(super) struct Stances<'a> {
    options: &'a Options,
    /// Equal labels and entries give one policy, however many endpoints have it.
    joined: HashMap<(Policy, Vec<usize>), Policy>,
    entries_met: BTreeSet<usize>,
    overrides_met: BTreeSet<usize>,
    known: HashSet<Selector>,
}

impl<'a> Stances<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self {
            options,
            joined: HashMap::new(),
            entries_met: BTreeSet::new(),
            overrides_met: BTreeSet::new(),
            known: HashSet::new(),
        }
    }

    /// The stance of an endpoint; `standing` is none for those whose labels do not count.
    pub(super) fn of(
        &mut self,
        container: &Container,
        network: Option<&Network>,
        standing: Option<&Standing>,
    ) -> Stance {
        let options = self.options;
        let own = standing.map_or_else(Policy::default, |standing| Policy::clone(&standing.rules));
        let labels = standing.and_then(|standing| standing.mode);
        if options.node.is_empty() && options.overrides.is_empty() {
            return Stance {
                mode: labels.unwrap_or(options.unlabelled),
                governed: labels.is_some(),
                overridden: false,
                is_under_ceiling: false,
                rules: own,
            };
        }
        let groups = standing.map_or(&[][..], |standing| &standing.groups);
        let attributes = attributes_of(container, groups, network);
        let entries = options.selecting(&attributes);
        let written = entries.iter().map(|(_, entry)| entry.mode).max().flatten();
        let written = labels.max(written);
        let is_under_ceiling = entries.iter().any(|(_, entry)| entry.kind == Kind::Ceiling);
        let mut mode = written.unwrap_or(options.unlabelled);
        if is_under_ceiling {
            // A label makes nobody freer than no label at all.
            mode = mode.max(options.unlabelled);
        }
        let switched = options.overrides.iter().enumerate();
        let switched: Vec<_> = switched
            .filter(|(_, one)| one.select.selects(&attributes))
            .collect();
        self.entries_met.extend(entries.iter().map(|(n, _)| *n));
        self.overrides_met.extend(switched.iter().map(|(n, _)| *n));
        self.known.extend(attributes);
        Stance {
            // The last word counts.
            mode: switched.last().map_or(mode, |(_, one)| one.mode),
            governed: written.is_some(),
            overridden: !switched.is_empty(),
            is_under_ceiling,
            rules: self.join(own, &entries),
        }
    }

    fn join(&mut self, own: Policy, entries: &[(usize, &Entry)]) -> Policy {
        if entries.is_empty() {
            return own;
        }
        let numbers = entries.iter().map(|(number, _)| *number).collect();
        let joined = self.joined.entry((own, numbers));
        let joined = joined.or_insert_with_key(|(own, _)| {
            let mut rules = own.to_vec();
            for (ceiling, (_, entry)) in (0..).zip(entries) {
                rules.extend(entry.rules.iter().map(|rule| Resolved {
                    part: match rule.part {
                        Part::Own => Part::Own,
                        Part::Ceiling(_) => Part::Ceiling(ceiling),
                        Part::End(_) => Part::End(ceiling),
                    },
                    ..rule.clone()
                }));
            }
            canonical(rules)
        });
        Policy::clone(joined)
    }

    /// Entries and overrides that select nobody, and peers that match nobody: a word in them may be wrong.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let entries = self.options.node.entries.iter().enumerate();
        let entries = entries
            .filter(|(number, _)| !self.entries_met.contains(number))
            .map(|(_, entry)| (entry.place.clone(), &entry.select));
        let overrides = self.options.overrides.iter().enumerate();
        let overrides = overrides
            .filter(|(number, _)| !self.overrides_met.contains(number))
            .map(|(_, one)| ("dfw mode".to_owned(), &one.select));
        let selectors = entries
            .chain(overrides)
            .filter(|(_, select)| **select != Select::everybody())
            .map(|(place, select)| {
                let message = nobody(select, &self.known);
                let finding = Finding::new(Level::Warning, "selects-nobody", "", message);
                Finding {
                    label: place,
                    ..finding
                }
            });
        selectors.chain(self.missing_peers()).collect()
    }

    /// Peers of the file's rules that match nobody at present.
    fn missing_peers(&self) -> impl Iterator<Item = Finding> {
        let rules = self.options.node.entries.iter();
        let rules = rules.flat_map(|entry| &entry.rules);
        let peers = rules.flat_map(|rule| rule.selectors.iter().map(move |one| (rule, one)));
        let missing = peers.filter(|(_, selector)| !self.known.contains(selector));
        missing
            .filter_map(|(rule, selector)| {
                let text = word(selector)?;
                let hint = match similar(selector, &self.known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "it counts as soon as there is one".to_owned(),
                };
                Some(Finding {
                    label: rule.label.clone(),
                    text: rule.text.clone(),
                    ..Finding::new(
                        Level::Warning,
                        "no-such-peer",
                        "",
                        format!("`{text}` matches nobody at present: {hint}"),
                    )
                })
            })
            .take(SUGGESTIONS)
    }
}

/// How many missing peers of a file are told, each after a search for what was meant.
const SUGGESTIONS: usize = 32;

impl Options {
    /// The entries that select somebody with these attributes.
    fn selecting(&self, attributes: &HashSet<Selector>) -> Vec<(usize, &Entry)> {
        let entries = self.node.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| entry.select.selects(attributes))
            .collect()
    }

    /// Whether a container is governed on a network, by its labels or by the node's file.
    pub fn governs(&self, container: &Container, network: &Network) -> bool {
        let keys = container.labels.keys();
        let mut keys = keys.filter_map(|key| key.strip_prefix(&self.prefix));
        if keys.any(|key| key != "group") {
            return true;
        }
        let groups = super::label::read(&container.labels, &self.prefix).groups;
        let attributes = attributes_of(container, &groups, Some(network));
        self.selecting(&attributes)
            .iter()
            .any(|(_, entry)| entry.mode.is_some())
    }
}
