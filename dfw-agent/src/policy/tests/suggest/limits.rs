use std::{collections::BTreeSet, sync::Arc};

use dfw_common::reason::Direction;
use insta::assert_snapshot;

use super::{ask, learned, named, shop, sighting, told, wish};
use crate::{
    model::{Container, LABEL_SWARM_SERVICE, Level},
    policy::{
        MAX_LABEL_BYTES, MAX_PEERS, MAX_RULES, Mode, SeenPeer, Sighting, Subject, Suggestions,
        Times, check_labels, parse_rules,
        tests::node::{Node, container, options, service},
    },
};

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

/// A container's limits are for all its labels: what stays takes room too, and a deny rule may be longer in other words.
#[test]
fn what_stays_takes_room() {
    let public: Vec<String> = (0..60)
        .map(|n| format!("tcp/{} from host", 1 + n))
        .collect();
    let addresses: Vec<String> = (0..900)
        .map(|n| format!("192.168.1{:02}.1{:02}", n / 100, n % 100))
        .collect();
    let labels = [
        ("dfw.mode", "audit".to_owned()),
        ("dfw.ingress.public", public.join(";")),
        (
            "dfw.ingress",
            format!("deny any from {}", addresses.join(",")),
        ),
        (
            "dfw.egress",
            format!("{}any to any", "deny tcp/1 to host;".repeat(20)),
        ),
    ];
    assert!(
        labels
            .iter()
            .all(|(_, value)| value.len() <= MAX_LABEL_BYTES)
    );
    let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
    let many: Vec<String> = (0..100)
        .map(|n| format!("in udp/{} shop/s{n}", 1 + 2 * n))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let inventory = shop(&labels);
    let web = inventory
        .containers
        .iter()
        .find(|one| one.name == "shop-web-1");
    let mut after = web.expect("there").labels.clone();
    let answer = ask(
        inventory,
        options(Mode::Audit),
        &learned(&[("shop/web", &many)]),
        &wish(),
    );
    let answer = answer.expect("an answer").suggestions;
    let one = answer.iter().find(|one| one.subject == named("shop/web"));
    let one = one.expect("there");
    after.extend(
        one.lines
            .iter()
            .map(|line| (line.label.clone(), line.value.clone())),
    );
    let errors: Vec<String> = check_labels(&after, Some("shop"), "dfw.")
        .into_iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| finding.message)
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    // 1 024 peers, less 60, 20 and the 900 of the long one.
    assert!(
        one.notes[0].starts_with("56 rules are left out"),
        "{:?}",
        one.notes
    );
}
