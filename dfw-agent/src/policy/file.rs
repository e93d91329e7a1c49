//! The node's policy file: text in, values out. What it means is in docs/semantics.md section 15.

mod preset;

use std::{collections::BTreeSet, ops::Range};

use dfw_common::reason::Direction;
use ipnet::IpNet;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use self::preset::Written;
use super::{
    deny::{self, DenyFile},
    label,
    mode::Mode,
    parse::{self, MAX_PROBLEMS, Parsed},
    problem::{Problem, nearest, shown},
    resolve::{Part, Resolved, Selector, peer_selectors},
    select::{Select, no_project},
};
use crate::model::{Finding, Level, position};

/// Bytes of a file that are read; a longer one is an error.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Rules of a file; more are an error. Each container may have all of them besides its own.
const MAX_FILE_RULES: usize = 1024;
/// Entries of a file; more are an error.
const MAX_ENTRIES: usize = 512;

/// What a policy file says; nothing without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicy {
    /// Mode of endpoints without rules, unless the command line or the configuration says it.
    pub unlabelled: Option<Mode>,
    /// Whose packets no uplink lets in.
    pub denied: Vec<IpNet>,
    /// Files with more of them.
    pub deny_files: Vec<DenyFile>,
    pub(super) entries: Vec<Entry>,
}

/// An entry of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) select: Select,
    /// `FILE:LINE:COLUMN` of the selector, for people.
    pub(super) place: String,
    pub(super) kind: Kind,
    /// What it says of the mode.
    pub(super) mode: Option<Mode>,
    pub(super) rules: Vec<Resolved>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Adds rules, and governs whom it selects.
    Rules,
    /// Takes away what its rules do not allow, and governs nobody.
    Ceiling,
}

const TOP: [&str; 4] = ["unlabelled", "rules", "ceiling", "edge"];
const RULES: [&str; 7] = ["for", "mode", "ingress", "egress", "preset", "from", "to"];
const CEILING: [&str; 3] = ["for", "ingress", "egress"];
const EDGE: [&str; 3] = ["published", "host", "deny"];

impl NodePolicy {
    /// Reads a file; `name` is what people call it. One mistake rejects it all, for half of it would mean something else.
    ///
    /// # Errors
    /// All mistakes, at most 16, each with `FILE:LINE:COLUMN` as its label.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Finding>> {
        let mut reader = Reader {
            name,
            text,
            policy: Self::default(),
            rules: 0,
            mistakes: Vec::new(),
        };
        if text.len() > MAX_FILE_BYTES {
            let what = format!(
                "the file has {} bytes: at most {MAX_FILE_BYTES} are read",
                text.len()
            );
            reader.mistake(0, "too-long", what);
            return reader.finish();
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            reader.mistake(
                error.span().map_or(0, |span| span.start),
                "bad-toml",
                message,
            );
        }
        // What follows a mistake in the form may be the mistake's consequence.
        if reader.mistakes.is_empty() {
            reader.top(table.get_ref());
        }
        reader.finish()
    }

    /// How many rules it has, those of ceilings included.
    pub fn len(&self) -> usize {
        let rules = self.entries.iter().flat_map(|entry| &entry.rules);
        rules
            .filter(|rule| !matches!(rule.part, Part::End(_)))
            .count()
    }

    /// Whether anything of it is the most that labels may allow.
    pub(super) fn has_ceiling(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.kind == Kind::Ceiling)
    }

    /// Whether it says nothing about any container.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A string of the file, and where it stands.
#[derive(Clone)]
struct Words<'a> {
    value: &'a str,
    span: Range<usize>,
}

struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    policy: NodePolicy,
    rules: usize,
    /// With where they are in the file.
    mistakes: Vec<(usize, Finding)>,
}

