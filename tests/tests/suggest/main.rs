//! From audit to enforce with real software: what `dfw suggest` says of five services that talk for real is all that they
//! need, and nothing else is open.

mod stack;

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use dfw_tests::{
    Agent, Attempt, Container, NetNs, Outcome, Protocol, scratch::Scratch, table, wait,
};
use serde_json::Value;
use yaml_rust2::YamlLoader;

use self::stack::{Labels, PROJECT, SERVICES, Site};

/// Until what was seen is written down.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what is denied.
const SHORT: Duration = Duration::from_millis(400);
/// For what is open: most servers wait for a word of the client.
const COMES: Duration = Duration::from_secs(2);
/// Prometheus reads its targets some times more.
const A_WHILE: Duration = Duration::from_secs(3);

/// Who may go where; everything else is closed.
const OPEN: [(&str, &str); 6] = [
    ("web", "app"),
    ("app", "db"),
    ("app", "cache"),
    ("prometheus", "app"),
    ("prometheus", "web"),
    ("host", "prometheus"),
];
/// Ports that nobody listens on.
const UNUSED: [u16; 3] = [22, 443, 12345];

/// What has to come out: name, ingress, egress.
const WANTED: [(&str, &str, &str); 5] = [
    (
        "app",
        "tcp/8000 from service:prometheus,service:web",
        "tcp/5432 to service:db; tcp/6379 to service:cache",
    ),
    ("cache", "tcp/6379 from service:app", ""),
    ("db", "tcp/5432 from service:app", ""),
    (
        "prometheus",
        "tcp/9090 from host",
        "tcp/80 to service:web; tcp/8000 to service:app",
    ),
    (
        "web",
        "tcp/80 from service:prometheus,192.0.2.2/32,2001:db8::2/128",
        "tcp/8000 to service:app",
    ),
];

fn suggest(agent: &Agent<'_>, more: &[&str]) -> (i32, String) {
    let selector = format!("project:{PROJECT}");
    let output = agent.command(&[&["suggest", &selector], more].concat());
    let (out, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let code = output.status.code().expect("not by a signal");
    assert!([0, 3].contains(&code), "{said}");
    (code, out.into_owned())
}

/// The labels of the JSON answer.
fn labels(answer: &Value) -> Labels {
    let all = answer["suggestions"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|one| {
        let lines = one["lines"].as_array().into_iter().flatten();
        let lines = lines.map(|line| (text(&line["label"]), text(&line["value"])));
        (text(&one["subject"]["service"]["service"]), lines.collect())
    })
    .collect()
}

fn wanted() -> Labels {
    let labels = |ingress: &str, egress: &str| {
        [
            ("dfw.ingress".to_owned(), ingress.to_owned()),
            ("dfw.egress".to_owned(), egress.to_owned()),
        ]
        .into()
    };
    WANTED
        .into_iter()
        .map(|(name, ingress, egress)| (name.to_owned(), labels(ingress, egress)))
        .collect()
}

/// The labels of an override file, as compose reads it.
fn of_override(text: &str) -> Labels {
    let documents =
        YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let text = |value: &yaml_rust2::Yaml| value.as_str().expect("a text").to_owned();
    let services = documents[0]["services"].as_hash().expect("a mapping");
    let services = services.iter().map(|(name, service)| {
        let labels = service["labels"].as_hash().expect("a mapping");
        (
            text(name),
            labels
                .iter()
                .map(|(key, value)| (text(key), text(value)))
                .collect(),
        )
    });
    services.collect()
}

/// Their work goes on for a while, and not one packet of it would be denied or is.
#[track_caller]
fn assert_undisturbed(site: &Site, agent: &Agent<'_>) {
    // Router solicitations, which every kernel sends to all neighbours, are dropped at those that are no routers.
    let bad = |agent: &Agent<'_>| {
        let metrics = agent.metrics();
        ["deny", "audit"].map(|verdict| {
            let verdict = format!("verdict=\"{verdict}\"");
            let sum =
                |more: &[&str]| metrics.sum("dfw_packets_total", &[&[&*verdict], more].concat());
            (sum(&[]) - sum(&["reason=\"neighbour\""])) as u64
        })
    };
    let before = bad(agent);
    site.work()
        .unwrap_or_else(|why| panic!("{why}\n{:#}", agent.status()));
    thread::sleep(A_WHILE);
    site.work()
        .unwrap_or_else(|why| panic!("{why}\n{:#}", agent.status()));
    let denied = agent.command(&["observe", "--last", "20", "--verdict", "deny,audit"]);
    assert_eq!(
        bad(agent),
        before,
        "{}",
        String::from_utf8_lossy(&denied.stdout)
    );
}

