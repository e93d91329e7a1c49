//! What people get wrong, for `dfw check` here and for `docker compose` in tests/tests/ship.

use serde_json::{Value, json};

/// Sets of labels, one mistake or more each.
pub(crate) const LABELS: [&str; 32] = [
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

/// A project of services and their labels, as `docker compose config --format json` prints it.
pub(crate) fn project(services: &Value) -> String {
    json!({ "name": "shop", "services": services }).to_string()
}

pub(crate) fn labels(labels: &[(&str, &str)]) -> Value {
    let pairs = labels
        .iter()
        .map(|(key, value)| (format!("dfw.{key}"), (*value).into()));
    json!({ "labels": Value::Object(pairs.collect()) })
}

/// Projects, one mistake or more each.
pub(crate) fn projects() -> Vec<String> {
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
        json!({
            "name": "shop",
            "networks": { "front": {}, "back": {} },
            "services": {
                "web": with(closed(), "networks", json!({ "front": null })),
                "db": with(labels(&[("ingress", "tcp/5432 from service:web")]), "networks", json!({ "back": null })),
            },
        })
        .to_string(),
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
        two(json!({}), with(closed(), "network_mode", json!("service:web"))),
        json!({ "name": "shop", "networks": { "lan": { "driver": "macvlan" } }, "services": { "db": with(closed(), "networks", json!({ "lan": null })) } }).to_string(),
        // Names that want to be something else.
        one(labels(&[("ingress", "tcp/80 from service:x\u{1b}[2J")])),
    ]
}
