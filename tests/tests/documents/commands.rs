//! Commands that the documents show: each is run, or held against whatever would read it.

use std::{fs, io::Write as _, process::Stdio};

use clap::{CommandFactory as _, Parser as _};
use dfw_agent::{cli::Cli, config::DEFAULT_LISTEN, datapath::load::LoadError};

use crate::{
    dfw,
    markdown::{Block, root},
};

/// A command and what the document says that it prints.
pub(crate) struct Session {
    pub(crate) command: String,
    output: String,
}

/// How a run ended.
pub(crate) struct Output {
    pub(crate) code: i32,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

/// The commands of a console block.
pub(crate) fn sessions(block: &Block) -> Result<Vec<Session>, String> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in &block.lines {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        match (command, sessions.last_mut()) {
            (Some(command), _) => sessions.push(Session {
                command: command.to_owned(),
                output: String::new(),
            }),
            (None, Some(session)) => session.output += &format!("{line}\n"),
            (None, None) => return Err("output before the first command".to_owned()),
        }
    }
    Ok(sessions)
}

/// Files of the reader's own project.
const THEIRS: [&str; 2] = ["compose.yaml", "dfw.override.yaml"];

/// Runs what needs neither an agent nor root, `echo … | dfw check …` or `dfw explain …`, and compares what it prints; of everything else checks
/// that whoever reads it would understand it.
pub(crate) fn check(session: &Session) -> Result<(), String> {
    let command = match session.command.rsplit_once(" > ") {
        Some((command, file)) if THEIRS.contains(&file) => command,
        _ => &session.command,
    };
    let stages: Vec<Vec<String>> = pipeline(command)?;
    if let [echo, dfw] = &stages[..]
        && echo[0] == "echo"
        && (dfw[..2] == ["dfw", "check"] || dfw[..2] == ["dfw", "explain"])
    {
        let arguments: Vec<&str> = dfw[1..].iter().map(String::as_str).collect();
        let printed = run(&arguments, &echo[1..].join(" ")).text;
        return if printed == session.output {
            Ok(())
        } else {
            Err(format!("prints\n{printed}"))
        };
    }
    if !session.output.is_empty() {
        return Err("it is not run, so nobody can tell whether it prints that".to_owned());
    }
    stages.iter().try_for_each(|stage| understood(stage))
}

fn understood(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["dfw", ..] => Cli::try_parse_from(&words)
            .map(drop)
            .map_err(|error| error.to_string()),
        ["cargo", "xtask", task, flags @ ..] => {
            xtask_task(task)?;
            flags.iter().try_for_each(|flag| xtask_flag(flag))
        }
        ["curl", "-s" | "-sf", url] => {
            let paths = ["metrics", "healthz", "readyz"];
            let known = paths.map(|path| format!("http://{DEFAULT_LISTEN}/{path}"));
            known
                .iter()
                .any(|known| known == url)
                .then_some(())
                .ok_or(format!("not one of {known:?}"))
        }
        ["docker", "compose", "config", "--format", "json"] => Ok(()),
        ["docker", "compose", rest @ ..] => {
            files_exist(rest, "--file")?;
            let known = ["up --detach", "stop", "down", "run --rm dfw uninstall"];
            let is_known = known.iter().any(|known| rest.join(" ").ends_with(known));
            is_known
                .then_some(())
                .ok_or(format!("not one of {known:?}"))
        }
        ["docker", "stack", "deploy", options @ .., "dfw"] => {
            files_exist(options, "--compose-file")
        }
        ["kubectl", "apply", options @ ..] => files_exist(options, "--filename"),
        ["docker", "exec", "dfw", inside @ ..] => understood(
            &inside
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        ),
        ["docker", "save", "--output", _, image] => {
            let built = format!("dfw:{}", env!("CARGO_PKG_VERSION"));
            (*image == built).then_some(()).ok_or(built)
        }
        ["docker", "load", "--input", _] => Ok(()),
        ["systemctl", "status", "dfw"] | ["journalctl", "--unit", "dfw"] => Ok(()),
        ["promtool", "check", "config", file] => exists(file),
        ["apt-get", "install", package] if package.starts_with("./") => {
            let built = concat!("./target/deb/dfw_", env!("CARGO_PKG_VERSION"), "_amd64.deb");
            (*package == built).then_some(()).ok_or(built.to_owned())
        }
        ["docker", "run", options @ ..] => {
            let labels: Vec<&str> = options
                .windows(2)
                .filter(|pair| pair[0] == "--label")
                .map(|pair| pair[1])
                .collect();
            let output = run(&["check", "-"], &labels.join("\n"));
            if labels.is_empty() || output.code != 0 {
                return Err(format!("its labels: {}", output.text));
            }
            Ok(())
        }
        // The remedy that `dfw run` itself names.
        ["apt-get", remedy @ ..] => {
            let error = LoadError::OldKernel {
                found: String::new(),
            }
            .to_string();
            error.contains(&remedy.join(" ")).then_some(()).ok_or(error)
        }
        _ => Err(
            "nobody knows how to check this command: teach tests/tests/documents/commands.rs"
                .to_owned(),
        ),
    }
}

