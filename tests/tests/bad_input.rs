//! What is wrong is said once, clearly, with the remedy and the right exit code, and harms nobody else.

use std::{net::TcpListener, os::unix::net::UnixListener, process::Command};

use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, Protocol, agent::refused,
    canary::Transfer, process, scratch::Scratch,
};
use serde_json::Value;

/// A server whose port 80 is open to a client, and 81 to nobody.
struct Site {
    host: Namespace,
    server: Endpoint,
    client: Endpoint,
    inventory: Inventory,
    _listener: Listener,
}

const GOOD: (&str, &str) = ("dfw.ingress", "tcp/80 from container:client");

impl Site {
    fn new() -> Self {
        let host = Namespace::new();
        let mut bridge = Bridge::new(&host, "br0", 40);
        let (server, client) = (bridge.plug("server"), bridge.plug("client"));
        let listener = server
            .netns
            .enter(|| Listener::start(&[80, 81], &[]))
            .expect("ports are free");
        let mut inventory = Inventory::new();
        inventory.set("server", &server, "lab", &[GOOD]);
        inventory.set("client", &client, "lab", &[("dfw.egress", "any to any")]);
        inventory.write();
        Self {
            host,
            server,
            client,
            inventory,
            _listener: listener,
        }
    }

    /// The policy of the good ones is in force, as ever.
    #[track_caller]
    fn assert_enforced(&self, when: &str) {
        for (port, is_allowed) in [(80, true), (81, false)] {
            for to in self.server.at(port) {
                self.client.netns.assert_reaches(when, to, is_allowed);
            }
        }
    }
}

