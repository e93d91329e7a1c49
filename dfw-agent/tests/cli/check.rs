//! `dfw check` on what people get wrong: each message as it is printed, with its place and remedy.

use serde_json::{Value, json};

use super::{code, run_with_input, stderr, stdout};

/// What the command prints of this input, and that it found something, and where.
fn said(input: &str) -> String {
    let output = run_with_input(&["check", "-"], input);
    let printed = stdout(&output);
    let ended = (code(&output), stderr(&output));
    assert_eq!(ended, (3, String::new()), "{input}: {printed}");
    assert!(printed.contains("\n  --> "), "no place: {input}: {printed}");
    printed
}

/// Sets of labels, one mistake or more each.
const LABELS: [&str; 32] = [
    "dfw.ingres: tcp/80 from any",
    "dfw.port: 80",
    "dfw.ingress.: tcp/80 from any",
    "dfw.ingress.a/b: tcp/80 from any",
    "dfw.mode: enforced",
    "dfw.mode: on",
    "dfw.group: night shift",
    "dfw.group:",
    "dfw.ingress: 80 from any",
    "dfw.ingress: tpc/80 from any",
    "dfw.ingress: tcp/80",
    "dfw.ingress: tcp/80 form any",
    "dfw.ingress: tcp/80 to any",
    "dfw.egress: tcp/80 from any",
    "dfw.ingress: from any",
    "dfw.ingress: any/80 from any",
    "dfw.ingress: any,tcp/80 from any",
    "dfw.ingress: tcp/http from any",
    "dfw.ingress: tcp/0,65536 from any",
    "dfw.ingress: tcp/90-80 from any",
    "dfw.ingress: icmp/256 from any",
    "dfw.ingress: proto-47/1 from any",
    "dfw.ingress: tcp/80 from servce:api",
    "dfw.ingress: tcp/80 from api",
    "dfw.ingress: tcp/80 from service:api",
    "dfw.ingress: tcp/80 from 10.0.0.1/8",
    "dfw.ingress: tcp/80 from 10.0.0.256",
    "dfw.ingress: tcp/80 from ::ffff:10.0.0.1",
    "dfw.ingress: tcp/80 from label:tier",
    "dfw.ingress: tcp/80 from any;; tcp/81 from any,",
    "dfw.ingress: tcp/80 from any; tcp/80 from any",
    "dfw.egress: tcp/443 to world",
];

#[test]
fn sets_of_labels() {
    let said = LABELS.map(said);
    insta::assert_snapshot!(said.join("\n---\n\n"));
}

/// A project of services and their labels, as `docker compose config --format json` prints it.
fn project(services: &Value) -> String {
    json!({ "name": "shop", "services": services }).to_string()
}

fn labels(labels: &[(&str, &str)]) -> Value {
    let pairs = labels
        .iter()
        .map(|(key, value)| (format!("dfw.{key}"), (*value).into()));
    json!({ "labels": Value::Object(pairs.collect()) })
}

