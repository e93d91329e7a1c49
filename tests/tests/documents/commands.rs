//! Commands, flags and variables that the text names, and dfw's own commands.

use std::{fs, io::Write as _, process::Stdio};

use clap::CommandFactory as _;
use dfw_agent::cli::Cli;

use crate::{dfw, markdown::root};

/// How a run ended.
pub(crate) struct Output {
    pub(crate) code: i32,
    /// Standard output, then standard error.
    pub(crate) text: String,
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
pub(crate) fn xtask_task(task: &str) -> Result<(), String> {
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
