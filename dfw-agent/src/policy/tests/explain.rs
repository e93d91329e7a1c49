//! What `dfw explain` answers.

mod ends;

use std::sync::Arc;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::{
    file::with_file,
    node::{Node, container, options, service},
    random::inventory,
};
use crate::{
    model::{Container, Inventory, Unanswerable},
    policy::{Explanation, InForce, Mode, Options, Override, Question, Select, Side, explain},
};

fn in_force(inventory: Inventory, unlabelled: Mode) -> InForce {
    InForce::planned(inventory, options(unlabelled))
}

fn ask(node: &InForce, question: &str) -> Result<Explanation, Unanswerable> {
    let words: Vec<&str> = question.split(' ').collect();
    let [from, to, ports] = words[..].try_into().expect("three words");
    let word = str::to_owned;
    explain(
        node,
        &Question {
            from: word(from),
            to: word(to),
            ports: word(ports),
        },
    )
}

/// An answer as short lines.
fn told(node: &InForce, question: &str) -> String {
    let explanation = match ask(node, question) {
        Ok(explanation) => explanation,
        Err(Unanswerable { message, hint }) => return format!("{message}: {hint}"),
    };
    let mut lines = Vec::new();
    for path in &explanation.paths {
        for pair in &path.pairs {
            lines.push(format!("{} -> {} {}", pair.from, pair.to, pair.family));
        }
        for side in &path.sides {
            let (endpoint, verdict) = (&side.endpoint, &side.verdict);
            lines.push(format!(
                "{} {endpoint} {verdict} {}",
                side.direction, side.why
            ));
        }
        for hint in path.sides.iter().filter_map(|side| side.hint.as_ref()) {
            lines.push(format!("hint: {} {}", hint.on, hint.text));
        }
    }
    lines.extend(explanation.notes.iter().map(|note| format!("note: {note}")));
    lines.push(
        if explanation.passes {
            "passes"
        } else {
            "denied"
        }
        .to_owned(),
    );
    lines.join("\n")
}

/// web, two of db and a guest on a network of both families; cache on another one.
fn shop() -> Node {
    let web = service(
        "shop",
        "web",
        &[
            ("dfw.egress", "any to service:db"),
            ("dfw.ingress", "tcp/80 from world"),
        ],
    );
    let db = service(
        "shop",
        "db",
        &[(
            "dfw.ingress",
            "tcp/1-1024 from 10.0.0.2; deny tcp/22 from any",
        )],
    );
    let other = Container {
        id: "id-2".to_owned(),
        name: "shop-db-2".to_owned(),
        ..db.clone()
    };
    let audit = container("guest", &[("dfw.mode", "audit")]);
    let cache = service("back", "cache", &[("dfw.ingress", "")]);
    let plain = container("plain", &[]);
    let [web, db, other, audit, cache, plain] = [web, db, other, audit, cache, plain].map(Arc::new);
    Node::default()
        .network(10, "lan", &["10.0.0.0/24", "fd00::/64"])
        .network(11, "far", &["10.0.1.0/24"])
        .host(10, "10.0.0.1/24")
        .host(10, "fd00::1/64")
        .host(11, "10.0.1.1/24")
        .endpoint(100, 10, &web, &["10.0.0.2", "fd00::2", "fe80::2"])
        .endpoint(101, 10, &db, &["10.0.0.3", "fd00::3"])
        .endpoint(102, 10, &other, &["10.0.0.4", "fd00::4"])
        .endpoint(103, 10, &audit, &["10.0.0.5"])
        .endpoint(104, 11, &cache, &["10.0.1.2"])
        .endpoint(105, 10, &plain, &["10.0.0.6"])
}

fn node() -> InForce {
    in_force(shop().0, Mode::Audit)
}

