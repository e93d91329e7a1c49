//! Debian's Prometheus reads the agent, and a query finds what a denied connection raised.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use dfw_tests::{
    Agent, Attempt, Bridge, Inventory, Listener, Namespace, Outcome, Protocol, http, process,
    process::Daemon, scratch::Scratch,
};
use serde_json::Value;

/// Prometheus' start, and a scrape a second.
const PATIENCE: Duration = Duration::from_secs(30);

const DENIED: &str = r#"dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"}"#;

const CONFIG: &str = "
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: dfw
    static_configs:
      - targets: ['127.0.0.1:10339']
";

/// It has the network namespace to itself, with the agent.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

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
    let scratch = Scratch::new();
    let mut prometheus = start_prometheus(&host, &scratch);

    let is_up = || query(&host, r#"up{job="dfw"}"#).filter(|up| *up > 0.0);
    prometheus.expect("Prometheus reads the agent", PATIENCE, is_up);
    // A counter that did not count yet may be absent.
    let before = query(&host, DENIED).unwrap_or_default();
    for to in server.at(80) {
        let attempt = Attempt::new(Protocol::Tcp, to).expecting(false);
        let outcome = client.netns.enter(|| attempt.run());
        assert_eq!(
            outcome.expect("the attempt is possible"),
            Outcome::Silent,
            "{to}"
        );
    }
    let raised = || query(&host, DENIED).filter(|now| *now >= before + 2.0);
    prometheus.expect("both denied connections are seen", PATIENCE, raised);

    let (status, text) = agent.get("/metrics");
    assert_eq!(status, 200);
    assert_promtool_is_content(&scratch, &text);
}

fn start_prometheus(host: &Namespace, scratch: &Scratch) -> Daemon {
    let config = scratch.file("prometheus.yml", CONFIG);
    let mut command = host.command("prometheus");
    command.arg("--config.file").arg(config);
    command
        .arg("--storage.tsdb.path")
        .arg(scratch.path().join("data"));
    command.arg(format!("--web.listen-address={SERVER}"));
    Daemon::start(&mut command, &scratch.path().join("prometheus.log"))
}

/// The value of the one series of an instant query; none while there is none, or nobody answers.
fn query(host: &Namespace, query: &str) -> Option<f64> {
    let path = format!("/api/v1/query?query={}", percent_encoded(query));
    let (status, body) = host.enter(|| http::get(SERVER, &path)).ok()?;
    if status != 200 {
        return None;
    }
    let answer: Value = serde_json::from_str(&body).expect("Prometheus answers JSON");
    answer["data"]["result"][0]["value"][1]
        .as_str()?
        .parse()
        .ok()
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[track_caller]
fn assert_promtool_is_content(scratch: &Scratch, metrics: &str) {
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
