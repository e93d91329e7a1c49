//! `any`, or protocols with ports.

use super::{Parser, Token};
use crate::policy::{
    problem::{What, shown, suggest},
    rule::{Item, PortRange, Ports, Protocol},
};

/// Reads the words of the port list.
pub(super) fn parse(parser: &mut Parser<'_>, words: &[&Token]) -> Ports {
    if let [only] = words
        && parser.word(only) == "any"
    {
        return Ports::Any;
    }
    let mut items = Vec::with_capacity(words.len());
    let mut before = Before::Nothing;
    for token in words {
        let word = parser.word(token);
        match item(word, before) {
            Ok(item) => {
                before = Before::Protocol(item.protocol);
                items.push(item);
            }
            Err(what) => {
                // A bare range after a protocol that was rejected is no second mistake.
                if !is_range(word) {
                    before = Before::Rejected;
                }
                if let Some(what) = what {
                    parser.report(what, &token.span);
                }
            }
        }
    }
    Ports::Items(items)
}

/// The protocol that a bare range takes.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Protocol(Protocol),
    Rejected,
}

fn item(word: &str, before: Before) -> Result<Item, Option<What>> {
    if word.contains('"') {
        return Err(Some(What::StrayQuote));
    }
    if is_range(word) {
        return match before {
            Before::Protocol(protocol) => Ok(Item {
                protocol,
                range: Some(range(protocol, word)?),
            }),
            Before::Rejected => Err(None),
            Before::Nothing => Err(Some(What::NoProtocol(word.to_owned()))),
        };
    }
    match word.split_once('/') {
        Some(("any", rest)) if is_range(rest) => Err(Some(What::AnyWithPort(rest.to_owned()))),
        Some(("any", _)) => Err(Some(What::AnyWithPort("80".to_owned()))),
        Some((name, rest)) => {
            let protocol = protocol(name)?;
            Ok(Item {
                protocol,
                range: Some(range(protocol, rest)?),
            })
        }
        None if word == "any" => Err(Some(What::AnyNotAlone)),
        None => Ok(Item {
            protocol: protocol(word)?,
            range: None,
        }),
    }
}

/// Whether a word is meant as a port or range: short, of digits and dashes.
fn is_range(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.len() <= 16
        && word.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn protocol(name: &str) -> Result<Protocol, What> {
    if let Some((_, protocol)) = Protocol::NAMED.iter().find(|(known, _)| *known == name) {
        return Ok(*protocol);
    }
    if let Some(digits) = name.strip_prefix("proto-")
        && let Some(number) = number(digits).and_then(|number| u8::try_from(number).ok())
    {
        return Ok(Protocol(number));
    }
    let known = Protocol::NAMED
        .map(|(known, _)| known)
        .into_iter()
        .chain(["any"]);
    let general = "use tcp, udp, sctp, icmp, icmp6, or proto-N with N from 0 to 255";
    Err(What::UnknownProtocol {
        word: shown(name),
        hint: suggest(name, known, general),
    })
}

fn range(protocol: Protocol, text: &str) -> Result<PortRange, What> {
    let Some((low, high)) = protocol.port_limits() else {
        return Err(What::PortlessProtocol(protocol.to_string()));
    };
    let port = |word: &str| {
        if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
            return Err(What::BadPort(shown(text)));
        }
        number(word)
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| {
                let what = if high == 255 { "ICMP types" } else { "ports" };
                What::PortRange {
                    word: shown(word),
                    what,
                    low,
                    high,
                }
            })
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(What::Reversed { first, last });
    }
    Ok(PortRange {
        low: first,
        high: last,
    })
}

/// Digits only: `u16::from_str` would take a sign.
fn number(digits: &str) -> Option<u16> {
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}
