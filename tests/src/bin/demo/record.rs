//! What a demo has made, on disk, for whoever cleans up after one that was kept or interrupted.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use dfw_tests::Agent;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Only root writes there: what a record says is killed and removed.
pub(crate) const DIRECTORY: &str = "/run/dfw-demo";

/// The record of this process. Dropped, it is removed.
pub(crate) struct Record {
    path: PathBuf,
    said: Value,
}

impl Record {
    /// Made first: from here on, what exists can be found.
    pub(crate) fn new() -> Self {
        let record = Self {
            path: Path::new(DIRECTORY).join(format!("{}.json", process::id())),
            said: json!({ "temporary": env::temp_dir() }),
        };
        record.write();
        record
    }

    /// Adds the engine.
    pub(crate) fn stage(&mut self, stage: &Stage) {
        self.said["host"] = stage.host().name().into();
        self.said["engine"] = stage.engine().into();
        self.write();
    }

    /// Adds the agent.
    pub(crate) fn agent(&mut self, agent: &Agent<'_>) {
        self.said["bpffs"] = json!(agent.bpffs());
        self.said["socket"] = json!(agent.socket());
        self.write();
    }

    fn write(&self) {
        let written = fs::create_dir_all(DIRECTORY)
            .and_then(|()| fs::write(&self.path, self.said.to_string()));
        written.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a record, and the directory with the last one.
pub(crate) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        eprintln!("remove {}: {error}", path.display());
    }
    // Others may still be in it.
    let _ = fs::remove_dir(DIRECTORY);
}