fn projects() -> Vec<String> {
    let with = |mut service: Value, key: &str, value: Value| {
        service[key] = value;
        service
    };
    let closed = || labels(&[("ingress", "")]);
    let one = |service: Value| project(&json!({ "db": service }));
    let two = |web: Value, db: Value| project(&json!({ "web": web, "db": db }));
    vec![
        // A service of the project that is not there.
        two(closed(), labels(&[("ingress", "tcp/5432 from service:wbe")])),
        one(labels(&[("ingress", "tcp/5432 from service:reporting")])),
        // Something that is spelt nearly so.
        two(with(closed(), "container_name", json!("front")), labels(&[("ingress", "tcp/5432 from container:frnt")])),
        two(labels(&[("ingress", ""), ("group", "ops")]), labels(&[("ingress", "tcp/22 from group:op")])),
        one(labels(&[("ingress", "tcp/5432 from net:defalt")])),
        // Peers that no rule can mean.
        two(json!({ "network_mode": "host" }), labels(&[("ingress", "tcp/5432 from service:web")])),
        project(&json!({
            "web": closed(),
            "db": labels(&[("ingress", "tcp/5432 from service:probe")]),
            "probe": { "network_mode": "service:web" },
        })),
        two(
            with(closed(), "networks", json!({ "front": null })),
            with(labels(&[("ingress", "tcp/5432 from service:web")]), "networks", json!({ "back": null })),
        ),
        // Rules that never match.
        one(labels(&[("ingress", "tcp/22 from 10.1.0.0/16; deny tcp/1-1024 from 10.0.0.0/8")])),
        one(labels(&[("ingress", "icmp from 2001:db8::/32; icmp6 from 10.0.0.0/8")])),
        // Ends that do not let each other.
        two(labels(&[("ingress", ""), ("egress", "tcp/5432 to service:db; udp/53 to any")]), closed()),
        two(
            labels(&[("ingress", ""), ("egress", "tcp/80,5432 to service:db; udp/53 to any")]),
            labels(&[("ingress", "tcp/5432 from service:web")]),
        ),
        two(closed(), labels(&[("ingress", "tcp/5432 from service:web")])),
        two(
            labels(&[("ingress", ""), ("egress", "any to service:db")]),
            labels(&[("ingress", "deny any from service:web")]),
        ),
        two(
            labels(&[("ingress", ""), ("egress", "udp/53,tcp/53,icmp6 to service:db")]),
            labels(&[("ingress", "udp/53,tcp/53 from service:web")]),
        ),
        // Nobody may reach it.
        one(labels(&[("egress", "udp/53 to any")])),
        one(with(labels(&[("ingress", "tcp/80 from service:shop/db")]), "ports", json!([{ "target": 80, "published": "8080" }]))),
        // More than is meant.
        one(with(labels(&[("ingress", "tcp/80 from host")]), "ports", json!([{ "target": 80, "published": "8080" }]))),
        // Rules where none reach.
        one(with(closed(), "network_mode", json!("host"))),
        one(with(closed(), "network_mode", json!("service:web"))),
        json!({ "name": "shop", "networks": { "lan": { "driver": "macvlan" } }, "services": { "db": with(closed(), "networks", json!({ "lan": null })) } }).to_string(),
        // Names that want to be something else.
        one(labels(&[("ingress", "tcp/80 from service:x\u{1b}[2J")])),
    ]
}

#[test]
fn compose_projects() {
    let said: Vec<String> = projects().iter().map(|project| said(project)).collect();
    insta::assert_snapshot!(said.join("\n---\n\n"));
}

/// What is right is not talked about.
#[test]
fn nothing_to_say() {
    let fine = [
        // Another project's service, which is not at hand; a peer without rules; both ends; a closed end that says so.
        project(&json!({ "db": labels(&[("ingress", "tcp/5432 from service:other/api,group:ops,container:x,net:y,label:k=v")]) })),
        project(&json!({ "db": labels(&[("ingress", "tcp/5432 from service:web")]), "web": {} })),
        project(&json!({
            "db": labels(&[("ingress", "tcp/5432 from service:web"), ("mode", "audit")]),
            "web": labels(&[("ingress", ""), ("egress", "tcp/5432 to service:db; udp/53 to any")]),
        })),
        project(&json!({
            "db": labels(&[("ingress", "any from project:shop; deny tcp/22 from service:web")]),
            "web": labels(&[("ingress", ""), ("egress", "tcp/1-65535,udp/53 to service:db")]),
        })),
        json!({ "services": { "web": { "labels": { "dfw.ingress": "tcp/80 from 203.0.113.0/24" }, "ports": [{ "target": 80, "published": "80" }] } } }).to_string(),
    ];
    for project in fine {
        let output = run_with_input(&["check", "-"], &project);
        assert_eq!(code(&output), 0, "{project}: {}", stdout(&output));
    }
}
