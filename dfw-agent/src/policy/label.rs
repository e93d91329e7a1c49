//! The labels of one container, as far as they can be read without knowing anybody else.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use dfw_common::reason::Direction;

use super::{
    mode::Mode,
    parse::{self, MAX_PEERS, MAX_RULES, Parsed, is_name},
    problem::{Problem, What, nearest, shown},
    resolve, warn,
};
use crate::model::{Container, Finding, LABEL_PROJECT, LABEL_SWARM_STACK, Level};

/// What a container's labels say.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    /// `dfw.mode`, if it is there and right.
    pub(super) mode: Option<Mode>,
    /// `dfw.mode` is there and wrong.
    pub(super) mode_rejected: bool,
    /// `dfw.group`, as written.
    pub(super) groups: Vec<String>,
    /// Keys that say more than a group: `dfw.mode`, and each `dfw.ingress*` and `dfw.egress*`, even an empty one.
    pub(super) policy_keys: Vec<String>,
    /// Rules of the labels that could be read.
    pub(super) rules: Vec<DeclaredRule>,
    /// Errors; without [`Finding::subject`].
    pub(super) errors: Vec<Finding>,
}

/// A rule and the label it stands in.
#[derive(Clone, Debug)]
pub(super) struct DeclaredRule {
    pub(super) label: String,
    pub(super) parsed: Parsed,
}

/// Checks one set of labels offline, as `dfw check` does: what needs no knowledge of other containers.
///
/// `project` is the compose project, where the labels do not name it; `prefix` ends in its dot. The findings have no
/// subject and come in the order of label and place.
pub fn check_labels(
    labels: &BTreeMap<String, String>,
    project: Option<&str>,
    prefix: &str,
) -> Vec<Finding> {
    let declared = read(labels, prefix);
    let mut findings = declared.errors.clone();
    let own = [LABEL_PROJECT, LABEL_SWARM_STACK]
        .into_iter()
        .find_map(|key| labels.get(key));
    match resolve::rules(&declared, labels, own.map(String::as_str).or(project)) {
        Ok(_) => findings.extend(warn::of_rules(&declared, labels)),
        Err(errors) => findings.extend(errors),
    }
    findings.sort_by(|a, b| (&a.label, a.span).cmp(&(&b.label, b.span)));
    findings
}

/// Checks one container offline: its labels as [`check_labels`] does, and what they mean with its published ports. The
/// findings name the container.
pub fn check_container(container: &Container, prefix: &str) -> Vec<Finding> {
    let declared = read(&container.labels, prefix);
    let has_v6 = container
        .attachments
        .iter()
        .flat_map(|place| &place.addresses)
        .any(IpAddr::is_ipv6);
    let mut findings = check_labels(&container.labels, container.project(), prefix);
    findings.extend(warn::of_container(&declared, container, has_v6));
    for finding in &mut findings {
        finding.subject = container.display_name();
    }
    findings
}

/// Reads every label under the prefix.
pub(super) fn read(labels: &BTreeMap<String, String>, prefix: &str) -> Declared {
    let mut declared = Declared::default();
    for (label, value) in labels {
        let Some(key) = label.strip_prefix(prefix) else {
            continue;
        };
        let problems = match Key::parse(key, label, prefix) {
            Ok(Key::Mode) => declared.mode(label, value),
            Ok(Key::Group) => declared.group(value),
            Ok(Key::Rules(direction)) => declared.side(direction, label, value),
            Err(what) => {
                declared
                    .errors
                    .push(error(label, label, &what.at(0..label.len())));
                continue;
            }
        };
        declared
            .errors
            .extend(problems.iter().map(|problem| error(label, value, problem)));
    }
    declared
}

/// A finding of a problem in `text`, which is the value of `label` or, for a bad key, the label itself.
pub(super) fn error(label: &str, text: &str, problem: &Problem) -> Finding {
    // A label too long to be read is too long to be handed on.
    let whole = text.len() <= parse::MAX_LABEL_BYTES;
    Finding {
        level: Level::Error,
        code: problem.what.code().to_owned(),
        subject: String::new(),
        label: printable(label),
        message: problem.to_string(),
        text: if whole {
            text.to_owned()
        } else {
            String::new()
        },
        span: whole.then_some((problem.span.start, problem.span.end)),
    }
}

