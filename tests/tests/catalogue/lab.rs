//! The stage on plain namespaces behind a bridge.

use std::{cell::RefCell, fs};

use dfw_tests::{Agent, Bridge, Endpoint, Inventory, Namespace, leaks::LeakCheck};

use crate::stage::{Attack, Attacker, Party, Stage};

/// The network's name in the inventory.
const NETWORK: &str = "lab";
/// What victim and friend open.
pub(crate) const OPEN_PORTS: &str = "udp/7,tcp/70";
/// What the victim may dial at the attacker's.
const DIALLED: &str = "icmp/8,icmp6/128,tcp/71";

/// A bridge with everybody behind it, no agent yet.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) stage: Stage,
    /// It changes while an agent reads it.
    inventory: RefCell<Inventory>,
    pub(crate) attacker: Endpoint,
    pub(crate) victim: Endpoint,
    pub(crate) friend: Endpoint,
    pub(crate) host: Namespace,
    // At last.
    _leaks: LeakCheck,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let leaks = LeakCheck::new();
        let host = Namespace::new();
        let mut bridge = Bridge::new(&host, "br0", 50);
        // It would look at packets before they arrive, and drop some that a plain bridge does not.
        for family in ["iptables", "ip6tables", "arptables"] {
            let call = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            // Not there where the kernel has no such filter.
            host.enter(|| fs::write(call, "0")).unwrap_or_default();
        }
        let (attacker, victim) = (bridge.plug("attacker"), bridge.plug("victim"));
        let friend = bridge.plug("friend");
        let (v4, v6) = bridge.gateway();
        let party = |end: &Endpoint| Party::new(end.netns.again(), "eth0", end.v4, end.v6);
        let stage = Stage {
            attacker: party(&attacker),
            victim: party(&victim),
            friend: party(&friend),
            gateway: Party::new(host.again(), "br0", v4, v6),
        };
        let lab = Self {
            stage,
            inventory: RefCell::new(Inventory::new()),
            attacker,
            victim,
            friend,
            host,
            _leaks: leaks,
        };
        lab.set_victim(&format!(
            "{OPEN_PORTS} from container:attacker,container:friend"
        ));
        lab.set_friend(&format!(
            "{OPEN_PORTS} from container:attacker,container:victim"
        ));
        lab.set_attacker(Attacker::Enforces);
        lab.inventory.borrow().write();
        lab
    }

    /// Whom the victim lets in.
    pub(crate) fn set_victim(&self, ingress: &str) {
        let egress = format!("{DIALLED} to container:attacker");
        self.set(
            "victim",
            &self.victim,
            &[("dfw.ingress", ingress), ("dfw.egress", &egress)],
        );
    }

    /// Whom the friend lets in.
    pub(crate) fn set_friend(&self, ingress: &str) {
        let egress = format!("{OPEN_PORTS} to container:victim");
        self.set(
            "friend",
            &self.friend,
            &[("dfw.ingress", ingress), ("dfw.egress", &egress)],
        );
    }

    pub(crate) fn set_attacker(&self, attacker: Attacker) {
        let mode = match attacker {
            Attacker::Enforces => "enforce",
            Attacker::IsFree => "off",
        };
        let ingress = format!("{DIALLED} from container:victim");
        let labels = [
            ("dfw.mode", mode),
            ("dfw.egress", "any to any"),
            ("dfw.ingress", &ingress),
        ];
        self.set("attacker", &self.attacker, &labels);
    }

    fn set(&self, name: &str, endpoint: &Endpoint, labels: &[(&str, &str)]) {
        self.inventory
            .borrow_mut()
            .set(name, endpoint, NETWORK, labels);
    }

    /// Starts one that enforces the inventory.
    pub(crate) fn agent(&self) -> Agent<'_> {
        let inventory = self.inventory.borrow().argument();
        let agent = Agent::start(&self.host, &["--inventory", &inventory]);
        agent.expect_ready("everybody is governed", 3);
        agent
    }

    /// With an attacker that enforces, as it is at first, and with one that does not.
    #[track_caller]
    pub(crate) fn with_each_attacker(&self, agent: &Agent<'_>, check: impl Fn(Attacker)) {
        check(Attacker::Enforces);
        self.set_attacker(Attacker::IsFree);
        self.commit(agent);
        check(Attacker::IsFree);
    }

    /// What was set since takes effect.
    #[track_caller]
    pub(crate) fn commit(&self, agent: &Agent<'_>) {
        agent.expect_taken(&self.inventory.borrow());
    }

    /// Writes what was set for an agent that is still to come.
    pub(crate) fn write(&self) {
        self.inventory.borrow().write();
    }
}

/// Shows of each attack that it is one, and that dfw stops it whatever the attacker's own labels say.
#[track_caller]
pub(crate) fn show(attacks: impl Fn(&Stage) -> Vec<Attack<'_>>) {
    show_after(|_| (), attacks);
}

/// As [`show`], where something has to happen before.
#[track_caller]
pub(crate) fn show_after(prepare: impl Fn(&Stage), attacks: impl Fn(&Stage) -> Vec<Attack<'_>>) {
    let lab = Lab::new();
    let stage = &lab.stage;
    stage.assert_arrive(&attacks(stage));
    let agent = lab.agent();
    lab.with_each_attacker(&agent, |attacker| {
        prepare(stage);
        stage.assert_dropped(&agent, attacker, &attacks(stage));
    });
}
