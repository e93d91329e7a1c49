//! Rules as labels, within what one label and one container may have.

use std::{collections::BTreeMap, mem};

use dfw_common::reason::Direction;

use super::{Evidence, Line, side::Draft};
use crate::policy::{
    parse::{MAX_LABEL_BYTES, MAX_PEERS, MAX_RULES, parse_rules},
    rule::{Ports, Rule},
};

/// Between two rules.
const BETWEEN: &str = "; ";

/// As many as a container may have beside the rules that stay, each short enough for a label, those first of which most was
/// seen; and how many are left out.
pub(super) fn within_limits<'a>(
    drafts: Vec<(Direction, Draft)>,
    stay: impl Iterator<Item = &'a Rule>,
) -> (Vec<(Direction, Draft)>, usize) {
    let whole = drafts.into_iter().flat_map(|(side, draft)| {
        let rules = split(draft.rule.clone());
        rules.into_iter().map(move |rule| {
            (
                side,
                Draft {
                    rule,
                    ..draft.clone()
                },
            )
        })
    });
    let all: Vec<(Direction, Draft)> = whole.collect();
    let mut by_need: Vec<usize> = (0..all.len()).collect();
    by_need.sort_by_key(|number| {
        let flows = all
            .get(*number)
            .and_then(|(_, draft)| draft.times)
            .map_or(0, |times| times.flows);
        u64::MAX - flows
    });
    let (mut rules, mut peers) = stay.fold((0, 0), |(rules, peers), rule| {
        (rules + 1, peers + rule.peers.len())
    });
    let mut kept = vec![false; all.len()];
    for number in by_need {
        let more = all
            .get(number)
            .map_or(0, |(_, draft)| draft.rule.peers.len());
        if rules < MAX_RULES && peers + more <= MAX_PEERS {
            (rules, peers) = (rules + 1, peers + more);
            kept[number] = true;
        }
    }
    let left_out = kept.iter().filter(|kept| !**kept).count();
    let pairs = all.into_iter().zip(kept).filter(|(_, kept)| *kept);
    (pairs.map(|(draft, _)| draft).collect(), left_out)
}

/// Rules that together are the same, none of them longer than a label.
pub(super) fn split(mut rule: Rule) -> Vec<Rule> {
    if rule.to_string().len() <= MAX_LABEL_BYTES {
        return vec![rule];
    }
    let mut other = rule.clone();
    match &mut rule.ports {
        _ if rule.peers.len() > 1 => other.peers = rule.peers.split_off(rule.peers.len() / 2),
        Ports::Items(items) if items.len() > 1 => {
            other.ports = Ports::Items(items.split_off(items.len() / 2));
        }
        // One name is shorter.
        Ports::Items(_) | Ports::Any => return vec![rule],
    }
    [split(rule), split(other)].concat()
}

/// Where the rules of one direction go.
pub(super) struct Lines<'a> {
    pub(super) direction: Direction,
    /// The first label.
    pub(super) key: String,
    /// Whether that may be there already.
    pub(super) replaces: bool,
    /// The labels that are there.
    pub(super) taken: Option<&'a BTreeMap<String, String>>,
}

impl Lines<'_> {
    /// One label, an empty one where there is no rule; more where the rules are too long for one.
    pub(super) fn lay(self, rules: Vec<Evidence>) -> Vec<Line> {
        let present = self.present().filter(|_| self.replaces);
        let mut keys = self.keys();
        let mut lines = Vec::new();
        let mut rest = rules.into_iter().peekable();
        loop {
            let mut own = Vec::new();
            let mut length = 0;
            while let Some(next) = rest.next_if(|next| {
                own.is_empty() || length + BETWEEN.len() + next.rule.len() <= MAX_LABEL_BYTES
            }) {
                length += BETWEEN.len() + next.rule.len();
                own.push(next);
            }
            let value = own
                .iter()
                .map(|one| one.rule.as_str())
                .collect::<Vec<_>>()
                .join(BETWEEN);
            let present = present.filter(|_| lines.is_empty());
            lines.push(Line {
                direction: self.direction.name().to_owned(),
                label: keys.next().unwrap_or_default(),
                is_same: present.is_some_and(|present| is_same(self.direction, present, &value)),
                present: present.cloned(),
                value,
                rules: mem::take(&mut own),
            });
            if rest.peek().is_none() {
                return lines;
            }
        }
    }

    fn present(&self) -> Option<&String> {
        self.taken.and_then(|labels| labels.get(&self.key))
    }

    /// Keys that may be written.
    fn keys(&self) -> impl Iterator<Item = String> {
        let first = (self.replaces || self.present().is_none()).then(|| self.key.clone());
        let numbered = (2_u32..).map(|number| format!("{}.{number}", self.key));
        let free = numbered.filter(|key| self.taken.is_none_or(|labels| !labels.contains_key(key)));
        first.into_iter().chain(free)
    }
}

/// Whether two labels have the same rules, whatever their order.
fn is_same(direction: Direction, one: &str, other: &str) -> bool {
    let rules = |text| {
        let rules = parse_rules(direction, text).ok()?;
        let mut texts: Vec<String> = rules.iter().map(Rule::to_string).collect();
        texts.sort_unstable();
        Some(texts)
    };
    rules(one).is_some() && rules(one) == rules(other)
}
