//! What the documents show is real: README.md, CHANGELOG.md and docs/*.md against the binary and the sources.
//!
//! Each fenced block has a language that says how it is checked; one that is not known here is an error, so that nothing goes unchecked:
//! - `console`: lines that begin with `$ ` or, for root, `# ` are commands, the others their output: each is run, by whom it is
//!   for and in the order of its document, on a machine of its own (`stage`), or is on the list of those that cannot be
//!   (`elsewhere`);
//! - `yaml`: a compose file, whose labels `dfw check` finds nothing to say about; commands find it as compose.yaml;
//! - `toml`: an inventory file, or the configuration or the policy file if the first line names that; commands find it there;
//! - `promql`: Prometheus reads it, and its metrics and labels exist, as in the queries of deploy/;
//! - `iptables`: what iptables-restore takes, beside the chains that Docker makes;
//! - `text`: pictures, grammar and the words of other tools, without commands of ours.

mod catalogue;
mod commands;
mod cookbook;
mod elsewhere;
mod figures;
mod markdown;
mod migration;
mod reference;
mod sessions;
mod stage;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use dfw_agent::{
    config::{DEFAULT_FILE, Settings},
    datapath::load::LoadError,
    exit::ExitCode,
    policy::{DEFAULT_PREFIX, NodePolicy, check_container, preset::PRESETS},
    source::{Source as _, inventory::InventorySource},
};
use dfw_common::reason::Reason;
use dfw_tests::{compose, process, scratch::Scratch};

use self::{
    markdown::{Block, Document, documents, root},
    sessions::Session,
    stage::Stage,
};

/// Ends with everything that is wrong, not with the first.
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn all_blocks() -> Vec<Block> {
    documents().iter().flat_map(Document::blocks).collect()
}

fn blocks_of(language: &str) -> Vec<Block> {
    let found: Vec<Block> = all_blocks()
        .into_iter()
        .filter(|block| block.language == language)
        .collect();
    assert!(!found.is_empty(), "no document has a block of {language}");
    found
}

fn all_commands() -> Vec<String> {
    let blocks = blocks_of("console");
    let sessions = blocks.iter().flat_map(sessions::of).flatten();
    sessions.map(|session| session.command).collect()
}

#[test]
fn every_block_is_checked() {
    let known = ["console", "yaml", "toml", "promql", "iptables", "text"];
    let mut wrong = Vec::new();
    for block in all_blocks() {
        if !known.contains(&block.language.as_str()) {
            wrong.push(format!(
                "{}: `{}` is none of {known:?}",
                block.place, block.language
            ));
        }
        let is_command = |line: &String| line.starts_with("$ ") || line.starts_with("# ");
        if block.language == "text" && block.lines.iter().any(is_command) {
            wrong.push(format!(
                "{}: a command in a block of text: make it console",
                block.place
            ));
        }
    }
    none(wrong);
}

#[test]
fn every_command_is_run() {
    let engine = stage::engine();
    let mut wrong = Vec::new();
    for document in documents() {
        let blocks = document.blocks();
        if !blocks.iter().any(|block| block.language == "console") {
            continue;
        }
        let mut stage = Stage::new(&engine);
        for block in &blocks {
            stage.place(block);
            if block.language != "console" {
                continue;
            }
            let place = &block.place;
            match sessions::of(block) {
                Ok(sessions) => wrong.extend(sessions.iter().filter_map(|session| {
                    let error = run(&mut stage, session).err()?;
                    Some(format!("{place}: `{}` {error}", session.command))
                })),
                Err(error) => wrong.push(format!("{place}: {error}")),
            }
        }
    }
    none(wrong);
}

fn run(stage: &mut Stage<'_>, session: &Session) -> Result<(), String> {
    match elsewhere::because(&session.command) {
        None => stage.run(session),
        Some(_) if session.shown.is_empty() => elsewhere::plausible(&session.command),
        Some(because) => Err(format!(
            "is not run ({because}), so nobody can tell whether it prints that"
        )),
    }
}

#[test]
fn only_what_cannot_be_run_here_is_not() {
    none(elsewhere::stale(&all_commands()));
}

