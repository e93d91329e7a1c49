//! One version follows another, under traffic: nothing is detached, what is denied stays denied, and what is allowed is cut
//! only by another layout of the maps. `DFW_CAMPAIGN=1` makes it twenty times to and fro.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use dfw_common::maps::ABI_VERSION;
use dfw_tests::{
    Agent, Bridge, Endpoint, Inventory, Listener, Namespace, agent,
    campaign::scale,
    canary::{Datagrams, Tally, Transfer},
    process, wait,
};
use serde_json::Value;

/// How long everything has to hold after each step.
const WATCH: Duration = Duration::from_millis(500);

/// The object with its log statements is another program to the kernel; the maps are the same.
const ONE: &[(&str, &str)] = &[("DFW_LOG_LEVEL", "info")];
const OTHER: &[(&str, &str)] = &[("DFW_LOG_LEVEL", "trace")];

struct Site {
    client: Endpoint,
    server: Endpoint,
    inventory: Inventory,
    _listener: Listener,
}

impl Site {
    fn new(host: &Namespace) -> Self {
        let mut bridge = Bridge::new(host, "br0", 22);
        let (client, server) = (bridge.plug("client"), bridge.plug("server"));
        let mut inventory = Inventory::new();
        let ingress = [("dfw.ingress", "tcp/80,udp/7001 from container:client")];
        let egress = [("dfw.egress", "any to container:server")];
        inventory.set("client", &client, "shop", &egress);
        inventory.set("server", &server, "shop", &ingress);
        inventory.write();
        let listener = server.netns.enter(|| Listener::start(&[80, 81], &[]));
        Self {
            client,
            server,
            inventory,
            _listener: listener.expect("the ports are free"),
        }
    }

    fn arguments(&self) -> [String; 2] {
        ["--inventory".to_owned(), self.inventory.argument()]
    }

    fn transfers(&self) -> Vec<Transfer> {
        let to = self.server.at(80).into_iter();
        to.map(|to| Transfer::open(&self.client.netns, to))
            .collect()
    }

    fn datagrams(&self, port: u16) -> Vec<Datagrams> {
        let to = self.server.at(port).into_iter();
        to.map(|to| Datagrams::start(&self.client.netns, &self.server.netns, to))
            .collect()
    }

    #[track_caller]
    fn assert_enforced(&self, when: &str) {
        for (port, is_allowed) in [(80, true), (81, false)] {
            for to in self.server.at(port) {
                self.client.netns.assert_reaches(when, to, is_allowed);
            }
        }
    }
}

fn tallies(flows: Vec<Datagrams>) -> Vec<Tally> {
    let tallies: Vec<Tally> = flows.into_iter().map(Datagrams::stop).collect();
    assert!(tallies.iter().all(|tally| tally.sent > 1000), "{tallies:?}");
    tallies
}

#[track_caller]
fn assert_none_leaked(denied: Vec<Datagrams>) {
    let tallies = tallies(denied);
    println!("denied: {tallies:?}");
    assert!(
        tallies.iter().all(|tally| tally.arrived == 0),
        "{tallies:?}"
    );
}

fn bpftool(arguments: &[&str]) -> Value {
    let shown = process::run(Command::new("bpftool").arg("--json").args(arguments));
    serde_json::from_str(&shown).expect("JSON")
}

/// A pinned link: its id, its program's, and that program's length in the kernel.
type Pinned = (u64, u64, u64);

/// Every link, by id.
fn programs(bpffs: &Path) -> Vec<Pinned> {
    let entries = fs::read_dir(bpffs.join("links")).expect("links are pinned");
    let pins: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    let mut programs: Vec<_> = pins
        .iter()
        .map(|pin| {
            let link = bpftool(&["link", "show", "pinned", &pin.display().to_string()]);
            let program = bpftool(&["prog", "show", "id", &link["prog_id"].to_string()]);
            let number = |value: &Value| value.as_u64().expect("a number");
            (
                number(&link["id"]),
                number(&link["prog_id"]),
                number(&program["bytes_xlated"]),
            )
        })
        .collect();
    programs.sort_unstable();
    programs
}

#[test]
fn another_object_takes_over_without_a_gap() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let [flag, file] = site.arguments();
    let mut agent = Agent::start_with(&host, &[&flag, &file], ONE);
    agent.expect_ready("both", 2);
    let (transfers, allowed, denied) =
        (site.transfers(), site.datagrams(7001), site.datagrams(7002));
    let mut before = programs(agent.bpffs());
    for round in 0..2 * scale(2, 20) {
        // An upgrade ends the agent in one way or the other.
        if round % 4 < 2 {
            agent.kill();
        } else {
            agent.terminate();
        }
        agent.set_environment(if round % 2 == 0 { OTHER } else { ONE });
        agent.start_again();
        let after = programs(agent.bpffs());
        for (now, then) in after.iter().zip(&before) {
            assert_eq!(now.0, then.0, "the same link");
            assert_ne!(now.1, then.1, "with another program");
        }
        let lengths = |links: &[Pinned]| links.iter().map(|link| link.2).sum::<u64>();
        assert_ne!(lengths(&after), lengths(&before), "which does more or less");
        assert_eq!(after.len(), before.len());
        before = after;
        site.assert_enforced("after the change");
        assert!(transfers.iter().all(Transfer::goes_on), "round {round}");
    }
    for transfer in transfers {
        transfer.stop().expect("no transfer was cut");
    }
    let allowed = tallies(allowed);
    println!("allowed: {allowed:?}");
    assert!(
        allowed.iter().all(|tally| tally.sent == tally.arrived),
        "lost: {allowed:?}"
    );
    assert_none_leaked(denied);
}