#[test]
fn the_deciding_rule_and_what_is_missing() {
    assert_snapshot!(told(&node(), "shop/web shop/db tcp/5432"), @r#"
    shop-web-1 -> shop-db-1 IPv4
    shop-web-1 -> shop-db-1 IPv6
    shop-web-1 -> shop-db-2 IPv4
    shop-web-1 -> shop-db-2 IPv6
    egress shop/web allow dfw.egress: "any to service:db"
    ingress shop/db deny nothing allows it
    hint: db dfw.ingress.web: "tcp/5432 from service:web"
    denied
    "#);
}

#[test]
fn pairs_that_differ_are_told_apart() {
    assert_snapshot!(told(&node(), "web db tcp/80"), @r#"
    shop-web-1 -> shop-db-1 IPv4
    shop-web-1 -> shop-db-2 IPv4
    egress shop/web allow dfw.egress: "any to service:db"
    ingress shop/db allow dfw.ingress: "tcp/1-1024 from 10.0.0.2/32"
    shop-web-1 -> shop-db-1 IPv6
    shop-web-1 -> shop-db-2 IPv6
    egress shop/web allow dfw.egress: "any to service:db"
    ingress shop/db deny nothing allows it
    hint: db dfw.ingress.web: "tcp/80 from service:web"
    denied
    "#);
}

#[test]
fn what_a_deny_rule_forbids_has_no_line_to_paste() {
    assert_snapshot!(told(&node(), "web shop-db-1 tcp/22"), @r#"
    shop-web-1 -> shop-db-1 IPv4
    shop-web-1 -> shop-db-1 IPv6
    egress shop/web allow dfw.egress: "any to service:db"
    ingress shop/db deny dfw.ingress: "deny tcp/22 from any"
    hint: db narrow dfw.ingress: "deny tcp/22 from any", for deny beats allow
    denied
    "#);
}

#[test]
fn a_denied_sender_does_not_hide_what_the_receiver_says() {
    assert_snapshot!(told(&node(), "db web tcp/80"), @r#"
    shop-db-1 -> shop-web-1 IPv4
    shop-db-1 -> shop-web-1 IPv6
    shop-db-2 -> shop-web-1 IPv4
    shop-db-2 -> shop-web-1 IPv6
    egress shop/db deny nothing allows it
    ingress shop/web deny nothing allows it
    hint: db dfw.egress: "tcp/80 to service:web"
    hint: web dfw.ingress.db: "tcp/80 from service:db"
    denied
    "#);
}

#[test]
fn audit_passes_and_says_so() {
    assert_snapshot!(told(&node(), "guest shop-web-1 tcp/81"), @r#"
    guest -> shop-web-1 IPv4
    egress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    ingress shop/web deny nothing allows it
    hint: guest dfw.egress: "tcp/81 to service:shop/web"
    hint: web dfw.ingress.guest: "tcp/81 from container:guest"
    denied
    "#);
    assert_snapshot!(told(&node(), "web guest tcp/81"), @r#"
    shop-web-1 -> guest IPv4
    egress shop/web deny nothing allows it
    ingress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    hint: web dfw.egress.guest: "tcp/81 to container:guest"
    hint: guest dfw.ingress: "tcp/81 from service:shop/web"
    denied
    "#);
    assert_snapshot!(told(&node(), "plain guest icmp"), @r#"
    plain -> guest IPv4
    egress plain audit nothing allows it; passes all the same, for it has no rules, and the node's --unlabelled is audit
    ingress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    hint: guest dfw.ingress: "icmp from container:plain"
    passes
    "#);
}

#[test]
fn the_node_decides_for_who_has_no_rules() {
    let zero_trust = in_force(shop().0, Mode::Enforce);
    assert_snapshot!(told(&zero_trust, "plain host udp/53"), @r#"
    plain -> host IPv4
    egress plain deny nothing allows it: it has no rules, and the node's --unlabelled is enforce
    hint: plain dfw.egress: "udp/53 to host"
    denied
    "#);
    let blind = in_force(shop().0, Mode::Off);
    assert_snapshot!(told(&blind, "plain host udp/53"), @r"
    plain -> host IPv4
    egress plain off not judged: it has no rules, and the node's --unlabelled is off
    passes
    ");
}

/// The rule that it stands for is shown, and where it stands.
#[test]
fn a_preset_decides_as_any_rule() {
    let file = "[[rules]]\nfor = \"container:plain\"\npreset = \"redis\"\nfrom = \"world,host\"\n\
                [[ceiling]]\nfor = \"container:plain\"\ningress = \"tcp/6379 from world\"";
    let node = InForce::planned(shop().0, with_file(file));
    assert_snapshot!(told(&node, "world plain tcp/6379"), @r#"
    world -> plain IPv4
    ingress plain allow policy.toml:4 preset redis: "tcp/6379 from world,host"
    passes
    "#);
    assert_snapshot!(told(&node, "host plain tcp/6379"), @r#"
    host -> plain IPv4
    ingress plain deny beyond the ceiling: policy.toml:7 ceiling ingress: "nothing beyond it"
    hint: the node widen policy.toml:7 ceiling ingress, for no label goes beyond it
    denied
    "#);
}

/// Neither a rule nor the line that is missing leads beyond a ceiling.
#[test]
fn a_ceiling_is_named_instead_of_a_line_that_would_be_void() {
    let file = "[[ceiling]]\nfor = \"project:shop\"\ningress = \"tcp/5432 from any; deny tcp/22 from world\"\n\
                [[rules]]\nfor = \"container:plain\"\nmode = \"audit\"\ningress = \"tcp/81 from any\"";
    let node = InForce::planned(shop().0, with_file(file));
    assert_snapshot!(told(&node, "world web tcp/80"), @r#"
    world -> shop-web-1 IPv4
    world -> shop-web-1 IPv6
    ingress shop/web deny beyond the ceiling: policy.toml:3 ceiling ingress: "nothing beyond it"
    hint: the node widen policy.toml:3 ceiling ingress, for no label goes beyond it
    denied
    "#);
    assert_snapshot!(told(&node, "host web tcp/80"), @r"
    host -> shop-web-1 IPv4
    host -> shop-web-1 IPv6
    ingress shop/web deny nothing allows it
    hint: the node widen policy.toml:3 ceiling ingress, for no label goes beyond it
    denied
    ");
    assert_snapshot!(told(&node, "host web tcp/5432"), @r#"
    host -> shop-web-1 IPv4
    host -> shop-web-1 IPv6
    ingress shop/web deny nothing allows it
    hint: web dfw.ingress.host: "tcp/5432 from host"
    denied
    "#);
    assert_snapshot!(told(&node, "world web tcp/22"), @r"
    world -> shop-web-1 IPv4
    world -> shop-web-1 IPv6
    ingress shop/web deny nothing allows it
    hint: the node widen policy.toml:3 ceiling ingress, for no label goes beyond it
    denied
    ");
    assert_snapshot!(told(&node, "host plain tcp/81"), @r#"
    host -> plain IPv4
    ingress plain allow policy.toml:7 ingress: "tcp/81 from any"
    passes
    "#);
    assert_snapshot!(told(&node, "host plain tcp/82"), @r#"
    host -> plain IPv4
    ingress plain audit nothing allows it; passes all the same, for the node's policy file makes it audit
    hint: plain dfw.ingress: "tcp/82 from host"
    passes
    "#);
}

#[test]
fn a_mode_for_a_while_goes_by_its_name() {
    let switched = |selector: &str, mode| Override {
        select: Select::parse(selector).expect("right"),
        mode,
    };
    let options = Options {
        overrides: vec![
            switched("service:shop/db", Mode::Audit),
            switched("container:guest", Mode::Off),
            switched("container:plain", Mode::Enforce),
        ],
        ..options(Mode::Audit)
    };
    let node = InForce::planned(shop().0, options);
    assert_snapshot!(told(&node, "plain shop-db-1 tcp/5432"), @r#"
    plain -> shop-db-1 IPv4
    egress plain deny nothing allows it: `dfw mode` has switched it to enforce
    ingress shop/db audit nothing allows it; passes all the same, for `dfw mode` has switched it to audit
    hint: plain dfw.egress: "tcp/5432 to service:shop/db"
    hint: db dfw.ingress.plain: "tcp/5432 from container:plain"
    denied
    "#);
    assert_snapshot!(told(&node, "guest host tcp/80"), @r"
    guest -> host IPv4
    egress guest off not judged: `dfw mode` has switched it to off
    passes
    ");
}

#[test]
fn rejected_labels_come_first() {
    let broken = container("broken", &[("dfw.ingress", "tcp/80 frm any")]);
    let node = shop().endpoint(106, 10, &Arc::new(broken), &["10.0.0.7"]);
    assert_snapshot!(told(&in_force(node.0, Mode::Audit), "plain broken tcp/80"), @r"
    plain -> broken IPv4
    egress plain audit nothing allows it; passes all the same, for it has no rules, and the node's --unlabelled is audit
    ingress broken deny nothing allows it
    hint: broken put its labels right: they are rejected, see `dfw status`
    denied
    ");
}

#[test]
fn a_line_to_paste_takes_no_other_ones_place() {
    let mut inventory = shop().0;
    let labels = [
        ("dfw.ingress.web", "tcp/1 from any"),
        ("dfw.ingress.web-2", "tcp/2 from any"),
    ];
    relabel(&mut inventory, "shop-db-1", &labels);
    let node = in_force(inventory, Mode::Audit);
    let answer = ask(&node, "web shop-db-1 tcp/5432").expect("an answer");
    assert_eq!(
        answer.paths[0].sides[1].hint.as_ref().expect("a hint").text,
        "dfw.ingress.web-3: \"tcp/5432 from service:web\""
    );
}

fn relabel(inventory: &mut Inventory, name: &str, labels: &[(&str, &str)]) {
    let of_endpoints = inventory.endpoints.iter_mut().map(|e| &mut e.container);
    for container in of_endpoints.chain(&mut inventory.containers) {
        if container.name == name {
            let labels = labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Arc::make_mut(container).labels.extend(labels);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the node: every question has an answer or a refusal, and whoever pastes each hint ends without one.
    #[test]
    fn hints_lead_somewhere(mut inventory in inventory(), port in prop::sample::select(vec!["tcp/80", "udp/53", "icmp", "icmp6", "proto-47"])) {
        for from in ["container:c0", "container:c1", "host", "world", "192.0.2.7"] {
            for to in ["container:c1", "container:c2", "host", "world", "10.0.0.9"] {
                for round in 0.. {
                    let node = in_force(inventory.clone(), Mode::Audit);
                    let Ok(answer) = ask(&node, &format!("{from} {to} {port}")) else { break };
                    let is_line = |side: &&Side| side.hint.as_ref().is_some_and(|hint| hint.text.starts_with("dfw."));
                    let path = answer.paths.iter().find(|path| path.sides.iter().any(|side| is_line(&side)));
                    let Some(path) = path else { break };
                    prop_assert!(round < 32, "{path:#?}");
                    for side in path.sides.iter().filter(is_line) {
                        let hint = side.hint.as_ref().expect("a line");
                        let (label, value) = hint.text.split_once(": ").expect("a label");
                        let pair = &path.pairs[0];
                        let name = if side.direction == "ingress" { &pair.to } else { &pair.from };
                        relabel(&mut inventory, name, &[(label, value.trim_matches('"'))]);
                    }
                }
            }
        }
    }
}
