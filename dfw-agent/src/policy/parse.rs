//! The rule language of labels: text to [`Rule`]s. Never panics, reads at most [`MAX_LABEL_BYTES`].

mod peer;
mod ports;

use std::ops::Range;

use dfw_common::reason::Direction;

pub(super) use self::peer::read as peer;
use super::{
    lex::{Kind, Token, lex},
    problem::{Problem, What, nearest, shown},
    rule::{Action, Ports, Rule, preposition},
};

/// Bytes of a label that are read; a longer one is an error.
pub const MAX_LABEL_BYTES: usize = 16 * 1024;
/// Rules of one container; more are an error.
pub const MAX_RULES: usize = 256;
/// Peers of all rules of one container; more are an error.
pub const MAX_PEERS: usize = 1024;
/// Problems of one label that are told.
pub(super) const MAX_PROBLEMS: usize = 16;

/// Reads the value of a `dfw.ingress` or `dfw.egress` label. Blank text is no rule, which means nobody.
///
/// # Errors
/// All problems of the text, at most 16, in the order of their places; then no rule of it counts.
pub fn parse_rules(direction: Direction, text: &str) -> Result<Vec<Rule>, Vec<Problem>> {
    Ok(parse(direction, text)?
        .into_iter()
        .map(|parsed| parsed.rule)
        .collect())
}

/// A rule, and where in the text its peers stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) rule: Rule,
    pub(super) span: Range<usize>,
    pub(super) peer_spans: Vec<Range<usize>>,
}

impl Parsed {
    /// Number of its peers.
    pub(super) fn peers(&self) -> usize {
        self.rule.peers.len()
    }
}

pub(super) fn parse(direction: Direction, text: &str) -> Result<Vec<Parsed>, Vec<Problem>> {
    if text.len() > MAX_LABEL_BYTES {
        return Err(vec![What::TooLong(text.len()).at(0..0)]);
    }
    let tokens = lex(text).map_err(|problem| vec![problem])?;
    let mut parser = Parser {
        direction,
        text,
        problems: Vec::new(),
    };
    let mut rules = Vec::new();
    let clauses = tokens
        .split(|token| token.kind == Kind::Semicolon)
        .peekable();
    let mut semicolons = tokens.iter().filter(|token| token.kind == Kind::Semicolon);
    for clause in clauses {
        let semicolon = semicolons.next();
        if let (Some(first), Some(last)) = (clause.first(), clause.last()) {
            let span = first.span.start..last.span.end;
            rules.extend(parser.clause(clause, span));
        } else if let Some(semicolon) = semicolon {
            parser.report(What::EmptyRule, &semicolon.span);
        }
        if rules.len() > MAX_RULES {
            parser.report(What::TooManyRules, &(0..0));
            break;
        }
        if parser.problems.len() >= MAX_PROBLEMS {
            break;
        }
    }
    if parser.problems.is_empty() {
        return Ok(rules);
    }
    parser.problems.sort_by_key(|problem| problem.span.start);
    parser.problems.truncate(MAX_PROBLEMS);
    Err(parser.problems)
}

/// Which of two words without a comma between them is the mistake.
enum Wrong {
    First,
    Second,
}

