//! The commands that the machine of these tests does not run, each with what keeps it, and the test that runs it in its way.

use std::fs;

use clap::Parser as _;
use dfw_agent::cli::Cli;

use crate::{catalogue::is_test, commands, root};

struct Elsewhere {
    /// How the command begins; with `$` at its end the whole of it.
    command: &'static str,
    /// Why it is not run here.
    because: &'static str,
    /// `path::name` of what does the same; empty if nothing can here.
    test: &'static str,
}

const fn elsewhere(command: &'static str, because: &'static str, test: &'static str) -> Elsewhere {
    Elsewhere {
        command,
        because,
        test,
    }
}

const ON_AN_ENGINE: &str =
    "tests/tests/ship/image.rs::the_image_enforces_with_what_the_compose_file_grants";
const BY_COMPOSE: &str =
    "tests/tests/ship/compose.rs::compose_starts_upgrades_and_removes_the_agent";
const BY_SWARM: &str = "tests/tests/ship/swarm.rs::a_stack_starts_updates_and_removes_the_agent";
const BOOTED: &str = "tests/tests/ship/booted.rs::systemd_runs_restarts_and_removes_the_package";

const LIST: &[Elsewhere] = &[
    elsewhere(
        "apt-get install -t bookworm-backports ",
        "it changes the machine's kernel",
        "tests/tests/documents/main.rs::the_remedy_for_an_old_kernel_is_that_of_the_agent",
    ),
    elsewhere("cargo xtask test$", "it runs these tests", ""),
    elsewhere("cargo xtask soak$", "it takes hours", ""),
    elsewhere(
        "cargo xtask bench",
        "it takes half an hour of a quiet machine",
        "tests/tests/bench.rs::a_short_run_measures_everybody_and_reports",
    ),
    elsewhere(
        "dfw init$",
        "it asks a person",
        "tests/tests/init.rs::a_person_is_asked_and_nothing_is_written_before_the_end",
    ),
    elsewhere(
        "cargo xtask demo$",
        "it has a test of its own",
        "tests/tests/demo.rs::on_an_engine",
    ),
    elsewhere(
        "cargo xtask image$",
        "an optimised build takes minutes",
        ON_AN_ENGINE,
    ),
    elsewhere(
        "cargo xtask deb$",
        "an optimised build takes minutes",
        "tests/tests/ship/package.rs::the_package_comes_and_goes",
    ),
    elsewhere("apt-get install ./", "it changes the machine", BOOTED),
    elsewhere("systemctl status dfw$", "no systemd runs here", BOOTED),
    elsewhere("journalctl --unit dfw$", "no systemd runs here", BOOTED),
    elsewhere(
        "docker compose --file deploy/compose.yaml ",
        "the agent's container needs Docker 23",
        BY_COMPOSE,
    ),
    elsewhere(
        "docker exec dfw ",
        "the agent's container needs Docker 23",
        BY_COMPOSE,
    ),
    elsewhere("docker stack deploy ", "it needs a Swarm", BY_SWARM),
    elsewhere("docker stack rm dfw$", "it needs a Swarm", BY_SWARM),
    elsewhere(
        "docker compose up --detach$",
        "the plugin comes with newer engines",
        BY_COMPOSE,
    ),
    elsewhere(
        "docker compose --file compose.yaml --file dfw.override.yaml up --detach$",
        "the plugin comes with newer engines",
        "tests/tests/suggest/main.rs::five_services_from_audit_to_enforce",
    ),
    elsewhere(
        "kubectl apply ",
        "it needs a cluster",
        "tests/tests/ship/manifests.rs::every_way_grants_the_same",
    ),
];

impl Elsewhere {
    fn is(&self, command: &str) -> bool {
        match self.command.strip_suffix('$') {
            Some(whole) => whole == command,
            None => command.starts_with(self.command),
        }
    }
}

/// Why a command is not run here; none if it is.
pub(crate) fn because(command: &str) -> Option<&'static str> {
    let entry = LIST.iter().find(|entry| entry.is(command));
    entry.map(|entry| entry.because)
}

/// What is wrong with the list: entries without a command, and with a test that is not there.
pub(crate) fn stale(commands: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for entry in LIST {
        let Elsewhere { command, test, .. } = entry;
        if !commands.iter().any(|command| entry.is(command)) {
            wrong.push(format!(
                "no document has `{command}` any more: take it off the list in tests/tests/documents/elsewhere.rs"
            ));
        }
        if !test.is_empty() && !is_test(test) {
            wrong.push(format!("`{command}`: {test} is no test"));
        }
    }
    wrong
}

/// As much as can be told of a command that is not run: its files are there, whatever it names of dfw and xtask exists, and its
/// version is the present one.
pub(crate) fn plausible(command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match &words[..] {
        ["cargo", "xtask", task, ..] => commands::xtask_task(task)?,
        ["docker", "exec", "dfw", inside @ ..] => {
            Cli::try_parse_from(inside).map_err(|error| error.to_string())?;
        }
        _ => {}
    }
    for word in words {
        let is_ours = ["deploy/", "docs/"]
            .iter()
            .any(|room| word.starts_with(room));
        if is_ours && fs::metadata(root().join(word)).is_err() {
            return Err(format!("{word} is not there"));
        }
        let names_version = word.contains("dfw:") || word.ends_with(".deb");
        if names_version && !word.contains(env!("CARGO_PKG_VERSION")) {
            return Err(format!("{word} is not {}", env!("CARGO_PKG_VERSION")));
        }
    }
    Ok(())
}
