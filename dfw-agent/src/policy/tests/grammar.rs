//! Properties of the parser, and the values that texts stand for.

use std::net::IpAddr;

use dfw_common::reason::Direction;
use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::node::{labels, net};
use crate::policy::{
    Action, DEFAULT_PREFIX, Item, MAX_LABEL_BYTES, MAX_PEERS, MAX_RULES, Peer, PortRange, Ports,
    Protocol, Rule, check_labels, parse_rules,
};

fn one(text: &str) -> Rule {
    let rules = parse_rules(Direction::Ingress, text).expect("a rule");
    assert_eq!(rules.len(), 1, "{text}");
    rules.into_iter().next().expect("one rule")
}

fn item(protocol: u8, low: u16, high: u16) -> Item {
    Item {
        protocol: Protocol(protocol),
        range: Some(PortRange { low, high }),
    }
}

#[test]
fn every_form_of_ports() {
    let ports = |text: &str| one(&format!("{text} from any")).ports;
    let all = |protocol| Item {
        protocol: Protocol(protocol),
        range: None,
    };
    assert_eq!(ports("any"), Ports::Any);
    assert_eq!(
        ports("tcp/80,443"),
        Ports::Items(vec![item(6, 80, 80), item(6, 443, 443)])
    );
    assert_eq!(
        ports("udp/53 , tcp/443"),
        Ports::Items(vec![item(17, 53, 53), item(6, 443, 443)])
    );
    assert_eq!(
        ports("sctp/1-65535"),
        Ports::Items(vec![item(132, 1, 65535)])
    );
    assert_eq!(
        ports("icmp,icmp6/128"),
        Ports::Items(vec![all(1), item(58, 128, 128)])
    );
    assert_eq!(ports("icmp/0-255"), Ports::Items(vec![item(1, 0, 255)]));
    assert_eq!(
        ports("proto-47,proto-6/80"),
        Ports::Items(vec![all(47), item(6, 80, 80)])
    );
    assert_eq!(ports("tcp,80"), Ports::Items(vec![all(6), item(6, 80, 80)]));
}

#[test]
fn every_form_of_peers() {
    let peer = |text: &str| one(&format!("any from {text}")).peers;
    let text = str::to_owned;
    let service = |project: Option<&str>| Peer::Service {
        project: project.map(text),
        name: text("db"),
    };
    assert_eq!(peer("service:db"), [service(None)]);
    assert_eq!(peer("service:shop/db"), [service(Some("shop"))]);
    assert_eq!(
        peer("project:shop,group:g"),
        [Peer::Project(text("shop")), Peer::Group(text("g"))]
    );
    assert_eq!(
        peer("container:a-1_b.c"),
        [Peer::Container(text("a-1_b.c"))]
    );
    assert_eq!(peer("net:shop_backend"), [Peer::Net(text("shop_backend"))]);
    let label = |value: &str| Peer::Label {
        key: text("k"),
        value: text(value),
    };
    assert_eq!(peer("label:k=v=w"), [label("v=w")]);
    assert_eq!(peer(r#"label:k="a, b;\"\\ c""#), [label(r#"a, b;"\ c"#)]);
    assert_eq!(peer(r#"label:k="""#), [label("")]);
    assert_eq!(peer("10.0.0.1"), [Peer::Cidr(net("10.0.0.1/32"))]);
    assert_eq!(peer("2001:db8::1"), [Peer::Cidr(net("2001:db8::1/128"))]);
    assert_eq!(
        peer("0.0.0.0/0,::/0"),
        [Peer::Cidr(net("0.0.0.0/0")), Peer::Cidr(net("::/0"))]
    );
    assert_eq!(
        peer("host , world,any"),
        [Peer::Host, Peer::World, Peer::Any]
    );
}

#[test]
fn action_log_and_blanks() {
    assert_eq!(one("any from any").action, Action::Allow);
    assert_eq!(one("allow any from any"), one("any from any"));
    let rule = one("\n\tdeny  tcp/80\r\n from\nhost log ;\n");
    assert_eq!((rule.action, rule.log), (Action::Deny, true));
    assert_eq!(rule.to_string(), "deny tcp/80 from host log");
    let two = parse_rules(
        Direction::Egress,
        "udp/53,tcp/443 to world; deny any to 169.254.169.254",
    );
    let two: Vec<String> = two
        .expect("two rules")
        .iter()
        .map(Rule::to_string)
        .collect();
    assert_eq!(
        two,
        ["udp/53,tcp/443 to world", "deny any to 169.254.169.254/32"]
    );
}

#[test]
fn bounds() {
    let long = " ".repeat(MAX_LABEL_BYTES + 1);
    let problems = parse_rules(Direction::Ingress, &long).expect_err("too long");
    assert_eq!(problems[0].what.code(), "too-long");
    let many = "any from any;".repeat(MAX_RULES + 1);
    let problems = parse_rules(Direction::Ingress, &many).expect_err("too many");
    assert_eq!(problems[0].what.code(), "too-many-rules");
    assert!(parse_rules(Direction::Ingress, &"any from any;".repeat(MAX_RULES)).is_ok());
    // Two labels that are fine alone are too many together.
    let half = "tcp/80 from any;".repeat(MAX_RULES / 2 + 1);
    let both = labels(&[("dfw.ingress.a", &half), ("dfw.ingress.b", &half)]);
    let findings = check_labels(&both, None, DEFAULT_PREFIX);
    assert!(
        findings
            .iter()
            .any(|f| f.code == "too-many-rules" && f.label == "dfw.ingress.b")
    );
    let peers = format!("any from {}host", "host,".repeat(MAX_PEERS / 2));
    let both = labels(&[("dfw.ingress.a", &peers), ("dfw.ingress.b", &peers)]);
    let findings = check_labels(&both, None, DEFAULT_PREFIX);
    assert!(
        findings
            .iter()
            .any(|f| f.code == "too-many-peers" && f.label == "dfw.ingress.b")
    );
    let problems = parse_rules(Direction::Ingress, &";".repeat(MAX_LABEL_BYTES));
    assert_eq!(problems.expect_err("empty rules").len(), 16);
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.-]{1,8}"
}

fn ranges(protocol: u8, limits: (u16, u16)) -> impl Strategy<Value = Item> {
    (limits.0..=limits.1, limits.0..=limits.1)
        .prop_map(move |(a, b)| item(protocol, a.min(b), a.max(b)))
}

fn items() -> impl Strategy<Value = Item> {
    prop_oneof![
        select(vec![6u8, 17, 132]).prop_flat_map(|protocol| ranges(protocol, (1, u16::MAX))),
        select(vec![1u8, 58]).prop_flat_map(|protocol| ranges(protocol, (0, 255))),
        any::<u8>().prop_map(|number| Item {
            protocol: Protocol(number),
            range: None
        }),
    ]
}

fn cidr() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, length)| (IpAddr::from(a), length));
    let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, length)| (IpAddr::from(a), length));
    prop_oneof![v4, v6].prop_map(|(address, length)| IpNet::new_assert(address, length).trunc())
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        (option::of(name()), name()).prop_map(|(project, name)| Peer::Service { project, name }),
        name().prop_map(Peer::Project),
        name().prop_map(Peer::Group),
        name().prop_map(Peer::Container),
        name().prop_map(Peer::Net),
        ("[a-z./]{1,8}", "[^\\pC]{0,12}").prop_map(|(key, value)| Peer::Label { key, value }),
        cidr().prop_map(Peer::Cidr),
        select(vec![Peer::Host, Peer::World, Peer::Any]),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let ports = prop_oneof![Just(Ports::Any), vec(items(), 1..6).prop_map(Ports::Items)];
    let direction = select(Direction::ALL.to_vec());
    let action = select(vec![Action::Allow, Action::Deny]);
    (direction, action, ports, vec(peer(), 1..5), any::<bool>()).prop_map(
        |(direction, action, ports, peers, log)| Rule {
            direction,
            action,
            ports,
            peers,
            log,
        },
    )
}

