//! What `dfw suggest` makes of what was seen.

mod examples;
mod limits;
mod random;

use std::sync::Arc;

use dfw_common::reason::Direction;

use super::node::{Node, container, ip, options, service};
use crate::{
    model::{Container, Inventory, Unanswerable},
    policy::{
        Form, InForce, Learned, Line, Mode, Options, Record, Seen, SeenPeer, Sighting, Subject,
        Suggestions, Times, Wish, suggest,
    },
};

fn wish() -> Wish {
    Wish {
        selector: None,
        form: Form::Labels,
        world_after: 8,
    }
}

fn named(name: &str) -> Subject {
    match name.split_once('/') {
        Some((project, service)) => Subject::of(Some(project), Some(service), ""),
        None => Subject::of(None, None, name),
    }
}

/// `in tcp/80 shop/web`: direction, port, and a subject, `host`, an address of the world or `group` and one of a group.
fn sighting(text: &str) -> Sighting {
    let words: Vec<&str> = text.split(' ').collect();
    let (protocol, port) = words[1].split_once('/').expect("a port");
    let protocols = [
        ("tcp", 6),
        ("udp", 17),
        ("icmp", 1),
        ("icmp6", 58),
        ("proto-47", 47),
    ];
    let protocol = protocols
        .into_iter()
        .find(|(name, _)| *name == protocol)
        .expect("known")
        .1;
    let peer = match words[2..] {
        ["host"] => SeenPeer::Host,
        ["group", address] => SeenPeer::Group(ip(address)),
        [name] => name
            .parse()
            .map_or_else(|_| SeenPeer::Subject(named(name)), SeenPeer::World),
        _ => panic!("{text}"),
    };
    let direction = match words[0] {
        "in" => Direction::Ingress,
        _ => Direction::Egress,
    };
    Sighting {
        direction,
        peer,
        protocol,
        port: port.parse().expect("a number"),
    }
}

/// Records; each sighting was seen once more than the one before.
fn learned(records: &[(&str, &[&str])]) -> Learned {
    let mut flows = 0;
    let mut record = |(name, texts): &(&str, &[&str])| {
        let mut seen = Seen::default();
        for text in *texts {
            flows += 1;
            let times = Times {
                flows,
                first: 1000 + flows,
                last: 2000 + flows,
            };
            seen.sightings.insert(sighting(text), times);
        }
        Record {
            subject: named(name),
            since: 900,
            seen,
        }
    };
    Learned {
        since: 900,
        records: records.iter().map(&mut record).collect(),
        ..Learned::default()
    }
}

/// web, api, two of db and prometheus on one network of both families, a cache without a service on another.
fn shop(more: &[(&str, &str)]) -> Inventory {
    let web = service("shop", "web", more);
    let api = service("shop", "api", &[("dfw.group", "tier")]);
    let db = service("shop", "db", &[("dfw.group", "tier")]);
    let second = Container {
        id: "id-db-2".to_owned(),
        name: "shop-db-2".to_owned(),
        ..db.clone()
    };
    let prometheus = service("mon", "prometheus", &[]);
    let cache = container("cache", &[]);
    let [web, api, db, second, prometheus, cache] =
        [web, api, db, second, prometheus, cache].map(Arc::new);
    Node::default()
        .network(10, "front", &["10.0.0.0/24", "fd00::/64"])
        .network(11, "back", &["10.0.1.0/24", "fd01::/64"])
        .host(10, "10.0.0.1/24")
        .host(10, "fd00::1/64")
        .host(11, "10.0.1.1/24")
        .host(1, "192.0.2.1/24")
        .endpoint(100, 10, &web, &["10.0.0.2", "fd00::2"])
        .endpoint(101, 10, &api, &["10.0.0.3", "fd00::3"])
        .endpoint(102, 10, &db, &["10.0.0.4", "fd00::4"])
        .endpoint(103, 10, &second, &["10.0.0.5", "fd00::5"])
        .endpoint(104, 10, &prometheus, &["10.0.0.6", "fd00::6"])
        .endpoint(105, 11, &cache, &["10.0.1.2"])
        .0
}

fn ask(
    inventory: Inventory,
    options: Options,
    learned: &Learned,
    wish: &Wish,
) -> Result<Suggestions, Unanswerable> {
    suggest(&InForce::planned(inventory, options), learned, wish)
}

fn told(suggestions: &Suggestions) -> String {
    let mut lines = Vec::new();
    for one in &suggestions.suggestions {
        let is_blank = |line: &Line| line.value.is_empty() && line.present.is_none();
        if one.lines.iter().all(is_blank) && one.notes.is_empty() {
            continue;
        }
        lines.push(format!("{:?} {}", one.subject, one.mode));
        for line in &one.lines {
            let present = match (&line.present, line.is_same) {
                (Some(_), true) => " (as it is)".to_owned(),
                (Some(present), false) => format!(" (was {present:?})"),
                (None, _) => String::new(),
            };
            lines.push(format!("  {}: {:?}{present}", line.label, line.value));
            for rule in &line.rules {
                let times = rule
                    .times
                    .map(|t| format!("{} {}-{}", t.flows, t.first, t.last));
                lines.push(format!(
                    "    {} | {} | {}",
                    rule.rule,
                    times.unwrap_or_default(),
                    rule.widened
                ));
            }
        }
        lines.extend(one.notes.iter().map(|note| format!("  note: {note}")));
    }
    lines.join("\n")
}

fn suggested(inventory: Inventory, records: &[(&str, &[&str])]) -> String {
    match ask(inventory, options(Mode::Audit), &learned(records), &wish()) {
        Ok(suggestions) => told(&suggestions),
        Err(Unanswerable { message, hint }) => format!("{message}: {hint}"),
    }
}

/// The value of one label.
fn value(inventory: Inventory, of: &str, sightings: &[&str]) -> String {
    let suggestions = ask(
        inventory,
        options(Mode::Audit),
        &learned(&[(of, sightings)]),
        &wish(),
    );
    let suggestions = suggestions.expect("an answer").suggestions;
    let one = suggestions
        .iter()
        .find(|one| one.subject == named(of))
        .expect("there");
    assert_eq!(one.notes, Vec::<String>::new());
    let line = one
        .lines
        .iter()
        .find(|line| !line.value.is_empty())
        .expect("a line");
    line.value.clone()
}
