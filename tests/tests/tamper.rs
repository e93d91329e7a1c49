//! Others lay hands on programs, pins and maps, under traffic: what is denied gets through for a moment at most, and what is
//! allowed never notices. `DFW_CAMPAIGN=1` makes more rounds of it.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData},
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        tc::{SchedClassifierLinkId, TcAttachOptions},
    },
};
use dfw_agent::datapath::load::{OBJECT, Pins, program};
use dfw_common::{
    key::PolicyKey,
    maps as layout,
    value::{Endpoint as Port, PolicyEntry, Settings, mode},
};
use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, Protocol,
    campaign::scale,
    canary::{Datagrams, Transfer},
    process, wait,
};
use serde_json::Value;

/// What docs/security.md promises.
const BOUND: Duration = Duration::from_secs(1);
/// How long everything has to hold after each step.
const WATCH: Duration = Duration::from_millis(400);

const INGRESS: TcAttachType = TcAttachType::Ingress;
const EGRESS: TcAttachType = TcAttachType::Egress;

/// A client that may reach some ports of a server, on both families.
struct Site {
    client: Endpoint,
    server: Endpoint,
    inventory: Inventory,
}

impl Site {
    fn new(host: &Namespace) -> Self {
        let mut bridge = Bridge::new(host, "br0", 21);
        let (client, server) = (bridge.plug("client"), bridge.plug("server"));
        let mut inventory = Inventory::new();
        let ingress = [("dfw.ingress", "tcp/80,udp/7001 from container:client")];
        let egress = [("dfw.egress", "any to container:server")];
        inventory.set("client", &client, "shop", &egress);
        inventory.set("server", &server, "shop", &ingress);
        inventory.write();
        Self {
            client,
            server,
            inventory,
        }
    }

    /// The hooks between client and server: a packet that is denied gets through when both are passed by.
    fn hooks(&self) -> [(&str, TcAttachType); 2] {
        [(&self.client.veth, INGRESS), (&self.server.veth, EGRESS)]
    }
}

/// Traffic that must never notice anything, and traffic that must never arrive.
struct Canaries {
    allowed: Vec<Datagrams>,
    transfers: Vec<Transfer>,
    denied: Vec<Datagrams>,
    leaked: u64,
    _listener: Listener,
}

impl Canaries {
    fn start(site: &Site) -> Self {
        let (client, server) = (&site.client.netns, &site.server.netns);
        let listener = server.enter(|| Listener::start(&[80], &[])).expect("free");
        let flows = |port| {
            let to = site.server.at(port).into_iter();
            to.map(|to| Datagrams::start(client, server, to)).collect()
        };
        let transfer = |to: SocketAddr| {
            let stream = client.enter(|| Attempt::new(Protocol::Tcp, to).connect());
            Transfer::start(stream.unwrap_or_else(|error| panic!("{to}: {error}")))
        };
        Self {
            allowed: flows(7001),
            transfers: site.server.at(80).into_iter().map(transfer).collect(),
            denied: flows(7002),
            leaked: 0,
            _listener: listener,
        }
    }

    fn arrived(&self) -> u64 {
        self.denied.iter().map(Datagrams::arrived).sum()
    }

    /// What got through since the last time, when no more does.
    #[track_caller]
    fn leaked(&mut self) -> u64 {
        let at_once = self.arrived();
        thread::sleep(WATCH);
        let arrived = self.arrived();
        // What was on its way when the hooks were put right.
        assert!(
            arrived <= at_once + 4,
            "it goes on: {at_once}, then {arrived}"
        );
        arrived - std::mem::replace(&mut self.leaked, arrived)
    }

    /// Allowed datagrams that were lost.
    #[track_caller]
    fn stop(self) -> u64 {
        assert!(self.transfers.iter().all(Transfer::goes_on));
        for transfer in self.transfers {
            transfer.stop().expect("no transfer was cut");
        }
        let allowed = self.allowed.into_iter().map(Datagrams::stop);
        let lost = allowed.map(|tally| tally.sent - tally.arrived).sum();
        for flow in self.denied {
            let tally = flow.stop();
            assert!(tally.sent > 500, "{tally:?}");
        }
        lost
    }
}

/// A program that lets everything pass, and nobody after it have a say.
struct Foreign {
    object: Ebpf,
    links: Vec<SchedClassifierLinkId>,
}

