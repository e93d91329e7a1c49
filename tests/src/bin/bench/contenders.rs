//! Who is measured: nothing at all, what users run today, and dfw.

use dfw_tests::{Agent, prefixes, process, scratch::Scratch};

use crate::{
    emulations, interrupt,
    results::Description,
    rival::Rival,
    rounds::Trial,
    stage::{End, On, Stage},
    uplink,
};

/// One of them.
pub(crate) struct Contender {
    pub(crate) id: &'static str,
    /// For tables and plots.
    title: &'static str,
    /// For people who want to know exactly.
    made: &'static str,
    /// Between what ends.
    pub(crate) on: On,
    /// About as many rules of its server, where dfw judges.
    pub(crate) rules: usize,
    law: Law,
    /// Whether traffic passes, or is denied.
    pub(crate) passes: bool,
    /// Measured also in the shortest run.
    is_among_few: bool,
}

/// What judges the packets.
enum Law {
    /// Nobody.
    None,
    /// The engine's own rules.
    Docker,
    /// A ruleset for `nft -f`.
    Nft(fn(&Ends<'_>) -> String),
    /// One for `iptables-restore`, the old one, which is the faster one.
    Iptables(fn(&Ends<'_>) -> String),
    /// The programs of dfw-ebpf/src/rival.rs.
    Rival,
    /// An agent with these arguments.
    Dfw(&'static [&'static str]),
}

/// Between whom.
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a End,
    pub(crate) server: &'a End,
}

/// How many contenders.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Few,
    All,
}

/// Defaults, for a table of differences.
const BASE: Contender = Contender {
    id: PLAIN,
    title: "plain bridge",
    made: "two namespaces on a bridge, `bridge-nf-call-iptables` off, no rules",
    on: On::Bridge,
    rules: 0,
    law: Law::None,
    passes: true,
    is_among_few: true,
};

/// What everybody is compared with.
pub(crate) const PLAIN: &str = "plain";
/// The same once more: what a difference of that size is worth.
pub(crate) const NULL: &str = "null";
/// What everybody at an uplink is compared with, and the same once more.
pub(crate) const NO_FILTER: &str = "uplink-plain";
pub(crate) const NO_FILTER_NULL: &str = "uplink-null";
/// Docker as it comes.
pub(crate) const DOCKER: &str = "docker";

/// Each of them.
pub(crate) static CONTENDERS: &[Contender] = &[
    BASE,
    Contender {
        id: NULL,
        title: "plain bridge again (null pair)",
        made: "another one of the same",
        ..BASE
    },
    Contender {
        id: DOCKER,
        title: "Docker's default",
        made: "two containers on the default bridge of an engine of its own, its own rules: br_netfilter, conntrack, masquerade",
        on: On::Engine,
        law: Law::Docker,
        ..BASE
    },
    Contender {
        id: "whalewall-containers",
        title: "whalewall-like, 100 containers",
        made: "emulation: whalewall's chains by `nft -f`, a verdict map and a chain for each of 100 containers, one rule pair each; br_netfilter; without Docker's own chains, which it has before it in reality",
        law: Law::Nft(emulations::whalewall_containers),
        ..BASE
    },
    Contender {
        id: "whalewall-rules",
        title: "whalewall-like, 100 rule pairs a chain",
        made: "emulation: the same with two containers of 100 rule pairs, the last of which match",
        law: Law::Nft(emulations::whalewall_rules),
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "iptables-1k",
        title: "iptables, 1 000 linear rules",
        made: "emulation: the FORWARD chain by `iptables-legacy-restore` (iptables over nf_tables is slower), the last rules match; br_netfilter, no connection tracking",
        law: Law::Iptables(|ends| emulations::iptables(ends, 1_000, false)),
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "iptables-10k",
        title: "iptables, 10 000 linear rules",
        made: "emulation: the same",
        law: Law::Iptables(|ends| emulations::iptables(ends, 10_000, false)),
        ..BASE
    },
    Contender {
        id: "iptables-established-1k",
        title: "iptables, established first, 1 000 rules",
        made: "emulation: the same after a rule that accepts what conntrack knows",
        law: Law::Iptables(|ends| emulations::iptables(ends, 1_000, true)),
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "iptables-established-10k",
        title: "iptables, established first, 10 000 rules",
        made: "emulation: the same",
        law: Law::Iptables(|ends| emulations::iptables(ends, 10_000, true)),
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "cilium-like",
        title: "Cilium-like, policy of 1 000",
        made: "emulation: two BPF programs on each veth, each with identity by longest prefix, connection tracking by two tuples in an LRU table and policy by longest prefix; 1 000 entries; no br_netfilter",
        law: Law::Rival,
        ..BASE
    },
    Contender {
        id: "dfw",
        title: "dfw",
        made: "both ends labelled and enforced, the agent as shipped (redirect on), on the plain bridge",
        law: Law::Dfw(&["--fast-path", "on"]),
        ..BASE
    },
    Contender {
        id: "dfw-off",
        title: "dfw, redirect off",
        made: "the same with `--fast-path off`",
        law: Law::Dfw(&["--fast-path", "off"]),
        ..BASE
    },
    Contender {
        id: "dfw-10k",
        title: "dfw, 10 000 rules",
        made: "as dfw, the server with 10 000 rules more",
        rules: 10_000,
        law: Law::Dfw(&["--fast-path", "on"]),
        ..BASE
    },
    Contender {
        id: "docker-dfw",
        title: "dfw on Docker's default",
        made: "dfw for two containers on the default bridge of an engine of its own",
        on: On::Engine,
        law: Law::Dfw(&["--fast-path", "on"]),
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "drop-nft-ip",
        title: "nftables drop in the forward chain",
        made: "`udp dport` and `tcp dport` in a chain of ip forward, by br_netfilter",
        law: Law::Nft(emulations::drop_in_ip),
        passes: false,
        ..BASE
    },
    Contender {
        id: "drop-nft-bridge",
        title: "nftables drop in a bridge chain",
        made: "the same in a chain of bridge forward, br_netfilter off",
        law: Law::Nft(emulations::drop_in_bridge),
        passes: false,
        is_among_few: false,
        ..BASE
    },
    Contender {
        id: "drop-dfw",
        title: "dfw drop",
        made: "denied by the client's own rules",
        law: Law::Dfw(&[]),
        passes: false,
        ..BASE
    },
    Contender {
        id: NO_FILTER,
        title: "uplink without a filter",
        made: "the host's NIC is one end of a veth, the sender beyond it; what a rule would drop comes to a closed port, and the stack answers SYNs",
        on: UPLINK,
        ..BASE
    },
    Contender {
        id: NO_FILTER_NULL,
        title: "uplink without a filter again (null pair)",
        made: "another one of the same",
        on: UPLINK,
        ..BASE
    },
    Contender {
        id: "uplink-nft",
        title: "nftables netdev ingress set",
        made: "interval sets of 100 000 prefixes, half of them IPv6, in a chain of netdev ingress",
        on: UPLINK,
        law: Law::Nft(|_| uplink::nft()),
        ..BASE
    },
    Contender {
        id: "uplink-dfw-native",
        title: "dfw --uplink, native",
        made: "the agent with the same prefixes in `deny`; XDP in the driver, with what that costs a veth",
        on: UPLINK,
        law: Law::Dfw(&[]),
        ..BASE
    },
    Contender {
        id: "uplink-dfw-generic",
        title: "dfw --uplink, generic",
        made: "the same on a NIC whose driver has no XDP: a veth whose peer has two queues",
        on: On::Uplink { queues: 2 },
        law: Law::Dfw(&[]),
        ..BASE
    },
];

/// The driver has XDP.
const UPLINK: On = On::Uplink { queues: 1 };

impl Contender {
    /// For the record.
    pub(crate) fn describe(&self) -> Description {
        Description {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            made: self.made.to_owned(),
        }
    }