/// The files that this flag names, of which there is one at least.
fn files_exist(words: &[&str], flag: &str) -> Result<(), String> {
    let files = words.windows(2).filter(|pair| pair[0] == flag);
    let files: Vec<&str> = files.map(|pair| pair[1]).collect();
    if files.is_empty() {
        return Err(format!("no {flag}"));
    }
    let mut ours = files.into_iter().filter(|file| !THEIRS.contains(file));
    ours.try_for_each(exists)
}

fn exists(file: &str) -> Result<(), String> {
    let is_there = root().join(file).is_file();
    is_there.then_some(()).ok_or(format!("{file} is not there"))
}

/// A command or flag that the text names.
pub(crate) fn mention(span: &str) -> Result<(), String> {
    let mut words = span.split([' ', '=']);
    match (words.next().unwrap_or_default(), words.next()) {
        ("dfw", Some(name)) if !subcommands().iter().any(|known| known == name) => {
            Err("no such command".to_owned())
        }
        ("cargo", Some("xtask")) => words.next().map_or(Ok(()), xtask_task),
        (flag, _) if flag.starts_with("--") => {
            if flags().any(|known| format!("--{known}") == flag) {
                Ok(())
            } else {
                xtask_flag(flag)
            }
        }
        (name, _) if name.starts_with("DFW_") && name != "DFW_*" => {
            let is_known = variables().any(|known| known == name);
            is_known.then_some(()).ok_or("no such variable".to_owned())
        }
        _ => Ok(()),
    }
}

/// The names of dfw's commands.
pub(crate) fn subcommands() -> Vec<String> {
    let command = Cli::command();
    let names = command.get_subcommands().map(clap::Command::get_name);
    names.map(str::to_owned).collect()
}

fn arguments() -> impl Iterator<Item = clap::Arg> {
    let command = Cli::command();
    let all: Vec<clap::Arg> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .cloned()
        .collect();
    all.into_iter()
}

fn flags() -> impl Iterator<Item = String> {
    arguments().filter_map(|argument| argument.get_long().map(str::to_owned))
}

fn variables() -> impl Iterator<Item = String> {
    arguments().filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
}

/// The tasks are the variants of one enum.
fn xtask_task(task: &str) -> Result<(), String> {
    let source = fs::read_to_string(root().join("xtask/src/main.rs")).expect("xtask");
    let (_, tasks) = source.split_once("enum Task {").expect("the tasks");
    let (tasks, _) = tasks.split_once("\n}").expect("it ends");
    let names = tasks
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    let mut names = names.filter_map(|line| line.split([',', '(']).next().map(str::to_lowercase));
    names
        .any(|name| name == task)
        .then_some(())
        .ok_or(format!("no task {task}"))
}

fn xtask_flag(flag: &str) -> Result<(), String> {
    let field = flag.trim_start_matches('-').replace('-', "_");
    let sources = crate::sources_of("xtask/src");
    let is_known = sources.contains(&format!(" {field}: "));
    is_known.then_some(()).ok_or(format!("no flag {flag}"))
}

/// Words of each command of a pipeline; quotes of either kind, no escapes.
fn pipeline(line: &str) -> Result<Vec<Vec<String>>, String> {
    let mut stages = vec![Vec::new()];
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    for c in line.chars() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ' | '|', None) => {
                stages.last_mut().expect("never empty").extend(word.take());
                if c == '|' {
                    stages.push(Vec::new());
                }
            }
            ('$' | ';' | '&' | '>' | '<' | '\\' | '*', None) => {
                return Err(format!("`{c}` is more shell than this test knows"));
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    stages.last_mut().expect("never empty").extend(word);
    if quote.is_some() || stages.iter().any(Vec::is_empty) {
        return Err("it is not complete".to_owned());
    }
    Ok(stages)
}

/// Runs the binary with this on its standard input.
pub(crate) fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = dfw();
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output {
        code: output.status.code().expect("not killed"),
        text: text(output.stdout) + &text(output.stderr),
    }
}
