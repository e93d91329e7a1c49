//! What a test must not leave behind: whatever carries a name that it gave, and the BPF objects of its agents.

use std::{
    cell::RefCell, collections::BTreeSet, env, fs, path::Path, process::Command, thread,
    time::Duration,
};

use serde_json::Value;

use crate::{process, wait};

/// How long the kernel and dying processes may take to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kinds of BPF objects, as bpftool calls them, and the word before their id in `/proc/PID/fdinfo`.
const KINDS: [(&str, &str); 3] = [
    ("prog", "prog_id:"),
    ("map", "map_id:"),
    ("link", "link_id:"),
];

#[derive(Default)]
struct Made {
    names: BTreeSet<String>,
    /// Kind and id; the kernel gives no id twice in any sensible time.
    objects: BTreeSet<(&'static str, u64)>,
}

thread_local! {
    /// By this thread: tests that run beside it have threads of their own.
    static MADE: RefCell<Made> = RefCell::default();
}

/// Dropped as the last value of a test that goes well, it fails where something is left of what the thread made.
#[derive(Debug)]
pub struct LeakCheck(());

impl LeakCheck {
    /// From here on.
    #[expect(clippy::new_without_default, reason = "it begins a check")]
    pub fn new() -> Self {
        MADE.take();
        Self(())
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let made = MADE.take();
        let gone = wait::until(PATIENCE, || made.left().is_empty().then_some(()));
        assert!(gone.is_some(), "left behind: {:#?}", made.left());
    }
}

/// A name that is given to something.
pub(crate) fn note_name(name: &str) {
    MADE.with_borrow_mut(|made| made.names.insert(name.to_owned()));
}

/// What an agent holds of BPF, before it ends.
pub(crate) fn note_agent(pid: u32) {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    for descriptor in descriptors.into_iter().flatten().flatten() {
        // It may have been closed meanwhile.
        let info = fs::read_to_string(descriptor.path()).unwrap_or_default();
        for line in info.lines() {
            let ids = KINDS.iter().filter_map(|(kind, word)| {
                let id = line.strip_prefix(word)?.trim().parse().ok()?;
                Some((*kind, id))
            });
            MADE.with_borrow_mut(|made| made.objects.extend(ids));
        }
    }
}

impl Made {
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for directory in [Path::new("/run/netns"), &env::temp_dir()] {
            let places = self.names.iter().map(|name| directory.join(name));
            let places = places.filter(|place| place.exists());
            left.extend(places.map(|place| place.display().to_string()));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter(|mount| self.is_named_in(mount));
        left.extend(mounts.map(|mount| format!("mount {mount}")));
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            let command = command.replace('\0', " ");
            if self.is_named_in(&command) {
                left.push(format!(
                    "process {} {command}",
                    process.file_name().display()
                ));
            }
        }
        left.extend(self.objects_left());
        left
    }

    /// Names are followed by what ends them, or `dfwt-1-2` would be found in `dfwt-1-20`.
    fn is_named_in(&self, text: &str) -> bool {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.into_iter().any(|word| self.names.contains(word))
    }

    fn objects_left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (kind, _) in KINDS {
            let mut own = self
                .objects
                .iter()
                .filter(|(known, _)| *known == kind)
                .peekable();
            if own.peek().is_none() {
                continue;
            }
            let list = process::run(Command::new("bpftool").args(["--json", kind, "show"]));
            let list: Value = serde_json::from_str(&list).expect("bpftool prints JSON");
            let there: BTreeSet<u64> = list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|object| object["id"].as_u64())
                .collect();
            let own = own.filter(|(_, id)| there.contains(id));
            left.extend(own.map(|(kind, id)| format!("BPF {kind} {id}")));
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn what_is_left_is_seen() {
        let check = LeakCheck::new();
        let scratch = Scratch::new();
        let left = MADE.with_borrow(Made::left);
        assert_eq!(left, [scratch.path().display().to_string()]);
        drop(scratch);
        drop(check);
    }

    #[test]
    fn a_name_is_not_found_in_a_longer_one() {
        let made = Made {
            names: BTreeSet::from(["dfwt-1-2".to_owned()]),
            ..Made::default()
        };
        assert!(made.is_named_in("nsfs /run/netns/dfwt-1-2 nsfs rw 0 0"));
        assert!(made.is_named_in("dockerd --config-file /tmp/dfwt-1-2/daemon.json"));
        assert!(!made.is_named_in("nsfs /run/netns/dfwt-1-20 nsfs rw 0 0"));
    }
}
