//! `preset`, `from` and `to` of an entry: ports by a service's name, for whom these say.

use dfw_common::reason::Direction;
use toml::{Spanned, de::DeValue};

use super::{Reader, Words};
use crate::policy::{
    parse,
    preset::{self, PRESETS, Preset},
    problem::{nearest, shown},
    resolve::Resolved,
    rule::preposition,
};

/// The three keys as they stand in the file.
#[derive(Default)]
pub(super) struct Written<'a, 'i> {
    pub(super) preset: Option<&'a Spanned<DeValue<'i>>>,
    pub(super) from: Option<&'a Spanned<DeValue<'i>>>,
    pub(super) to: Option<&'a Spanned<DeValue<'i>>>,
}

impl Reader<'_> {
    /// The rules that they stand for.
    pub(super) fn preset(&mut self, written: &Written<'_, '_>) -> Vec<Resolved> {
        let peers = [
            (Direction::Ingress, written.from),
            (Direction::Egress, written.to),
        ];
        let peers = peers
            .into_iter()
            .filter_map(|(direction, peers)| Some((direction, peers?)));
        let Some(preset) = written.preset else {
            for (direction, peers) in peers {
                let (side, word) = (direction.name(), preposition(direction));
                let what = format!(
                    "`{word}` says for whom a preset is: add preset = \"NAME\", or write {side} = \"PORTS {word} PEER\""
                );
                self.mistake(peers.span().start, "no-preset", what);
            }
            return Vec::new();
        };
        let Some(names) = self.words(preset) else {
            return Vec::new();
        };
        if written.from.is_none() && written.to.is_none() {
            let what = "it does not say for whom: add from = \"PEER\" for who may come in, to = \"PEER\" for where it may go";
            self.mistake(preset.span().start, "no-peers", what.to_owned());
        }
        let Some(presets) = self.presets(&names) else {
            return Vec::new();
        };
        let sides = peers.map(|(direction, peers)| {
            self.preset_side(direction, &presets, peers)
                .unwrap_or_default()
        });
        sides.collect::<Vec<_>>().concat()
    }

    /// Those of `NAME[,NAME]`.
    fn presets(&mut self, names: &Words<'_>) -> Option<Vec<&'static Preset>> {
        let mut found = Some(Vec::new());
        let mut at = 0;
        for part in names.value.split(',') {
            let name = part.trim_ascii();
            match preset::find(name) {
                Some(preset) => found.iter_mut().for_each(|found| found.push(preset)),
                None => {
                    found = None;
                    let known = || PRESETS.iter().map(|preset| preset.name);
                    let hint = match nearest(name, known()) {
                        Some(right) => format!("did you mean `{right}`?"),
                        None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
                    };
                    let what = format!("unknown preset {}: {hint}", shown(name));
                    let blanks = part.len() - part.trim_ascii_start().len();
                    let place = self.offset(names, at + blanks);
                    self.mistake(place, "unknown-preset", what);
                }
            }
            at += part.len() + 1;
        }
        found
    }

    fn preset_side(
        &mut self,
        direction: Direction,
        presets: &[&Preset],
        peers: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<Resolved>> {
        let words = self.words(peers)?;
        // What is not written here cannot be wrong, so every problem lies behind it.
        let ports: Vec<&str> = presets.iter().map(|preset| preset.ports).collect();
        let begin = format!("{} {} ", ports.join(","), preposition(direction));
        let parsed = parse::parse(direction, &format!("{begin}{}", words.value));
        let shift = |span: std::ops::Range<usize>| {
            span.start.saturating_sub(begin.len())..span.end.saturating_sub(begin.len())
        };
        let mut parsed = match parsed {
            Ok(parsed) => parsed,
            Err(mut problems) => {
                for problem in &mut problems {
                    problem.span = shift(problem.span.clone());
                }
                self.problems(&words, problems);
                return None;
            }
        };
        if parsed.len() > 1 {
            let what = "peers of one preset, with commas between: write an entry for each rule";
            self.mistake(words.span.start, "bad-value", what.to_owned());
            return None;
        }
        for span in parsed.iter_mut().flat_map(|rule| &mut rule.peer_spans) {
            *span = shift(span.clone());
        }
        let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
        let origin = format!("preset {}", names.join(","));
        let origin = self.origin(words.span.start, &origin);
        let rules = parsed.iter().filter_map(|rule| {
            let selectors = self.selectors(&words, rule)?;
            Some(Resolved::new(&rule.rule, selectors, &origin))
        });
        Some(rules.collect())
    }
}
