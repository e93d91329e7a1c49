//! Rules that are not in force as they are written: too many for the maps, or beyond a ceiling.

use super::{compile::Compiled, flatten, resolve::Resolved, standing::State};
use crate::model::{Finding, Inventory, Level};

/// Tells each container with a policy which of its rules a ceiling takes something away from.
pub(super) fn clipped(
    policy: u32,
    rules: &[Resolved],
    clipped: &flatten::Clipped,
    inventory: &Inventory,
    compiled: &mut Compiled,
) {
    let rule = |number: u16| rules.get(usize::from(number));
    let pairs: Vec<(&Resolved, &Resolved)> = clipped
        .iter()
        .filter_map(|(own, by)| rule(*own).zip(rule(*by)))
        .collect();
    for endpoint in &inventory.endpoints {
        let has_it = compiled.endpoints.get(&endpoint.ifindex);
        if pairs.is_empty() || has_it.is_none_or(|found| found.policy != policy) {
            continue;
        }
        compiled
            .findings
            .extend(pairs.iter().map(|(own, by)| Finding {
                level: Level::Warning,
                code: "beyond-ceiling".to_owned(),
                subject: endpoint.container.name.clone(),
                label: own.label.clone(),
                message: format!(
                    "the rule goes beyond a ceiling and counts only within it: {}",
                    by.display()
                ),
                text: own.text.clone(),
                span: None,
            }));
    }
}

/// A policy without entries allows nothing; says so of each container that has it.
pub(super) fn too_large(policy: u32, inventory: &Inventory, compiled: &mut Compiled) {
    for endpoint in &inventory.endpoints {
        let Some(found) = compiled.endpoints.get_mut(&endpoint.ifindex) else {
            continue;
        };
        if found.policy != policy {
            continue;
        }
        found.state = State::Error;
        let message = format!(
            "the rules need more than {} map entries, so nothing is allowed: name fewer single ports and peers",
            flatten::MAX_ENTRIES
        );
        compiled.findings.push(Finding {
            level: Level::Error,
            code: "policy-too-large".to_owned(),
            subject: endpoint.container.name.clone(),
            label: String::new(),
            message,
            text: String::new(),
            span: None,
        });
    }
}

/// A ceiling is no more than other rules where its endpoints do not enforce.
pub(super) fn not_enforced(is_loose: bool) -> Option<Finding> {
    let message = "a ceiling does not hold for the endpoints under it that do not enforce (`dfw ls` shows the modes): write unlabelled = \"enforce\", or mode = \"enforce\" in [[rules]]";
    is_loose.then(|| {
        Finding::new(
            Level::Warning,
            "ceiling-not-enforced",
            "",
            message.to_owned(),
        )
    })
}
