//! What the agent is told over its command socket, and what it answers. Part of that protocol: fields are added, never
//! renamed.

use serde::{Deserialize, Serialize};

use super::Finding;

/// To switch the mode of some containers, or to let labels and file hold again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchOrder {
    /// Which, as peers with blanks between.
    pub selector: String,
    /// enforce, audit or off; none lets labels and file hold again.
    pub mode: Option<String>,
    /// For how long; none means until it is cleared or the host starts anew.
    pub seconds: Option<u64>,
}

/// To begin anew with what is learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetOrder {
    /// Of whom, as peers with blanks between; none means of everybody.
    pub selector: Option<String>,
}

/// What an order came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// One sentence.
    pub message: String,
    /// Containers concerned, as people are shown them.
    pub containers: Vec<String>,
    /// Findings that were not there before.
    pub findings: Vec<Finding>,
}

/// An order that was not carried out. What was in force stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Whether it is the configuration that is wrong.
    pub is_config: bool,
    /// What is wrong.
    pub message: String,
    /// The remedy.
    pub hint: String,
    /// Each mistake with its place.
    pub findings: Vec<Finding>,
}

/// A mode that holds for a while, whatever labels and file say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// For whom.
    pub selector: String,
    /// enforce, audit or off.
    pub mode: String,
    /// When it ends, in seconds since 1970; none when it does not by itself.
    pub until: Option<u64>,
}

/// A question that has no answer: what is wrong with it, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Unanswerable {
    /// One sentence.
    pub message: String,
    /// One sentence.
    pub hint: String,
}

impl Unanswerable {
    /// Both in words.
    pub const fn new(message: String, hint: String) -> Self {
        Self { message, hint }
    }
}