struct Parser<'t> {
    direction: Direction,
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Parser<'t> {
    fn report(&mut self, what: What, span: &Range<usize>) {
        self.problems.push(what.at(span.clone()));
    }

    /// The text of a word; of a separator its character.
    fn word(&self, token: &Token) -> &'t str {
        self.text.get(token.span.clone()).unwrap_or_default()
    }

    /// One rule; none when a problem was reported.
    fn clause(&mut self, mut tokens: &[Token], span: Range<usize>) -> Option<Parsed> {
        let before = self.problems.len();
        let mut action = Action::Allow;
        if let Some((first, rest)) = tokens.split_first()
            && let Some(written) = action_word(self.word(first))
        {
            action = written;
            tokens = rest;
        }
        let Some(at) = tokens
            .iter()
            .position(|token| is_preposition(self.word(token)))
        else {
            self.no_preposition(tokens, &span);
            return None;
        };
        let middle = &tokens[at];
        if self.word(middle) != preposition(self.direction) {
            self.report(What::WrongPreposition(self.direction), &middle.span);
        }
        let ports = self.ports(&tokens[..at], middle);
        let (peers, peer_spans, log) = self.peers(&tokens[at + 1..], middle);
        if self.problems.len() > before {
            return None;
        }
        let rule = Rule {
            direction: self.direction,
            action,
            ports,
            peers,
            log,
        };
        Some(Parsed {
            rule,
            span,
            peer_spans,
        })
    }

    fn no_preposition(&mut self, tokens: &[Token], span: &Range<usize>) {
        if let Some(token) = tokens
            .iter()
            .find(|token| self.word(token).starts_with('"'))
        {
            return self.report(What::StrayQuote, &token.span);
        }
        let right = preposition(self.direction);
        let misspelt = tokens
            .iter()
            .find(|token| nearest(self.word(token), [right]).is_some());
        match misspelt {
            Some(token) => {
                let hint = format!("did you mean `{right}` for {}?", shown(self.word(token)));
                self.report(What::NoPeers { hint }, &token.span);
            }
            None => {
                let hint = format!("add `{right} PEER`, or `{right} any` for everybody");
                self.report(What::NoPeers { hint }, span);
            }
        }
    }

    fn ports(&mut self, tokens: &[Token], middle: &Token) -> Ports {
        if tokens.is_empty() {
            self.report(What::NoPorts, &middle.span);
            return Ports::Any;
        }
        let right = preposition(self.direction);
        let words = self.list(tokens, |previous, _| {
            match nearest(previous, ["allow", "deny"]) {
                Some(action) => (Wrong::First, format!("did you mean `{action}`?")),
                None => (
                    Wrong::Second,
                    format!("write `,` between ports, then `{right}` and the peers"),
                ),
            }
        });
        ports::parse(self, &words)
    }

    /// The words of a list. `hint` says of two words without a comma which one is wrong and what to do.
    fn list<'a>(
        &mut self,
        tokens: &'a [Token],
        hint: impl Fn(&str, &str) -> (Wrong, String),
    ) -> Vec<&'a Token> {
        let mut words: Vec<&Token> = Vec::new();
        let mut comma: Option<&Token> = None;
        for token in tokens {
            if token.kind == Kind::Comma {
                if comma.is_some() || words.is_empty() {
                    self.report(What::EmptyItem, &token.span);
                }
                comma = Some(token);
                continue;
            }
            if let (None, Some(previous)) = (comma, words.last()) {
                let (wrong, hint) = hint(self.word(previous), self.word(token));
                let place = match wrong {
                    Wrong::First => previous,
                    Wrong::Second => token,
                };
                let word = shown(self.word(place));
                self.report(What::UnexpectedWord { word, hint }, &place.span);
                return Vec::new();
            }
            words.push(token);
            comma = None;
        }
        if let (Some(comma), false) = (comma, words.is_empty()) {
            self.report(What::EmptyItem, &comma.span);
        }
        words
    }

    fn peers(
        &mut self,
        mut tokens: &[Token],
        middle: &Token,
    ) -> (Vec<super::rule::Peer>, Vec<Range<usize>>, bool) {
        let mut log = false;
        if let [rest @ .., before, last] = tokens
            && before.kind == Kind::Word
            && self.word(last) == "log"
        {
            log = true;
            tokens = &tokens[..rest.len() + 1];
        }
        if tokens.is_empty() {
            let hint = "add a peer after this word, or `any` for everybody".to_owned();
            self.report(What::NoPeers { hint }, &middle.span);
        }
        let words = self.list(tokens, |_, word| match nearest(word, ["log"]) {
            Some(_) => (
                Wrong::Second,
                "did you mean `log`, at the end of the rule?".to_owned(),
            ),
            None => (
                Wrong::Second,
                "write `,` between peers and `;` between rules".to_owned(),
            ),
        });
        let spans = words.iter().map(|token| token.span.clone()).collect();
        (
            words
                .iter()
                .filter_map(|token| peer::parse(self, token))
                .collect(),
            spans,
            log,
        )
    }
}

fn action_word(word: &str) -> Option<Action> {
    match word {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => None,
    }
}

fn is_preposition(word: &str) -> bool {
    Direction::ALL
        .iter()
        .any(|direction| preposition(*direction) == word)
}

/// Whether this may be a name: of rules, groups, services, projects, containers and networks.
pub(super) fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}
