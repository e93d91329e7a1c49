//! The node's policy file and what the running agent is told: rules by selector, a ceiling, `dfw reload`, `dfw mode`
//! (docs/semantics.md sections 15 and 16).

use std::{
    fs,
    path::PathBuf,
    process::Output,
    thread,
    time::{Duration, Instant},
};

use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, NetNs, Protocol, agent,
    canary::Transfer, process::Signal, scratch::Scratch, wait,
};
use serde_json::Value;

/// For what is denied.
const SHORT: Duration = Duration::from_millis(300);
/// For what shall come: on a busy machine it may come late.
const COMES: Duration = Duration::from_secs(3);
/// For what the agent does by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client and a server on one bridge, and a policy file.
struct Stage<'host> {
    host: &'host Namespace,
    client: Endpoint,
    server: Endpoint,
    inventory: Inventory,
    scratch: Scratch,
    _listener: Listener,
}

impl<'host> Stage<'host> {
    fn new(host: &'host Namespace, subnet: u8, labels: &[(&str, &str)]) -> Self {
        let mut bridge = Bridge::new(host, "br0", subnet);
        let (client, server) = (bridge.plug("client"), bridge.plug("server"));
        let listener = server.netns.enter(|| Listener::start(&[80, 81], &[53]));
        let mut inventory = Inventory::new();
        inventory.set("client", &client, "lab", &[]);
        inventory.set("server", &server, "lab", labels);
        inventory.write();
        Self {
            host,
            client,
            server,
            inventory,
            scratch: Scratch::new(),
            _listener: listener.expect("ports are free"),
        }
    }

    fn policy(&self, text: &str) -> PathBuf {
        self.scratch.file("policy.toml", text)
    }

    fn start(&self, policy: &str, more: &[&str]) -> Agent<'host> {
        let policy = self.policy(policy).display().to_string();
        let inventory = self.inventory.argument();
        let own = ["--inventory", &inventory, "--policy", &policy];
        Agent::start(self.host, &[&own, more].concat())
    }

    /// Whether the client reaches a port of the server, over both families alike.
    #[track_caller]
    fn reaches(&self, port: u16, expected: bool) {
        self.reached_from(&self.client.netns, port, expected);
    }

    #[track_caller]
    fn reached_from(&self, from: &NetNs, port: u16, expected: bool) {
        for to in self.server.at(port) {
            let attempt = Attempt {
                patience: if expected { COMES } else { SHORT },
                ..Attempt::new(Protocol::Tcp, to)
            };
            let outcome = from.enter(|| attempt.run()).expect("it is possible");
            assert_eq!(outcome.is_answered(), expected, "{to}: {outcome}");
        }
    }

    /// Connections to a port, over both families.
    fn transfers(&self, port: u16) -> [Transfer; 2] {
        let open = |to| Transfer::open(&self.client.netns, to);
        self.server.at(port).map(open)
    }
}

#[track_caller]
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code, and what was printed and said.
fn refused(output: &Output) -> (Option<i32>, String) {
    let both = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    (output.status.code(), text)
}

fn codes(status: &Value) -> Vec<&str> {
    let findings = status["findings"].as_array().expect("a list");
    findings
        .iter()
        .filter_map(|finding| finding["code"].as_str())
        .collect()
}

fn mode_of<'a>(status: &'a Value, container: &str) -> &'a Value {
    let endpoints = status["endpoints"].as_array().expect("a list");
    let named = |endpoint: &&Value| endpoint["container"] == container;
    &endpoints.iter().find(named).expect("known")["mode"]
}

const OPEN: &str = "[[rules]]
for = \"container:server\"
ingress = \"tcp/80 from container:client\"
";
const CLOSED: &str = "[[rules]]
for = \"container:server\"
ingress = \"\"
";

#[test]
fn a_rule_by_selector_opens_and_a_reload_closes() {
    let host = Namespace::new();
    let stage = Stage::new(&host, 41, &[]);
    let mut agent = stage.start(OPEN, &[]);
    stage.reaches(80, true);
    stage.reaches(81, false);
    let status = agent.status();
    let rules = &status["endpoints"][1]["rules"];
    let place = format!(
        "{}:3 ingress",
        stage.scratch.path().join("policy.toml").display()
    );
    assert_eq!(
        rules[0],
        format!("{place}: \"tcp/80 from container:client\"")
    );

    let live = stage.transfers(80);
    assert!(live.iter().all(Transfer::goes_on));
    stage.policy(&format!("{OPEN}# as it was\n"));
    done(&agent.command(&["reload"]));
    assert!(
        live.iter().all(Transfer::goes_on),
        "what is allowed still is not touched"
    );

    stage.policy(CLOSED);
    let said = done(&agent.command(&["reload"]));
    assert!(said.contains("policy.toml is in force"), "{said}");
    stage.reaches(80, false);
    for transfer in live {
        transfer.stop().expect_err("a live connection is cut");
    }

    stage.policy(OPEN);
    agent.signal(Signal::HUP);
    let is_open = |status: &Value| status["endpoints"][1]["rules"][0].is_string();
    agent.expect_status("SIGHUP reloads", is_open);
    stage.reaches(80, true);

    // Without the entry nobody governs the server.
    stage.policy("");
    done(&agent.command(&["reload"]));
    stage.reaches(81, true);
    stage.policy("unlabelled = \"enforce\"\n");
    done(&agent.command(&["reload"]));
    stage.reaches(81, false);
    assert_eq!(agent.status()["unlabelled"], "enforce");
}

