//! One peer.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Parser, Token, is_name};
use crate::policy::{
    problem::{What, nearest, shown},
    rule::Peer,
};

const KINDS: [&str; 6] = ["service", "project", "group", "container", "net", "label"];
const WORDS: [&str; 3] = ["host", "world", "any"];
const GENERAL: &str = "a peer is service:N, project:N, group:N, container:N, net:N, label:K=V, a CIDR, host, world or any";

/// Reads a peer; none when a problem was reported.
pub(super) fn parse(parser: &mut Parser<'_>, token: &Token) -> Option<Peer> {
    match read(parser.word(token)) {
        Ok(peer) => Some(peer),
        Err(what) => {
            parser.report(what, &token.span);
            None
        }
    }
}

/// The peer that a word names.
pub(in crate::policy) fn read(word: &str) -> Result<Peer, What> {
    match word {
        "host" => return Ok(Peer::Host),
        "world" => return Ok(Peer::World),
        "any" => return Ok(Peer::Any),
        _ => {}
    }
    if let Some((kind, rest)) = word.split_once(':')
        && KINDS.contains(&kind)
    {
        return named(kind, rest);
    }
    if word.contains('"') {
        return Err(What::StrayQuote);
    }
    if looks_like_address(word) {
        return cidr(word).map(Peer::Cidr);
    }
    let near = match word.split_once(':') {
        Some((kind, _)) => nearest(kind, KINDS).map(|right| format!("did you mean `{right}:`?")),
        None => nearest(word, WORDS).map(|right| format!("did you mean `{right}`?")),
    };
    // As commands show a service.
    let near = near.or_else(|| {
        let (project, name) = word.split_once('/')?;
        (is_name(project) && is_name(name)).then(|| format!("did you mean `service:{word}`?"))
    });
    match near {
        None if is_name(word) => Err(What::PeerWithoutKind(shown(word))),
        None => Err(What::UnknownPeer {
            word: shown(word),
            hint: GENERAL.to_owned(),
        }),
        Some(hint) => Err(What::UnknownPeer {
            word: shown(word),
            hint,
        }),
    }
}

fn named(kind: &str, rest: &str) -> Result<Peer, What> {
    if kind == "label" {
        return label(rest);
    }
    let name = |name: &str| {
        if name.contains('"') {
            Err(What::StrayQuote)
        } else if is_name(name) {
            Ok(name.to_owned())
        } else {
            Err(What::BadName(shown(name)))
        }
    };
    Ok(match kind {
        "project" => Peer::Project(name(rest)?),
        "group" => Peer::Group(name(rest)?),
        "container" => Peer::Container(name(rest)?),
        "net" => Peer::Net(name(rest)?),
        _ => match rest.split_once('/') {
            Some((project, service)) => Peer::Service {
                project: Some(name(project)?),
                name: name(service)?,
            },
            None => Peer::Service {
                project: None,
                name: name(rest)?,
            },
        },
    })
}

fn label(rest: &str) -> Result<Peer, What> {
    let (key, value) = rest.split_once('=').ok_or(What::BadLabelPeer)?;
    if key.contains('"') {
        return Err(What::StrayQuote);
    }
    if key.is_empty() || value.is_empty() {
        return Err(What::BadLabelPeer);
    }
    let value = match value.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None if value.contains('"') => return Err(What::StrayQuote),
        None => value.to_owned(),
    };
    Ok(Peer::Label {
        key: key.to_owned(),
        value,
    })
}

/// The value after its opening quote; the closing one must be the end of the word.
fn unquote(quoted: &str) -> Result<String, What> {
    let mut value = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' if chars.as_str().is_empty() => return Ok(value),
            '"' => return Err(What::StrayQuote),
            '\\' => match chars.next() {
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                _ => return Err(What::BadEscape),
            },
            _ => value.push(c),
        }
    }
    Err(What::OpenQuote)
}

/// Made of what addresses are made of, with a dot or colon, or a slash after a number.
fn looks_like_address(word: &str) -> bool {
    word.bytes()
        .all(|b| b.is_ascii_hexdigit() || b".:/".contains(&b))
        && (word.contains(':') || word.starts_with(|c: char| c.is_ascii_digit()))
        && word.contains(['.', ':', '/'])
}

fn cidr(word: &str) -> Result<IpNet, What> {
    let bad = || What::BadAddress(shown(word));
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let net = match length {
        None => IpNet::from(address),
        Some(length) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| bad())?;
            IpNet::new(address, length).map_err(|_| bad())?
        }
        Some(_) => return Err(bad()),
    };
    if net.trunc() != net {
        let truncated = net.trunc().to_string();
        return Err(What::HostBits {
            net: shown(word),
            truncated,
            address: address.to_string(),
        });
    }
    if is_mapped(&net) {
        return Err(What::Mapped(shown(word)));
    }
    Ok(net)
}

/// Whether an IPv6 net lies inside `::ffff:0:0/96`, where the maps keep IPv4.
fn is_mapped(net: &IpNet) -> bool {
    net.prefix_len() >= 96 && net.addr().is_ipv6() && net.addr().to_canonical().is_ipv4()
}
