//! The rules that apply to one identity, flattened: one header, and disjoint port prefixes that differ from it.

use std::collections::{BTreeMap, BTreeSet};

use dfw_common::{
    key::PolicyKey,
    maps,
    reason::Direction,
    value::{IDENTITY_OTHER, PolicyEntry},
};

use super::{
    resolve::{Part, PortSet, Resolved, Selector},
    rule::Action,
};

/// The verdict of some ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    action: Action,
    rule: u16,
    log: bool,
}

/// No rule matches.
const NOTHING: Decision = Decision {
    action: Action::Deny,
    rule: PolicyEntry::NO_RULE,
    log: false,
};

/// What one (policy, direction, identity) means. Equal values have equal effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    default: Decision,
    /// By protocol, length and port; all differ from `default`, and no two of a protocol overlap.
    ports: BTreeMap<(u8, u8, u16), Decision>,
}

/// Allow rules of a container, each with the rule of a ceiling that takes something of it away.
pub(super) type Clipped = BTreeSet<(u16, u16)>;

/// Joins rules: deny beats allow, the first of the deciding action in canonical order gives its number, and any of them
/// asks for events. What they allow is denied where a ceiling does not allow it too. `rules` come with their numbers,
/// ascending.
pub(super) fn flatten<'a>(
    rules: impl IntoIterator<Item = (u16, &'a Resolved)>,
    clipped: &mut Clipped,
) -> Flat {
    let mut everywhere = Matching::default();
    let mut by_protocol: BTreeMap<u8, Vec<Edge<'_>>> = BTreeMap::new();
    for (number, rule) in rules {
        match &rule.ports {
            PortSet::Any => everywhere.add(number, rule),
            PortSet::Only(protocols) => {
                for (protocol, ranges) in protocols {
                    let edges = by_protocol.entry(*protocol).or_default();
                    for range in ranges {
                        let low = u32::from(range.low);
                        let end = u32::from(range.high) + 1;
                        edges.push(Edge {
                            at: low,
                            begins: true,
                            number,
                            rule,
                        });
                        edges.push(Edge {
                            at: end,
                            begins: false,
                            number,
                            rule,
                        });
                    }
                }
            }
        }
    }
    let default = everywhere.decision(clipped);
    let mut flat = Flat {
        default,
        ports: BTreeMap::new(),
    };
    for (protocol, mut edges) in by_protocol {
        edges.sort_by_key(|edge| edge.at);
        let mut matching = everywhere.clone();
        let mut run: (u32, Decision) = (0, default);
        for group in edges.chunk_by(|a, b| a.at == b.at) {
            for edge in group {
                if edge.begins {
                    matching.add(edge.number, edge.rule);
                } else {
                    matching.remove(edge.number, edge.rule);
                }
            }
            let (at, decision) = (group[0].at, matching.decision(clipped));
            if decision != run.1 {
                flat.add(protocol, run.0, at, run.1);
                run = (at, decision);
            }
        }
        flat.add(protocol, run.0, PORTS, run.1);
    }
    flat
}

/// One more than the last port.
const PORTS: u32 = 1 << 16;

/// A place where a rule begins or ceases to match.
struct Edge<'a> {
    at: u32,
    begins: bool,
    number: u16,
    rule: &'a Resolved,
}

/// Rules that match at one place, by what they are part of.
#[derive(Clone, Debug, Default)]
struct Matching {
    own: Votes,
    /// By number. One without an end says nothing here.
    ceilings: BTreeMap<u16, (Option<u16>, Votes)>,
}

/// Numbers of rules by action.
#[derive(Clone, Debug, Default)]
struct Votes {
    deny: BTreeSet<u16>,
    allow: BTreeSet<u16>,
    logging_deny: usize,
    logging_allow: usize,
}

impl Matching {
    fn add(&mut self, number: u16, rule: &Resolved) {
        match rule.part {
            Part::Own => self.own.add(number, rule),
            Part::Ceiling(ceiling) => self.ceiling(ceiling).1.add(number, rule),
            Part::End(ceiling) => self.ceiling(ceiling).0 = Some(number),
        }
    }

    fn remove(&mut self, number: u16, rule: &Resolved) {
        match rule.part {
            Part::Own => self.own.remove(number, rule),
            Part::Ceiling(ceiling) => self.ceiling(ceiling).1.remove(number, rule),
            Part::End(ceiling) => self.ceiling(ceiling).0 = None,
        }
    }

    fn ceiling(&mut self, number: u16) -> &mut (Option<u16>, Votes) {
        self.ceilings.entry(number).or_default()
    }

    fn decision(&self, clipped: &mut Clipped) -> Decision {
        let own = self.own.decision();
        if own.action == Action::Deny {
            return own;
        }
        for (end, votes) in self.ceilings.values() {
            let Some(end) = *end else {
                continue;
            };
            let ceiling = votes.decision();
            if ceiling.action == Action::Deny {
                let by = Decision {
                    rule: if ceiling == NOTHING {
                        end
                    } else {
                        ceiling.rule
                    },
                    ..ceiling
                };
                clipped.extend(self.own.allow.iter().map(|rule| (*rule, by.rule)));
                return by;
            }
        }
        own
    }
}

