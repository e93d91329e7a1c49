//! A machine that systemd has booted, in namespaces of its own: of processes, mounts, control groups and network.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Namespace, process, process::Daemon, root::VARIABLE, scratch, scratch::Scratch, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const BOOT: &str = include_str!("boot.sh");

/// Dropped, it is switched off the hard way, and everything in it is gone.
#[derive(Debug)]
pub struct Machine {
    // In the order in which they must end.
    power: Daemon,
    group: Group,
    _scratch: Scratch,
    _host: Namespace,
    /// Of its first process, as this machine counts.
    init: u32,
}

/// A control group.
#[derive(Debug)]
struct Group(PathBuf);

impl Machine {
    /// Boots a copy of the root file system that the environment names, and waits until it has started everything.
    ///
    /// # Panics
    /// When none is named, or it does not boot; shows what it said.
    #[track_caller]
    pub fn boot() -> Self {
        let root = env::var_os(VARIABLE);
        let root = root.unwrap_or_else(|| panic!("{VARIABLE} names no root"));
        let (scratch, host) = (Scratch::new(), Namespace::new());
        let group = Group::name();
        let mut boot = Command::new("sh");
        boot.args(["-c", BOOT, "sh"]).arg(root).arg(scratch.path());
        boot.arg(&group.0).arg(host.path());
        let mut power = Daemon::start(&mut boot, &scratch.path().join("console.log"));
        let children = format!("/proc/{0}/task/{0}/children", power.pid());
        let init = power.expect("there is a first process", PATIENCE, || {
            let child = fs::read_to_string(&children).ok()?;
            let child: u32 = child.trim().parse().ok()?;
            // Before it come those that make room for it.
            let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name == "systemd\n").then_some(child)
        });
        let mut machine = Self {
            power,
            group,
            _scratch: scratch,
            _host: host,
            init,
        };
        // "degraded" too: modules cannot be loaded, for example.
        let mut state = machine.command("systemctl is-system-running");
        machine.power.expect("systemd has booted", PATIENCE, || {
            let said = process::output(&mut state).stdout;
            matches!(&*said, b"running\n" | b"degraded\n").then_some(())
        });
        machine
    }

    /// Where a path of this machine is for everybody else.
    pub fn inside(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A line of a shell that will run inside, in root's home.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init)).arg("--all");
        command.args(["env", "--ignore-environment", "--chdir=/root"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", line]);
        command
    }

    /// Runs a line that must succeed, and returns what it printed, trimmed.
    ///
    /// # Panics
    /// When it fails; shows what it said.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        process::run(&mut self.command(line)).trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power.kill();
        let group = &self.group;
        let empty = wait::until(PATIENCE, || group.remove().then_some(()));
        if empty.is_none() {
            eprintln!("{} is not empty", group.0.display());
        }
    }
}

impl Group {
    /// One that nobody has made yet.
    #[track_caller]
    fn name() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("a process has mounts");
        let unified = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.get(2) == Some(&"cgroup2")).then(|| Path::new(words[1]).join(scratch::name()))
        });
        Self(unified.expect("cgroup2 is mounted somewhere"))
    }

    /// Removes it and those inside; whether it is gone.
    fn remove(&self) -> bool {
        let mut groups = vec![self.0.clone()];
        let mut position = 0;
        while let Some(group) = groups.get(position) {
            let entries = fs::read_dir(group).into_iter().flatten().flatten();
            let inside: Vec<_> = entries.map(|entry| entry.path()).collect();
            groups.extend(inside.into_iter().filter(|path| path.is_dir()));
            position += 1;
        }
        for group in groups.iter().rev() {
            // Whoever is in there is about to end.
            let _ = fs::remove_dir(group);
        }
        !self.0.exists()
    }
}
