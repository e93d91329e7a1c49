//! Commands, and processes that end with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::wait;

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a command to its end, whatever that is.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Runs a command that must succeed, and returns what it printed.
///
/// # Panics
/// When it fails; shows what it said.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}{said}",
        output.status
    );
    printed.into_owned()
}

/// Clock ticks, hundredths of a second, that a process has spent, both in user space and in the kernel.
///
/// # Panics
/// When it does not run.
#[track_caller]
pub fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit_once(')').expect("a name in brackets").1;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    [fields[11], fields[12]]
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .iter()
        .sum()
}

/// KiB of memory that a process has in use.
///
/// # Panics
/// When it does not run.
#[track_caller]
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().next());
    figure
        .and_then(|figure| figure.parse().ok())
        .expect("VmRSS")
}

/// A process in the background. Dropped, it is asked to end (SIGTERM), then made to.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a command; both its outputs go to the end of the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log);
        let out = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let err = out.try_clone().expect("a file can be had twice");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("the child is ours");
        }
    }

    /// Asks it to end, and waits; after a while it is killed.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait::until(PATIENCE, || self.ended()).unwrap_or_else(|| self.kill())
    }

    /// Kills it without warning, and waits.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().expect("the child is ours")
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of what it wrote.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Looks until there is something to see.
    ///
    /// # Panics
    /// When it ends or the time is over before; shows its last lines.
    #[track_caller]
    pub fn expect<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let seen = wait::until(patience, || match self.ended() {
            Some(status) => Some(Err(status)),
            None => look().map(Ok),
        });
        match seen {
            Some(Ok(seen)) => seen,
            Some(Err(status)) => panic!("{what}: ended, {status}\n{}", self.log_tail()),
            None => panic!("{what}: not within {patience:?}\n{}", self.log_tail()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}
