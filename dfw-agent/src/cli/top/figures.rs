//! The metrics of the agent, read as Prometheus would read them.

use std::collections::BTreeMap;

/// The samples of one scrape by name.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, Vec<Sample>>);

#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Figures {
    /// Reads the text format; lines that are none of it are passed over.
    pub(super) fn read(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, sample)) = sample(line) {
                figures.0.entry(name.to_owned()).or_default().push(sample);
            }
        }
        figures
    }

    pub(super) fn of(&self, name: &str) -> &[Sample] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The sum of what has these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let having = |sample: &&Sample| {
            labels
                .iter()
                .all(|(key, value)| sample.label(key) == *value)
        };
        self.of(name)
            .iter()
            .filter(having)
            // A sum of nothing would be -0.
            .fold(0.0, |sum, sample| sum + sample.value)
    }
}

impl Sample {
    pub(super) fn label(&self, key: &str) -> &str {
        self.labels.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// `name 1` or `name{key="value",…} 1`.
fn sample(line: &str) -> Option<(&str, Sample)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches(',');
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.insert(key.to_owned(), value);
            rest = after;
        }
    }
    let value = rest.trim().parse().ok()?;
    Some((name, Sample { labels, value }))
}

/// The text up to the quote, without its escapes, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_and_their_labels() {
        let text = "# HELP a b\n# TYPE a counter\na{x=\"1\",y=\"o\\\"k\\\\\\n} 7\"} 2\na{x=\"2\",y=\"\"} 3.5\nb 7\nnot a sample\nc{x=\"\nd{} 1\n";
        let figures = Figures::read(text);
        assert_eq!(figures.of("a").len(), 2);
        assert_eq!(figures.of("a")[0].label("y"), "o\"k\\\n} 7");
        let sums = [
            ("a", &[("x", "1")][..]),
            ("a", &[]),
            ("b", &[]),
            ("c", &[]),
            ("d", &[]),
        ]
        .map(|(name, labels)| figures.sum(name, labels).to_string());
        assert_eq!(sums, ["2", "5.5", "7", "0", "1"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[a{}=\",\\\\n 1é]{0,40}") {
            Figures::read(&text);
        }
    }
}
