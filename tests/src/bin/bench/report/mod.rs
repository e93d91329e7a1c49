//! The report: tables in Markdown and plots in SVG, all of it from what was kept of the run.

mod aims;
mod markdown;
mod plot;
mod ratios;

use std::{fs, path::Path};

use dfw_tests::cost::Cost;

use crate::results::Results;

/// Around the short table, in the report and in the document that shows it too.
const MARKERS: [&str; 2] = ["<!-- figures -->", "<!-- end of figures -->"];

/// Writes it into a directory, and the short table into a document that has its markers.
pub(crate) fn write(traffic: &Path, cost: &Path, out: &Path, readme: Option<&Path>) {
    let traffic = Results::read(traffic);
    let text =
        fs::read_to_string(cost).unwrap_or_else(|error| panic!("{}: {error}", cost.display()));
    let cost: Cost =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", cost.display()));
    fs::create_dir_all(out).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    let plots = plot::all(&traffic, &cost);
    let short = markdown::short(&traffic);
    let report = markdown::report(&traffic, &cost, &short, &plots);
    put(&out.join("performance.md"), &report);
    for plot in &plots {
        put(&out.join(&plot.file), &plot.svg);
    }
    if let Some(readme) = readme {
        let old = fs::read_to_string(readme);
        let old = old.unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
        put(readme, &replace_between(&old, &short));
    }
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What is between the markers is replaced.
fn replace_between(text: &str, new: &str) -> String {
    let parts = text.split_once(MARKERS[0]);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(MARKERS[1])?.1)));
    let (before, after) =
        parts.unwrap_or_else(|| panic!("no lines {MARKERS:?} to put the table between"));
    format!("{before}{}{after}", marked(new))
}

fn marked(text: &str) -> String {
    let [begin, end] = MARKERS;
    format!("{begin}\n{text}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = format!("a\n{}\nold\n{}\nb\n", MARKERS[0], MARKERS[1]);
        let once = replace_between(&text, "new\n");
        assert_eq!(once, format!("a\n{}\nnew\n{}\nb\n", MARKERS[0], MARKERS[1]));
        assert_eq!(replace_between(&once, "new\n"), once);
    }
}