/// Every pair of containers, and the host to each, on every port that is in use and some that are not.
#[track_caller]
fn assert_closed(site: &Site, containers: &[Container<'_>]) {
    let mut sources: Vec<(&str, NetNs)> = vec![("host", site.engine.host().again())];
    sources.extend(
        SERVICES
            .iter()
            .zip(containers)
            .map(|(service, container)| (service.name, container.netns())),
    );
    let mut wrong = Vec::new();
    let mut scanned = 0;
    for (source, netns) in &sources {
        let others = SERVICES.iter().filter(|other| other.name != *source);
        let attempts: Vec<(&str, bool, Attempt)> = others
            .flat_map(|other| {
                let ports = SERVICES.iter().map(|one| one.port).chain(UNUSED);
                let targets = ports.flat_map(|port| {
                    other
                        .addresses()
                        .map(|address| SocketAddr::from((address, port)))
                });
                targets.map(|to| {
                    let is_open = to.port() == other.port && OPEN.contains(&(source, other.name));
                    let patience = if is_open { COMES } else { SHORT };
                    (
                        other.name,
                        is_open,
                        Attempt {
                            patience,
                            ..Attempt::new(Protocol::Tcp, to)
                        },
                    )
                })
            })
            .collect();
        let outcomes = table::outcomes(netns, attempts.iter().map(|(.., attempt)| *attempt));
        for ((destination, is_open, attempt), outcome) in attempts.iter().zip(outcomes) {
            scanned += 1;
            let passed = match outcome {
                Outcome::Answered(_) | Outcome::Accepted | Outcome::Refused => true,
                Outcome::Silent | Outcome::Unreachable => false,
            };
            if passed != *is_open {
                wrong.push(format!(
                    "{source} -> {destination} {}: {outcome}",
                    attempt.to
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "of {scanned}");
    eprintln!("{scanned} pairs of ends and ports scanned");
    // A kernel keeps the first packets to a neighbour that it still asks for: in audit it would find it, and send them.
    for (source, netns) in &sources {
        wait::expect(
            &format!("{source} asks for no neighbour any more"),
            PATIENCE,
            || (!asks(netns)).then_some(()),
        );
    }
}

/// Whether it still waits for the answer of a neighbour.
fn asks(netns: &NetNs) -> bool {
    let pending = netns.run("ip neighbour show nud incomplete");
    !pending.trim().is_empty()
}

#[track_caller]
fn reload(agent: &Agent<'_>, policy: &Path, text: &str) {
    std::fs::write(policy, text).expect("the file is ours");
    let output = agent.command(&["reload"]);
    assert!(
        output.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn five_services_from_audit_to_enforce() {
    let site = Site::new();
    let scratch = Scratch::new();
    let policy = scratch.file("policy.toml", "");
    let containers = site.up(&Labels::new());
    // It comes to what runs already.
    let socket = site.engine.socket();
    let policy_file = policy.display().to_string();
    let agent = Agent::start(
        site.engine.host(),
        &[
            "--docker-host",
            &socket,
            "--unlabelled",
            "audit",
            "--policy",
            &policy_file,
        ],
    );
    agent.expect_ready("five endpoints", 5);
    site.work().expect("audit breaks nothing");
    let answer = wait::until(PATIENCE, || {
        let answer: Value =
            serde_json::from_str(&suggest(&agent, &["-o", "json"]).1).expect("JSON");
        (labels(&answer) == wanted()).then_some(answer)
    });
    let (_, file) = suggest(&agent, &[]);
    let answer = answer.unwrap_or_else(|| panic!("{file}\n{}", agent.log()));
    eprintln!("{file}");
    assert!(labels(&answer).values().all(|labels| labels.len() <= 2));
    assert!(
        answer["suggestions"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["missing"] == 0),
        "{answer:#}"
    );

    // By policy file, without touching a container.
    let (code, differences) = suggest(&agent, &["--diff", "--format", "policy"]);
    assert_eq!(code, 3, "{differences}");
    reload(&agent, &policy, &suggest(&agent, &["--format", "policy"]).1);
    let enforcing = |status: &Value| {
        let endpoints = status["endpoints"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        endpoints.len() == 5
            && endpoints
                .iter()
                .all(|one| one["mode"] == "enforce" && one["state"] == "ready")
    };
    agent.expect_status("all of them enforce", enforcing);
    assert_undisturbed(&site, &agent);
    assert_closed(&site, &containers);
    assert_eq!(
        suggest(&agent, &["--diff", "--format", "policy"]),
        (
            0,
            "nothing to change: what was seen is allowed, and nothing else is written\n".to_owned()
        )
    );

    // By labels: the override file, and the containers made anew.
    reload(&agent, &policy, "");
    agent.expect_status("audit again", |status| {
        let mut endpoints = status["endpoints"].as_array().into_iter().flatten();
        endpoints.all(|one| one["mode"] == "audit")
    });
    let (_, file) = suggest(&agent, &[]);
    let of_file = of_override(&file);
    assert_eq!(of_file, wanted(), "{file}");
    containers.into_iter().for_each(Container::remove);
    let containers = site.up(&of_file);
    agent.expect_status("all of them enforce", enforcing);
    assert_undisturbed(&site, &agent);
    assert_closed(&site, &containers);
    let (code, differences) = suggest(&agent, &["--diff"]);
    assert_eq!(code, 0, "{differences}");
}
