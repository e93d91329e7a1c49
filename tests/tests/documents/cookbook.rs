//! Compose files with a table of who reaches whom: it says what `dfw explain` answers over them.

use std::collections::BTreeSet;

use dfw_tests::{process, scratch::Scratch};

use crate::{
    dfw,
    markdown::{Block, Document, cells},
    none, with_compose,
};

/// The pages, and how many of their sections have compose files at least.
const PAGES: [(&str, usize); 2] = [("docs/cookbook.md", 12), ("docs/migration.md", 2)];
/// The head of each table.
const HEAD: [&str; 4] = ["from", "to", "ports", "verdict"];

/// A section of the page.
struct Stack {
    title: String,
    files: Vec<Block>,
    rows: Vec<Vec<String>>,
}

#[test]
fn every_stack_lets_pass_what_its_table_says() {
    let mut wrong = Vec::new();
    for (page, least) in PAGES {
        let stacks = stacks(page);
        assert!(stacks.len() >= least, "{page}: {} stacks", stacks.len());
        wrong.extend(stacks.iter().flat_map(Stack::mistakes));
    }
    none(wrong);
}

fn stacks(page: &str) -> Vec<Stack> {
    let page = Document::read(page.to_owned());
    let blocks = page.blocks();
    let mut stacks: Vec<Stack> = Vec::new();
    let mut is_row = false;
    for (number, line) in (1..).zip(page.text.lines()) {
        if let Some(title) = line.strip_prefix("## ") {
            stacks.push(Stack {
                title: title.to_owned(),
                files: Vec::new(),
                rows: Vec::new(),
            });
        }
        let Some(stack) = stacks.last_mut() else {
            continue;
        };
        let place = format!("{}:{number}", page.name);
        stack
            .files
            .extend(blocks.iter().filter(|block| block.place == place).cloned());
        let cells = cells(line);
        match (cells.is_empty(), cells == HEAD) {
            (true, _) => is_row = false,
            (_, true) => is_row = true,
            _ if is_row && !line.starts_with("|---") => stack.rows.push(cells),
            _ => {}
        }
    }
    stacks.retain(|stack| stack.files.iter().any(|file| file.language == "yaml"));
    stacks
}

impl Stack {
    fn mistakes(&self) -> Vec<String> {
        let scratch = Scratch::new();
        let config = with_compose(&scratch);
        let mut projects: Vec<String> = Vec::new();
        for file in self.files.iter().filter(|file| file.language == "yaml") {
            let yaml = scratch.file("compose.yaml", &file.lines.join("\n"));
            let mut docker = std::process::Command::new("docker");
            docker
                .args(["compose", "--file"])
                .arg(yaml)
                .args(["config", "--format", "json"]);
            let json = process::run(docker.env("DOCKER_CONFIG", &config));
            let json = scratch.file(&format!("{}.json", projects.len()), &json);
            projects.push(format!("--file={}", json.display()));
        }
        let mut wrong = Vec::new();
        let (code, said) = answer(&["check"], &projects);
        if code != Some(0) {
            wrong.push(format!("{}: {said}", self.title));
        }
        let mut verdicts = BTreeSet::new();
        for row in &self.rows {
            let [from, to, ports, verdict] = &row[..] else {
                wrong.push(format!("{}: {row:?}: four columns", self.title));
                continue;
            };
            verdicts.insert(verdict.as_str());
            let wanted = match verdict.as_str() {
                "passes" => Some(0),
                "denied" => Some(3),
                _ => None,
            };
            for (from, to, port) in every(from, to, ports) {
                let (code, said) = answer(&["explain", from, to, port], &projects);
                if wanted.is_none() || code != wanted {
                    wrong.push(format!(
                        "{}: {from} to {to} {port}: not {verdict}\n{said}",
                        self.title
                    ));
                }
            }
        }
        if verdicts.len() != 2 {
            wrong.push(format!(
                "{}: a table with what passes and what is denied",
                self.title
            ));
        }
        wrong
    }
}

/// Each of the lists' words with each.
fn every<'a>(from: &'a str, to: &'a str, ports: &'a str) -> Vec<(&'a str, &'a str, &'a str)> {
    let words = |list: &'a str| list.split(", ").map(|word| word.trim_matches('`'));
    let pairs = words(from).flat_map(|from| words(to).map(move |to| (from, to)));
    let pairs = pairs.filter(|(from, to)| from != to);
    pairs
        .flat_map(|(from, to)| words(ports).map(move |port| (from, to, port)))
        .collect()
}

fn answer(arguments: &[&str], files: &[String]) -> (Option<i32>, String) {
    let output = process::output(dfw().args(arguments).args(files));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}
