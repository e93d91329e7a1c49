//! What the documents show is real: README.md, CHANGELOG.md and docs/*.md against the binary and the sources.
//!
//! Each fenced block has a language that says how it is checked; one that is not known here is an error, so that nothing goes unchecked:
//! - `console`: lines that begin with `$ ` or, for root, `# ` are commands (see `commands`), the others their output;
//! - `yaml`: a compose file, whose labels `dfw check` finds nothing to say about;
//! - `toml`: an inventory file, or the configuration or the policy file if the first line names that;
//! - `promql`: its metrics and labels exist, as in the queries of deploy/;
//! - `text`: pictures and grammar, without commands.

mod catalogue;
mod commands;
mod figures;
mod markdown;

use std::{collections::BTreeSet, fs, process::Command};

use dfw_agent::{
    config::{DEFAULT_FILE, Settings},
    exit::ExitCode,
    policy::{DEFAULT_PREFIX, NodePolicy, check_container},
    source::{Source as _, inventory::InventorySource},
};
use dfw_common::reason::Reason;
use dfw_tests::scratch::Scratch;
use serde_json::{Map, Value, json};

use self::markdown::{Block, Document, documents, root};

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

#[test]
fn every_block_is_checked() {
    let known = ["console", "yaml", "toml", "promql", "text"];
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
fn commands_are_real() {
    let mut wrong = Vec::new();
    for block in blocks_of("console") {
        match commands::sessions(&block) {
            Ok(sessions) => wrong.extend(sessions.iter().filter_map(|session| {
                let error = commands::check(session).err()?;
                Some(format!("{}: `{}`: {error}", block.place, session.command))
            })),
            Err(error) => wrong.push(format!("{}: {error}", block.place)),
        }
    }
    none(wrong);
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

/// The services of a compose file and their labels, from lines with the indentation that every example has.
fn compose(block: &Block) -> Value {
    let mut services = Map::new();
    let (mut name, mut service, mut is_label) = (Value::Null, String::new(), false);
    for line in &block.lines {
        let indent = line.len() - line.trim_start().len();
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let value = value.trim().trim_matches('"');
        match indent {
            0 if key == "name" => name = json!(value),
            2 => {
                service = key.to_owned();
                services.insert(service.clone(), json!({ "labels": {} }));
            }
            4 => is_label = key == "labels",
            6 if is_label => services[&service]["labels"][key] = json!(value),
            _ => {}
        }
    }
    json!({ "name": name, "services": services })
}

#[test]
fn compose_files_have_labels_without_a_finding() {
    for block in blocks_of("yaml") {
        let file = compose(&block);
        let services = file["services"].as_object().expect("an object");
        let output = commands::run(&["check", "-"], &file.to_string());
        assert_eq!(
            (output.code, output.text),
            (
                0,
                format!("ok: {0} containers, {0} with dfw. labels\n", services.len())
            ),
            "{}",
            block.place
        );
        let text = block.lines.join("\n");
        let peers = text.split("service:").skip(1).filter_map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '/')
                .next()
        });
        for peer in peers.filter(|peer| !peer.is_empty() && !peer.contains('/')) {
            assert!(
                services.contains_key(peer),
                "{}: no service {peer}",
                block.place
            );
        }
    }
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

#[test]
fn metrics_are_those_of_the_agent() {
    let metrics = figures::metrics();
    let programs = sources_of("dfw-ebpf/src");
    let mut wrong = Vec::new();
    for document in documents() {
        for (word, labels) in figures::mentions(&document.text) {
            match metrics.get(&word) {
                Some(known) => wrong.extend(
                    labels
                        .iter()
                        .filter(|label| !known.contains(*label))
                        .map(|label| format!("{}: {word} has no label {label}", document.name)),
                ),
                None if programs.contains(&format!("fn {word}(")) => {}
                None => wrong.push(format!("{}: {word} is no metric or program", document.name)),
            }
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let silent = metrics.keys().filter(|name| !readme.contains(*name));
    wrong.extend(silent.map(|name| format!("README.md does not mention {name}")));
    none(wrong);
}

#[test]
fn queries_name_metrics_and_labels_that_exist() {
    let metrics = figures::metrics();
    let mut queries: Vec<(String, String)> = blocks_of("promql")
        .into_iter()
        .map(|block| (block.place, block.lines.join(" ")))
        .collect();
    queries.extend(queries_of("deploy/prometheus-rules.yaml", "expr: "));
    queries.extend(queries_of("deploy/grafana-dashboard.json", "\"expr\": "));
    queries.extend(queries_of("deploy/grafana-dashboard.json", "\"query\": "));
    assert!(queries.len() > 30, "{queries:#?}");
    let mut wrong = Vec::new();
    for (place, query) in queries {
        let mut known = BTreeSet::new();
        for (name, labels) in figures::mentions(&query) {
            let Some(own) = figures::labels_in_queries(&metrics, &name) else {
                wrong.push(format!("{place}: {name} is no metric"));
                continue;
            };
            let strange = labels.iter().filter(|label| !own.contains(label.as_str()));
            wrong.extend(strange.map(|label| format!("{place}: {name} has no label {label}")));
            known.extend(own);
        }
        let strange = figures::grouped_by(&query).into_iter();
        let strange = strange.filter(|label| !known.contains(label));
        wrong.extend(strange.map(|label| format!("{place}: no label {label} in {query}")));
    }
    none(wrong);
}

/// What follows this key in a file of deploy/, each to the end of its block: more lines belong to it while they are further in.
fn queries_of(file: &str, key: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(file)).expect(file);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let starts = (0..lines.len()).filter(|at| lines[*at].trim_start().starts_with(key));
    starts
        .map(|at| {
            let more = lines[at + 1..].iter();
            let more = more.take_while(|line| indent(line) > indent(lines[at]));
            let query: Vec<&str> = std::iter::once(&lines[at]).chain(more).copied().collect();
            (format!("{file}:{}", at + 1), query.join(" "))
        })
        .collect()
}

/// What the agent is quoted with, `…` for what differs.
#[test]
fn quoted_messages_are_those_of_the_agent() {
    let sources = ["", "datapath", "source", "source/docker", "telemetry"];
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
fn reasons_are_those_of_the_datapath() {
    let told: Vec<(String, String)> = markdown::table("docs/semantics.md", "reason")
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone()))
        .collect();
    let known: Vec<(String, String)> = Reason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), reason.describe().to_owned()))
        .collect();
    assert_eq!(told, known);
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
