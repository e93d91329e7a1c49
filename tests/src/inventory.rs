//! The inventory file of a test.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{Endpoint, scratch::Scratch};

/// An inventory file. Changes are collected, and [`Inventory::write`] puts all of them on disk at once.
#[derive(Debug)]
pub struct Inventory {
    scratch: Scratch,
    entries: BTreeMap<String, String>,
}

impl Inventory {
    /// An empty one.
    ///
    /// # Panics
    /// When it cannot be written.
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let inventory = Self {
            scratch: Scratch::new(),
            entries: BTreeMap::new(),
        };
        inventory.write();
        inventory
    }

    /// Adds or changes an endpoint.
    pub fn set(&mut self, name: &str, endpoint: &Endpoint, network: &str, labels: &[(&str, &str)]) {
        self.entries.insert(
            name.to_owned(),
            entry(name, &endpoint.veth, network, labels),
        );
    }

    /// Removes an endpoint.
    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Replaces the file by a text that is right or wrong.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn overwrite(&self, text: &str) {
        let new = self.scratch.file("new.toml", text);
        fs::rename(new, self.path()).expect("both are in one directory");
    }

    /// Replaces the file by what the values say.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self) {
        self.overwrite(
            &self
                .entries
                .values()
                .map(String::as_str)
                .collect::<String>(),
        );
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::join(self.scratch.path(), "inventory.toml")
    }

    /// Where it is, as an argument.
    pub fn argument(&self) -> String {
        self.path().display().to_string()
    }
}

/// One endpoint of the file, for whatever interface.
pub fn entry(name: &str, interface: &str, network: &str, labels: &[(&str, &str)]) -> String {
    // A string of JSON is one of TOML.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = String::from("[[endpoint]]\n");
    for (key, value) in [
        ("name", name),
        ("interface", interface),
        ("network", network),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key} = {}", quote(value));
    }
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{} = {}", quote(key), quote(value)))
        .collect();
    let _ = writeln!(text, "labels = {{ {} }}", labels.join(", "));
    text
}