    /// Whether its rules know IPv6 as they know IPv4.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.on == On::Bridge && matches!(self.law, Law::None | Law::Dfw(_))
    }

    /// Whether it counts packets.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self.law, Law::None)
    }
}

/// Builds the stage of everybody who takes part, with its rules, agents aside; fewer when interrupted.
pub(crate) fn build(field: Field, trials: &[&Trial], cpu: usize) -> Vec<Stage> {
    let contenders = CONTENDERS
        .iter()
        .filter(|one| field == Field::All || one.is_among_few)
        .filter(|one| trials.iter().any(|trial| trial.takes(one)));
    let mut stages = Vec::new();
    for contender in contenders {
        if interrupt::came() {
            break;
        }
        eprintln!("  {}", contender.title);
        let mut stage = Stage::new(contender, cpu);
        stage.legislate();
        stages.push(stage);
    }
    stages
}

/// The agents of those that have one.
pub(crate) fn start_agents(stages: &[Stage]) -> Vec<Option<Agent<'_>>> {
    stages.iter().map(start_agent).collect()
}

fn start_agent(stage: &Stage) -> Option<Agent<'_>> {
    let Law::Dfw(arguments) = stage.contender.law else {
        return None;
    };
    let own = stage.options();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let arguments = [&own, arguments].concat();
    let agent = Agent::start(stage.host(), &arguments);
    if let On::Uplink { queues } = stage.contender.on {
        let mode = if queues == 1 { "native" } else { "generic" };
        agent.expect_status("the uplink is as it is called", |status| {
            status["uplinks"][0]["state"] == mode && status["denied"] == prefixes::PREFIXES
        });
        return Some(agent);
    }
    agent.expect_ready("both ends", 2);
    if stage.contender.passes {
        let is_off = arguments.contains(&"off");
        agent.expect_status("packets take the way that is measured", |status| {
            let ends = status["endpoints"].as_array();
            ends.is_some_and(|ends| ends.iter().all(|end| end["detour"].is_null() != is_off))
        });
    }
    Some(agent)
}