/// Text that goes deep into the parser: its own words, broken and joined at random.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = vec![
        "allow",
        "deny",
        "tcp",
        "udp",
        "icmp",
        "proto-",
        "any",
        "from",
        "to",
        "log",
        "service:",
        "label:",
        "net:",
        "host",
        "world",
        "10.0.0.0/8",
        "::/0",
        "/",
        "-",
        ",",
        ";",
        " ",
        "\n",
        "\"",
        "\\",
        "=",
        "80",
        "0",
        "65536",
        "é",
        "\u{0}",
        "\u{202e}",
        "9999999999",
    ];
    vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn display_parses_to_the_same_rule(rules in vec(rule(), 1..4)) {
        for rule in &rules {
            let text = rule.to_string();
            prop_assert_eq!(parse_rules(rule.direction, &text), Ok(vec![rule.clone()]), "{}", text);
        }
    }

    #[test]
    fn no_text_panics_and_every_problem_has_a_place(
        text in prop_oneof![any::<String>(), nearly()],
        direction in select(Direction::ALL.to_vec()),
    ) {
        match parse_rules(direction, &text) {
            Ok(rules) => for rule in rules {
                let canonical = rule.to_string();
                prop_assert_eq!(parse_rules(direction, &canonical), Ok(vec![rule]));
            },
            Err(problems) => {
                prop_assert!(!problems.is_empty() && problems.len() <= 16);
                for problem in problems {
                    prop_assert!(text.get(problem.span.clone()).is_some(), "{:?}", problem);
                    prop_assert!(!problem.to_string().contains(char::is_control), "{}", problem);
                }
            }
        }
    }

    #[test]
    fn no_label_panics(
        key in prop_oneof![any::<String>(), nearly(), Just("ingress".to_owned()), Just("mode".to_owned()), Just("group".to_owned())],
        value in prop_oneof![any::<String>(), nearly()],
    ) {
        let labels = labels(&[(&format!("dfw.{key}"), &value)]);
        for finding in check_labels(&labels, Some("p"), DEFAULT_PREFIX) {
            prop_assert!(!finding.message.contains(char::is_control));
            prop_assert!(!finding.label.contains(char::is_control));
            if let Some((start, end)) = finding.span {
                prop_assert!(finding.text.get(start..end).is_some());
            }
        }
    }
}
