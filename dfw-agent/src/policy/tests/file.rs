//! The node's policy file: what it says, and what is wrong with it.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};

use super::node::{Node, alone, codes, container, options, service};
use crate::{
    model::Finding,
    policy::{Compiled, Compiler, Held, Mode, NodePolicy, Options, Override, Select, selected},
};

/// Options with a file.
pub(super) fn with_file(text: &str) -> Options {
    let node = NodePolicy::parse("policy.toml", text);
    Options {
        node: Arc::new(node.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))),
        ..options(Mode::Audit)
    }
}

fn compile(node: &Node, options: &Options) -> Compiled {
    Compiler::new(1, Held::default()).compile(&node.0, options)
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = NodePolicy::parse("p.toml", text).expect_err("wrong");
    let line = |Finding {
                    label,
                    code,
                    message,
                    text,
                    span,
                    ..
                }: &Finding| {
        let word = span.and_then(|(from, to)| text.get(from..to));
        format!("{label} [{code}] {message} {word:?}")
    };
    mistakes.iter().map(line).collect()
}

#[test]
fn every_mistake_has_its_place_and_the_nearest_right_word() {
    let text = "unlabeled = \"audit\"
[[rules]]
for = \"servce:shop/db\"
ingres = \"\"
[[rules]]
for = \"service:db\"
ingress = \"\"\"
tcp/80 from any;
tcp/0 from service:web\"\"\"
[[ceiling]]
for = \"host\"
mode = \"audit\"
[[ceiling]]
egress = 7
[[rules]]
for = \"project:a,project:b\"
mode = \"enforced\"
[edge]
publish = \"\"
[[rules]]
for = \"any\"
egress = \"tcp/80 to \\\"x\\\", service:db\"
[[rules]]
for = \"any\"
";
    insta::assert_snapshot!(mistakes(text).join("\n"), @r#"
    p.toml:1:1 [unknown-key] unknown key `unlabeled`: did you mean `unlabelled`? None
    p.toml:3:8 [unknown-peer] unknown peer `servce:shop/db`: did you mean `service:`? Some("servce:shop/db")
    p.toml:4:1 [unknown-key] unknown key `ingres`: did you mean `ingress`? None
    p.toml:6:8 [no-project] `service:db` names no project, and there is none here to take: write service:PROJECT/db Some("service:db")
    p.toml:9:1 [port-range] `0` is out of range: ports go from 1 to 65535 Some("tcp/0")
    p.toml:11:8 [bad-selector] `host` selects no container: a selector is service:PROJECT/N, project:N, group:N, container:N, net:N, label:K=V or any Some("host")
    p.toml:12:1 [unknown-key] unknown key `mode`: here are for, ingress, egress None
    p.toml:13:1 [no-selector] it does not say which containers: write for = "service:PROJECT/N", or for = "any" for all of them None
    p.toml:14:10 [bad-value] integer where a text in quotes is meant None
    p.toml:16:17 [bad-selector] a selector is words with blanks between, all of which must hold: remove this, or write an entry or command for each Some(",")
    p.toml:17:8 [unknown-mode] unknown mode `enforced`: did you mean `enforce`? None
    p.toml:19:1 [unknown-key] unknown key `publish`: did you mean `published`? None
    p.toml:22:10 [stray-quote] a quote may only enclose the value of label:K="V": remove it Some("\"x\"")
    p.toml:23:1 [empty-entry] it says nothing of them: write ingress or egress, "" for nobody None
    "#);
}

#[test]
fn a_preset_is_the_ports_of_a_service() {
    let text = "[[rules]]
for = \"service:shop/db\"
preset = \"postgresql\"
from = \"service:shop/api, service:shop/report log\"
[[rules]]
for = \"service:shop/api\"
preset = \"http, https\"
from = \"world\"
to = \"10.0.0.0/8\"
";
    let node = NodePolicy::parse("p.toml", text).expect("right");
    let rules = node.entries.iter().flat_map(|entry| &entry.rules);
    let rules: Vec<String> = rules
        .map(|rule| format!("{}: {}", rule.label, rule.text))
        .collect();
    insta::assert_snapshot!(rules.join("\n"), @r"
    p.toml:4 preset postgresql: tcp/5432 from service:shop/api,service:shop/report log
    p.toml:8 preset http,https: tcp/80,443,udp/443 from world
    p.toml:9 preset http,https: tcp/80,443,udp/443 to 10.0.0.0/8
    ");
    assert!(
        node.entries
            .iter()
            .all(|entry| entry.mode == Some(Mode::Enforce))
    );
}

#[test]
fn every_mistake_about_a_preset_has_its_place() {
    let text = "[[rules]]
for = \"service:shop/db\"
preset = \"postgress\"
from = \"any\"
[[rules]]
for = \"any\"
preset = \"http, nonsense\"
from = \"any\"
[[rules]]
for = \"any\"
preset = \"redis\"
[[rules]]
for = \"any\"
from = \"any\"
to = \"any\"
[[rules]]
for = \"any\"
preset = \"redis\"
from = \"service:shop/a, servce:shop/b\"
to = \"any; tcp/1 to any\"
[[rules]]
for = \"any\"
preset = \"redis\"
from = \"\"
to = 3
[[rules]]
for = \"any\"
preset = \"redis\"
from = \"service:db\"
[[ceiling]]
for = \"any\"
preset = \"redis\"
";
    insta::assert_snapshot!(mistakes(text).join("\n"), @r#"
    p.toml:3:11 [unknown-preset] unknown preset `postgress`: did you mean `postgresql`? None
    p.toml:7:17 [unknown-preset] unknown preset `nonsense`: there are alertmanager, amqp, cassandra, clickhouse, dns, elasticsearch, etcd, gitea, grafana, http, https, imap, influxdb, kafka, kibana, ldap, loki, mariadb, memcached, minio, mongodb, mqtt, mysql, nats, node-exporter, ntp, opensearch, otlp, pop3, postgresql, prometheus, rabbitmq-management, redis, registry, sieve, smtp, ssh, submission, vault, zookeeper None
    p.toml:11:10 [no-peers] it does not say for whom: add from = "PEER" for who may come in, to = "PEER" for where it may go None
    p.toml:14:8 [no-preset] `from` says for whom a preset is: add preset = "NAME", or write ingress = "PORTS from PEER" None
    p.toml:15:6 [no-preset] `to` says for whom a preset is: add preset = "NAME", or write egress = "PORTS to PEER" None
    p.toml:19:25 [unknown-peer] unknown peer `servce:shop/b`: did you mean `service:`? Some("servce:shop/b")
    p.toml:20:6 [bad-value] peers of one preset, with commas between: write an entry for each rule None
    p.toml:24:8 [no-peers] the rule does not say who: add a peer after this word, or `any` for everybody Some("")
    p.toml:25:6 [bad-value] integer where a text in quotes is meant None
    p.toml:29:9 [no-project] `service:db` names no project, and there is none here to take: write service:PROJECT/db Some("service:db")
    p.toml:32:1 [unknown-key] unknown key `preset`: here are for, ingress, egress None
    "#);
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    insta::assert_snapshot!(mistakes("[[rules]\nfor = any\n").join("\n"), @"p.toml:1:9 [bad-toml] unclosed array table, expected `]` None");
    insta::assert_snapshot!(mistakes("rules = 3\nceiling = [1]").join("\n"), @r"
    p.toml:1:9 [bad-value] it is a list of tables: begin each with [[rules]] on a line of its own None
    p.toml:2:12 [bad-value] integer where a table is meant: begin each with [[ceiling]] None
    ");
    insta::assert_snapshot!(mistakes(&"#".repeat(2 << 20)).join("\n"), @"p.toml:1:1 [too-long] the file has 2097152 bytes: at most 262144 are read None");
}

proptest! {
    #[test]
    fn no_text_is_too_wild(pieces in vec(select(PIECES.to_vec()), 0..24), any in any::<String>()) {
        for text in [pieces.concat(), any] {
            if let Err(mistakes) = NodePolicy::parse("p", &text) {
                prop_assert!((1..=16).contains(&mistakes.len()), "{text:?}");
                prop_assert!(mistakes.iter().all(|one| !one.message.contains('\n')), "{mistakes:?}");
            }
            if let Ok(read) = Select::parse(&text) {
                prop_assert_eq!(Select::parse(&read.to_string()), Ok(read));
            }
        }
    }
}

const PIECES: [&str; 28] = [
    "preset = ",
    "\"redis,http\"\n",
    "from = ",
    "[[rules]]\n",
    "[[ceiling]]\n",
    "[edge]\n",
    "for = ",
    "ingress = ",
    "egress=",
    "mode = ",
    "unlabelled = ",
    "published = ",
    "\"any\"\n",
    "\"tcp/80 from any\"\n",
    "\"\"\"\ntcp/0\nfrom ß\"\"\"\n",
    "\"\\u00e9\\n tcp/99999 to service:x\"\n",
    "'service:a/b label:x=\"y z\"'\n",
    "service:a/b ",
    "label:k=\"ß\\\\\" ",
    "net:n ",
    ",",
    ";",
    "\"",
    "[",
    "{ }",
    "1979-05-27\n",
    "\u{202e}",
    "\n",
];

#[test]
fn a_file_has_limits() {
    let entry = "[[rules]]\nfor = \"any\"\ningress = \"\"\n";
    assert!(NodePolicy::parse("p", &entry.repeat(512)).is_ok());
    assert_eq!(
        codes(&NodePolicy::parse("p", &entry.repeat(513)).expect_err("too many")),
        ["too-many-rules"]
    );
    let rules = entry.replace("\"\"", &format!("\"{}\"", "any from any;".repeat(250)));
    assert!(NodePolicy::parse("p", &rules.repeat(4)).is_ok());
    assert!(NodePolicy::parse("p", &rules.repeat(5)).is_err());
}

#[test]
fn its_rules_govern_whom_it_selects() {
    let node = alone(service("shop", "db", &[]));
    let text = |rest: &str| format!("[[rules]]\nfor = \"service:shop/db\"\n{rest}");
    // What the entry says, governed, mode, rules.
    for (rest, mode, rules) in [
        ("ingress = \"\"", Mode::Enforce, 0),
        ("mode = \"audit\"\negress = \"any to any\"", Mode::Audit, 1),
        ("mode = \"enforce\"", Mode::Enforce, 0),
        ("mode = \"off\"", Mode::Off, 0),
    ] {
        let endpoint = &compile(&node, &with_file(&text(rest))).endpoints[&100];
        assert!(endpoint.governed, "{rest}");
        assert_eq!(
            (endpoint.mode, endpoint.rules.len()),
            (mode, rules),
            "{rest}"
        );
    }
    let other = compile(
        &node,
        &with_file("[[rules]]\nfor = \"service:shop/web\"\ningress = \"\""),
    );
    assert!(!other.endpoints[&100].governed);
    assert_eq!(codes(&other.findings), ["selects-nobody"]);
    assert_eq!(other.findings[0].label, "policy.toml:2:7");
}

#[test]
fn labels_and_file_add_up_and_the_stricter_mode_counts() {
    let labels = [("dfw.ingress", "tcp/80 from any"), ("dfw.mode", "audit")];
    let node = alone(service("shop", "web", &labels));
    let entry = "[[rules]]\nfor = \"project:shop\"\ningress = \"\"\"tcp/81 from host;\n  tcp/82 from host\"\"\"\n";
    for (mode, expected) in [("", Mode::Enforce), ("mode = \"off\"", Mode::Audit)] {
        let endpoint = &compile(&node, &with_file(&format!("{entry}{mode}"))).endpoints[&100];
        assert_eq!(endpoint.mode, expected);
        let rules = [
            "dfw.ingress: \"tcp/80 from any\"",
            "policy.toml:3 ingress: \"tcp/81 from host\"",
            "policy.toml:4 ingress: \"tcp/82 from host\"",
        ];
        assert_eq!(endpoint.rules, rules);
    }
}

#[test]
fn a_peer_that_matches_nobody_is_told() {
    let node = alone(service("shop", "db", &[]));
    let text = "[[ceiling]]\nfor = \"any\"\ningress = \"any from service:shop/dbb,service:shop/db,host;any from group:g\"";
    let compiled = compile(&node, &with_file(text));
    let missing = compiled
        .findings
        .iter()
        .filter(|one| one.code == "no-such-peer");
    let missing: Vec<_> = missing
        .map(|one| format!("{}: {}", one.label, one.message))
        .collect();
    let expected = [
        "policy.toml:3 ceiling ingress: `group:g` matches nobody at present: it counts as soon as there is one",
        "policy.toml:3 ceiling ingress: `service:shop/dbb` matches nobody at present: did you mean `service:shop/db`?",
    ];
    assert_eq!(missing, expected);
}

#[test]
fn all_words_of_a_selector_must_hold() {
    let shop = |name: &str, tier: &str| {
        Arc::new(service("shop", name, &[("tier", tier), ("dfw.group", "g")]))
    };
    let node = Node::default()
        .network(10, "lan", &["10.0.0.0/24"])
        .endpoint(100, 10, &shop("a", "x"), &["10.0.0.2"])
        .endpoint(101, 10, &shop("b", "y"), &["10.0.0.3"]);
    let names = |text: &str| {
        let select = Select::parse(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        assert_eq!(
            Select::parse(&select.to_string()),
            Ok(select.clone()),
            "{text}"
        );
        selected(&select, &node.0, &options(Mode::Audit))
            .map(|names| names.into_iter().collect::<Vec<_>>().join(" "))
            .unwrap_or_else(|hint| hint)
    };
    for (text, expected) in [
        ("any", "shop/a shop/b"),
        ("net:lan", "shop/a shop/b"),
        ("group:g label:tier=y", "shop/b"),
        ("service:shop/a", "shop/a"),
        ("container:shop-b-1", "shop/b"),
        (
            "label:tier=x label:tier=y",
            "`label:tier=x label:tier=y`: no container has all of it",
        ),
        (
            "service:shop/aa",
            "`service:shop/aa` selects nobody at present: did you mean `service:shop/a`?",
        ),
        (
            "group:ops",
            "`group:ops` selects nobody at present: `dfw ls` shows who there is",
        ),
    ] {
        assert_eq!(names(text), expected, "{text}");
    }
}

#[test]
fn a_ceiling_clips_and_says_what() {
    let labels = [("dfw.egress", "tcp to world; udp/53 to any")];
    let node = alone(container("c", &labels));
    let text = "[[ceiling]]\nfor = \"any\"\negress = \"tcp/443 to world; udp to any\"";
    let compiled = compile(&node, &with_file(text));
    let clipped: Vec<_> = compiled
        .findings
        .iter()
        .filter(|finding| finding.code == "beyond-ceiling")
        .map(|finding| {
            (
                finding.text.as_str(),
                finding.label.as_str(),
                finding.message.as_str(),
            )
        })
        .collect();
    assert_eq!(
        clipped,
        [(
            "tcp to world",
            "dfw.egress",
            "the rule goes beyond a ceiling and counts only within it: policy.toml:3 ceiling egress: \"nothing beyond it\""
        )]
    );
    assert_eq!(
        compiled.endpoints[&100].rules.len(),
        2,
        "the ceiling's are not its own"
    );
}

#[test]
fn under_a_ceiling_no_label_weakens_the_node() {
    let node = alone(container("c", &[("dfw.mode", "off")]));
    let ceiling = "[[ceiling]]\nfor = \"any\"\negress = \"\"";
    for unlabelled in Mode::ALL {
        let options = Options {
            unlabelled,
            ..with_file(ceiling)
        };
        let compiled = compile(&node, &options);
        assert_eq!(compiled.endpoints[&100].mode, unlabelled);
        let is_told = codes(&compiled.findings).contains(&"ceiling-not-enforced");
        assert_eq!(is_told, unlabelled != Mode::Enforce);
    }
}

#[test]
fn a_mode_for_a_while_goes_before_everything() {
    let node = alone(container("c", &[("dfw.ingress", "")]));
    let select = |text: &str| Select::parse(text).expect("right");
    let with = |overrides: &[(&str, Mode)]| {
        let overrides = overrides.iter().map(|(text, mode)| Override {
            select: select(text),
            mode: *mode,
        });
        let options = Options {
            overrides: overrides.collect(),
            ..with_file("[[ceiling]]\nfor = \"any\"\negress = \"\"")
        };
        let compiled = compile(&node, &options);
        let endpoint = &compiled.endpoints[&100];
        (endpoint.mode, endpoint.overridden)
    };
    assert_eq!(with(&[]), (Mode::Enforce, false));
    assert_eq!(with(&[("any", Mode::Off)]), (Mode::Off, true));
    assert_eq!(
        with(&[("any", Mode::Off), ("container:c", Mode::Audit)]),
        (Mode::Audit, true)
    );
    assert_eq!(with(&[("container:x", Mode::Off)]), (Mode::Enforce, false));
}

#[test]
fn deny_lists_are_prefixes_and_files() {
    let text =
        "[edge]\ndeny = [\"192.0.2.0/24\", \"./deny.txt\", \"2001:db8::1\",\n\"/srv/feed\"]\n";
    let node = NodePolicy::parse("p.toml", text).expect("right");
    let denied: Vec<String> = node.denied.iter().map(ToString::to_string).collect();
    assert_eq!(denied, ["192.0.2.0/24", "2001:db8::1/128"]);
    let files: Vec<_> = node
        .deny_files
        .iter()
        .map(|file| (file.path.as_str(), file.place.as_str()))
        .collect();
    assert_eq!(
        files,
        [("./deny.txt", "p.toml:2:25"), ("/srv/feed", "p.toml:3:1")]
    );
    assert!(node.is_empty(), "no container is concerned");
    let text = "[edge]\ndeny = [\"deny.txt\", 7, \"10.0.0.1/8\"]\n";
    insta::assert_snapshot!(mistakes(text).join("\n"), @r#"
    p.toml:2:9 [bad-deny-list] `deny.txt` is no address and no CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; a file begins with / or ./ None
    p.toml:2:21 [bad-value] integer where a text in quotes is meant None
    p.toml:2:24 [bad-deny-list] 10.0.0.1/8 has host bits set: write 10.0.0.0/8, or 10.0.0.1 for the one address None
    "#);
    assert_eq!(mistakes("[edge]\ndeny = \"./deny.txt\"\n").len(), 1);
}