impl Foreign {
    fn load() -> Self {
        // dfw's own smallest program, `call jiffies; exit`, made to say TCX_PASS.
        const SMALLEST: &[u8] = &[0x85, 0, 0, 0, 0x76, 0, 0, 0, 0x95];
        const PASS: &[u8] = &[0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95];
        let mut bytes = OBJECT.to_vec();
        let mut places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(SMALLEST));
        let (at, more) = (places.next().expect("it is there"), places.next());
        assert_eq!(more, None, "another program begins so too");
        bytes[at..at + PASS.len()].copy_from_slice(PASS);
        let mut loader = EbpfLoader::new();
        for name in [layout::POLICY, layout::FLOWS, layout::FLOW_RING] {
            loader.map_max_entries(name, 1024);
        }
        let mut object = loader.load(&bytes).expect("it loads");
        let program = object.program_mut(program::EMPTY).expect("it is there");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        program.load().expect("the verifier is content");
        Self {
            object,
            links: Vec::new(),
        }
    }

    /// Goes first, in each of these hooks.
    fn go_first(&mut self, host: &Namespace, hooks: &[(&str, TcAttachType)]) {
        self.go(host, hooks, LinkOrder::first);
    }

    fn go(&mut self, host: &Namespace, hooks: &[(&str, TcAttachType)], place: fn() -> LinkOrder) {
        let program = self.object.program_mut(program::EMPTY).expect("loaded");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        let links = &mut self.links;
        host.enter(|| {
            for (interface, hook) in hooks {
                let order = TcAttachOptions::TcxOrder(place());
                let link = program.attach_with_options(interface, *hook, order);
                links.push(link.unwrap_or_else(|error| panic!("{interface}: {error}")));
            }
        });
    }

    fn leave(&mut self, links: usize) {
        let program = self.object.program_mut(program::EMPTY).expect("loaded");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        for link in self.links.drain(..links) {
            program.detach(link).expect("it was attached");
        }
    }
}

/// The fast path would go past a program that comes after dfw's.
#[test]
fn a_program_placed_last_sees_every_packet() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let agent = Agent::start(&host, &["--inventory", &site.inventory.argument()]);
    let detours = |status: &Value| {
        ["client", "server"].map(|name| {
            let mut endpoints = status["endpoints"].as_array().into_iter().flatten();
            let one = endpoints.find(|one| one["container"] == name);
            one.map(|one| one["detour"].clone())
        })
    };
    let none = Some(Value::Null);
    let by_program = Some(Value::from("program"));
    agent.expect_status("both are redirected", |status| {
        detours(status) == [none.clone(), none.clone()]
    });
    let mut foreign = Foreign::load();
    for (hook, wanted) in site.hooks().into_iter().zip([
        [by_program.clone(), none.clone()],
        [none.clone(), by_program],
    ]) {
        foreign.go(&host, &[hook], LinkOrder::last);
        agent.expect_status("it is left to the bridge", |status| {
            detours(status) == wanted
        });
        foreign.leave(1);
        agent.expect_status("both are redirected again", |status| {
            detours(status) == [none.clone(), none.clone()]
        });
    }
}

fn first_is_ours(host: &Namespace, hooks: &[(&str, TcAttachType)]) -> bool {
    host.enter(|| {
        hooks.iter().all(|(interface, hook)| {
            let (_, programs) = SchedClassifier::query_tcx(interface, *hook).expect("it is there");
            let first = programs.first().and_then(|info| info.name_as_str());
            first.is_some_and(|name| name.starts_with("dfw_") && name != program::EMPTY)
        })
    })
}

/// Waits until it is put right; how long that took.
#[track_caller]
fn repaired(what: &str, look: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    let mut look = look;
    wait::expect(what, Duration::from_secs(10), || look().then_some(()));
    let took = began.elapsed();
    assert!(took <= BOUND, "{what}: {took:?}");
    took
}

fn repairs(agent: &Agent<'_>) -> f64 {
    agent.metrics().sum("dfw_tamper_repairs_total", &[])
}

/// Waits until so many more repairs are counted: what is broken piece by piece may take two rounds, and a round is
/// counted at its end.
#[track_caller]
fn expect_repairs(agent: &Agent<'_>, before: f64, more: u32) {
    repaired("each repair is counted", || {
        repairs(agent) >= before + f64::from(more)
    });
}

#[track_caller]
fn assert_told(agent: &Agent<'_>, subject: &str, message: &str) {
    agent.expect_status(message, |status| {
        let findings = status["findings"].as_array().cloned().unwrap_or_default();
        findings.iter().any(|finding| {
            finding["code"] == "tampered"
                && finding["subject"] == subject
                && finding["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(message))
        })
    });
    assert!(agent.log().contains(message), "{}", agent.log());
}

fn start<'host>(host: &'host Namespace, site: &Site) -> Agent<'host> {
    let agent = Agent::start(host, &["--inventory", &site.inventory.argument()]);
    agent.expect_ready("both", 2);
    agent
}

