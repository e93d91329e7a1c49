//! `dfw check` on Compose's own reading of a file: what the tests of the command imagine that Compose prints is what it
//! prints.

use std::{fs, process::Output};

use dfw_tests::process;
use serde_json::{Value, json};

use crate::compose::Host;

#[path = "../../../dfw-agent/tests/cli/mistakes.rs"]
mod mistakes;

/// Several files, each with its own way to say something, as people write them.
const FILES: [(&str, &str); 3] = [
    (
        "base.yaml",
        "\
services:
  database:
    image: dfwt
    labels: &closed
      dfw.ingress: tcp/5432 from service:${CLIENT:-nobody}
",
    ),
    (
        "app.yaml",
        "\
name: shop
x-log: &log
  logging: { driver: local }
services:
  db:
    extends: { file: base.yaml, service: database }
    networks: { back: { ipv4_address: 10.99.1.9 } }
  web:
    <<: *log
    image: dfwt
    labels:
      - dfw.ingress=tcp/80 from world
      - dfw.egress=tcp/5432 to service:db; udp/53,tcp/53 to any
    ports: ['127.0.0.1:8080:80', '8443:80/tcp']
    networks: [front, back]
networks:
  front: {}
  back:
    ipam: { config: [{ subnet: 10.99.1.0/24 }] }
",
    ),
    (
        "more.yaml",
        "\
services:
  web:
    labels:
      dfw.ingress: tcp/80 from wrld
",
    ),
];

/// Runs a line of a shell, whatever comes of it: what it printed, what it said, how it ended.
fn line(host: &Host, line: &str) -> (String, String, Option<i32>) {
    let mut shell = host.engine.root().command(host.engine.host(), "sh");
    let Output {
        status,
        stdout,
        stderr,
    } = process::output(shell.args(["-c", line]));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(stdout), text(stderr), status.code())
}

#[test]
#[ignore = "needs an engine of its own: cargo xtask soak engines"]
fn check_reads_what_compose_makes_of_a_file() {
    let host = Host::start();
    let sets = mistakes::LABELS.map(|label| {
        let (key, value) = label.split_once(':').expect("a label");
        let labels = json!({ "labels": { key: value.trim_start() } });
        mistakes::project(&json!({ "db": labels }))
    });
    let mut differences = Vec::new();
    for imagined in sets.into_iter().chain(mistakes::projects()) {
        let mut file: Value = serde_json::from_str(&imagined).expect("JSON");
        let services = file["services"].as_object_mut().expect("services");
        for service in services.values_mut() {
            service["image"] = "dfwt".into();
        }
        fs::write(host.file("/root/imagined.json"), imagined).expect("room");
        // JSON is YAML.
        fs::write(host.file("/root/app.yaml"), file.to_string()).expect("room");
        let imagined = line(&host, "dfw check imagined.json");
        let read = line(&host, "dfw check app.yaml");
        if imagined != read {
            differences.push(format!("{file}\n{imagined:?}\n{read:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

#[test]
#[ignore = "needs an engine of its own: cargo xtask soak engines"]
fn check_takes_files_as_compose_does_and_passes_on_what_it_refuses() {
    let host = Host::start();
    for (name, text) in FILES {
        fs::write(host.file("/root").join(name), text).expect("room");
    }
    for (command, expected, code) in [
        (
            "CLIENT=web dfw check app.yaml",
            "ok: 2 containers, 2 with dfw. labels",
            0,
        ),
        (
            "CLIENT=web docker compose --file app.yaml config --format json | dfw check -",
            "ok: 2 containers, 2 with dfw. labels",
            0,
        ),
        ("dfw check app.yaml", "service:nobody", 3),
        (
            "CLIENT=web dfw check app.yaml more.yaml",
            "did you mean `world`?",
            3,
        ),
        (
            "CLIENT=web dfw explain -f app.yaml web db tcp/5432",
            "allow",
            0,
        ),
        (
            "CLIENT=web dfw explain -f app.yaml web db tcp/22",
            "deny",
            3,
        ),
        (
            "sed 's/front, back/frnt/' app.yaml > bad.yaml; dfw check bad.yaml",
            "undefined network frnt",
            78,
        ),
        (
            "docker compose --file bad.yaml config --format json | dfw check -",
            "stdin: it is empty",
            78,
        ),
    ] {
        let (printed, said, ended) = line(&host, command);
        assert!(
            format!("{printed}{said}").contains(expected) && ended == Some(code),
            "{command}: {ended:?}\n{printed}{said}"
        );
    }
}
