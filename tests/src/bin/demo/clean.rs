//! Removes what demos left that were kept or interrupted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use dfw_tests::{
    Namespace, agent,
    process::{self, Signal},
    scratch::{self, Scratch},
    wait,
};
use rustix::process::{Pid, kill_process};
use serde_json::Value;

use crate::{
    record::{self, DIRECTORY},
    screen::Screen,
};

/// How long processes may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything of every demo that does not run any more.
pub(crate) fn run(screen: &Screen) -> ExitCode {
    let records = entries(Path::new(DIRECTORY));
    if records.is_empty() {
        screen.say("No demo left anything.");
    }
    for path in records {
        let name = path.file_stem().map(|name| name.to_string_lossy());
        let Some(pid) = name.and_then(|name| name.parse().ok()) else {
            continue;
        };
        if is_running(pid) {
            screen.say(&format!("Demo {pid} still runs: left alone."));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Interrupted while it was written: what has names is found without it.
        let record = serde_json::from_str(&text).unwrap_or_default();
        remove(pid, &record);
        record::remove(&path);
        screen.say(&format!("What demo {pid} left is removed."));
    }
    ExitCode::SUCCESS
}

/// A demo itself, not another process that got its id later.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "demo")
}

fn remove(pid: u32, record: &Value) {
    let prefix = scratch::prefix(pid);
    if let (Some(host), Some(bpffs), Some(socket)) = (
        record["host"].as_str(),
        record["bpffs"].as_str(),
        record["socket"].as_str(),
    ) {
        let mut uninstall = Command::new("nsenter");
        uninstall.arg(format!("--net=/run/netns/{host}"));
        uninstall.args([&agent::binary(), "uninstall", "--bpffs", bpffs]);
        let state = Path::new(socket).with_file_name("state");
        report(uninstall.args(["--socket", socket, "--state"]).arg(state));
    }
    if let Some(engine) = record["engine"].as_str() {
        let docker = |arguments: &[&str]| {
            let mut docker = Command::new("docker");
            docker.env_remove("DOCKER_CONTEXT");
            report(docker.args(["--host", engine]).args(arguments))
        };
        let ids = docker(&["ps", "--all", "--quiet"]);
        let ids = ids.lines();
        let remove: Vec<_> = ["rm", "--force", "--volumes"]
            .into_iter()
            .chain(ids)
            .collect();
        docker(&remove);
    }
    let namespaces: Vec<_> = named(Path::new("/run/netns"), &prefix)
        .iter()
        .filter_map(|path| Some(Namespace::adopt(path.file_name()?.to_str()?)))
        .collect();
    end_processes(&namespaces);
    drop(namespaces);
    let temporary = record["temporary"].as_str().unwrap_or("/tmp");
    for path in named(Path::new(temporary), &prefix) {
        drop(Scratch::adopt(path));
    }
}

/// Whoever lives in a namespace of the demo is of the demo.
fn end_processes(namespaces: &[Namespace]) {
    let alive = || {
        let lists = namespaces.iter().map(|namespace| {
            let mut ip = Command::new("ip");
            report(ip.args(["netns", "pids", namespace.name()]))
        });
        let pids = lists.flat_map(|list| {
            let pids = list.lines().filter_map(|pid| pid.trim().parse().ok());
            pids.filter_map(Pid::from_raw).collect::<Vec<_>>()
        });
        pids.collect::<Vec<_>>()
    };
    let signal = |signal| {
        for pid in alive() {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    };
    signal(Signal::TERM);
    if wait::until(PATIENCE, || alive().is_empty().then_some(())).is_none() {
        signal(Signal::KILL);
    }
}

/// What a command printed; what it says of a failure is shown.
fn report(command: &mut Command) -> String {
    let output = process::output(command);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("{command:?}: {}\n{said}", output.status);
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn named(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut paths = entries(directory);
    paths.retain(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    });
    paths
}

/// A directory that is not there holds nothing.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