#[test]
fn a_program_placed_first_is_overtaken() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let agent = start(&host, &site);
    let mut canaries = Canaries::start(&site);
    assert_eq!(canaries.leaked(), 0, "before anything happens");
    let mut foreign = Foreign::load();
    let hooks = site.hooks();
    let mut all_leaked = 0;
    for _ in 0..scale(2, 20) {
        let before = repairs(&agent);
        foreign.go_first(&host, &hooks);
        let took = repaired("dfw's programs are first", || first_is_ours(&host, &hooks));
        let leaked = canaries.leaked();
        println!("foreign programs first in 2 hooks: repaired in {took:.0?}, {leaked} leaked");
        all_leaked += leaked;
        expect_repairs(&agent, before, 2);
        foreign.leave(2);
    }
    let message = "another program was placed before dfw's on TCX";
    assert_told(&agent, "client", message);
    assert_told(&agent, "server", message);

    // On the bridge, too.
    let backstop = [("br0", INGRESS), ("br0", EGRESS)];
    foreign.go_first(&host, &backstop);
    repaired("the backstop is first", || first_is_ours(&host, &backstop));
    assert_told(&agent, "br0", message);
    foreign.leave(2);

    // One that comes back again and again.
    let before = repairs(&agent);
    let until = Instant::now() + Duration::from_secs(scale(3, 30));
    let mut times = 0;
    while Instant::now() < until {
        foreign.go_first(&host, &hooks);
        times += 1;
        thread::sleep(Duration::from_millis(50));
        foreign.leave(2);
    }
    repaired("dfw's programs are first in the end", || {
        first_is_ours(&host, &hooks)
    });
    let fought = repairs(&agent) - before;
    let leaked = canaries.leaked();
    println!("a fight: {times} times first in 2 hooks, {fought} repairs, {leaked} leaked");
    // On a busy machine a single time may be over before anybody has sent.
    all_leaked += leaked;
    assert!(all_leaked > 0, "the foreign programs let everything pass");
    assert!(fought >= 4.0, "{fought} repairs of {times}");
    assert!(
        agent.status()["error"].is_null(),
        "the agent goes on working"
    );
    assert_eq!(canaries.stop(), 0, "an allowed datagram was lost");
}

#[test]
fn what_is_detached_or_unpinned_is_put_back() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let mut agent = start(&host, &site);
    let mut canaries = Canaries::start(&site);
    assert_eq!(canaries.leaked(), 0, "before anything happens");
    let hooks = site.hooks();
    let links = agent.bpffs().join("links");
    let pins = || -> Vec<PathBuf> {
        let entries = fs::read_dir(&links).map(|entries| entries.flatten().collect());
        let entries: Vec<fs::DirEntry> = entries.unwrap_or_default();
        entries.iter().map(fs::DirEntry::path).collect()
    };
    let all = pins().len();
    assert_eq!(all, 6, "two endpoints and a bridge");

    // Detached by force: the link is still there, and does nothing.
    let before = repairs(&agent);
    for pin in pins() {
        process::run(
            Command::new("bpftool")
                .args(["link", "detach", "pinned"])
                .arg(pin),
        );
    }
    let took = repaired("the programs are attached again", || {
        first_is_ours(&host, &hooks)
    });
    println!(
        "6 links detached: repaired in {took:.0?}, {} leaked",
        canaries.leaked()
    );
    expect_repairs(&agent, before, 6);
    assert_told(&agent, "server", "was detached from TCX egress");

    // Pins alone do not matter to the traffic.
    let maps = Pins::new(agent.bpffs()).maps();
    let before = repairs(&agent);
    fs::remove_file(maps.join(layout::FLOWS)).expect("it is there");
    for pin in pins() {
        fs::remove_file(pin).expect("it is there");
    }
    repaired("the pins are back", || {
        pins().len() == all && maps.join(layout::FLOWS).exists()
    });
    expect_repairs(&agent, before, 7);
    assert_told(
        &agent,
        "client",
        "the pin of the link on TCX ingress was removed",
    );
    assert_told(&agent, "", "the pin of the map FLOWS was removed");
    fs::remove_dir_all(agent.bpffs()).expect("it is there");
    repaired("everything is pinned again", || {
        pins().len() == all
            && fs::read_dir(&maps).is_ok_and(|maps| maps.count() == layout::PINNED.len())
    });
    assert_eq!(canaries.leaked(), 0);

    // They are the right ones: they hold without the agent, and the next one finds them.
    agent.kill();
    assert_eq!(canaries.leaked(), 0);
    agent.start_again();
    assert!(agent.log().contains("took over what was in force"));
    assert_eq!(canaries.leaked(), 0);
    assert_eq!(canaries.stop(), 0, "an allowed datagram was lost");
}

