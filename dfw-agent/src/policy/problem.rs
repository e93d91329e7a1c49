//! Everything that can be wrong with a label: one list of codes and sentences, each with its remedy.

use std::ops::Range;

use dfw_common::reason::Direction;

use super::{parse, rule::preposition};

/// An error in a label, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Problem {
    /// What is wrong and what to do.
    pub what: What,
    /// Byte range in the text of the label (for its key: in the key).
    pub span: Range<usize>,
}

/// What is wrong, and the remedy, in one sentence without a newline. Foreign words in it are cut and escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// A key under the prefix that means nothing.
    #[error("unknown label {key}: {hint}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest right one.
        hint: String,
    },
    /// `dfw.ingress.` or `dfw.egress.` without a name.
    #[error("empty name after {0}: drop the final dot, or name the rules after it")]
    EmptyName(String),
    /// A name with characters that names do not have.
    #[error("{0} is not a name: names are made of A-Z, a-z, 0-9, `_`, `.` and `-`")]
    BadName(String),
    /// `dfw.mode` is none of the three.
    #[error("unknown mode {word}: {hint}")]
    UnknownMode {
        /// The word.
        word: String,
        /// The nearest right one.
        hint: String,
    },
    /// `dfw.group` names no group.
    #[error("no group is named: write dfw.group=NAME[,NAME], or remove the label")]
    NoGroup,
    /// A label longer than dfw reads.
    #[error("the label has {0} bytes: at most {max} are read, so split it into dfw.ingress.NAME or dfw.egress.NAME", max = parse::MAX_LABEL_BYTES)]
    TooLong(usize),
    /// More rules on a container than dfw takes.
    #[error("more than {max} rules on one container: join peers and ports with commas", max = parse::MAX_RULES)]
    TooManyRules,
    /// More peers on a container than dfw takes.
    #[error("more than {max} peers in the rules of one container: name nets or groups instead", max = parse::MAX_PEERS)]
    TooManyPeers,
    /// A character that is no text.
    #[error("control character U+{code:04X}: remove it", code = u32::from(*.0))]
    ControlCharacter(char),
    /// A quote that is not closed.
    #[error("the quote is not closed: add `\"` where the value ends")]
    OpenQuote,
    /// A quote that does not enclose the value of `label:K=V`.
    #[error("a quote may only enclose the value of label:K=\"V\": remove it")]
    StrayQuote,
    /// An escape other than the two that exist.
    #[error(
        "a backslash in quotes is written before `\"` or `\\` only: write `\\\\` for one backslash"
    )]
    BadEscape,
    /// Nothing between two semicolons, or before the first.
    #[error("there is no rule before this `;`: remove it")]
    EmptyRule,
    /// Nothing between two commas, or at an end of a list.
    #[error("nothing stands beside this `,`: remove it")]
    EmptyItem,
    /// A rule without `from` or `to`.
    #[error("the rule does not say who: {hint}")]
    NoPeers {
        /// What to write.
        hint: String,
    },
    /// `to` in an ingress label, `from` in an egress label.
    #[error("`{found}` belongs to {other}: write `{right}` in an {label} label", found = preposition(other_side(*.0)), other = other_side(*.0).name(), right = preposition(*.0), label = .0.name())]
    WrongPreposition(Direction),
    /// A rule that begins with `from` or `to`.
    #[error("the rule names no ports: write `any`, or for example `tcp/80`, before this word")]
    NoPorts,
    /// A word where none may stand among the ports.
    #[error("unexpected {word}: {hint}")]
    UnexpectedWord {
        /// The word.
        word: String,
        /// What may stand there.
        hint: String,
    },
    /// A protocol that dfw does not know.
    #[error("unknown protocol {word}: {hint}")]
    UnknownProtocol {
        /// The word.
        word: String,
        /// The nearest right one.
        hint: String,
    },
    /// A port without a protocol before it.
    #[error("port {0} has no protocol: write tcp/{0} or udp/{0}")]
    NoProtocol(String),
    /// `any/80`.
    #[error("`any` takes no port: write tcp/{0} or udp/{0}")]
    AnyWithPort(String),
    /// `any` beside other ports.
    #[error("`any` already means every protocol and port: let it stand alone, or remove it")]
    AnyNotAlone,
    /// A port that is no number.
    #[error("{0} is not a port: write a number, or a range such as 8000-8100")]
    BadPort(String),
    /// A number beyond the protocol's.
    #[error("{word} is out of range: {what} go from {low} to {high}")]
    PortRange {
        /// The number.
        word: String,
        /// Ports or types.
        what: &'static str,
        /// Lowest.
        low: u16,
        /// Highest.
        high: u16,
    },
    /// A range whose end is before its start.
    #[error("the range ends before it begins: write {last}-{first}")]
    Reversed {
        /// Number written first.
        first: u16,
        /// Number written last.
        last: u16,
    },
    /// A port of a protocol that has none.
    #[error("{0} has no ports: write {0} alone")]
    PortlessProtocol(String),
    /// A peer of a kind that does not exist.
    #[error("unknown peer {word}: {hint}")]
    UnknownPeer {
        /// The word.
        word: String,
        /// The nearest right one.
        hint: String,
    },
    /// A peer that is a bare name.
    #[error(
        "{0} does not say what it names: write service:NAME, container:NAME or another kind of peer"
    )]
    PeerWithoutKind(String),
    /// `label:` without `KEY=VALUE`.
    #[error("a label peer is written label:KEY=VALUE, an empty value as label:KEY=\"\"")]
    BadLabelPeer,
    /// An address or CIDR that cannot be read.
    #[error("{0} is not an address: write for example 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32")]
    BadAddress(String),
    /// A CIDR with bits beyond its length.
    #[error("{net} has host bits set: write {truncated}, or {address} for the one address")]
    HostBits {
        /// As written.
        net: String,
        /// Without the bits.
        truncated: String,
        /// The address alone.
        address: String,
    },
    /// A v4-mapped IPv6 address or net.
    #[error("{0} is a v4-mapped address: write it as IPv4")]
    Mapped(String),
    /// `service:N` in a container of no project.
    #[error(
        "`service:{0}` means a service of the same compose project, and this container is in none: name the project, service:PROJECT/{0}"
    )]
    OutsideCompose(String),
    /// `service:N` where there is no container whose project it could be.
    #[error(
        "`service:{0}` names no project, and there is none here to take: write service:PROJECT/{0}"
    )]
    NoProject(String),
    /// Nothing in a selector.
    #[error(
        "no container is selected: write for example service:PROJECT/N, or any for all of them"
    )]
    NoSelector,
    /// A comma or semicolon in a selector.
    #[error(
        "a selector is words with blanks between, all of which must hold: remove this, or write an entry or command for each"
    )]
    SelectorList,
    /// A peer that is no container.
    #[error(
        "{0} selects no container: a selector is service:PROJECT/N, project:N, group:N, container:N, net:N, label:K=V or any"
    )]
    NotASelector(String),
}

