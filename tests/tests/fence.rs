//! The fence between ports that no program is on: nf_tables in the kernel, alone and under the agent.

use std::{collections::BTreeSet, thread, time::Duration};

use dfw_agent::datapath::fence::{Fence, remove};
use dfw_tests::{Agent, Bridge, Endpoint, Inventory, Listener, Namespace, NetNs, wait};

struct Site<'host> {
    host: &'host Namespace,
    ends: Vec<Endpoint>,
    _listeners: Vec<Listener>,
}

impl<'host> Site<'host> {
    /// So many namespaces on a bridge, each with a listener on TCP port 80.
    fn new(host: &'host Namespace, bridge: &mut Bridge<'_>, names: &[&str]) -> Self {
        let ends: Vec<_> = names.iter().map(|name| bridge.plug(name)).collect();
        let listeners = ends
            .iter()
            .map(|end| end.netns.enter(|| Listener::start(&[80], &[])));
        let _listeners = listeners.map(|l| l.expect("the port is free")).collect();
        Self {
            host,
            ends,
            _listeners,
        }
    }

    fn ifindex(&self, number: usize) -> u32 {
        let name = &self.ends[number].veth;
        let line = self.host.run(&format!("ip -oneline link show dev {name}"));
        let (ifindex, _) = line.split_once(':').expect("a link has a number");
        ifindex.parse().expect("a number")
    }

    #[track_caller]
    fn assert_reach(&self, when: &str, from: usize, to: usize, reaches: bool) {
        assert_reach(when, &self.ends[from].netns, &self.ends[to], reaches);
    }
}

/// Both families.
#[track_caller]
fn assert_reach(when: &str, from: &NetNs, to: &Endpoint, reaches: bool) {
    for to in to.at(80) {
        from.assert_reaches(when, to, reaches);
    }
}

#[test]
fn only_two_unknown_ports_are_kept_apart() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 40);
    let site = Site::new(&host, &mut bridge, &["known", "one", "two"]);
    let known = BTreeSet::from([site.ifindex(0)]);
    let all: BTreeSet<u32> = (0..3).map(|number| site.ifindex(number)).collect();
    site.assert_reach("no fence", 1, 2, true);

    let mut fence = Fence::default();
    host.enter(|| fence.set(Some(&known))).expect("a fence");
    site.assert_reach("two unknown", 1, 2, false);
    site.assert_reach("from the known one", 0, 1, true);
    site.assert_reach("to the known one", 2, 0, true);
    let look = host.enter(|| fence.look()).expect("a look");
    assert!(!look.is_repaired);
    assert!(
        look.dropped.packets >= 2 && look.dropped.bytes >= 2 * 42,
        "both families: {look:?}"
    );

    // All of what somebody may do to it.
    for sabotage in [
        "flush ruleset",
        "delete table bridge dfw",
        "flush chain bridge dfw forward",
        "flush set bridge dfw known",
        "insert rule bridge dfw forward accept",
    ] {
        host.run(&format!("nft {sabotage}"));
        let look = host.enter(|| fence.look()).expect("a look");
        assert!(look.is_repaired, "{sabotage}");
        site.assert_reach(sabotage, 1, 2, false);
        site.assert_reach(sabotage, 0, 1, true);
        let again = host.enter(|| fence.look()).expect("a look");
        assert!(!again.is_repaired, "{sabotage}");
    }

    host.enter(|| fence.set(Some(&all))).expect("a wider fence");
    site.assert_reach("all are known", 1, 2, true);
    host.enter(|| fence.set(Some(&known))).expect("a fence");
    site.assert_reach("known no more", 1, 2, false);
    // A new process knows nothing of the old one's table.
    let mut next = Fence::default();
    host.enter(|| next.set(Some(&all))).expect("taken over");
    site.assert_reach("taken over", 1, 2, true);
    host.enter(|| next.set(Some(&known))).expect("a fence");
    site.assert_reach("closed again", 1, 2, false);
    host.enter(|| next.set(None)).expect("no fence");
    site.assert_reach("removed", 1, 2, true);
    host.enter(remove).expect("nothing to remove");
    assert_eq!(host.run("nft list ruleset"), "");
}

#[test]
fn a_fence_holds_many_ports() {
    let host = Namespace::new();
    let many: BTreeSet<u32> = (1..=4500).collect();
    let mut fence = Fence::default();
    host.enter(|| fence.set(Some(&many))).expect("a fence");
    let look = host.enter(|| fence.look()).expect("a look");
    assert!(!look.is_repaired);
}

/// Who is born while no agent runs, on a node that enforces, reaches nobody of its kind; on one that audits it does.
#[test]
fn two_newborns_without_the_agent() {
    for (mode, is_open) in [("enforce", false), ("audit", true)] {
        let host = Namespace::new();
        let mut bridge = Bridge::new(&host, "br0", 40);
        let governed = Site::new(&host, &mut bridge, &["old", "older"]);
        let mut inventory = Inventory::new();
        for end in &governed.ends {
            let name = end.veth.trim_start_matches("veth-");
            let labels = [
                ("dfw.ingress", "any from any"),
                ("dfw.egress", "any to any"),
            ];
            inventory.set(name, end, "lab", &labels);
        }
        inventory.write();
        let path = inventory.path().display().to_string();
        let mut agent = Agent::start(&host, &["--inventory", &path, "--unlabelled", mode]);
        agent.expect_ready("two", 2);
        agent.kill();
        let born = Site::new(&host, &mut bridge, &["one", "two"]);
        born.assert_reach(mode, 0, 1, is_open);
        governed.assert_reach(mode, 0, 1, true);

        agent.start_again();
        agent.expect_status("what was open is told, and nothing else", |status| {
            let findings = status["findings"].as_array().map(Vec::as_slice);
            let open = findings
                .unwrap_or_default()
                .iter()
                .filter(|finding| finding["code"] == "was-open");
            open.count() == if is_open { 2 } else { 0 }
        });
        for (number, name) in ["one", "two"].iter().enumerate() {
            inventory.set(
                name,
                &born.ends[number],
                "lab",
                &[
                    ("dfw.ingress", "any from any"),
                    ("dfw.egress", "any to any"),
                ],
            );
        }
        inventory.write();
        agent.expect_ready("four", 4);
        born.assert_reach("known at last", 0, 1, true);
        if !is_open {
            let labels = [r#"verdict="deny""#, r#"reason="unmanaged""#];
            agent.expect_metrics("the fence's drops are counted", |metrics| {
                metrics.sum("dfw_packets_total", &labels) > 0.0
            });
            host.run("nft flush ruleset");
            let back = || host.run("nft list ruleset").contains("table bridge dfw");
            let is_back = wait::until(Duration::from_secs(1), || back().then_some(()));
            assert!(is_back.is_some(), "restored within a second");
        }
        assert!(agent.uninstall().status.success());
        agent.kill();
        thread::sleep(Duration::from_millis(10));
        assert_eq!(host.run("nft list ruleset"), "", "uninstalled");
    }
}