/// A label's key for people: as it is, unless it holds what no key should.
pub(super) fn printable(label: &str) -> String {
    if label.chars().any(char::is_control) || label.len() > 256 {
        shown(label)
    } else {
        label.to_owned()
    }
}

enum Key {
    Mode,
    Group,
    Rules(Direction),
}

impl Key {
    fn parse(key: &str, label: &str, prefix: &str) -> Result<Self, What> {
        match key {
            "mode" => return Ok(Self::Mode),
            "group" => return Ok(Self::Group),
            _ => {}
        }
        for direction in Direction::ALL {
            match key.strip_prefix(direction.name()) {
                Some("") => return Ok(Self::Rules(direction)),
                Some(".") => {
                    return Err(What::EmptyName(format!("`{prefix}{}.`", direction.name())));
                }
                Some(rest) => match rest.strip_prefix('.') {
                    Some(name) if is_name(name) => return Ok(Self::Rules(direction)),
                    Some(name) => return Err(What::BadName(shown(name))),
                    None => {}
                },
                None => {}
            }
        }
        // A misspelt `ingres.web` is compared without its name.
        let stem = key.split_once('.').map_or(key, |(stem, _)| stem);
        let hint = match nearest(stem, ["mode", "group", "ingress", "egress"]) {
            Some(right) => format!("did you mean `{prefix}{right}`?"),
            None => format!(
                "there are {prefix}mode, {prefix}group, {prefix}ingress[.NAME] and {prefix}egress[.NAME]"
            ),
        };
        Err(What::UnknownKey {
            key: shown(label),
            hint,
        })
    }
}

impl Declared {
    fn mode(&mut self, label: &str, value: &str) -> Vec<Problem> {
        self.policy_keys.push(label.to_owned());
        match value.trim_ascii().parse() {
            Ok(mode) => {
                self.mode = Some(mode);
                Vec::new()
            }
            Err(hint) => {
                self.mode_rejected = true;
                let what = What::UnknownMode {
                    word: shown(value),
                    hint: hint.to_string(),
                };
                vec![what.at(0..value.len())]
            }
        }
    }

    fn group(&mut self, value: &str) -> Vec<Problem> {
        if value.len() > parse::MAX_LABEL_BYTES {
            return vec![What::TooLong(value.len()).at(0..0)];
        }
        if value.trim_ascii().is_empty() {
            return vec![What::NoGroup.at(0..value.len())];
        }
        let mut problems = Vec::new();
        let mut start = 0;
        for part in value.split(',') {
            let name = part.trim_ascii();
            if is_name(name) {
                if !self.groups.iter().any(|known| known == name) {
                    self.groups.push(name.to_owned());
                }
            } else {
                problems.push(What::BadName(shown(name)).at(start..start + part.len()));
            }
            start += part.len() + 1;
        }
        problems.truncate(parse::MAX_PROBLEMS);
        if !problems.is_empty() {
            self.groups.clear();
        }
        problems
    }

    fn peers(&self) -> usize {
        self.rules.iter().map(|rule| rule.parsed.peers()).sum()
    }

    fn side(&mut self, direction: Direction, label: &str, value: &str) -> Vec<Problem> {
        self.policy_keys.push(label.to_owned());
        match parse::parse(direction, value) {
            Ok(rules) if self.rules.len() + rules.len() > MAX_RULES => {
                vec![What::TooManyRules.at(0..value.len())]
            }
            Ok(rules)
                if self.peers() + rules.iter().map(Parsed::peers).sum::<usize>() > MAX_PEERS =>
            {
                vec![What::TooManyPeers.at(0..value.len())]
            }
            Ok(rules) => {
                let rule = |parsed| DeclaredRule {
                    label: label.to_owned(),
                    parsed,
                };
                self.rules.extend(rules.into_iter().map(rule));
                Vec::new()
            }
            Err(problems) => problems,
        }
    }
}

/// A warning about a rule of these labels, with the place of the rule or of a part of it.
pub(super) fn warning(
    labels: &BTreeMap<String, String>,
    rule: &DeclaredRule,
    span: &Range<usize>,
    code: &str,
    message: String,
) -> Finding {
    Finding {
        level: Level::Warning,
        code: code.to_owned(),
        subject: String::new(),
        label: rule.label.clone(),
        message,
        text: labels.get(&rule.label).cloned().unwrap_or_default(),
        span: Some((span.start, span.end)),
    }
}