#[test]
fn the_remedy_for_an_old_kernel_is_that_of_the_agent() {
    let found = String::new();
    let told = LoadError::OldKernel { found }.to_string();
    let commands = all_commands();
    let remedy = commands
        .iter()
        .find(|command| command.contains("backports"));
    let remedy = remedy.expect("README.md has it");
    assert!(
        told.contains(remedy.trim_start_matches("apt-get ")),
        "{told}"
    );
}

#[test]
fn commands_and_flags_in_the_text_exist() {
    let mut wrong = Vec::new();
    for document in documents() {
        for span in document.spans() {
            if let Err(error) = commands::mention(&span) {
                wrong.push(format!("{}: `{span}`: {error}", document.name));
            }
        }
    }
    none(wrong);
}

/// A command with the directory in which it finds a plugin for `docker compose`.
fn with_compose(scratch: &Scratch) -> PathBuf {
    let plugin = Path::new(env!("CARGO_BIN_EXE_docker-compose"));
    compose::docker_config(scratch.path(), plugin)
}

#[test]
fn compose_files_have_labels_without_a_finding() {
    let scratch = Scratch::new();
    let config = with_compose(&scratch);
    let mut wrong = Vec::new();
    for block in blocks_of("yaml") {
        let file = scratch.file("compose.yaml", &block.lines.join("\n"));
        let mut check = dfw();
        check.arg("check").arg(file).env("DOCKER_CONFIG", &config);
        let output = process::output(&mut check);
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            wrong.push(format!(
                "{}: {}",
                block.place,
                String::from_utf8_lossy(&said)
            ));
        }
    }
    none(wrong);
}

#[test]
fn inventories_and_configurations_are_read() {
    let scratch = Scratch::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    for block in blocks_of("toml") {
        let file = scratch.file("example.toml", &block.lines.join("\n"));
        if block
            .lines
            .first()
            .is_some_and(|line| line.contains(DEFAULT_FILE))
        {
            let settings = Settings::load(Some(&file)).and_then(Settings::resolve);
            settings.unwrap_or_else(|error| panic!("{}: {error}", block.place));
            continue;
        }
        if block
            .lines
            .first()
            .is_some_and(|line| line.ends_with("/policy.toml"))
        {
            let policy = NodePolicy::parse("policy.toml", &block.lines.join("\n"));
            policy.unwrap_or_else(|mistakes| panic!("{}: {mistakes:#?}", block.place));
            continue;
        }
        let source = InventorySource::open(&file);
        let source = source.unwrap_or_else(|error| panic!("{}: {error}", block.place));
        for container in &source.snapshot().containers {
            assert_eq!(
                check_container(container, DEFAULT_PREFIX),
                [],
                "{}: {}",
                block.place,
                container.name
            );
        }
    }
}

/// What the agent is quoted with, `…` for what differs.
#[test]
fn quoted_messages_are_those_of_the_agent() {
    let sources = [
        "",
        "cli",
        "cli/offline",
        "datapath",
        "policy/explain",
        "run",
        "run/follow",
        "source",
        "source/docker",
        "telemetry",
    ];
    let sources = sources.map(|room| sources_of(&format!("dfw-agent/src/{room}")));
    let sources = sources.concat();
    let mut wrong = Vec::new();
    for row in markdown::table("docs/troubleshooting.md", "it says") {
        for message in row[0].split('`').skip(1).step_by(2) {
            let mut parts = message.split('…').map(str::trim);
            if !parts.all(|part| sources.contains(part)) {
                wrong.push(format!("{message}: the agent does not say so"));
            }
        }
    }
    none(wrong);
}

