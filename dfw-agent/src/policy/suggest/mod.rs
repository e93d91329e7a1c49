//! `dfw suggest`: from what was seen to the smallest readable labels that allow it, and nothing else.
//!
//! `who` knows who there is and what to call them; `world` sums addresses up; `side` makes rules of the sightings of one
//! direction; `lay` makes labels of the rules, within the limits; `proof` sends every sighting as a packet through what
//! was compiled, before, to see what is allowed already, and afterwards, to see whether the labels keep their word.

mod lay;
mod ports;
mod proof;
mod side;
mod who;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use dfw_common::reason::Direction;
use serde::{Deserialize, Serialize};

use self::{lay::Lines, proof::Proof, side::Draft, who::Who};
use super::{
    explain::InForce,
    label,
    mode::Mode,
    problem::shown,
    rule::{Action, Rule},
    seen::{Learned, Record, Seen, Subject, Times},
    select::{Select, select_subjects},
};
use crate::model::{Container, Unanswerable};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// For whom, in the words of `for` in the policy file; none: for all that are in audit.
    pub selector: Option<String>,
    /// What the rules are for.
    pub form: Form,
    /// More different addresses of the world than this on one port become `world`.
    pub world_after: usize,
}

/// Where rules are to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As labels, which take the place of labels with the same key.
    Labels,
    /// As entries of the node's policy file, which add to labels and to what is in the file.
    Policy,
}

/// The answer. It goes over the command socket, so fields are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestions {
    /// By subject, in order.
    pub suggestions: Vec<Suggestion>,
    /// Flows that were seen, of which nobody knows any more whose they were.
    pub missing: u64,
    /// What else is worth knowing, one sentence each.
    pub notes: Vec<String>,
}

/// What the labels of a service or container should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Whose.
    pub subject: Subject,
    /// How a policy file selects it; none where no word of it could.
    pub selector: Option<String>,
    /// Whether it is a service of a compose project.
    pub is_compose: bool,
    /// Its containers, by name; none where it has gone.
    pub containers: Vec<String>,
    /// Its mode at present; empty where it has gone.
    pub mode: String,
    /// What its own label says of the mode.
    pub mode_label: Option<String>,
    /// Since when it was looked at, seconds since 1970.
    pub since: u64,
    /// Flows that were seen and are not accounted for: the suggestion is incomplete when it is not 0.
    pub missing: u64,
    /// What to write. None where what is in force allows all that was seen.
    pub lines: Vec<Line>,
    /// What else is worth knowing, one sentence each.
    pub notes: Vec<String>,
}

/// A label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Key of the label.
    pub label: String,
    /// Its value.
    pub value: String,
    /// The value that it has at present, whose place this one takes.
    pub present: Option<String>,
    /// Whether that says the same.
    pub is_same: bool,
    /// Its rules, and what each is for.
    pub rules: Vec<Evidence>,
}

/// A rule, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Canonical text.
    pub rule: String,
    /// How often and when; none for a rule that was there before.
    pub times: Option<Times>,
    /// How many addresses `world` stands for, where it stands for some only.
    pub widened: usize,
}

/// Suggests labels.
///
/// # Errors
/// A selector that cannot be read or selects nobody, or nothing that was seen of whom it selects.
pub fn suggest(
    node: &InForce,
    learned: &Learned,
    wish: &Wish,
) -> Result<Suggestions, Unanswerable> {
    let who = Who::new(node);
    let records = chosen(node, &who, learned, wish)?;
    let subjects: BTreeSet<&Subject> = records.iter().map(|record| &record.subject).collect();
    let mut before = Proof::new(node, |container| {
        let is_theirs = subjects.contains(&Subject::from(container));
        (is_theirs && wish.form == Form::Labels).then(|| stays(node, container))
    });
    let mut suggestions: Vec<Suggestion> = records
        .iter()
        .map(|record| one(node, &who, &mut before, record, wish))
        .collect();
    let lines: BTreeMap<&Subject, &[Line]> = suggestions
        .iter()
        .map(|one| (&one.subject, one.lines.as_slice()))
        .collect();
    let mut after = Proof::new(node, |container| {
        let lines = lines.get(&Subject::from(container))?;
        let lines = lines
            .iter()
            .map(|line| (line.label.clone(), line.value.clone()));
        Some(container.labels.clone().into_iter().chain(lines).collect())
    });
    for (suggestion, record) in suggestions.iter_mut().zip(&records) {
        suggestion.notes.extend(after.broken(&who, record));
    }
    Ok(Suggestions {
        suggestions,
        missing: learned.missing,
        notes: learned
            .unkept
            .iter()
            .map(|why| format!("what was seen does not outlive the agent: {why}"))
            .collect(),
    })
}

/// The records of whom the wish is about; one without sightings for who is in audit and has none.
fn chosen(
    node: &InForce,
    who: &Who<'_>,
    learned: &Learned,
    wish: &Wish,
) -> Result<Vec<Record>, Unanswerable> {
    let mut records: BTreeMap<&Subject, Record> = learned
        .records
        .iter()
        .map(|record| (&record.subject, record.clone()))
        .collect();
    for subject in who
        .subjects()
        .filter(|subject| who.mode(subject) == Some(Mode::Audit))
    {
        records.entry(subject).or_insert_with(|| Record {
            subject: subject.clone(),
            since: learned.since,
            seen: Seen::default(),
        });
    }
    let Some(text) = &wish.selector else {
        // Who has gone may come again; who enforces has rules, of which nobody looked whether they were used.
        records.retain(|subject, _| matches!(who.mode(subject), None | Some(Mode::Audit)));
        return not_empty(
            records,
            "nobody is in audit, so nothing was seen".to_owned(),
        );
    };
    let refuse = |message| {
        let hint = "select as `for` in the policy file does: service:PROJECT/N, project:N, container:N, any";
        Unanswerable::new(message, hint.to_owned())
    };
    let select = Select::parse(text).map_err(|problems| {
        refuse(
            problems
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        )
    })?;
    let known = records.keys().copied();
    let selected =
        select_subjects(&select, &node.inventory, &node.options, known).map_err(refuse)?;
    records.retain(|subject, _| selected.contains(subject));
    not_empty(
        records,
        format!("nothing was seen of {}: it was not in audit", shown(text)),
    )
}