impl Stage {
    fn legislate(&mut self) {
        let ends = Ends {
            client: self.client(),
            server: self.server(),
        };
        let (command, text) = match self.contender.law {
            Law::None | Law::Docker | Law::Dfw(_) => return,
            Law::Rival => {
                self.rival = Some(self.host().enter(|| Rival::attach(&ends)));
                return;
            }
            Law::Nft(text) => (["nft", "-f"], text(&ends)),
            Law::Iptables(text) => (["iptables-legacy-restore", "--noflush"], text(&ends)),
        };
        let is_bridged = self.contender.on != UPLINK;
        if is_bridged && !text.starts_with(emulations::BRIDGE_TABLE) {
            self.host().sysctl("bridge/bridge-nf-call-iptables", "1");
        }
        let scratch = Scratch::new();
        let file = scratch.file("rules", &text);
        let [program, option] = command;
        process::run(self.host().command(program).arg(option).arg(file));
    }

    /// Packets that its rules have counted so far.
    pub(crate) fn counted(&self, agent: Option<&Agent<'_>>) -> u64 {
        match self.contender.law {
            Law::None => 0,
            Law::Rival => self.rival.as_ref().map_or(0, Rival::counted),
            Law::Dfw(_) => {
                let metrics = agent.expect("it was started").metrics();
                metrics.sum("dfw_packets_total", &[]) as u64
            }
            // `counter packets 12 bytes 34`
            Law::Nft(_) => sum_of(
                &self.host().run("nft --terse list ruleset"),
                "packets ",
                ' ',
            ),
            // `[12:34] -A …`
            Law::Iptables(_) => sum_of(
                &self.host().run("iptables-legacy-save --counters"),
                "[",
                ':',
            ),
            Law::Docker => sum_of(
                &self.host().run("iptables-save --counters --table filter"),
                "[",
                ':',
            ),
        }
    }
}

fn sum_of(text: &str, before: &str, after: char) -> u64 {
    let parts = text.split(before).skip(1);
    parts
        .filter_map(|part| part.split(after).next()?.parse::<u64>().ok())
        .sum()
}
