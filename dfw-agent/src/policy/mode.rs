//! Modes of an endpoint.

use std::{fmt, str::FromStr};

use dfw_common::value::mode;

use super::problem::suggest;

/// What happens to what policy denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Not judged.
    Off,
    /// Judged and counted; nothing is dropped by policy.
    Audit,
    /// Judged and dropped.
    Enforce,
}

impl Mode {
    /// All, from the weakest.
    pub const ALL: [Self; 3] = [Self::Off, Self::Audit, Self::Enforce];

    /// The word in labels, flags and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }

    /// The number in [`dfw_common::value::Endpoint::mode`].
    pub const fn number(self) -> u32 {
        match self {
            Self::Off => mode::OFF,
            Self::Audit => mode::AUDIT,
            Self::Enforce => mode::ENFORCE,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no mode; the text is the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(word: &str) -> Result<Self, ModeError> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == word)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name);
                ModeError(suggest(word, names, "a mode is enforce, audit or off"))
            })
    }
}
