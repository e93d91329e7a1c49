//! What the tests must not leave behind: everything that carries their name, or dfw's, and was not there before.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use dfw_common::maps;
use serde_json::Value;

use crate::sh;

/// Begins the name of everything that a test makes.
const PREFIX: &str = "dfwt";

/// How long the kernel and dying processes may take to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is there at one moment, one line each.
pub(crate) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks around.
    pub(crate) fn take() -> Self {
        let mut things = BTreeSet::new();
        named(&mut things, "namespace", "/run/netns");
        named(&mut things, "link", "/sys/class/net");
        named(&mut things, "pin", "/sys/fs/bpf");
        named(
            &mut things,
            "directory",
            &std::env::temp_dir().to_string_lossy(),
        );
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        things.extend(mounts.lines().filter_map(mount));
        processes(&mut things);
        bpf_objects(&mut things);
        Self(things)
    }

    /// What is there now and was not then; waits a little for it to go away.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left: Vec<_> = Self::take().0.difference(&self.0).cloned().collect();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            thread::sleep(Duration::from_millis(250));
        }
    }
}

fn named(things: &mut BTreeSet<String>, kind: &str, directory: &str) {
    // A directory that is not there holds nothing.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(PREFIX) {
            things.insert(format!("{kind} {}", entry.path().display()));
        }
    }
}

fn mount(line: &str) -> Option<String> {
    let place = line.split(' ').nth(1)?;
    place
        .contains(&format!("/{PREFIX}"))
        .then(|| format!("mount {place}"))
}

fn processes(things: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let command = command.replace('\0', " ");
        let program = command.split(' ').next().unwrap_or_default();
        if command.contains(PREFIX) || program.ends_with("/dfw") {
            things.insert(format!("process {} {command}", entry.file_name().display()));
        }
    }
}

/// A link that is left keeps its program, so programs and maps tell of links too.
fn bpf_objects(things: &mut BTreeSet<String>) {
    for kind in ["prog", "map"] {
        let text = sh::read(Command::new("bpftool").args([kind, "--json", "show"]));
        let list: Option<Value> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
        for object in list.iter().flat_map(Value::as_array).flatten() {
            let name = object["name"].as_str().unwrap_or_default();
            if name.starts_with("dfw_") || is_map(name) {
                things.insert(format!("BPF {kind} {} {name}", object["id"]));
            }
        }
    }
}

/// The kernel keeps the first 15 bytes of a name.
fn is_map(name: &str) -> bool {
    maps::PINNED
        .iter()
        .any(|map| map[..map.len().min(15)] == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_the_tests_count() {
        assert_eq!(
            mount("nsfs /run/netns/dfwt-1-2 nsfs rw 0 0"),
            Some("mount /run/netns/dfwt-1-2".to_owned())
        );
        assert_eq!(mount("proc /proc proc rw 0 0"), None);
    }
}
