//! What happens to containers takes effect: new labels, a restart, another name, another network.

use std::{net::SocketAddr, time::Duration};

use dfw_tests::{
    Agent, Attempt, Bridge, Container, Engine, EngineOptions, Inventory, Listener, Namespace,
    NetNs, Protocol, campaign::scale, wait,
};
use serde_json::Value;

/// For what is denied.
const SHORT: Duration = Duration::from_millis(300);
/// How long a change may take until it holds; far more than it does.
const PATIENCE: Duration = Duration::from_secs(5);

const LISTEN: [&str; 3] = ["dfw-probe", "listen", "tcp/80"];

fn is_answered(from: &NetNs, to: SocketAddr) -> bool {
    let attempt = Attempt {
        patience: SHORT,
        ..Attempt::new(Protocol::Tcp, to)
    };
    from.enter(|| attempt.run())
        .expect("the attempt is possible")
        .is_answered()
}

/// An engine under dfw.
struct Site<'a> {
    engine: &'a Engine,
    agent: &'a Agent<'a>,
}

impl<'a> Site<'a> {
    fn server(&self, rule: &str) -> Container<'a> {
        let label = format!("--label=dfw.ingress={rule}");
        self.engine
            .container("server", &["--network=shop", &label], &LISTEN)
    }

    fn client(&self, name: &str) -> Container<'a> {
        self.engine.container(
            name,
            &["--network=shop", "--label=dfw.egress=any to any"],
            &LISTEN,
        )
    }

    /// On both families, as soon as the change has come through, and still a little later.
    #[track_caller]
    fn assert_becomes(&self, what: &str, from: &Container<'_>, to: [SocketAddr; 2], reached: bool) {
        let from = from.netns();
        let is_so = || to.iter().all(|to| is_answered(&from, *to) == reached);
        let became = wait::until(PATIENCE, || is_so().then_some(()));
        if became.is_none() || !is_so() {
            let word = if reached { "open" } else { "closed" };
            let answered = to.map(|to| (to, is_answered(&from, to)));
            panic!(
                "{what}: not {word}: {answered:?}\n{:#}",
                self.agent.status()
            );
        }
    }
}

/// Findings of the agent about a container.
fn findings(agent: &Agent<'_>, subject: &str) -> Vec<Value> {
    let status = agent.status();
    let findings = status["findings"].as_array().cloned().unwrap_or_default();
    findings
        .into_iter()
        .filter(|finding| finding["subject"] == subject)
        .collect()
}

#[test]
fn of_containers() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    engine.network("back", 2);
    let agent = Agent::start(
        engine.host(),
        &["--docker-host", &engine.socket(), "--log-level=debug"],
    );
    let site = Site {
        engine: &engine,
        agent: &agent,
    };
    new_labels(&site);
    a_restart(&site);
    another_name(&site);
    another_network(&site);
    image_labels(&site);
    what_is_not_protected(&site);
}

/// A container that is made again with other labels, most likely with the same address.
fn new_labels(site: &Site<'_>) {
    let client = site.client("client");
    let times = scale(1, 50);
    for _ in 0..times {
        let first = site.server("tcp/80 from container:client");
        site.assert_becomes("first labels", &client, first.at("shop", 80), true);
        first.remove();
        let second = site.server("tcp/80 from container:nobody");
        site.assert_becomes("other labels", &client, second.at("shop", 80), false);
        second.remove();
        let third = site.server("tcp/80 from container:client");
        site.assert_becomes("first labels again", &client, third.at("shop", 80), true);
        third.remove();
    }
    client.remove();
}

/// A restart makes a new link.
fn a_restart(site: &Site<'_>) {
    let client = site.client("client");
    let stranger = site.client("stranger");
    let server = site.server("tcp/80 from container:client");
    for _ in 0..2 {
        site.assert_becomes("server and client", &client, server.at("shop", 80), true);
        site.assert_becomes(
            "server and stranger",
            &stranger,
            server.at("shop", 80),
            false,
        );
        site.engine
            .docker(&["restart", "--time=0", server.id(), client.id()]);
    }
    for container in [client, stranger, server] {
        container.remove();
    }
}

fn another_name(site: &Site<'_>) {
    let client = site.client("somebody");
    let server = site.server("tcp/80 from container:client");
    site.assert_becomes("before", &client, server.at("shop", 80), false);
    site.engine.docker(&["rename", "somebody", "client"]);
    site.assert_becomes("named as in the rule", &client, server.at("shop", 80), true);
    site.engine.docker(&["rename", "client", "somebody"]);
    site.assert_becomes("named otherwise", &client, server.at("shop", 80), false);
    client.remove();
    server.remove();
}

/// Several networks a container, and each leg under the same rules.
fn another_network(site: &Site<'_>) {
    let server = site.server("tcp/80 from net:back");
    let client = site.client("client");
    let stranger = site.client("stranger");
    site.engine
        .docker(&["network", "connect", "back", server.id()]);
    site.assert_becomes("on one network", &client, server.at("shop", 80), false);
    for _ in 0..2 {
        site.engine
            .docker(&["network", "connect", "back", client.id()]);
        site.assert_becomes("connected", &client, server.at("back", 80), true);
        // Each leg stands for itself.
        site.assert_becomes("the other leg", &client, server.at("shop", 80), false);
        site.assert_becomes("not connected", &stranger, server.at("shop", 80), false);
        site.engine
            .docker(&["network", "disconnect", "back", client.id()]);
        site.assert_becomes("disconnected", &client, server.at("shop", 80), false);
    }
    for container in [client, stranger, server] {
        container.remove();
    }
}