impl What {
    /// Stable kebab-case name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownKey { .. } => "unknown-key",
            Self::EmptyName(_) => "empty-name",
            Self::BadName(_) => "bad-name",
            Self::UnknownMode { .. } => "unknown-mode",
            Self::NoGroup => "no-group",
            Self::TooLong(_) => "too-long",
            Self::TooManyRules => "too-many-rules",
            Self::TooManyPeers => "too-many-peers",
            Self::ControlCharacter(_) => "control-character",
            Self::OpenQuote => "open-quote",
            Self::StrayQuote => "stray-quote",
            Self::BadEscape => "bad-escape",
            Self::EmptyRule => "empty-rule",
            Self::EmptyItem => "empty-item",
            Self::NoPeers { .. } => "no-peers",
            Self::WrongPreposition(_) => "wrong-preposition",
            Self::NoPorts => "no-ports",
            Self::UnexpectedWord { .. } => "unexpected-word",
            Self::UnknownProtocol { .. } => "unknown-protocol",
            Self::NoProtocol(_) => "no-protocol",
            Self::AnyWithPort(_) => "any-with-port",
            Self::AnyNotAlone => "any-not-alone",
            Self::BadPort(_) => "bad-port",
            Self::PortRange { .. } | Self::Reversed { .. } => "port-range",
            Self::PortlessProtocol(_) => "portless-protocol",
            Self::UnknownPeer { .. } => "unknown-peer",
            Self::PeerWithoutKind(_) => "peer-without-kind",
            Self::BadLabelPeer => "bad-label-peer",
            Self::BadAddress(_) => "bad-address",
            Self::HostBits { .. } => "host-bits",
            Self::Mapped(_) => "mapped-address",
            Self::OutsideCompose(_) => "outside-compose",
            Self::NoProject(_) => "no-project",
            Self::NoSelector | Self::SelectorList | Self::NotASelector(_) => "bad-selector",
        }
    }

    pub(super) fn at(self, span: Range<usize>) -> Problem {
        Problem { what: self, span }
    }
}

const fn other_side(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// Characters of a foreign word that a message shows.
const SHOWN_CHARS: usize = 40;
/// Bytes of a word that is worth a search for the nearest right one.
const NEAREST_BYTES: usize = 64;

/// A foreign word for a message: in backquotes, cut, and without anything that a terminal or a log would obey.
pub(super) fn shown(word: &str) -> String {
    let mut text = String::from("`");
    for c in word.chars().take(SHOWN_CHARS) {
        if matches!(c, '"' | '\'' | '\\') {
            text.push(c);
        } else {
            text.extend(c.escape_debug());
        }
    }
    if word.chars().nth(SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text.push('`');
    text
}

/// The candidate that was probably meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > NEAREST_BYTES {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let limit = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= limit)
        .map(|c| {
            (
                strsim::damerau_levenshtein(&word, &c.to_ascii_lowercase()),
                c,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` with the nearest candidate, else the general remedy.
pub(super) fn suggest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    match nearest(word, candidates) {
        Some(right) => format!("did you mean `{right}`?"),
        None => otherwise.to_owned(),
    }
}
