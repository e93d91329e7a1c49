//! As much of Markdown as the documents use.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lies in the workspace")
}

pub(crate) struct Document {
    /// Path from the root.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Clone)]
pub(crate) struct Block {
    /// File and line, for people.
    pub(crate) place: String,
    pub(crate) language: String,
    pub(crate) lines: Vec<String>,
}

/// Everything that users read.
pub(crate) fn documents() -> Vec<Document> {
    let pages = fs::read_dir(root().join("docs")).expect("docs");
    let mut names: Vec<String> = pages
        .map(|page| {
            page.expect("docs")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    names.sort();
    names.extend(["README.md".to_owned(), "CHANGELOG.md".to_owned()]);
    names.into_iter().map(Document::read).collect()
}

impl Document {
    pub(crate) fn read(name: String) -> Self {
        let path = root().join(&name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name, path, text }
    }

    /// The fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            match (open.take(), line.strip_prefix("```")) {
                (Some(block), Some(_)) => blocks.push(block),
                (Some(mut block), None) => {
                    block.lines.push(line.to_owned());
                    open = Some(block);
                }
                (None, Some(language)) => {
                    open = Some(Block {
                        place: format!("{}:{number}", self.name),
                        language: language.to_owned(),
                        lines: Vec::new(),
                    });
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks
    }

    /// The lines outside of blocks.
    fn prose(&self) -> String {
        let mut inside = false;
        let outside = self.text.lines().filter(|line| {
            let is_fence = line.starts_with("```");
            inside ^= is_fence;
            !inside && !is_fence
        });
        outside.collect::<Vec<_>>().join("\n")
    }

    /// What stands between backquotes in the text.
    pub(crate) fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        let paragraphs = prose.split("\n\n");
        paragraphs
            .flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
            .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }

    /// Where the links lead.
    pub(crate) fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1);
        targets
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .collect()
    }
}

/// What a link may name after `#`, as GitHub makes it of the headings.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The rows of all tables whose first column has this title.
pub(crate) fn table(document: &str, title: &str) -> Vec<Vec<String>> {
    let text = Document::read(document.to_owned()).text;
    let head = format!("| {title} |");
    let tables = text
        .split("\n\n")
        .filter(|paragraph| paragraph.contains(&head));
    let lines = tables.flat_map(|table| {
        table
            .lines()
            .skip_while(|line| !line.starts_with(&head))
            .skip(2)
    });
    let rows: Vec<Vec<String>> = lines.map(cells).filter(|row| !row.is_empty()).collect();
    assert!(!rows.is_empty(), "{document}: no table of {title}");
    rows
}

/// The cells of a line of a table; none of any other line.
pub(crate) fn cells(line: &str) -> Vec<String> {
    if !line.starts_with('|') {
        return Vec::new();
    }
    let cells = line.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().to_owned()).collect()
}