fn not_empty(
    records: BTreeMap<&Subject, Record>,
    why: String,
) -> Result<Vec<Record>, Unanswerable> {
    if records.is_empty() {
        let hint = "switch it to audit, `dfw mode SELECTOR audit --for 1d`, and ask again later";
        return Err(Unanswerable::new(why, hint.to_owned()));
    }
    Ok(records.into_values().collect())
}

/// The labels of a container that suggested ones do not replace.
fn stays(node: &InForce, container: &Container) -> BTreeMap<String, String> {
    let mut labels = container.labels.clone();
    for direction in Direction::ALL {
        labels.remove(&key(node, direction));
    }
    labels
}

fn rules_that_stay(node: &InForce, container: &Container) -> Vec<Rule> {
    let rules = label::read(&stays(node, container), &node.options.prefix).rules;
    rules.into_iter().map(|rule| rule.parsed.rule).collect()
}

/// The key of the label of one side.
fn key(node: &InForce, direction: Direction) -> String {
    format!("{}{}", node.options.prefix, direction.name())
}

fn one(
    node: &InForce,
    who: &Who<'_>,
    before: &mut Proof,
    record: &Record,
    wish: &Wish,
) -> Suggestion {
    let Record {
        subject,
        since,
        seen,
    } = record;
    let container = who.container(subject);
    let mut notes = Vec::new();
    let mut drafts: Vec<(Direction, Draft)> = Vec::new();
    let mut nameless = 0;
    for direction in Direction::ALL {
        let sightings = seen.sightings.iter();
        let sightings = sightings
            .filter(|(sighting, _)| sighting.direction == direction)
            .filter(|(sighting, _)| !before.allows(who, subject, sighting));
        let side = side::draft(who, subject, direction, sightings, wish);
        nameless += side.nameless;
        drafts.extend(side.drafts.into_iter().map(|draft| (direction, draft)));
    }
    if nameless > 0 {
        notes.push(format!(
            "{nameless} kinds of flows have another end that no rule can name"
        ));
    }
    let replaced = |direction| {
        let labels = container.map(|container| &container.labels)?;
        let text = labels.get(&key(node, direction));
        text.filter(|_| wish.form == Form::Labels)
    };
    let denials = Direction::ALL.map(|direction| {
        replaced(direction).map_or_else(Vec::new, |text| denials(direction, text))
    });
    // Entries of a policy file are no labels of the container.
    let stay = container.filter(|_| wish.form == Form::Labels);
    let stay = stay.map(|container| rules_that_stay(node, container));
    let stay = stay.iter().flatten().chain(denials.iter().flatten());
    let (drafts, left_out) = lay::within_limits(drafts, stay);
    if left_out > 0 {
        notes.push(format!("{left_out} rules are left out, those that were needed least: one container has no room for more"));
    }
    // By what stays, and not by a mode that says nothing of rules.
    let mode_label = format!("{}mode", node.options.prefix);
    let is_governed = who.is_governed(node, subject, |container| {
        let mut labels = match wish.form {
            Form::Labels => stays(node, container),
            Form::Policy => container.labels.clone(),
        };
        labels.remove(&mode_label);
        labels
    });
    let mut lines = Vec::new();
    for (direction, denials) in Direction::ALL.into_iter().zip(denials) {
        let own = drafts.iter().filter(|(side, _)| *side == direction);
        let mut evidence: Vec<Evidence> = own.map(|(_, draft)| draft.evidence()).collect();
        evidence.extend(denials.iter().map(was_there));
        if evidence.is_empty() && replaced(direction).is_none() && is_governed {
            continue;
        }
        let taken = container.map(|container| &container.labels);
        let layout = Lines {
            direction,
            key: key(node, direction),
            replaces: wish.form == Form::Labels,
            taken,
        };
        lines.extend(layout.lay(evidence));
    }
    let mode_label = container.and_then(|container| container.labels.get(&mode_label));
    Suggestion {
        subject: subject.clone(),
        selector: who.selector(subject),
        is_compose: who.is_compose(subject),
        containers: who.names(subject),
        mode: who
            .mode(subject)
            .map(|mode| mode.to_string())
            .unwrap_or_default(),
        mode_label: mode_label.cloned(),
        since: *since,
        missing: seen.missing,
        lines,
        notes,
    }
}

/// The deny rules of a label, each short enough for one: somebody meant them, whatever was seen.
fn denials(direction: Direction, text: &str) -> Vec<Rule> {
    let rules = super::parse::parse_rules(direction, text).unwrap_or_default();
    let denials = rules.into_iter().filter(|rule| rule.action == Action::Deny);
    denials.flat_map(lay::split).collect()
}

fn was_there(rule: &Rule) -> Evidence {
    Evidence {
        rule: rule.to_string(),
        times: None,
        widened: 0,
    }
}