#[test]
fn another_layout_of_the_maps_opens_nothing() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let [flag, file] = site.arguments();
    let mut agent = Agent::start(&host, &[&flag, &file]);
    agent.expect_ready("both", 2);
    let (allowed, denied) = (site.datagrams(7001), site.datagrams(7002));
    for version in [ABI_VERSION + 1, ABI_VERSION].map(|version| version.to_string()) {
        let transfers = site.transfers();
        assert!(transfers.iter().all(Transfer::goes_on));
        let links = programs(agent.bpffs());
        agent.terminate();
        agent.set_environment(&[("DFW_TEST_ABI_VERSION", &version)]);
        agent.start_again();
        site.assert_enforced("with the other layout");
        for transfer in transfers {
            let cut = transfer.stop();
            assert!(cut.is_err(), "its flow is of the other layout: {cut:?}");
        }
        let cut = agent
            .metrics()
            .sum("dfw_packets_total", &["reason=\"no-syn\""]);
        assert!(cut > 0.0, "it is counted why");
        assert!(agent.log().contains("another map layout is in force"));
        let ids = |links: &[Pinned]| links.iter().map(|link| link.0).collect::<Vec<_>>();
        assert_eq!(
            ids(&programs(agent.bpffs())),
            ids(&links),
            "nothing was detached"
        );
        let versions = fs::read_dir(agent.bpffs()).expect("it is there");
        let mut names: Vec<_> = versions
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .into_string()
                    .expect("ASCII")
            })
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["links", &format!("v{version}")],
            "the former maps are gone"
        );
    }
    let allowed = tallies(allowed);
    println!("allowed: {allowed:?}");
    // UDP goes on by itself; a datagram between two links that change may be judged by both layouts.
    assert!(
        allowed.iter().all(|tally| tally.sent - tally.arrived < 50),
        "{allowed:?}"
    );
    assert_none_leaked(denied);
    assert!(agent.uninstall().status.success());
    agent.expect_ended();
    assert!(!agent.bpffs().exists(), "a pin is left");
}

#[test]
fn an_object_that_the_kernel_refuses_changes_nothing() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let [flag, file] = site.arguments();
    let mut agent = Agent::start(&host, &[&flag, &file]);
    agent.expect_ready("both", 2);
    let (transfers, allowed, denied) =
        (site.transfers(), site.datagrams(7001), site.datagrams(7002));
    let before = programs(agent.bpffs());
    // What the verifier is shown as the map of addresses has no room for one.
    let [next, later] = [ABI_VERSION + 1, ABI_VERSION + 2];
    let bpffs = agent.bpffs().to_owned();
    let directory = |version| bpffs.join(format!("v{version}"));
    let maps = directory(next).join("maps");
    fs::create_dir_all(&maps).expect("it is a BPF file system");
    let map = "type hash key 4 value 4 entries 1 name wrong";
    let mut create = Command::new("bpftool");
    create.args(["map", "create"]).arg(maps.join("ADDRESSES"));
    process::run(create.args(map.split(' ')));
    agent.terminate();
    let (bpffs_path, socket) = (bpffs.display().to_string(), agent.socket());
    let socket = socket.display().to_string();
    let arguments = [&flag, &file, "--bpffs", &bpffs_path, "--socket", &socket];
    for version in [next, later] {
        let version_variable = format!("DFW_TEST_ABI_VERSION={version}");
        // Nothing lies in the way of the later version but a map without room, which the kernel does not make.
        let wrapper = [
            "env",
            version_variable.as_str(),
            "DFW_TEST_POLICY_ENTRIES=0",
        ];
        let (code, said) = agent::refused(
            &host,
            &wrapper[..if version == next { 2 } else { 3 }],
            &arguments,
        );
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the kernel refuses the"), "{said}");
        assert!(
            said.contains("enforcement that was in place stays as it was"),
            "{said}"
        );
        assert_eq!(programs(agent.bpffs()), before);
        site.assert_enforced("refused");
    }
    assert!(!directory(later).exists(), "maps that nobody uses");
    thread::sleep(WATCH);
    agent.start_again();
    wait::expect(
        "the maps of the refused object are gone",
        Duration::from_secs(3),
        || (!directory(next).exists()).then_some(()),
    );
    site.assert_enforced("started again");
    for transfer in transfers {
        transfer.stop().expect("no transfer was cut");
    }
    let allowed = tallies(allowed);
    assert!(
        allowed.iter().all(|tally| tally.sent == tally.arrived),
        "{allowed:?}"
    );
    assert_none_leaked(denied);
}