impl Reader<'_> {
    fn finish(mut self) -> Result<NodePolicy, Vec<Finding>> {
        if self.mistakes.is_empty() {
            return Ok(self.policy);
        }
        // The keys of a table come by name.
        self.mistakes.sort_by_key(|(at, _)| *at);
        self.mistakes.truncate(MAX_PROBLEMS);
        Err(self
            .mistakes
            .into_iter()
            .map(|(_, finding)| finding)
            .collect())
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "unlabelled" => self.policy.unlabelled = self.mode(value),
                "rules" => self.entries(value, Kind::Rules, "[[rules]]"),
                "ceiling" => self.entries(value, Kind::Ceiling, "[[ceiling]]"),
                "edge" => self.edge(value),
                _ => self.unknown(key, &TOP),
            }
        }
    }

    fn entries(&mut self, value: &Spanned<DeValue<'_>>, kind: Kind, header: &str) {
        let DeValue::Array(entries) = value.get_ref() else {
            let what =
                format!("it is a list of tables: begin each with {header} on a line of its own");
            return self.mistake(value.span().start, "bad-value", what);
        };
        for entry in entries {
            if let DeValue::Table(table) = entry.get_ref() {
                self.entry(table, entry.span().start, kind);
            } else {
                let found = entry.get_ref().type_str();
                let what = format!("{found} where a table is meant: begin each with {header}");
                self.mistake(entry.span().start, "bad-value", what);
            }
        }
    }

    fn entry(&mut self, table: &DeTable<'_>, at: usize, kind: Kind) {
        let (keys, part): (&[&str], _) = match kind {
            Kind::Rules => (&RULES, Part::Own),
            Kind::Ceiling => (&CEILING, Part::Ceiling(0)),
        };
        let before = self.mistakes.len();
        let mut select = None;
        let mut mode = None;
        let (mut rules, mut sides) = (Vec::new(), 0);
        let mut preset = Written::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "for" => select = Some(self.select(value)),
                "mode" if kind == Kind::Rules => mode = self.mode(value),
                "ingress" => {
                    sides += 1;
                    rules.extend(self.side(Direction::Ingress, value, part, "ingress", &[]));
                }
                "egress" => {
                    sides += 1;
                    rules.extend(self.side(Direction::Egress, value, part, "egress", &[]));
                }
                "preset" if kind == Kind::Rules => preset.preset = Some(value),
                "from" if kind == Kind::Rules => preset.from = Some(value),
                "to" if kind == Kind::Rules => preset.to = Some(value),
                _ => self.unknown(key, keys),
            }
        }
        let of_preset = self.preset(&preset);
        sides += of_preset.len();
        rules.extend(of_preset);
        let Some(select) = select else {
            let what = "it does not say which containers: write for = \"service:PROJECT/N\", or for = \"any\" for all of them";
            return self.mistake(at, "no-selector", what.to_owned());
        };
        if sides == 0 && mode.is_none() && self.mistakes.len() == before {
            let what = "it says nothing of them: write ingress or egress, \"\" for nobody";
            self.mistake(at, "empty-entry", what.to_owned());
        }
        if let Some((select, place)) = select {
            // As in labels, rules without a mode mean enforce.
            let mode = mode.or((kind == Kind::Rules).then_some(Mode::Enforce));
            self.add(
                Entry {
                    select,
                    place,
                    kind,
                    mode,
                    rules,
                },
                at,
            );
        }
    }

    /// Prefixes, and files of them.
    fn deny(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Array(lists) = value.get_ref() else {
            let what = "it is a list: write deny = [\"/etc/dfw/deny.txt\", \"192.0.2.0/24\"]";
            return self.mistake(value.span().start, "bad-value", what.to_owned());
        };
        for list in lists {
            let Some(words) = self.words(list) else {
                continue;
            };
            let place = self.place(words.span.start);
            if is_path(words.value) {
                let path = words.value.to_owned();
                self.policy.deny_files.push(DenyFile { path, place });
                continue;
            }
            match deny::net(words.value) {
                Ok(net) => self.policy.denied.push(net),
                Err(what) => {
                    let what = if words.value.contains('/') {
                        what
                    } else {
                        format!("{what}; a file begins with / or ./")
                    };
                    self.mistake(words.span.start, "bad-deny-list", what);
                }
            }
        }
    }

    /// What comes from outside and what the host is asked for: a ceiling for everybody that ends there.
    fn edge(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.mistake(
                value.span().start,
                "bad-value",
                "it is a table: write [edge]".to_owned(),
            );
        };
        let part = Part::Ceiling(0);
        for (key, value) in table {
            let rules = match key.get_ref().as_ref() {
                "published" => {
                    let ends = [Selector::World, Selector::Host];
                    self.side(Direction::Ingress, value, part, "edge published", &ends)
                }
                "host" => self.side(
                    Direction::Egress,
                    value,
                    part,
                    "edge host",
                    &[Selector::Host],
                ),
                "deny" => {
                    self.deny(value);
                    continue;
                }
                _ => {
                    self.unknown(key, &EDGE);
                    continue;
                }
            };
            let place = self.place(value.span().start);
            let select = Select::everybody();
            let entry = Entry {
                select,
                place,
                kind: Kind::Ceiling,
                mode: None,
                rules,
            };
            self.add(entry, value.span().start);
        }
    }

    fn add(&mut self, entry: Entry, at: usize) {
        self.rules += entry.rules.len();
        if self.policy.entries.len() >= MAX_ENTRIES || self.rules > MAX_FILE_RULES {
            let what = format!(
                "more than {MAX_ENTRIES} entries or {MAX_FILE_RULES} rules in one file: join peers and ports with commas"
            );
            return self.mistake(at, "too-many-rules", what);
        }
        self.policy.entries.push(entry);
    }

    /// The rules of one side, and for a ceiling its end: `ends` are the peers that it is about, none for all.
    fn side(
        &mut self,
        direction: Direction,
        value: &Spanned<DeValue<'_>>,
        part: Part,
        key: &str,
        ends: &[Selector],
    ) -> Vec<Resolved> {
        let Some(words) = self.words(value) else {
            return Vec::new();
        };
        let parsed = parse::parse(direction, words.value);
        let parsed = parsed.unwrap_or_else(|problems| {
            self.problems(&words, problems);
            Vec::new()
        });
        let what = match part {
            Part::Own => key.to_owned(),
            Part::Ceiling(_) | Part::End(_) if ends.is_empty() => format!("ceiling {key}"),
            Part::Ceiling(_) | Part::End(_) => key.to_owned(),
        };
        let mut rules = Vec::with_capacity(parsed.len() + 1);
        for rule in &parsed {
            let label = self.origin(self.offset(&words, rule.span.start), &what);
            if let Some(selectors) = self.selectors(&words, rule) {
                let resolved = Resolved::new(&rule.rule, selectors, &label);
                rules.push(Resolved { part, ..resolved });
            }
        }
        if part != Part::Own {
            let label = self.origin(words.span.start, &what);
            rules.push(Resolved::end(
                direction,
                ends.iter().cloned().collect(),
                &label,
            ));
        }
        rules
    }

    fn selectors(&mut self, words: &Words<'_>, rule: &Parsed) -> Option<BTreeSet<Selector>> {
        let mut selectors = BTreeSet::new();
        let mut problems = Vec::new();
        for (peer, span) in rule.rule.peers.iter().zip(&rule.peer_spans) {
            match peer_selectors(peer, None) {
                Ok(found) => selectors.extend(found),
                Err(what) => problems.push(no_project(what).at(span.clone())),
            }
        }
        let is_right = problems.is_empty();
        self.problems(words, problems);
        is_right.then_some(selectors)
    }

    fn select(&mut self, value: &Spanned<DeValue<'_>>) -> Option<(Select, String)> {
        let words = self.words(value)?;
        match Select::parse(words.value) {
            Ok(select) => Some((select, self.place(words.span.start))),
            Err(problems) => {
                self.problems(&words, problems);
                None
            }
        }
    }

    fn mode(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Mode> {
        let words = self.words(value)?;
        let mode = words.value.parse::<Mode>();
        mode.map_err(|hint| {
            let what = format!("unknown mode {}: {hint}", shown(words.value));
            self.mistake(words.span.start, "unknown-mode", what);
        })
        .ok()
    }

    fn words<'a>(&mut self, value: &'a Spanned<DeValue<'_>>) -> Option<Words<'a>> {
        let span = value.span();
        if let DeValue::String(text) = value.get_ref() {
            return Some(Words { value: text, span });
        }
        let what = format!(
            "{} where a text in quotes is meant",
            value.get_ref().type_str()
        );
        self.mistake(span.start, "bad-value", what);
        None
    }

    fn unknown(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>, known: &[&str]) {
        let word = key.get_ref();
        let hint = match nearest(word, known.iter().copied()) {
            Some(right) => format!("did you mean `{right}`?"),
            None => format!("here are {}", known.join(", ")),
        };
        let what = format!("unknown key {}: {hint}", shown(word));
        self.mistake(key.span().start, "unknown-key", what);
    }

    fn mistake(&mut self, at: usize, code: &str, message: String) {
        self.push(at, Finding::new(Level::Error, code, "", message));
    }

    /// Mistakes inside a text, each with the text and the place in it.
    fn problems(&mut self, words: &Words<'_>, problems: Vec<Problem>) {
        for problem in problems {
            let at = self.offset(words, problem.span.start);
            self.push(at, label::error("", words.value, &problem));
        }
    }

    fn push(&mut self, at: usize, finding: Finding) {
        let label = self.place(at);
        self.mistakes.push((at, Finding { label, ..finding }));
    }

    /// Where in the file a byte of a text stands; with escapes in it, where the text begins.
    fn offset(&self, words: &Words<'_>, at: usize) -> usize {
        let raw = self.text.get(words.span.clone()).unwrap_or_default();
        let verbatim = raw.find(words.value);
        words.span.start + verbatim.map_or(0, |begin| begin + at)
    }

    /// Where a rule comes from, for people: `FILE:LINE WHAT`.
    fn origin(&self, at: usize, what: &str) -> String {
        let (line, _) = position(self.text, at);
        format!("{}:{line} {what}", self.name)
    }

    fn place(&self, at: usize) -> String {
        let (line, column) = position(self.text, at);
        format!("{}:{line}:{column}", self.name)
    }
}

fn is_path(word: &str) -> bool {
    ["/", "./", "../"]
        .iter()
        .any(|start| word.starts_with(start))
}
