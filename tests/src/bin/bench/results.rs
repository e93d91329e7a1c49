//! What was measured, as it is kept.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

/// One run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) settings: Settings,
    pub(crate) contenders: Vec<Description>,
    pub(crate) slices: Vec<Slice>,
}

/// Where and how.
#[derive(Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) pairs: u32,
    pub(crate) slice_ms: u64,
    /// Where both ends run.
    pub(crate) cpu: usize,
    /// In UTC.
    pub(crate) date: String,
    /// Of kernel, processor and the programs that were measured, by name.
    pub(crate) versions: BTreeMap<String, String>,
}

/// Who was measured.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) made: String,
}

/// One measurement.
#[derive(Serialize, Deserialize)]
pub(crate) struct Slice {
    /// From 0; all of one round are compared with each other.
    pub(crate) round: u32,
    /// Name of a trial.
    pub(crate) trial: String,
    /// Of a contender.
    pub(crate) id: String,
    /// A second.
    pub(crate) rate: f64,
    /// Nanoseconds, where there are requests.
    pub(crate) median_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
}

impl Results {
    /// Reads what was written.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
    /// The title of a contender, for tables and plots.
    pub(crate) fn title<'a>(&'a self, id: &'a str) -> &'a str {
        let found = self.contenders.iter().find(|contender| contender.id == id);
        found.map_or(id, |contender| &contender.title)
    }
}