impl Votes {
    fn of(&mut self, action: Action) -> (&mut BTreeSet<u16>, &mut usize) {
        match action {
            Action::Deny => (&mut self.deny, &mut self.logging_deny),
            Action::Allow => (&mut self.allow, &mut self.logging_allow),
        }
    }

    fn add(&mut self, number: u16, rule: &Resolved) {
        let (numbers, logging) = self.of(rule.action);
        numbers.insert(number);
        *logging += usize::from(rule.log);
    }

    fn remove(&mut self, number: u16, rule: &Resolved) {
        let (numbers, logging) = self.of(rule.action);
        numbers.remove(&number);
        *logging -= usize::from(rule.log);
    }

    fn decision(&self) -> Decision {
        match (self.deny.first(), self.allow.first()) {
            (Some(rule), _) => Decision {
                action: Action::Deny,
                rule: *rule,
                log: self.logging_deny > 0,
            },
            (None, Some(rule)) => Decision {
                action: Action::Allow,
                rule: *rule,
                log: self.logging_allow > 0,
            },
            (None, None) => NOTHING,
        }
    }
}

impl Flat {
    /// Whether it says no more than an absent header.
    pub(super) fn is_nothing(&self) -> bool {
        self.default == NOTHING && self.ports.is_empty()
    }

    /// Splits `low..end` into aligned blocks.
    fn add(&mut self, protocol: u8, mut low: u32, end: u32, decision: Decision) {
        if decision == self.default {
            return;
        }
        while low < end {
            let alignment = if low == 0 { 16 } else { low.trailing_zeros() };
            let bits = alignment.min((end - low).ilog2());
            self.ports
                .insert((protocol, (16 - bits) as u8, low as u16), decision);
            low += 1 << bits;
        }
    }

    /// Writes the entries of a (policy, direction, identity).
    pub(super) fn write(
        &self,
        policy: u32,
        direction: Direction,
        identity: u32,
        entries: &mut BTreeMap<PolicyKey, PolicyEntry>,
    ) {
        let key = |protocol, length, port| PolicyKey {
            policy,
            identity,
            port,
            direction: direction as u8,
            protocol,
            length,
            pad: [0; 3],
        };
        let mut header = self.default.entry();
        for ((protocol, length, port), decision) in &self.ports {
            header.lengths |= 1 << length;
            if decision.action == Action::Allow {
                header.flags |= PolicyEntry::SOME_ALLOWED;
            }
            entries.insert(key(*protocol, *length, *port), decision.entry());
        }
        if self.default.action == Action::Allow {
            header.flags |= PolicyEntry::SOME_ALLOWED;
        }
        entries.insert(key(0, PolicyKey::HEADER, 0), header);
    }
}

impl Decision {
    fn entry(self) -> PolicyEntry {
        let verdict = match self.action {
            Action::Deny => PolicyEntry::DENY,
            Action::Allow => PolicyEntry::ALLOW,
        };
        let flags = if self.log { PolicyEntry::LOG } else { 0 };
        PolicyEntry {
            lengths: 0,
            rule: self.rule,
            verdict,
            flags,
        }
    }
}

/// Entries of one policy: an eighth of the map. No container can crowd out the others.
pub(super) const MAX_ENTRIES: usize = maps::POLICY_MAX as usize / 8;

/// A policy laid out.
pub(super) struct Laid {
    pub(super) entries: BTreeMap<PolicyKey, PolicyEntry>,
    pub(super) clipped: Clipped,
}

/// Every entry of a policy; none when there would be more than [`MAX_ENTRIES`]. `holders` says for a selector which
/// identities hold it.
pub(super) fn policy<'a>(
    policy: u32,
    rules: &[Resolved],
    holders: impl Fn(&Selector) -> &'a [u32],
) -> Option<Laid> {
    let mut entries = BTreeMap::new();
    let mut clipped = Clipped::new();
    for direction in Direction::ALL {
        let mut for_all: BTreeSet<u16> = BTreeSet::new();
        let mut by_identity: BTreeMap<u32, BTreeSet<u16>> = BTreeMap::new();
        for (number, rule) in (0..)
            .zip(rules)
            .filter(|(_, rule)| rule.direction == direction)
        {
            if rule.any_peer {
                for_all.insert(number);
            }
            for identity in rule.selectors.iter().flat_map(&holders) {
                by_identity.entry(*identity).or_default().insert(number);
            }
        }
        let mut join = |numbers: &BTreeSet<u16>| {
            let numbered = numbers.iter().map(|n| (*n, &rules[usize::from(*n)]));
            flatten(numbered, &mut clipped)
        };
        let other = join(&for_all);
        if !other.is_nothing() {
            other.write(policy, direction, IDENTITY_OTHER, &mut entries);
        }
        // Identities often differ in selectors of other policies only.
        let mut known: BTreeMap<BTreeSet<u16>, Flat> = BTreeMap::new();
        for (identity, mut numbers) in by_identity {
            numbers.extend(&for_all);
            let flat = known.entry(numbers).or_insert_with_key(&mut join);
            if *flat != other {
                flat.write(policy, direction, identity, &mut entries);
            }
            if entries.len() > MAX_ENTRIES {
                return None;
            }
        }
    }
    (entries.len() <= MAX_ENTRIES).then_some(Laid { entries, clipped })
}
