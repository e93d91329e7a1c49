//! The machine that is measured on.

use std::{collections::BTreeMap, fs, process::Command};

use dfw_tests::{agent, process};
use rustix::{
    system::uname,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::stage::Stage;

/// Leaves one processor to what is measured and goes, with all that is started later, to the others. Returns its number.
pub(crate) fn set_one_cpu_apart() -> usize {
    let all = sched_getaffinity(None).expect("a thread knows its processors");
    let mut rest = CpuSet::new();
    let mut last = 0;
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)) {
        rest.set(cpu);
        last = cpu;
    }
    rest.unset(last);
    if rest.count() > 0 {
        sched_setaffinity(None, &rest).expect("they were there");
    } else {
        eprintln!(
            "warning: there is one processor only: agents and engines disturb what is measured"
        );
    }
    last
}

/// A command on one processor.
pub(crate) fn pinned(cpu: usize) -> [String; 3] {
    ["taskset", "--cpu-list", &cpu.to_string()].map(str::to_owned)
}

/// The day and the minute.
pub(crate) fn date() -> String {
    let date = Command::new("date")
        .args(["--utc", "+%Y-%m-%d %H:%M"])
        .output();
    let date = date.expect("coreutils").stdout;
    String::from_utf8_lossy(&date).trim().to_owned()
}

/// Versions of everything that matters.
pub(crate) fn versions(stages: &[Stage]) -> BTreeMap<String, String> {
    let first_line = |program: &str, argument: &str| {
        let text = process::run(Command::new(program).arg(argument));
        text.lines().next().unwrap_or_default().to_owned()
    };
    let mut versions: BTreeMap<_, _> = [
        ("kernel", uname().release().to_string_lossy().into_owned()),
        ("processor", processor()),
        ("iptables", first_line("iptables", "--version")),
        ("nftables", first_line("nft", "--version")),
        ("dfw", first_line(&agent::binary(), "--version")),
    ]
    .map(|(name, version)| (name.to_owned(), version))
    .into();
    let engine = stages.iter().find_map(Stage::engine);
    if let Some(engine) = engine {
        let version = engine.docker(&["version", "--format", "{{.Server.Version}}"]);
        versions.insert("docker".to_owned(), version);
    }
    versions
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let values = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(name, _)| name.trim() == key);
        values
            .map(|(_, value)| value.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let names = values("model name");
    let name = names.first().map_or(std::env::consts::ARCH, String::as_str);
    format!("{} x {name}", values("processor").len())
}
