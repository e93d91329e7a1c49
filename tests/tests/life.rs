//! The agent comes, dies, comes back and goes, under traffic: what is denied stays denied, what is allowed is never
//! touched.

use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dfw_tests::{
    Agent, Attempt, Container, Engine, EngineOptions, Listener, Namespace, NetNs, Protocol,
    campaign::scale,
    canary::{Canaries, Transfer},
    process, wait,
};
use serde_json::Value;

const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const LAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// An engine with a server, a client and a LAN.
struct Site {
    lan: Namespace,
    engine: Engine,
}

/// The ends of the traffic on a site.
struct Ends<'site> {
    server: Container<'site>,
    client: Container<'site>,
    _listener: Listener,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            lan: Namespace::new(),
            engine: Engine::start(EngineOptions::default()),
        };
        let host = site.engine.host();
        host.veth("uplink", &site.lan, "eth0");
        host.run(&format!("ip address add {UPLINK}/24 dev uplink"));
        site.lan.run(&format!("ip address add {LAN}/24 dev eth0"));
        site.engine.network("shop", 1);
        site
    }

    fn ends(&self) -> Ends<'_> {
        let ingress =
            "--label=dfw.ingress=tcp/80,udp/7001 from container:client; tcp/80 from world";
        let egress = "--label=dfw.egress=any to container:server; tcp/443 to world";
        let listen = ["dfw-probe", "listen", "tcp/80", "tcp/81"];
        let options = ["--network=shop", "--publish=8080:80", ingress];
        Ends {
            server: self.engine.container("server", &options, &listen),
            client: self
                .engine
                .container("client", &["--network=shop", egress], &[]),
            _listener: self
                .lan
                .enter(|| Listener::start(&[443], &[]))
                .expect("the port is free"),
        }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::start(
            self.engine.host(),
            &["--docker-host", &self.engine.socket()],
        )
    }
}

/// What is allowed and open, and must never notice anything.
fn allowed(site: &Site, ends: &Ends<'_>) -> Canaries {
    let (client, server) = (ends.client.netns(), ends.server.netns());
    let mut canaries = Canaries::default();
    for to in ends.server.at("shop", 80) {
        canaries.transfer(&client, to);
    }
    canaries.transfer(&site.lan, (UPLINK, 8080).into());
    canaries.transfer(&client, (LAN, 443).into());
    for to in ends.server.at("shop", 7001) {
        canaries.allow(&client, &server, to);
    }
    canaries
}

/// What new connections see: policy, whether the agent is there or not.
#[track_caller]
fn assert_enforced(ends: &Ends<'_>, when: &str) {
    let client = ends.client.netns();
    for (port, is_allowed) in [(80, true), (81, false)] {
        for to in ends.server.at("shop", port) {
            client.assert_reaches(when, to, is_allowed);
        }
    }
}

#[test]
fn installed_killed_taken_over_and_stopped_under_traffic() {
    let site = Site::new();
    let ends = site.ends();
    let (client, server) = (ends.client.netns(), ends.server.netns());
    let mut canaries = allowed(&site, &ends);
    let forbidden = ends
        .server
        .at("shop", 81)
        .map(|to| Transfer::open(&client, to));
    assert!(
        forbidden.iter().all(Transfer::goes_on),
        "nothing is denied yet"
    );

    let mut agent = site.agent();
    canaries.assert_going_on("installed");
    for transfer in forbidden {
        assert!(
            transfer.stop().is_err(),
            "a connection that no rule allows is cut"
        );
    }
    assert_enforced(&ends, "installed");
    let adopted = agent
        .metrics()
        .sum("dfw_packets_total", &["reason=\"adopted\""]);
    assert!(adopted > 0.0, "open connections are taken in");
    for to in ends.server.at("shop", 7002) {
        canaries.deny(&client, &server, to);
    }

    let kills = scale(2, 100);
    for kill in 1..=kills {
        agent.kill();
        assert_enforced(&ends, "killed");
        canaries.assert_going_on("killed");
        agent.start_again();
        assert_enforced(&ends, "taken over");
        canaries.assert_going_on("taken over");
        if kill % 10 == 0 {
            println!("{kill} of {kills} kills");
        }
    }
    let status = agent.terminate();
    assert!(status.success(), "SIGTERM: {status}");
    assert!(
        agent.log().contains("enforcement stays in place"),
        "{}",
        agent.log()
    );
    assert_enforced(&ends, "stopped");
    canaries.assert_going_on("stopped");
    agent.start_again();
    canaries.assert_going_on("started again");

    println!("{kills} kills: {}", canaries.assert_unharmed());
}

