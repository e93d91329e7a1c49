//! What the campaign prints.

use std::fmt;

use dfw_common::check::Check;

use super::Fate;

/// One check and what came of leaving it out.
pub(super) struct Row {
    pub(super) check: Check,
    pub(super) fate: Fate,
}

impl Row {
    pub(super) fn is_killed(&self) -> bool {
        matches!(self.fate, Fate::Killed(_))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.check.name();
        match &self.fate {
            Fate::Killed(test) => write!(f, "{name}: {test}"),
            Fate::Survived => write!(f, "{name}: SURVIVED"),
            Fate::Broken(why) => write!(f, "{name}: BROKEN: {why}"),
        }
    }
}

/// The table in Markdown, as docs and notes have it.
pub(super) fn print(rows: &[Row]) -> String {
    let mut text = String::from("| check | what it is for | noticed by |\n|---|---|---|\n");
    for row in rows {
        let by = match &row.fate {
            Fate::Killed(test) => test.clone(),
            Fate::Survived => "**nobody**".to_owned(),
            Fate::Broken(why) => format!("**broken**: {why}"),
        };
        let (name, what) = (row.check.name(), row.check.describe());
        text += &format!("| `{name}` | {what} | {by} |\n");
    }
    text
}
