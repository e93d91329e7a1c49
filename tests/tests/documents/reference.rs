//! What in docs/metrics.md comes from the code: its tables, between `<!-- NAME: … -->` and `<!-- end -->`. The text around them
//! is written by people.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
};

use dfw_agent::model::Unprotected;
use dfw_common::reason::{Reason, Verdict};

use crate::{
    figures::{labels_of, scrape},
    root,
};

const PAGE: &str = "docs/metrics.md";
/// Set by `cargo xtask docs`: the page is written, not compared.
const WRITE: &str = "DFW_WRITE_DOCS";

/// What each label says, and for those whose values are no words of dfw's own, where these come from.
const LABELS: [(&str, &str); 9] = [
    (
        "direction",
        "the side that was judged: of the sender, of the receiver",
    ),
    ("map", "a table in the kernel, by its name there"),
    ("mode", "the mode in force"),
    ("project", "the compose project; empty outside of one"),
    ("reason", "why; the table below"),
    (
        "service",
        "the compose service, else the Swarm service, else the first group, else `other`",
    ),
    (
        "verdict",
        "what became of the packet; `audit`: it passed, enforcement would have dropped it",
    ),
    ("version", "of the agent"),
    ("why", "why it is not protected, or less; the table below"),
];

#[test]
fn the_reference_of_metrics_is_what_the_code_says() {
    let path = root().join(PAGE);
    let text = fs::read_to_string(&path).expect(PAGE);
    let scrape = scrape();
    let mut wanted = text.clone();
    for (name, table) in [
        ("metrics", metrics(&scrape)),
        ("labels", labels(&scrape)),
        ("reasons", reasons(&scrape)),
        ("unprotected", unprotected()),
    ] {
        wanted = filled(&wanted, name, &table);
    }
    if env::var_os(WRITE).is_some() {
        fs::write(&path, wanted).expect(PAGE);
        return;
    }
    let differs = text
        .lines()
        .zip(wanted.lines())
        .find(|(is, wanted)| is != wanted);
    assert!(
        text == wanted,
        "{PAGE} is not what the code says, write it by `cargo xtask docs`: {differs:?}"
    );
}

/// The page with this table in its place.
fn filled(page: &str, name: &str, table: &str) -> String {
    let mark = format!("<!-- {name}: ");
    let parts = page.split_once(&mark).and_then(|(before, rest)| {
        let (comment, rest) = rest.split_once("-->\n")?;
        let (_, after) = rest.split_once("<!-- end -->")?;
        Some(format!(
            "{before}{mark}{comment}-->\n{table}<!-- end -->{after}"
        ))
    });
    parts.unwrap_or_else(|| panic!("{PAGE}: no {mark}… and <!-- end --> around it"))
}

fn metrics(scrape: &str) -> String {
    let mut table =
        "| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n".to_owned();
    let word = |line: &str, keyword: &str| {
        let (name, rest) = line.strip_prefix(keyword)?.split_once(' ')?;
        Some((name.to_owned(), rest.to_owned()))
    };
    let kinds: BTreeMap<String, String> = scrape
        .lines()
        .filter_map(|line| word(line, "# TYPE "))
        .collect();
    for (name, help) in scrape.lines().filter_map(|line| word(line, "# HELP ")) {
        let labels = labels_of(scrape, &name).into_iter();
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let (kind, unit) = (&kinds[&name], unit(&name));
        let help = help.trim_end_matches('.');
        let labels = labels.join(", ");
        writeln!(table, "| `{name}` | {kind} | {labels} | {unit} | {help} |").expect("a string");
    }
    table
}

/// By Prometheus' convention the name ends with it.
fn unit(name: &str) -> &str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let last = name.rsplit('_').next().unwrap_or_default();
    if ["seconds", "bytes", "packets"].contains(&last) {
        last
    } else {
        "number"
    }
}

fn labels(scrape: &str) -> String {
    let mut table = "| label | values | meaning |\n|---|---|---|\n".to_owned();
    let dfw = scrape.lines().filter(|line| line.starts_with("dfw_"));
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in dfw.filter(|line| !line.contains("_bucket{")) {
        let inside = line
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        let pairs = inside.into_iter().flat_map(|(inside, _)| inside.split(','));
        for (label, value) in pairs.filter_map(|pair| pair.split_once('=')) {
            values
                .entry(label)
                .or_default()
                .insert(value.trim_matches('"'));
        }
    }
    let known: Vec<&str> = LABELS.iter().map(|(label, _)| *label).collect();
    assert_eq!(values.keys().copied().collect::<Vec<_>>(), known, "LABELS");
    for (label, meaning) in LABELS {
        let listed = match label {
            "direction" | "mode" | "verdict" => {
                let values = values[label].iter().map(|value| format!("`{value}`"));
                values.collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        };
        writeln!(table, "| `{label}` | {listed} | {meaning} |").expect("a string");
    }
    table
}

fn reasons(scrape: &str) -> String {
    let mut table = "| reason | verdict | |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let name = reason.name();
        let has = |verdict: &Verdict| {
            let labels = format!(r#"verdict="{}",reason="{name}""#, verdict.name());
            scrape.contains(&labels)
        };
        let verdicts: Vec<&str> = Verdict::ALL
            .iter()
            .filter(|v| has(v))
            .map(|v| v.name())
            .collect();
        assert!(!verdicts.is_empty(), "{name} is in no series");
        let verdicts = verdicts.join(", ");
        writeln!(table, "| `{name}` | {verdicts} | {} |", reason.describe()).expect("a string");
    }
    table
}

fn unprotected() -> String {
    let mut table = "| why | |\n|---|---|\n".to_owned();
    for why in Unprotected::ALL {
        writeln!(table, "| `{}` | {} |", why.name(), why.describe()).expect("a string");
    }
    table
}