#[test]
fn uninstall_leaves_nothing() {
    let site = Site::new();
    let ends = site.ends();
    let mut agent = site.agent();
    assert_enforced(&ends, "installed");
    let objects = pinned(agent.bpffs());
    let count = |kind| objects.iter().filter(|(known, _)| *known == kind).count();
    assert!(
        count("link") >= 4 && count("prog") >= 4 && count("map") >= 10,
        "{objects:?}"
    );

    // It stops the agent too.
    let output = agent.uninstall();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("stopped the agent") && said.contains("removed"),
        "{said}"
    );
    agent.expect_ended();
    assert!(!agent.bpffs().exists(), "a pin is left");
    assert!(!agent.socket().exists(), "the socket is left");
    let there = || {
        objects
            .iter()
            .filter(|(kind, id)| shown(kind, &["id", &id.to_string()]).is_some())
    };
    let gone = wait::until(Duration::from_secs(5), || {
        (there().count() == 0).then_some(())
    });
    assert!(gone.is_some(), "left: {:?}", there().collect::<Vec<_>>());
    let client = ends.client.netns();
    for to in ends.server.at("shop", 81) {
        let outcome = client.enter(|| Attempt::new(Protocol::Tcp, to).run());
        assert!(
            outcome.expect("the attempt is possible").is_answered(),
            "something is enforced"
        );
    }
    // Once more does no harm.
    assert!(agent.uninstall().status.success());
}

/// Kind and id of everything that is held by the pins below a directory.
fn pinned(bpffs: &Path) -> BTreeSet<(&'static str, u64)> {
    let mut objects = BTreeSet::new();
    for directory in list(bpffs) {
        let (kind, pins) = if directory.ends_with("links") {
            ("link", directory)
        } else {
            ("map", directory.join("maps"))
        };
        for pin in list(&pins) {
            let object = shown(kind, &["pinned", &pin.display().to_string()]);
            let object = object.unwrap_or_else(|| panic!("{} is no {kind}", pin.display()));
            objects.insert((kind, object["id"].as_u64().expect("an id")));
            objects.extend(object["prog_id"].as_u64().map(|id| ("prog", id)));
        }
    }
    objects
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| entry.expect("it can be read").path())
        .collect()
}

/// A BPF object, as bpftool shows it; none when there is no such.
fn shown(kind: &str, which: &[&str]) -> Option<Value> {
    let mut show = Command::new("bpftool");
    let output = process::output(show.args(["--json", kind, "show"]).args(which));
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// Rules do not matter here: who carries some is closed to unknown neighbours, whatever the node's mode.
#[test]
fn who_is_born_without_the_agent() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let start = |name: &str, labels: &[&str]| {
        let options = [&["--network=shop"], labels].concat();
        engine.container(name, &options, &["dfw-probe", "listen", "tcp/80"])
    };
    let old = start(
        "old",
        &[
            "--label=dfw.ingress=any from any",
            "--label=dfw.egress=any to any",
        ],
    );
    for (mode, is_open) in [("enforce", false), ("audit", true)] {
        let socket = engine.socket();
        let mut agent = Agent::start(
            engine.host(),
            &["--docker-host", &socket, "--unlabelled", mode],
        );
        agent.kill();
        let born = start(mode, &[]);
        let [born_ns, old_ns] = [&born, &old].map(Container::netns);
        let ways: [(_, &NetNs, _, _); 3] = [
            ("host to newborn", engine.host(), &born, is_open),
            ("newborn to governed", &born_ns, &old, false),
            ("governed to newborn", &old_ns, &born, false),
        ];
        for (way, from, to, passes) in ways {
            for to in to.at("shop", 80) {
                from.assert_reaches(&format!("{mode}: {way}"), to, passes);
            }
        }
        agent.start_again();
        agent.expect_ready("the newborn is governed", 2);
        born.remove();
    }
}
