//! The metrics as the agent writes them, and as the documents name them.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
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
use tokio::sync::watch;

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
pub(crate) fn metrics() -> BTreeMap<String, BTreeSet<String>> {
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
pub(crate) fn labels_in_queries<'a>(
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
pub(crate) fn grouped_by(query: &str) -> Vec<&str> {
    let lists = query.split("by (").skip(1);
    let labels = lists.flat_map(|rest| rest.split(')').next().unwrap_or(rest).split(','));
    labels.map(str::trim).collect()
}

/// Every word of the form `dfw_…`, with the labels that follow it in braces.
pub(crate) fn mentions(text: &str) -> Vec<(String, Vec<String>)> {
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