#[test]
fn a_bad_file_changes_nothing_and_every_mistake_is_told() {
    let host = Namespace::new();
    let stage = Stage::new(&host, 42, &[]);
    let mut agent = stage.start(OPEN, &[]);
    let live = stage.transfers(80);
    stage.policy("[[rules]]\nfor = \"contaner:server\"\ningress = \"tcp/0 from any\"\nmodes = 1\n");
    let (code, said) = refused(&agent.command(&["reload"]));
    assert_eq!(code, Some(78), "{said}");
    let mistakes = [
        "policy.toml:2:8",
        "did you mean `container:`?",
        "policy.toml:3:12",
        "ports go from 1 to 65535",
        "policy.toml:4:1",
        "did you mean `mode`?",
        "the last good one stays in force",
    ];
    for mistake in mistakes {
        assert!(said.contains(mistake), "{mistake} in\n{said}");
    }
    let unchanged = |agent: &Agent<'_>| {
        assert!(live.iter().all(Transfer::goes_on));
        stage.reaches(80, true);
        stage.reaches(81, false);
        let status = agent.status();
        assert!(status["error"].is_null(), "{status:#}");
        status
    };
    assert_eq!(
        codes(&unchanged(&agent)),
        ["unknown-peer", "port-range", "unknown-key"]
    );

    fs::remove_file(stage.scratch.path().join("policy.toml")).expect("it was there");
    let (code, said) = refused(&agent.command(&["reload"]));
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("cannot read the policy file"), "{said}");
    assert_eq!(codes(&unchanged(&agent)), ["bad-policy-file"]);

    // Nor does the next agent start, and what is in force stays.
    agent.terminate();
    let arguments = agent_arguments(&stage, &agent);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, said) = agent::refused(&host, &[], &arguments);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("hint: name a file that exists"), "{said}");
    stage.reaches(81, false);

    stage.policy(OPEN);
    agent.start_again();
    assert_eq!(codes(&unchanged(&agent)), [""; 0]);
    for transfer in live {
        transfer.stop().expect("nothing has cut it");
    }
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    let host = Namespace::new();
    let stage = Stage::new(&host, 46, &[]);
    let policy = stage.policy(OPEN).display().to_string();
    let inventory = stage.inventory.argument();
    let small = [("DFW_TEST_POLICY_ENTRIES", "64")];
    let own = ["--inventory", &inventory, "--policy", &policy];
    let agent = Agent::start_with(&host, &own, &small);
    let live = stage.transfers(80);
    // Single ports with gaps between need an entry each.
    let ports: Vec<String> = (0..200).map(|n| (1000 + 2 * n).to_string()).collect();
    stage.policy(&OPEN.replace("tcp/80", &format!("tcp/81,{}", ports.join(","))));
    let (code, said) = refused(&agent.command(&["reload"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("POLICY") && said.contains("full"), "{said}");
    assert!(said.contains("hint: what was in force stays so"), "{said}");
    assert!(live.iter().all(Transfer::goes_on));
    stage.reaches(80, true);
    stage.reaches(81, false);
    let is_well = |status: &Value| status["error"].is_null();
    agent.expect_status("the last good file is in force", is_well);

    stage.policy(&OPEN.replace("tcp/80", "tcp/80-81"));
    done(&agent.command(&["reload"]));
    stage.reaches(81, true);
    for transfer in live {
        transfer.stop().expect("nothing has cut it");
    }
}

/// As the agent was started, for one that must end by itself.
fn agent_arguments(stage: &Stage<'_>, agent: &Agent<'_>) -> Vec<String> {
    let policy = stage.scratch.path().join("policy.toml");
    let arguments = [
        "--inventory",
        &stage.inventory.argument(),
        "--policy",
        &policy.display().to_string(),
        "--bpffs",
        &agent.bpffs().display().to_string(),
        "--socket",
        &agent.socket().display().to_string(),
    ];
    arguments.map(str::to_owned).to_vec()
}

#[test]
fn the_ceiling_holds_against_a_label() {
    let host = Namespace::new();
    let labels = [("dfw.ingress", "tcp/80,81 from any")];
    let mut stage = Stage::new(&host, 43, &labels);
    let agent = stage.start("", &[]);
    stage.reaches(81, true);
    let live = stage.transfers(81);
    stage.policy("[[ceiling]]\nfor = \"any\"\ningress = \"tcp/80 from any\"\n");
    let said = done(&agent.command(&["reload"]));
    assert!(
        said.contains("beyond-ceiling") && said.contains("tcp/80,81 from any"),
        "{said}"
    );
    stage.reaches(80, true);
    stage.reaches(81, false);
    for transfer in live {
        transfer.stop().expect_err("a live connection is cut");
    }
    stage.reached_from(&host, 80, true);

    // From outside only what the edge says, whatever ceiling and label allow.
    stage.policy("[edge]\npublished = \"tcp/81 from any\"\n");
    done(&agent.command(&["reload"]));
    stage.reached_from(&host, 80, false);
    stage.reached_from(&host, 81, true);
    stage.reaches(80, true);

    // On a node that enforces no label weakens what the ceiling is for.
    let limits = "unlabelled = \"enforce\"\n[[ceiling]]\nfor = \"any\"\ningress = \"tcp/80 from any\"\n[[rules]]\nfor = \"container:client\"\negress = \"any to any\"\n";
    stage.policy(limits);
    done(&agent.command(&["reload"]));
    let off = [labels[0], ("dfw.mode", "off")];
    stage.inventory.set("server", &stage.server, "lab", &off);
    agent.expect_taken(&stage.inventory);
    stage.reaches(80, true);
    stage.reaches(81, false);
}

#[test]
fn a_mode_for_a_while_goes_back_by_itself() {
    let host = Namespace::new();
    let stage = Stage::new(&host, 44, &[("dfw.ingress", "")]);
    let mut agent = stage.start("", &[]);
    let switch = |agent: &Agent<'_>| {
        let began = Instant::now();
        let order = ["mode", "container:server", "audit", "--for", "3s"];
        let said = done(&agent.command(&order));
        assert_eq!(said, "audit for container:server: 1 container, server\n");
        stage.reaches(80, true);
        began
    };
    let goes_back = |agent: &Agent<'_>, began: Instant| {
        let closed = wait::until(PATIENCE, || {
            (mode_of(&agent.status(), "server") == "enforce").then_some(())
        });
        closed.expect("it goes back by itself");
        stage.reaches(80, false);
        began.elapsed()
    };
    stage.reaches(80, false);
    let began = switch(&agent);
    let listed = done(&agent.command(&["mode"]));
    assert!(listed.contains("container:server  audit  for "), "{listed}");
    let listed = done(&agent.command(&["ls"]));
    assert!(listed.contains("audit (dfw mode)"), "{listed}");
    let status = done(&agent.command(&["status"]));
    assert!(status.contains("switched     1 by 1 order"), "{status}");
    assert!(status.contains("would deny   "), "{status}");
    let live = stage.transfers(80);
    let took = goes_back(&agent, began);
    assert!(took >= Duration::from_secs(3), "{took:?}");
    for transfer in live {
        transfer.stop().expect_err("a live connection is cut");
    }
    eprintln!("back and closed after {took:?}");

    // Killed and started again before its time is over, and after.
    let began = switch(&agent);
    agent.kill();
    stage.reaches(80, true);
    agent.start_again();
    if began.elapsed() < Duration::from_secs(2) {
        stage.reaches(80, true);
        assert_eq!(mode_of(&agent.status(), "server"), "audit");
    }
    goes_back(&agent, began);
    let began = switch(&agent);
    agent.kill();
    thread::sleep(Duration::from_secs(3).saturating_sub(began.elapsed()));
    agent.start_again();
    stage.reaches(80, false);
    assert!(
        !agent.socket().with_extension("modes").exists(),
        "nothing stays behind"
    );

    // Without a time it holds until it is cleared, and the last word counts.
    done(&agent.command(&["mode", "any", "off"]));
    done(&agent.command(&["mode", "container:server net:lab", "enforce"]));
    stage.reaches(80, false);
    done(&agent.command(&["mode", "container:server net:lab", "--clear"]));
    stage.reaches(80, true);
    agent.kill();
    agent.start_again();
    stage.reaches(80, true);
    done(&agent.command(&["mode", "any", "--clear"]));
    stage.reaches(80, false);
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let host = Namespace::new();
    let stage = Stage::new(&host, 45, &[]);
    let mut agent = Agent::start(&host, &["--inventory", &stage.inventory.argument()]);
    let (code, said) = refused(&agent.command(&["mode", "container:servr", "off"]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("did you mean `container:server`?"), "{said}");
    let (code, said) = refused(&agent.command(&["mode", "any", "--clear"]));
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = refused(&agent.command(&["reload"]));
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("hint: start the agent with --policy FILE"),
        "{said}"
    );

    let socket = agent.socket().display().to_string();
    let mut command = host.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    let binary = agent::binary();
    command.args([&binary, "mode", "any", "off", "--socket", &socket]);
    let (code, said) = refused(&dfw_tests::process::output(&mut command));
    assert_eq!(code, Some(77), "{said}");
    assert!(
        agent.status()["overrides"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    agent.terminate();
    let (code, _) = refused(&agent.command(&["mode", "any", "off"]));
    assert_eq!(code, Some(69));
}
