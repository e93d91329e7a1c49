//! Debian's Prometheus reads the agent, and a query finds what a denied connection raised.

use std::{fs::File, process::Command};

use dfw_tests::{
    Agent, Attempt, Bridge, Inventory, Listener, Namespace, Outcome, Prometheus, Protocol, process,
    scratch::Scratch,
};

const DENIED: &str = r#"dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"}"#;

#[test]
fn a_query_returns_what_a_denied_connection_raised() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 40);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let _listener = server
        .netns
        .enter(|| Listener::start(&[80], &[]))
        .expect("the port is free");
    let mut inventory = Inventory::new();
    inventory.set("client", &client, "lab", &[]);
    let rule = ("dfw.ingress", "tcp/81 from container:client");
    inventory.set("server", &server, "lab", &[rule]);
    inventory.write();
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    let mut prometheus = Prometheus::start(&host);
    // A counter that did not count yet may be absent.
    let before = prometheus.value(DENIED).unwrap_or_default();
    for to in server.at(80) {
        let attempt = Attempt::new(Protocol::Tcp, to).expecting(false);
        let outcome = client.netns.enter(|| attempt.run());
        assert_eq!(
            outcome.expect("the attempt is possible"),
            Outcome::Silent,
            "{to}"
        );
    }
    prometheus.expect("both denied connections are seen", |prometheus| {
        prometheus.value(DENIED).filter(|now| *now >= before + 2.0)
    });

    let (status, text) = agent.get("/metrics");
    assert_eq!(status, 200);
    assert_promtool_is_content(&text);
}

#[track_caller]
fn assert_promtool_is_content(metrics: &str) {
    let scratch = Scratch::new();
    let file = scratch.file("metrics", metrics);
    let stdin = File::open(&file).expect("it was just written");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(stdin);
    let output = process::output(&mut promtool);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "promtool: {}\n{said}\n{metrics}",
        output.status
    );
}