/// What comes before the command line, the flags, the exit code, and what the message says.
type Case<'a> = (&'a [&'a str], &'a [&'a str], i32, &'a [&'a str]);

/// Labels of one container.
type Labels<'a> = &'a [(&'a str, &'a str)];

#[test]
fn what_dfw_cannot_start_with() {
    let site = Site::new();
    let inventory = site.inventory.argument();
    let mut agent = Agent::start(&site.host, &["--inventory", &inventory]);
    let files = Scratch::new();
    let path = |name: &str| files.path().join(name).display().to_string();
    let bpffs = agent.bpffs().display().to_string();
    let socket = agent.socket().display().to_string();
    let own_socket = path("own.sock");
    files.file("bad.toml", "[[endpoint]]\nname = 1\n");
    files.file("config.toml", "unlabeled = \"audit\"\n");
    drop(UnixListener::bind(files.path().join("dead.sock")).expect("the path is free"));
    let dead = format!("--docker-host=unix://{}", path("dead.sock"));
    let missing = format!("--docker-host=unix://{}", path("missing.sock"));

    let beside = [
        "--inventory",
        &inventory,
        "--bpffs",
        &bpffs,
        "--listen=127.0.0.1:10340",
    ];
    let says = ["another agent is running", "dfw status"];
    assert_refused(
        &site,
        &[],
        &[&beside[..], &["--socket", &socket]].concat(),
        1,
        &says,
    );
    let busy = [
        "--inventory",
        &inventory,
        "--bpffs",
        &bpffs,
        "--socket",
        &own_socket,
    ];
    assert_refused(
        &site,
        &[],
        &busy,
        1,
        &["cannot listen on 127.0.0.1:10339", "--listen"],
    );
    agent.kill();

    let common = ["--socket", &own_socket, "--bpffs", &bpffs];
    let without = [
        "setpriv",
        "--bounding-set=-bpf,-net_admin,-perfmon,-sys_admin",
        "--inh-caps=-bpf,-net_admin,-perfmon,-sys_admin",
    ];
    let not_mounted = [
        "--inventory",
        &inventory,
        "--socket",
        &own_socket,
        "--bpffs",
        &path("no-bpffs"),
    ];
    let cases: [Case<'_>; 9] = [
        (
            &[],
            &["--unlabelled=strict"],
            2,
            &["strict", "audit", "enforce", "off"],
        ),
        (
            &[],
            &["--inventory", &path("bad.toml")],
            78,
            &["bad.toml:2:8", "expected a string"],
        ),
        (
            &[],
            &["--inventory", &path("none.toml")],
            78,
            &["none.toml", "--inventory"],
        ),
        (
            &[],
            &["--config", &path("config.toml")],
            78,
            &["config.toml:1:1", "unlabeled", "unlabelled"],
        ),
        (
            &[],
            &["--listen=0.0.0.0:10339"],
            78,
            &["not a loopback address", "127.0.0.1"],
        ),
        (
            &[],
            &[&missing],
            78,
            &["no Docker socket", "--docker-host", "--inventory"],
        ),
        (&[], &[&dead], 1, &["nobody answers", "start Docker"]),
        (
            &without,
            &["--inventory", &inventory],
            77,
            &["CAP_BPF", "CAP_NET_ADMIN", "run dfw as root"],
        ),
        (
            &[],
            &not_mounted,
            77,
            &["no-bpffs is not on a BPF file system", "mount -t bpf"],
        ),
    ];
    for (wrapper, arguments, code, says) in cases {
        let is_whole = arguments.contains(&"--bpffs");
        let arguments = if is_whole {
            arguments.to_vec()
        } else {
            [&common, arguments].concat()
        };
        assert_refused(&site, wrapper, &arguments, code, says);
        // What an earlier agent put in force stays so.
        site.assert_enforced(&format!("{arguments:?}"));
    }
}

/// One error, one remedy, the code.
#[track_caller]
fn assert_refused(site: &Site, wrapper: &[&str], arguments: &[&str], code: i32, says: &[&str]) {
    let (status, said) = refused(&site.host, wrapper, arguments);
    assert_eq!(status, Some(code), "{arguments:?}: {said}");
    for words in says {
        assert!(
            said.contains(words),
            "{arguments:?}: {words:?} is not in\n{said}"
        );
    }
    // Of a wrong command line clap says what is wrong, and how to get help.
    if code != 2 {
        let lines = |start: &str| said.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(
            (lines("dfw: error: "), lines("hint: ")),
            (1, 1),
            "{arguments:?}: {said}"
        );
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Code and place of each error about a container.
fn errors(status: &Value, subject: &str) -> Vec<String> {
    let findings = status["findings"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let own = findings
        .iter()
        .filter(|finding| finding["subject"] == subject && finding["level"] == "error");
    own.map(|finding| finding["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_bad_label_is_an_error_of_its_container_alone() {
    let mut site = Site::new();
    let mut bridge_of_bad = Bridge::new(&site.host, "br1", 41);
    let bad = bridge_of_bad.plug("bad");
    let _listener = bad
        .netns
        .enter(|| Listener::start(&[80], &[]))
        .expect("the port is free");
    site.inventory.set("bad", &bad, "other", &[]);
    site.inventory.write();
    let agent = Agent::start(&site.host, &["--inventory", &site.inventory.argument()]);
    let open = |endpoint: &Endpoint| {
        endpoint.at(80).map(|to| {
            let outcome = site.host.enter(|| {
                Attempt {
                    patience: Attempt::new(Protocol::Tcp, to).patience / 3,
                    ..Attempt::new(Protocol::Tcp, to)
                }
                .run()
            });
            outcome.expect("the attempt is possible").is_answered()
        })
    };
    let connection = site
        .client
        .netns
        .enter(|| Attempt::new(Protocol::Tcp, site.server.at(80)[0]).connect());
    let transfer = Transfer::start(connection.expect("it is allowed"));
    assert_eq!(open(&bad), [true; 2], "unlabelled");

    let right = ("dfw.ingress", "tcp/80 from host");
    let cases: [(Labels<'_>, &str, [bool; 2]); 8] = [
        // Never right so far: nothing is allowed.
        (
            &[("dfw.ingres", "tcp/80 from host")],
            "dfw.ingress",
            [false; 2],
        ),
        (&[("dfw.ingress", "tcp/80 form host")], "from", [false; 2]),
        (&[("dfw.mode", "enforced"), right], "enforce", [false; 2]),
        // Right from here on: what follows keeps it.
        (&[right], "", [true; 2]),
        (
            &[("dfw.ingress", "tcp/70000 from host")],
            "65535",
            [true; 2],
        ),
        (
            &[("dfw.ingress", "tcp/80 from servcie:api")],
            "service",
            [true; 2],
        ),
        (
            &[("dfw.ingress", "tcp/80 from service:api")],
            "project",
            [true; 2],
        ),
        (
            &[("dfw.egress", "any to 10.0.0.1/8"), ("dfw.ingress", "")],
            "10.0.0.0/8",
            [true; 2],
        ),
    ];
    for (labels, says, reached) in cases {
        site.inventory.set("bad", &bad, "other", labels);
        let status = agent.expect_taken(&site.inventory);
        let errors = errors(&status, "bad");
        assert_eq!(errors.is_empty(), says.is_empty(), "{labels:?}: {errors:?}");
        assert!(
            says.is_empty() || errors.iter().any(|error| error.contains(says)),
            "{labels:?}: {errors:?}"
        );
        assert_eq!(open(&bad), reached, "{labels:?}");
        let endpoints = status["endpoints"].as_array().expect("a list");
        let state = |name: &str| {
            let endpoint = endpoints
                .iter()
                .find(|endpoint| endpoint["container"] == name);
            endpoint
                .map(|endpoint| endpoint["state"].clone())
                .expect("it is there")
        };
        assert_eq!(
            state("bad"),
            if says.is_empty() { "ready" } else { "error" },
            "{labels:?}"
        );
        assert_eq!(state("server"), "ready", "{labels:?}");
        let counted = agent.metrics().sum("dfw_label_errors", &[]);
        assert_eq!(counted > 0.0, !says.is_empty(), "{labels:?}: {counted}");
        site.assert_enforced(&format!("{labels:?}"));
    }
    assert!(transfer.goes_on());
    transfer.stop().expect("nobody else notices");
}

#[test]
fn a_bad_inventory_leaves_the_last_good_one_in_force() {
    let site = Site::new();
    let agent = Agent::start(&site.host, &["--inventory", &site.inventory.argument()]);
    site.assert_enforced("at first");
    for (text, place) in [("[[endpoint]]\nname = 1\n", ":2:8: "), ("no toml", ":1:")] {
        site.inventory.overwrite(text);
        let status = agent.expect_status("the file is refused", |status| {
            status["findings"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|finding| {
                    let message = finding["message"].as_str().unwrap_or_default();
                    finding["code"] == "bad-inventory" && message.contains(place)
                })
        });
        assert_eq!(
            status["endpoints"].as_array().map(Vec::len),
            Some(2),
            "{status:#}"
        );
        site.assert_enforced(text);
    }
    let status = agent.expect_taken(&site.inventory);
    assert_eq!(
        status["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|f| f["level"] == "error")
            .count(),
        0,
        "{status:#}"
    );
    site.assert_enforced("put right");
}

#[test]
fn a_full_map_leaves_the_last_good_policy_in_force() {
    let mut site = Site::new();
    let inventory = site.inventory.argument();
    let small = [("DFW_TEST_POLICY_ENTRIES", "64")];
    let agent = Agent::start_with(&site.host, &["--inventory", &inventory], &small);
    site.assert_enforced("at first");
    // Single ports with gaps between need an entry each.
    let ports: Vec<_> = (0..200).map(|n| (1000 + 2 * n).to_string()).collect();
    let large = format!(
        "tcp/80 from container:client; tcp/{} from any",
        ports.join(",")
    );
    site.inventory
        .set("server", &site.server, "lab", &[("dfw.ingress", &large)]);
    site.inventory.write();
    let status = agent.expect_status("the update is refused", |status| {
        status["error"].is_string()
    });
    let error = status["error"].as_str().expect("a text");
    assert!(
        error.contains("POLICY") && error.contains("full"),
        "{error}"
    );
    site.assert_enforced("full");
    assert_eq!(agent.get("/readyz").0, 503, "{status:#}");
    assert!(
        agent.log().contains("last good one stays in force"),
        "{}",
        agent.log()
    );

    site.inventory.set("server", &site.server, "lab", &[GOOD]);
    site.inventory.write();
    agent.expect_status("it goes on", |status| status["error"].is_null());
    assert_eq!(agent.get("/readyz").0, 200);
    site.assert_enforced("room again");
}

#[test]
fn hostile_names_and_labels_break_neither_logs_nor_metrics() {
    const HOSTILE: &str =
        "a\"b\\c{d=\"e\"} 1\n2026-01-01T00:00:00Z  INFO dfw: forged\r\u{1b}[2J\u{2028}é";
    let mut site = Site::new();
    let mut bridge = Bridge::new(&site.host, "br2", 42);
    let evil = bridge.plug("evil");
    let name = "e\"v\\i{l}\u{2028} '$(id)'";
    let labels = [
        ("com.docker.compose.project", HOSTILE),
        ("com.docker.compose.service", HOSTILE),
        ("exitCode", "0"),
        ("dfw.ingress", HOSTILE),
        ("dfw.group", HOSTILE),
        (HOSTILE, HOSTILE),
    ];
    site.inventory.set(name, &evil, "other", &labels);
    site.inventory.write();
    for format in ["text", "json"] {
        let inventory = site.inventory.argument();
        let arguments = [
            "--inventory",
            &inventory,
            "--log-format",
            format,
            "--log-level=debug",
        ];
        let agent = Agent::start(&site.host, &arguments);
        // Makes events about it.
        let attempt = Attempt::new(Protocol::Tcp, evil.at(80)[0]);
        site.host
            .enter(|| attempt.run())
            .expect("the attempt is possible");
        site.assert_enforced("beside it");

        let metrics = agent.get("/metrics").1;
        assert!(metrics.contains("a\\\"b"), "its name is there, escaped");
        let checked = Scratch::new();
        let file = checked.file("metrics", &metrics);
        let file = std::fs::File::open(file).expect("it was just written");
        process::run(
            Command::new("promtool")
                .args(["check", "metrics"])
                .stdin(file),
        );
        for line in metrics.lines() {
            assert!(
                line.starts_with("# ") || line.starts_with("dfw_") || line.starts_with("process_"),
                "{line}"
            );
        }

        let log = agent.log();
        for line in log.split_terminator('\n') {
            let is_whole = match format {
                "json" => serde_json::from_str::<Value>(line).is_ok(),
                _ => {
                    line.starts_with("20")
                        && !line.chars().any(|c| c.is_control() || c == '\u{2028}')
                }
            };
            assert!(
                is_whole && !line.starts_with("2026-01-01T00:00:00Z"),
                "{line:?}"
            );
        }
        for command in [&["ls"][..], &["status"]] {
            let output = agent.command(command);
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            assert!(
                !said.chars().any(|c| c.is_control() && c != '\n'),
                "{said:?}"
            );
            assert!(
                !said.lines().any(|line| line.starts_with("2026-01-01")),
                "{said}"
            );
        }
        for command in [&["ls", "-o", "json"][..], &["status", "-o", "json"]] {
            let output = agent.command(command);
            serde_json::from_slice::<Value>(&output.stdout).expect("dfw prints JSON");
        }
    }
}

#[test]
fn a_port_that_is_taken_is_left_to_its_owner() {
    let site = Site::new();
    let owner = site
        .host
        .enter(|| TcpListener::bind("127.0.0.1:10339"))
        .expect("it is free");
    let files = Scratch::new();
    let bpffs = files.bpffs().join("dfw");
    let socket = files.path().join("dfw.sock").display().to_string();
    let inventory = site.inventory.argument();
    let arguments = [
        "--inventory",
        &inventory,
        "--bpffs",
        &bpffs.display().to_string(),
        "--socket",
        &socket,
    ];
    assert_refused(
        &site,
        &[],
        &arguments,
        1,
        &["cannot listen on 127.0.0.1:10339", "ss -ltnp"],
    );
    assert!(!bpffs.exists(), "nothing was touched");
    drop(owner);
}