/// A pulled image must neither disarm its policy nor claim to be somebody.
fn image_labels(site: &Site<'_>) {
    let labels = [
        "LABEL dfw.mode=off",
        "LABEL dfw.group=trusted",
        "LABEL com.docker.compose.project=shop com.docker.compose.service=api",
    ];
    site.engine.load_image("evil", &labels);
    let project = "--label=com.docker.compose.project=shop";
    let rule = "--label=dfw.ingress=tcp/80 from service:api,group:trusted";
    let db = site
        .engine
        .container("db", &["--network=shop", project, rule], &LISTEN);
    let evil = site
        .engine
        .container_of("evil", "evil", &["--network=shop"], &LISTEN);
    let api = [
        "--network=shop",
        project,
        "--label=com.docker.compose.service=api",
    ];
    let api = site.engine.container("api", &api, &LISTEN);
    site.assert_becomes(
        "who was labelled by the user",
        &api,
        db.at("shop", 80),
        true,
    );
    site.assert_becomes(
        "who was labelled by its image",
        &evil,
        db.at("shop", 80),
        false,
    );
    let reported: Vec<_> = findings(site.agent, "evil")
        .iter()
        .map(|finding| finding["label"].clone())
        .collect();
    for label in ["dfw.mode", "dfw.group", "com.docker.compose.service"] {
        assert!(
            reported.iter().any(|known| known == label),
            "{label} is not in {reported:?}"
        );
    }
    let status = site.agent.status();
    let endpoints = status["endpoints"].as_array().expect("a list");
    let mode = endpoints
        .iter()
        .find(|endpoint| endpoint["container"] == "evil");
    assert_eq!(
        mode.expect("it is governed")["mode"],
        "audit",
        "as the node says"
    );
    for container in [db, evil, api] {
        container.remove();
    }
}

/// Coverage is honest.
fn what_is_not_protected(site: &Site<'_>) {
    let owner = site.server("tcp/80 from container:client");
    let network = format!("--network=container:{}", owner.id());
    let joiner = site.engine.container(
        "joiner",
        &[&network, "--label=dfw.ingress=any from any"],
        &[],
    );
    let on_host = site.engine.container("on-host", &["--network=host"], &[]);
    let admin = site
        .engine
        .container("mighty", &["--network=shop", "--cap-add=NET_ADMIN"], &[]);
    let client = site.client("client");
    site.assert_becomes(
        "the owner's rules hold",
        &client,
        owner.at("shop", 80),
        true,
    );
    let status = site.agent.expect_status("all are listed", |status| {
        let listed = status["unprotected"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let is_listed = |name: &str, why: &str| {
            listed
                .iter()
                .any(|entry| entry["container"] == name && entry["why"] == why)
        };
        is_listed("joiner", "shared")
            && is_listed("on-host", "host-network")
            && is_listed("mighty", "net-admin")
    });
    let metrics = site.agent.metrics();
    for why in ["shared", "host-network", "net-admin"] {
        let why = format!("why=\"{why}\"");
        let count = metrics.sum("dfw_unprotected_containers", &[&why]);
        assert!(
            (count - 1.0).abs() < f64::EPSILON,
            "{why}: {count}\n{status:#}"
        );
    }
    let findings = findings(site.agent, "joiner");
    assert!(
        findings
            .iter()
            .any(|finding| finding["code"] == "rules-on-joiner"),
        "{findings:?}"
    );
    for container in [joiner, owner, on_host, admin, client] {
        container.remove();
    }
}

/// Two networks with the same subnet: an address means something only within its network.
#[test]
fn equal_subnets() {
    let host = Namespace::new();
    let mut inventory = Inventory::new();
    let mut nets = Vec::new();
    // The same addresses in the same order; who may enter is turned round.
    for (net, allowed) in [("a", "client"), ("b", "other")] {
        let mut bridge = Bridge::new(&host, &format!("br-{net}"), 30);
        let mut plug = |role: &str, label: (&str, &str)| {
            let name = format!("{net}-{role}");
            let endpoint = bridge.plug(&name);
            inventory.set(&name, &endpoint, net, &[label]);
            endpoint
        };
        let rule = format!("tcp/80 from container:{net}-{allowed}");
        let server = plug("server", ("dfw.ingress", &rule));
        let client = plug("client", ("dfw.egress", "any to any"));
        let other = plug("other", ("dfw.egress", "any to any"));
        let listener = server
            .netns
            .enter(|| Listener::start(&[80], &[]))
            .expect("port is free");
        nets.push((server, client, other, listener));
    }
    inventory.write();
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    agent.expect_ready("all are governed", 6);
    for (number, (server, client, other, _)) in nets.iter().enumerate() {
        for to in server.at(80) {
            assert_eq!(
                is_answered(&client.netns, to),
                number == 0,
                "net {number}, {to}"
            );
            assert_eq!(
                is_answered(&other.netns, to),
                number == 1,
                "net {number}, {to}"
            );
        }
    }
    assert_eq!(
        nets[0].0.at(80),
        nets[1].0.at(80),
        "the addresses are equal"
    );
}
