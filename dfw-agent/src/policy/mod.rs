//! From labels to map entries: pure, without clock or I/O.
//!
//! `label` reads a container's labels with the `parse`r into [`Rule`]s; `resolve` turns each peer into [`Selector`]s, in
//! the container's own project; `index` says which selectors an address satisfies; `address` classifies every address
//! (docs/semantics.md section 2); `file` and `select` read the node's policy file, `stance` joins what it says with the labels; `flatten` makes header and port prefixes of the rules that apply to one identity;
//! [`Compiler`] joins them and owns the two things with a memory, ids and last good policies.

mod address;
mod book;
mod compile;
mod explain;
mod file;
mod flatten;
mod index;
mod intern;
mod label;
mod lex;
mod limits;
mod mode;
mod parse;
mod prefix_table;
mod problem;
mod resolve;
mod review;
mod rule;
mod seen;
mod select;
mod stance;
mod standing;
mod warn;

#[cfg(test)]
mod tests;

pub use self::{
    book::{Book, SIGHTINGS_EACH, SIGHTINGS_MAX},
    compile::{Compiled, CompiledEndpoint, Compiler, Options, RuleText, RuleTexts},
    explain::{Explanation, Hint, InForce, Names, Path, Question, Side, Source, explain},
    file::{MAX_FILE_BYTES, NodePolicy},
    intern::Held,
    label::{check_container, check_labels},
    mode::{Mode, ModeError},
    parse::{MAX_LABEL_BYTES, MAX_PEERS, MAX_RULES, parse_rules},
    problem::{Problem, What, nearest},
    resolve::Selector,
    review::check_project,
    rule::{Action, Item, Peer, PortRange, Ports, Protocol, Rule},
    seen::{Learned, Record, Seen, SeenPeer, Sighting, Subject, Times},
    select::{Select, select_subjects, selected},
    stance::Override,
    standing::State,
};

/// Prefix of the labels unless `--label-prefix` says otherwise; the final dot is part of it.
pub const DEFAULT_PREFIX: &str = "dfw.";