#[test]
fn what_is_written_into_the_maps_does_not_last() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let agent = start(&host, &site);
    let mut canaries = Canaries::start(&site);
    assert_eq!(canaries.leaked(), 0, "before anything happens");
    let data =
        |name| MapData::from_pin(Pins::new(agent.bpffs()).maps().join(name)).expect("pinned");

    let mut ports: Array<_, Port> = Map::Array(data(layout::ENDPOINTS))
        .try_into()
        .expect("ports");
    let modes = |ports: &Array<MapData, Port>| -> Vec<(u32, u32)> {
        let slots = (0..layout::ENDPOINT_SLOTS).map(|slot| (slot, ports.get(&slot, 0)));
        let slots = slots.map(|(slot, port)| (slot, port.expect("it can be read")));
        let used = slots.filter(|(_, port)| port.ifindex != 0);
        used.map(|(slot, port)| (slot, port.mode)).collect()
    };
    let good = modes(&ports);
    assert_eq!(good.len(), 2);
    let before = repairs(&agent);
    for (slot, _) in &good {
        let port = ports.get(slot, 0).expect("it can be read");
        let disarmed = Port {
            mode: mode::OFF,
            ..port
        };
        ports.set(*slot, disarmed, 0).expect("root may write");
    }
    let took = repaired("the port table is as it was", || modes(&ports) == good);
    // A flow that was let in meanwhile is judged again.
    println!(
        "both ports disarmed: repaired in {took:.0?}, {} leaked",
        canaries.leaked()
    );
    expect_repairs(&agent, before, 1);
    assert_told(&agent, "", "entries of the map ENDPOINTS were changed");

    let mut settings: Array<_, Settings> = Map::Array(data(layout::SETTINGS))
        .try_into()
        .expect("settings");
    let good = settings.get(&0, 0).expect("it can be read");
    let open = Settings {
        adopt_until: good.adopt_until.wrapping_add(1 << 30),
        ..good
    };
    settings.set(0, open, 0).expect("root may write");
    repaired("the settings are as they were", || {
        let now = settings.get(&0, 0).expect("it can be read");
        now.adopt_until == good.adopt_until
    });
    assert_told(&agent, "", "entries of the map SETTINGS were changed");
    assert_eq!(canaries.leaked(), 0);

    // The large ones are read twice a minute.
    if scale(false, true) {
        let mut policy: HashMap<_, PolicyKey, PolicyEntry> = Map::HashMap(data(layout::POLICY))
            .try_into()
            .expect("policy");
        let entries: Vec<_> = policy
            .iter()
            .map(|entry| entry.expect("it can be read"))
            .collect();
        for (key, entry) in &entries {
            let allowed = PolicyEntry {
                verdict: PolicyEntry::ALLOW,
                ..*entry
            };
            policy.insert(key, allowed, 0).expect("root may write");
        }
        wait::expect("the policy is as it was", Duration::from_secs(35), || {
            let all = entries.iter();
            let mut all = all.map(|(key, entry)| policy.get(key, 0).expect("there") == *entry);
            all.all(|is_good| is_good).then_some(())
        });
    }
    assert_eq!(canaries.stop(), 0, "an allowed datagram was lost");
}

#[test]
fn flushing_other_firewalls_changes_nothing() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let agent = start(&host, &site);
    let mut canaries = Canaries::start(&site);
    for _ in 0..scale(2, 20) {
        for veth in [&site.client.veth, &site.server.veth] {
            host.run(&format!("tc qdisc add dev {veth} clsact"));
            host.run(&format!("tc qdisc del dev {veth} clsact"));
        }
        for line in ["nft flush ruleset", "iptables -F", "ip6tables -F"] {
            host.run(line);
        }
        assert_eq!(canaries.leaked(), 0);
    }
    assert!(
        repairs(&agent).abs() < f64::EPSILON,
        "there was nothing to repair"
    );
    // For a qdisc the kernel stops the device for a moment, with dfw or without (qdisc_graft in net/sched/sch_api.c).
    println!("allowed datagrams lost to the qdiscs: {}", canaries.stop());
}
