//! What `dfw suggest` makes of what was seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dfw_common::reason::Direction;
use insta::assert_snapshot;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    file::with_file,
    kernel::Kernel,
    node::{Node, container, ip, options, service},
    oracle::{Oracle, Who},
    random::{ADDRESSES, FLOWS, inventory},
};
use crate::{
    model::{Container, Endpoint, Inventory, LABEL_SWARM_SERVICE, Unanswerable},
    policy::{
        Compiler, Form, Held, InForce, Learned, MAX_LABEL_BYTES, MAX_PEERS, MAX_RULES, Mode,
        Options, Record, Seen, SeenPeer, Sighting, Subject, Suggestions, Times, Wish, check_labels,
        parse_rules, suggest,
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
        if one.lines.is_empty() && one.notes.is_empty() {
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

#[test]
fn services_instead_of_addresses() {
    let records: &[(&str, &[&str])] = &[
        (
            "shop/web",
            &[
                "in tcp/80 198.51.100.7",
                "in tcp/80 host",
                "out tcp/8000 shop/api",
            ],
        ),
        (
            "shop/api",
            &[
                "in tcp/8000 shop/web",
                "in tcp/8000 mon/prometheus",
                "out tcp/5432 shop/db",
                "out tcp/6379 cache",
                "out udp/53 9.9.9.9",
            ],
        ),
        ("shop/db", &["in tcp/5432 shop/api"]),
        (
            "mon/prometheus",
            &["out tcp/8000 shop/api", "in tcp/9090 host"],
        ),
        ("cache", &["in tcp/6379 shop/api"]),
    ];
    assert_snapshot!(suggested(shop(&[]), records), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: "tcp/9090 from host"
        tcp/9090 from host | 11 1011-2011 | 0
      dfw.egress: "tcp/8000 to service:shop/api"
        tcp/8000 to service:shop/api | 10 1010-2010 | 0
    Service { project: "shop", service: "api" } audit
      dfw.ingress: "tcp/8000 from service:mon/prometheus,service:web"
        tcp/8000 from service:mon/prometheus,service:web | 9 1004-2005 | 0
      dfw.egress: "tcp/5432 to service:db; tcp/6379 to container:cache; udp/53 to 9.9.9.9/32"
        tcp/5432 to service:db | 6 1006-2006 | 0
        tcp/6379 to container:cache | 7 1007-2007 | 0
        udp/53 to 9.9.9.9/32 | 8 1008-2008 | 0
    Service { project: "shop", service: "db" } audit
      dfw.ingress: "tcp/5432 from service:api"
        tcp/5432 from service:api | 9 1009-2009 | 0
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/80 from host,198.51.100.7/32"
        tcp/80 from host,198.51.100.7/32 | 3 1001-2002 | 0
      dfw.egress: "tcp/8000 to service:api"
        tcp/8000 to service:api | 3 1003-2003 | 0
    Container("cache") audit
      dfw.ingress: "tcp/6379 from service:shop/api"
        tcp/6379 from service:shop/api | 12 1012-2012 | 0
      dfw.egress: ""
    "#);
}

#[test]
fn ports_and_peers_are_joined() {
    for (sightings, wanted) in [
        (
            &["in tcp/80 shop/api", "in tcp/443 shop/api"][..],
            "tcp/80,443 from service:api",
        ),
        (
            &["in tcp/80 shop/api", "in tcp/80 mon/prometheus"],
            "tcp/80 from service:mon/prometheus,service:api",
        ),
        (
            &["in udp/4000 host", "in udp/4001 host", "in tcp/1 host"],
            "tcp/1,udp/4000-4001 from host",
        ),
        (
            &["in icmp/8 cache", "in icmp6/128 shop/db"],
            "icmp/8 from container:cache; icmp6/128 from service:db",
        ),
        (
            &[
                "out udp/5353 group 224.0.0.251",
                "out udp/5353 group ff02::fb",
            ],
            "udp/5353 to 224.0.0.251/32,ff02::fb/128",
        ),
        (
            &["out proto-47/0 198.51.100.1"],
            "proto-47 to 198.51.100.1/32",
        ),
        // Gone, but it had a name.
        (
            &["in tcp/80 shop/migrate", "in tcp/81 old"],
            "tcp/80 from service:migrate; tcp/81 from container:old",
        ),
    ] {
        assert_eq!(value(shop(&[]), "shop/web", sightings), wanted);
    }
}

#[test]
fn a_word_for_several_means_exactly_those() {
    for (of, sightings, wanted) in [
        // The group's two, both whole.
        (
            "shop/web",
            &["out tcp/1 shop/api", "out tcp/1 shop/db"][..],
            "tcp/1 to group:tier",
        ),
        (
            "shop/web",
            &["out tcp/1 shop/api", "out tcp/2 shop/db"],
            "tcp/1 to service:api; tcp/2 to service:db",
        ),
        // The whole project, as seen by another.
        (
            "mon/prometheus",
            &[
                "out tcp/1 shop/api",
                "out tcp/1 shop/db",
                "out tcp/1 shop/web",
            ],
            "tcp/1 to project:shop",
        ),
        // All of the network but itself: the network would be more.
        (
            "shop/web",
            &[
                "out tcp/1 shop/api",
                "out tcp/1 shop/db",
                "out tcp/1 mon/prometheus",
            ],
            "tcp/1 to group:tier,service:mon/prometheus",
        ),
        (
            "cache",
            &[
                "in tcp/1 shop/api",
                "in tcp/1 shop/db",
                "in tcp/1 shop/web",
                "in tcp/1 mon/prometheus",
            ],
            "tcp/1 from net:front",
        ),
    ] {
        assert_eq!(value(shop(&[]), of, sightings), wanted, "{sightings:?}");
    }
    // One of two replicas has the group.
    let mut inventory = shop(&[]);
    for endpoint in &mut inventory.endpoints {
        if endpoint.container.name == "shop-db-2" {
            Arc::make_mut(&mut endpoint.container)
                .labels
                .remove("dfw.group");
        }
    }
    let both = ["out tcp/1 shop/api", "out tcp/1 shop/db"];
    assert_eq!(
        value(inventory, "shop/web", &both),
        "tcp/1 to service:api,service:db"
    );
    // A container of it is on another network too, where it would not be meant.
    let mut inventory = shop(&[]);
    let leg = Endpoint {
        ifindex: 200,
        network: 11,
        ..inventory.endpoints[0].clone()
    };
    inventory.endpoints.push(leg);
    let all = [
        "in tcp/1 shop/api",
        "in tcp/1 shop/db",
        "in tcp/1 shop/web",
        "in tcp/1 mon/prometheus",
    ];
    assert_eq!(
        value(inventory, "cache", &all),
        "tcp/1 from project:shop,service:mon/prometheus"
    );
}

#[test]
fn addresses_of_the_world_are_summed_up() {
    let few = [
        "out tcp/443 198.51.100.0",
        "out tcp/443 198.51.100.1",
        "out tcp/443 198.51.100.4",
        "out tcp/443 2001:db8::1",
    ];
    assert_eq!(
        value(shop(&[]), "shop/web", &few),
        "tcp/443 to 198.51.100.0/31,198.51.100.4/32,2001:db8::1/128"
    );
    let many: Vec<String> = (0..9)
        .map(|n| format!("out tcp/443 198.51.100.{}", n * 2))
        .collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("out udp/53 198.51.100.0");
    assert_snapshot!(suggested(shop(&[]), &[("cache", &many)]), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "api" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "db" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: "udp/53 to 198.51.100.0/32; tcp/443 to world"
        udp/53 to 198.51.100.0/32 | 10 1010-2010 | 0
        tcp/443 to world | 45 1001-2009 | 9
    "#);
    many.remove(0);
    assert!(value(shop(&[]), "shop/web", &many).starts_with("tcp/443 to 198.51.100.2/32,"));
}

#[test]
fn what_is_there_already() {
    // A label of another name stays, so what it allows need not be said again; the one of the same name is replaced.
    let labels = [
        ("dfw.mode", "audit"),
        ("dfw.ingress.public", "tcp/80 from world"),
        (
            "dfw.ingress",
            "tcp/9100 from service:mon/prometheus; tcp/1 from any; deny tcp/80 from 198.51.100.66",
        ),
    ];
    let records: &[(&str, &[&str])] = &[(
        "shop/web",
        &[
            "in tcp/80 198.51.100.7",
            "in tcp/9100 mon/prometheus",
            "in tcp/80 198.51.100.66",
            "out tcp/8000 shop/api",
        ],
    )];
    assert_snapshot!(suggested(shop(&labels), records), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "api" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "db" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/9100 from service:mon/prometheus; deny tcp/80 from 198.51.100.66/32" (was "tcp/9100 from service:mon/prometheus; tcp/1 from any; deny tcp/80 from 198.51.100.66")
        tcp/9100 from service:mon/prometheus | 2 1002-2002 | 0
        deny tcp/80 from 198.51.100.66/32 |  | 0
      dfw.egress: "tcp/8000 to service:api"
        tcp/8000 to service:api | 4 1004-2004 | 0
      note: its label dfw.mode says `audit`, and goes on saying so
      note: denied all the same, though it was seen: tcp/80 from 198.51.100.66: dfw.ingress: "deny tcp/80 from 198.51.100.66/32": `dfw mode` has switched it to enforce
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: ""
    "#);
    // The same again, in another order, is the same.
    let labels = [
        ("dfw.mode", "audit"),
        ("dfw.ingress", "tcp/2 from host;tcp/1 from service:api"),
        ("dfw.egress", ""),
    ];
    let records: &[(&str, &[&str])] = &[("shop/web", &["in tcp/1 shop/api", "in tcp/2 host"])];
    assert_snapshot!(suggested(shop(&labels), records), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "api" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "db" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/1 from service:api; tcp/2 from host" (as it is)
        tcp/1 from service:api | 1 1001-2001 | 0
        tcp/2 from host | 2 1002-2002 | 0
      dfw.egress: "" (as it is)
      note: its label dfw.mode says `audit`, and goes on saying so
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: ""
    "#);
}

#[test]
fn entries_of_a_policy_file_add_to_what_is_there() {
    let labels = [("dfw.mode", "audit"), ("dfw.ingress", "tcp/80 from world")];
    let records = learned(&[(
        "shop/web",
        &[
            "in tcp/80 198.51.100.7",
            "in tcp/81 shop/api",
            "out tcp/8000 shop/api",
        ],
    )]);
    let wish = Wish {
        form: Form::Policy,
        ..wish()
    };
    let suggestions = ask(shop(&labels), options(Mode::Audit), &records, &wish).expect("an answer");
    assert_snapshot!(told(&suggestions), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "api" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "db" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress.2: "tcp/81 from service:shop/api"
        tcp/81 from service:shop/api | 2 1002-2002 | 0
      dfw.egress: "tcp/8000 to service:shop/api"
        tcp/8000 to service:shop/api | 3 1003-2003 | 0
      note: its label dfw.mode says `audit`, and goes on saying so
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: ""
    "#);
    assert_eq!(
        suggestions.suggestions[3].selector.as_deref(),
        Some("service:shop/web")
    );
}

#[test]
fn a_ceiling_is_told() {
    let file = "[[ceiling]]\nfor = \"project:shop\"\negress = \"any to project:shop\"\n";
    let options = with_file(file);
    let records = learned(&[(
        "shop/web",
        &["out tcp/443 198.51.100.7", "out tcp/1 shop/api"],
    )]);
    let answer = ask(shop(&[]), options, &records, &wish()).expect("an answer");
    assert_snapshot!(told(&answer), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "api" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "db" } audit
      dfw.ingress: ""
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: ""
      dfw.egress: "tcp/1 to service:api; tcp/443 to 198.51.100.7/32"
        tcp/1 to service:api | 2 1002-2002 | 0
        tcp/443 to 198.51.100.7/32 | 1 1001-2001 | 0
      note: denied all the same, though it was seen: tcp/443 to 198.51.100.7: beyond the ceiling: policy.toml:3 ceiling egress: "nothing beyond it": `dfw mode` has switched it to enforce
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: ""
    "#);
}

#[test]
fn whom_it_is_about() {
    let records: &[(&str, &[&str])] = &[
        ("shop/web", &["in tcp/80 host"]),
        ("shop/gone", &["out tcp/1 host"]),
    ];
    let about = |selector: Option<&str>, unlabelled| {
        let wish = Wish {
            selector: selector.map(str::to_owned),
            ..wish()
        };
        match ask(shop(&[]), options(unlabelled), &learned(records), &wish) {
            Ok(answer) => {
                let all = answer
                    .suggestions
                    .iter()
                    .map(|one| format!("{:?}", one.subject));
                all.collect::<Vec<_>>().join("\n")
            }
            Err(Unanswerable { message, hint }) => format!("{message}: {hint}"),
        }
    };
    assert_eq!(about(None, Mode::Audit).lines().count(), 6);
    assert_eq!(about(Some("project:shop"), Mode::Audit).lines().count(), 4);
    assert_eq!(
        about(Some("service:shop/gone"), Mode::Audit)
            .lines()
            .count(),
        1
    );
    assert_eq!(
        about(Some("project:shop group:tier"), Mode::Audit)
            .lines()
            .count(),
        2
    );
    // Who enforces is not looked at, unless asked for.
    assert_eq!(about(None, Mode::Enforce).lines().count(), 1);
    assert_eq!(
        about(Some("project:shop"), Mode::Enforce).lines().count(),
        2
    );
    assert_snapshot!(about(Some("service:shop/wbe"), Mode::Audit), @"`service:shop/wbe` selects nobody at present: did you mean `service:shop/web`?: `dfw ls` shows who there is, and in which mode; `dfw mode SELECTOR audit` has somebody looked at");
    assert_snapshot!(about(Some("service:web"), Mode::Audit), @"`service:web` names no project, and there is none here to take: write service:PROJECT/web: `dfw ls` shows who there is, and in which mode; `dfw mode SELECTOR audit` has somebody looked at");
    assert_snapshot!(about(Some("net:back"), Mode::Enforce), @"`net:back` selects nobody at present: `dfw ls` shows who there is: `dfw ls` shows who there is, and in which mode; `dfw mode SELECTOR audit` has somebody looked at");
    assert_snapshot!(about(Some("container:cache"), Mode::Enforce), @"`container:cache` selects nobody at present: `dfw ls` shows who there is: `dfw ls` shows who there is, and in which mode; `dfw mode SELECTOR audit` has somebody looked at");
}

#[test]
fn names_that_no_rule_can_say() {
    let evil = Container {
        id: "e".to_owned(),
        ..service("a b", "x;y", &[])
    };
    let evil = Container {
        name: "it's \"bad\"".to_owned(),
        ..evil
    };
    let swarm = container("web.1.xyz", &[(LABEL_SWARM_SERVICE, "web")]);
    let [evil, swarm] = [evil, swarm].map(Arc::new);
    let mut node = Node(shop(&[]));
    node = node
        .endpoint(110, 10, &evil, &["10.0.0.8", "fd00::8"])
        .endpoint(111, 10, &swarm, &["10.0.0.9"]);
    let evil = Subject::of(Some("a b"), Some("x;y"), "");
    let mut records = learned(&[("shop/web", &["in tcp/1 /web", "in tcp/2 no;body"])]);
    let more = Sighting {
        peer: SeenPeer::Subject(evil.clone()),
        ..sighting("in tcp/3 host")
    };
    let times = Times {
        flows: 1,
        first: 1,
        last: 1,
    };
    records.records[0].seen.sightings.insert(more, times);
    let answer = ask(node.0, options(Mode::Audit), &records, &wish()).expect("an answer");
    let web = answer
        .suggestions
        .iter()
        .find(|one| one.subject == named("shop/web"));
    let web = Suggestions {
        suggestions: vec![web.expect("there").clone()],
        ..Suggestions::default()
    };
    assert_snapshot!(told(&web), @r#"
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/1 from label:com.docker.swarm.service.name=web; tcp/3 from 10.0.0.8/32,fd00::8/128"
        tcp/1 from label:com.docker.swarm.service.name=web | 1 1001-2001 | 0
        tcp/3 from 10.0.0.8/32,fd00::8/128 | 1 1-1 | 0
      dfw.egress: ""
      note: 1 kinds of flows have another end that no rule can name
    "#);
    let one = answer
        .suggestions
        .iter()
        .find(|one| one.subject == evil)
        .expect("there");
    assert_eq!((one.is_compose, &one.selector), (false, &None));
}

#[test]
fn more_than_a_label_or_a_container_may_have() {
    let many = (0..1000_u16).flat_map(|n| {
        let net = n / 8;
        // Far apart, and no two ports alike.
        [
            format!("out tcp/{} 2001:db8:{net:x}::{:x}", 1 + 2 * net, n % 8 * 2),
            format!("in udp/{} shop/s{n}", 1 + 2 * n),
        ]
    });
    let many: Vec<String> = many.collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = ask(
        shop(&[]),
        options(Mode::Audit),
        &learned(&[("cache", &many)]),
        &wish(),
    );
    let answer = answer.expect("an answer").suggestions;
    let one = answer
        .iter()
        .find(|one| one.subject == named("cache"))
        .expect("there");
    assert!(
        one.lines
            .iter()
            .all(|line| line.value.len() <= MAX_LABEL_BYTES)
    );
    let keys: BTreeSet<&str> = one.lines.iter().map(|line| line.label.as_str()).collect();
    assert_eq!(keys.len(), one.lines.len());
    let rules: Vec<_> = one
        .lines
        .iter()
        .flat_map(|line| {
            let direction = Direction::ALL
                .into_iter()
                .find(|d| d.name() == line.direction);
            parse_rules(direction.expect("known"), &line.value).expect("right rules")
        })
        .collect();
    let peers: usize = rules.iter().map(|rule| rule.peers.len()).sum();
    assert!(rules.len() <= MAX_RULES && (MAX_PEERS - 8..=MAX_PEERS).contains(&peers));
    assert!(
        one.notes[0].contains("rules are left out"),
        "{:?}",
        one.notes
    );
}

/// The same with other labels; only `dfw.group` stays of dfw's own.
fn relabelled(
    inventory: &Inventory,
    labels: impl Fn(&Container) -> BTreeMap<String, String>,
) -> Inventory {
    let mut inventory = inventory.clone();
    let all = inventory
        .containers
        .iter_mut()
        .chain(inventory.endpoints.iter_mut().map(|e| &mut e.container));
    for container in all {
        let container = Arc::make_mut(container);
        container
            .labels
            .retain(|key, _| !key.starts_with("dfw.") || key == "dfw.group");
        let more = labels(container);
        container.labels.extend(more);
    }
    inventory
}

fn subject(container: &Container) -> Subject {
    Subject::of(container.project(), container.service(), &container.name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What was seen passes; what was not does not, but for ports of the world that were seen with more than so many addresses.
    #[test]
    fn exactly_what_was_seen(
        inventory in inventory(),
        picks in vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<bool>()), 0..60),
        world_after in 0_usize..4,
    ) {
        let bare = relabelled(&inventory, |_| BTreeMap::new());
        let oracle = Oracle(&bare);
        let mut records: BTreeMap<Subject, Seen> = BTreeMap::new();
        for (endpoint, address, flow, is_ingress) in picks {
            if bare.endpoints.is_empty() {
                break;
            }
            let (endpoint, address) = (endpoint.get(&bare.endpoints), ip(ADDRESSES[address.index(ADDRESSES.len())]));
            let direction = if is_ingress { Direction::Ingress } else { Direction::Egress };
            let peer = match oracle.class(endpoint.network, address) {
                Who::Endpoint(other) => SeenPeer::Subject(subject(&other.container)),
                Who::Host => SeenPeer::Host,
                Who::World => SeenPeer::World(address),
                Who::Group if !is_ingress => SeenPeer::Group(address),
                Who::Group | Who::Unknown => continue,
            };
            let (protocol, port) = *flow.get(&FLOWS);
            let seen = records.entry(subject(&endpoint.container)).or_default();
            let times = Times { flows: 1, first: 1, last: 1 };
            seen.sightings.insert(Sighting { direction, peer, protocol, port }, times);
        }
        let learned = Learned {
            records: records.iter().map(|(subject, seen)| Record { subject: subject.clone(), since: 0, seen: seen.clone() }).collect(),
            ..Learned::default()
        };
        let wish = Wish { world_after, ..wish() };
        prop_assume!(!bare.endpoints.is_empty());
        let answer = ask(bare.clone(), options(Mode::Audit), &learned, &wish).expect("an answer");
        let applied = relabelled(&bare, |container| {
            let own = answer.suggestions.iter().find(|one| one.subject == subject(container));
            let lines = own.into_iter().flat_map(|one| &one.lines);
            lines.map(|line| (line.label.clone(), line.value.clone())).collect()
        });
        for container in &applied.containers {
            let errors = check_labels(&container.labels, None, "dfw.");
            prop_assert!(errors.iter().all(|one| one.level != crate::model::Level::Error), "{:?}", errors);
        }
        let compiled = Compiler::new(1, Held::default()).compile(&applied, &options(Mode::Audit));
        let kernel = Kernel(&compiled);
        let nothing = Seen::default();
        for endpoint in &applied.endpoints {
            let one = &compiled.endpoints[&endpoint.ifindex];
            prop_assert_eq!(one.mode, Mode::Enforce);
            let seen = records.get(&subject(&endpoint.container)).unwrap_or(&nothing);
            for (direction, address, flow) in Direction::ALL.into_iter().flat_map(|d| {
                ADDRESSES.into_iter().flat_map(move |a| FLOWS.into_iter().map(move |f| (d, ip(a), f)))
            }) {
                let class = kernel.class(endpoint.network, address);
                let allowed = kernel.judge(one.policy, direction, class, flow).allowed;
                let who = oracle.class(endpoint.network, address);
                let same_port = || seen.sightings.keys().filter(move |s| s.direction == direction && (s.protocol, s.port) == flow);
                let world = same_port().filter(|s| matches!(s.peer, SeenPeer::World(_))).count();
                let is_widened = world > world_after;
                let expected = (flow.1 != 0 || flow.0 != 6) && same_port().any(|s| match (&s.peer, who) {
                    (_, Who::Unknown) => false,
                    (SeenPeer::Subject(other), Who::Endpoint(endpoint)) => *other == subject(&endpoint.container),
                    (SeenPeer::Host, Who::Host) => true,
                    (SeenPeer::World(_), Who::World) if is_widened => true,
                    // By address, whoever has it on this network.
                    (SeenPeer::World(seen), _) => *seen == address && !is_widened,
                    (SeenPeer::Group(seen), _) => *seen == address,
                    (SeenPeer::Subject(_) | SeenPeer::Host, _) => false,
                });
                prop_assert_eq!(allowed, expected, "{:?} {} {} {:?} {:?} {:?}", direction, endpoint.container.name, address, flow, who, endpoint.container.labels);
            }
        }
    }
}