#[test]
fn every_reason_to_drop_has_its_remedy() {
    let rows = markdown::table("docs/troubleshooting.md", "dropped for");
    let told = rows
        .iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2));
    let told: BTreeSet<&str> = told.collect();
    let scrape = figures::scrape();
    let drops = |reason: &&str| scrape.contains(&format!(r#"verdict="deny",reason="{reason}""#));
    let names = Reason::ALL.iter().map(|reason| reason.name());
    let known: BTreeSet<&str> = names.filter(drops).collect();
    assert_eq!(
        told, known,
        "docs/troubleshooting.md, \"By reason\": a row for each"
    );
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    for document in documents() {
        for target in document.links() {
            if target.starts_with("https://") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let place = if path.is_empty() {
                document.path.clone()
            } else {
                document.path.with_file_name("").join(path)
            };
            let Ok(text) = fs::read_to_string(&place) else {
                wrong.push(format!("{}: {target}: no such file", document.name));
                continue;
            };
            if !anchor.is_empty() && !markdown::anchors(&text).contains(anchor) {
                wrong.push(format!("{}: {target}: no such heading", document.name));
            }
        }
    }
    none(wrong);
}

/// Paths of this repository, with `::name` for a function in the file.
#[test]
fn paths_in_the_text_exist() {
    let rooms = ["dfw-", "tests/", "xtask/", "docs/", "deploy/", ".ci/"];
    let mut wrong = Vec::new();
    for document in documents() {
        for span in document.spans() {
            let is_path = rooms.iter().any(|room| span.starts_with(room));
            if !is_path || span.contains([' ', '*']) {
                continue;
            }
            let (path, name) = span.split_once("::").unwrap_or((&span, ""));
            let place = root().join(path);
            let is_there = if name.is_empty() {
                place.exists()
            } else {
                fs::read_to_string(&place).is_ok_and(|text| text.contains(&format!("fn {name}(")))
            };
            if !is_there {
                wrong.push(format!("{}: {span} is not there", document.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn exit_codes_are_those_of_the_binary() {
    let codes = [
        ExitCode::Success,
        ExitCode::Failure,
        ExitCode::Usage,
        ExitCode::Findings,
        ExitCode::Unreachable,
        ExitCode::Capability,
        ExitCode::Config,
    ];
    let told: Vec<String> = markdown::table("README.md", "exit code")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(told, codes.map(|code| (code as u8).to_string()));
}

#[test]
fn presets_are_those_of_the_policy_file() {
    let told = markdown::table("docs/policy-file.md", "preset");
    let known = PRESETS.iter().map(|preset| {
        let code = |text: &str| format!("`{text}`");
        vec![
            code(preset.name),
            code(preset.ports),
            preset.source.to_owned(),
        ]
    });
    assert_eq!(told, known.collect::<Vec<_>>());
}

/// Each row of the table of tricky labels: what `dfw check` says begins with the row's first word.
#[test]
fn tricky_labels_get_their_answer() {
    let rows = markdown::table("docs/semantics.md", "input");
    assert!(rows.len() > 10, "the table is there");
    for row in rows {
        let output = commands::run(&["check", "-"], row[0].trim_matches('`'));
        let answer = match (output.code, output.text.split('[').next()) {
            (0, _) => "ok",
            (3, Some(level)) => level,
            other => panic!("{row:?}: {other:?}"),
        };
        assert!(row[1].starts_with(answer), "{row:?}: {}", output.text);
    }
}

/// The documents that people are sent to are there, and so is every command in the manual.
#[test]
fn the_readme_names_every_command() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let missing: BTreeSet<String> = commands::subcommands()
        .into_iter()
        .filter(|name| !readme.contains(&format!("dfw {name}")))
        .collect();
    assert_eq!(missing, BTreeSet::new());
    assert!(readme.contains("\n# cargo xtask test\n"), "CI calls it");
}

/// The README shows figures of the run that the report is of.
#[test]
fn figures_are_those_of_the_report() {
    let between = |name: &str| {
        let text = fs::read_to_string(root().join(name)).expect(name);
        let rest = text.split("<!-- figures -->").nth(1).expect(name);
        let figures = rest.split("<!-- end of figures -->").next();
        figures.expect(name).to_owned()
    };
    assert_eq!(between("README.md"), between("docs/performance.md"));
}

/// All Rust sources of a directory, one after the other.
fn sources_of(directory: &str) -> String {
    let entries = fs::read_dir(root().join(directory)).expect(directory);
    entries
        .map(|entry| fs::read_to_string(entry.expect(directory).path()).unwrap_or_default())
        .collect()
}

/// The binary under test.
fn dfw() -> Command {
    let mut command = Command::new(dfw_tests::agent::binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DFW_")) {
        command.env_remove(name);
    }
    command
}
