//! The metrics as the agent writes them, and as the documents name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    process::Command,
    sync::Arc,
};

use dfw_agent::{
    model::View,
    telemetry::{EndpointCounter, Kernel, KernelFigures, MapFill, Metrics},
};
use dfw_common::{
    maps,
    reason::{Direction, Verdict},
};
use dfw_tests::{process, scratch::Scratch};
use tokio::sync::watch;

use crate::{blocks_of, markdown::documents, none, root, sources_of};

/// A kernel with one packet and one entry, so that each metric has a sample.
struct OnePacket;

impl Kernel for OnePacket {
    fn read(&self) -> Result<KernelFigures, Box<dyn Error + Send + Sync>> {
        Ok(KernelFigures {
            endpoints: vec![EndpointCounter {
                ifindex: 1,
                direction: Direction::Ingress,
                verdict: Verdict::Allow,
                packets: 1,
            }],
            maps: vec![MapFill {
                name: maps::FLOWS,
                entries: 1,
                capacity: 2,
            }],
            ..KernelFigures::default()
        })
    }

    fn events_lost(&self) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(0)
    }
}

/// What a scrape would give.
pub(crate) fn scrape() -> String {
    let (_view, views) = watch::channel(Arc::new(View::default()));
    let text = Metrics::new(views, Arc::new(OnePacket)).encode();
    String::from_utf8(text.expect("it can be written")).expect("UTF-8")
}

/// Labels by metric.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let text = scrape();
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = typed.filter_map(|line| line.split(' ').next());
    names
        .filter(|name| name.starts_with("dfw_"))
        .map(|name| (name.to_owned(), labels_of(&text, name)))
        .collect()
}

pub(crate) fn labels_of(text: &str, name: &str) -> BTreeSet<String> {
    let samples = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    samples.flat_map(labels_in).collect()
}

/// The names in `a="1",b="2"} …` or `a,b} …`.
fn labels_in(rest: &str) -> Vec<String> {
    let inside = rest.split('}').next().unwrap_or(rest);
    let names = inside.split(',').filter_map(|pair| pair.split('=').next());
    names.map(|name| name.trim().to_owned()).collect()
}

/// The labels of a metric that a query may name: those it has, and those that Prometheus adds.
fn labels_in_queries<'a>(
    metrics: &'a BTreeMap<String, BTreeSet<String>>,
    name: &str,
) -> Option<BTreeSet<&'a str>> {
    // A histogram's series with the limits.
    let (name, more) = match name.strip_suffix("_bucket") {
        Some(bare) => (bare, &["instance", "job", "le"][..]),
        None => (name, &["instance", "job"][..]),
    };
    let known = metrics.get(name)?.iter().map(String::as_str);
    Some(known.chain(more.iter().copied()).collect())
}

/// The labels that a query groups by: `by (a, b)`.
fn grouped_by(query: &str) -> Vec<&str> {
    let lists = query.split("by (").skip(1);
    let labels = lists.flat_map(|rest| rest.split(')').next().unwrap_or(rest).split(','));
    labels.map(str::trim).collect()
}

/// Every word of the form `dfw_…`, with the labels that follow it in braces.
fn mentions(text: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (start, _) in text.match_indices("dfw_") {
        if text[..start].ends_with(is_word) {
            continue;
        }
        let rest = &text[start..];
        // Not the package dfw_0.1.0.
        if rest[4..].starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let labels = rest[end..].strip_prefix('{').map(labels_in);
        found.push((rest[..end].to_owned(), labels.unwrap_or_default()));
    }
    found
}

#[test]
fn metrics_are_those_of_the_agent() {
    let metrics = metrics();
    let programs = sources_of("dfw-ebpf/src");
    let mut wrong = Vec::new();
    for document in documents() {
        for (word, labels) in mentions(&document.text) {
            match metrics.get(word.strip_suffix("_bucket").unwrap_or(&word)) {
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
    none(wrong);
}

#[test]
fn queries_name_metrics_and_labels_that_exist() {
    let metrics = metrics();
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
        for (name, labels) in mentions(&query) {
            let Some(own) = labels_in_queries(&metrics, &name) else {
                wrong.push(format!("{place}: {name} is no metric"));
                continue;
            };
            let strange = labels.iter().filter(|label| !own.contains(label.as_str()));
            wrong.extend(strange.map(|label| format!("{place}: {name} has no label {label}")));
            known.extend(own);
        }
        let strange = grouped_by(&query).into_iter();
        let strange = strange.filter(|label| !known.contains(label));
        wrong.extend(strange.map(|label| format!("{place}: no label {label} in {query}")));
    }
    none(wrong);
}

/// By its own parser: each is the expression of a rule.
#[test]
fn queries_are_read_by_prometheus() {
    let mut rules = String::from("groups:\n- name: documents\n  rules:\n");
    for block in blocks_of("promql") {
        let query = block.lines.join(" ");
        let record = "a:b:c";
        writeln!(
            rules,
            "  - record: {record}\n    expr: '{query}'\n    labels: {{ place: '{}' }}",
            block.place
        )
        .expect("a string");
    }
    let scratch = Scratch::new();
    let file = scratch.file("rules.yaml", &rules);
    process::run(Command::new("promtool").args(["check", "rules"]).arg(file));
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
