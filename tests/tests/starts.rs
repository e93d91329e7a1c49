//! The start race: containers whose first process sends frames as fast as it can, from its first instruction on. What is
//! delivered to neighbours, host and world is counted by their own kernels. `DFW_CAMPAIGN=1` makes it a thousand starts.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::Range,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use dfw_tests::{
    Agent, Container, Engine, EngineOptions, Namespace,
    campaign::scale,
    process::{self, Signal},
    receipts::{Hook, PORTS, Receipts, is_complete},
    wait,
};
use serde_json::Value;

/// Starts at a time.
const AT_A_TIME: usize = 20;
/// How long a first process sends.
const SECOND: Duration = Duration::from_secs(1);
/// How long the agent may take to be right again after it was stopped.
const CONVERGENCE: Duration = Duration::from_secs(5);
/// How long the last packets may be on their way.
const TAIL: Duration = Duration::from_millis(200);

const LISTEN: [&str; 3] = ["dfw-probe", "listen", "tcp/80"];

/// One that is blasted at.
struct Receiver {
    name: &'static str,
    addresses: [IpAddr; 2],
    /// Of the next hop.
    mac: String,
    receipts: Receipts,
}

/// An engine with a LAN.
struct Site {
    lan: Namespace,
    engine: Engine,
}

/// Whom a new container could reach.
struct Targets<'site> {
    engine: &'site Engine,
    receivers: Vec<Receiver>,
    _neighbours: [Container<'site>; 2],
    /// The next start's own port.
    next: AtomicU16,
}

impl Site {
    const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    fn new() -> Self {
        let site = Self {
            lan: Namespace::new(),
            engine: Engine::start(EngineOptions::default()),
        };
        let host = site.engine.host();
        host.veth("uplink", &site.lan, "eth0");
        host.run("ip address add 192.0.2.1/24 dev uplink");
        host.run("ip address add 2001:db8::1/64 dev uplink nodad");
        let (v4, v6) = (Self::V4, Self::V6);
        site.lan.run(&format!("ip address add {v4}/24 dev eth0"));
        site.lan
            .run(&format!("ip address add {v6}/64 dev eth0 nodad"));
        site.engine.network("shop", 1);
        site
    }

    fn targets(&self) -> Targets<'_> {
        let engine = &self.engine;
        let start = |name, label| engine.container(name, &["--network=shop", label], &[]);
        let guarded = start(
            "guarded",
            "--label=dfw.ingress=tcp/80 from container:nobody",
        );
        let plain = start("plain", "--label=what=ever");
        let neighbour = |name, container: &Container<'_>| Receiver {
            name,
            addresses: container.at("shop", 0).map(|address| address.ip()),
            mac: container.inspect("{{.NetworkSettings.Networks.shop.MacAddress}}"),
            receipts: Receipts::new(&container.netns(), Hook::Prerouting),
        };
        let id = engine.docker(&["network", "inspect", "--format", "{{.Id}}", "shop"]);
        let show = format!("ip -json link show dev br-{}", &id[..12]);
        let bridge: Value = serde_json::from_str(&engine.host().run(&show)).expect("JSON");
        let bridge = bridge[0]["address"].as_str().expect("a MAC").to_owned();
        // Until duplicate address detection is over, the host does not take what is for it.
        wait::expect("the gateway's address", Duration::from_secs(10), || {
            let tentative = engine.host().run("ip -6 address show tentative");
            tentative.is_empty().then_some(())
        });
        let gateways = [
            IpAddr::from([10, 78, 1, 1]),
            IpAddr::from([0xfd78, 1, 0, 0, 0, 0, 0, 1]),
        ];
        Targets {
            engine,
            receivers: vec![
                neighbour("guarded neighbour", &guarded),
                neighbour("plain neighbour", &plain),
                Receiver {
                    name: "host",
                    addresses: gateways,
                    mac: bridge.clone(),
                    receipts: Receipts::new(engine.host(), Hook::Input),
                },
                Receiver {
                    name: "world",
                    addresses: [Self::V4.into(), Self::V6.into()],
                    mac: bridge,
                    receipts: Receipts::new(&self.lan, Hook::Prerouting),
                },
            ],
            _neighbours: [guarded, plain],
            next: AtomicU16::new(PORTS.start),
        }
    }

    fn agent(&self, unlabelled: &str) -> Agent<'_> {
        let socket = self.engine.socket();
        let options = ["--docker-host", &socket, "--unlabelled", unlabelled];
        Agent::start(self.engine.host(), &options)
    }
}

impl Targets<'_> {
    /// So many starts, up to [`AT_A_TIME`] at once; returns the ports of their packets.
    fn blast(&self, starts: u16, time: Duration, labels: &[&str]) -> Range<u16> {
        let first = self.next.load(Ordering::Relaxed);
        let end = first + starts;
        assert!(end <= PORTS.end, "a test has {} starts", PORTS.len());
        let (began, sent) = (Instant::now(), AtomicU64::new(0));
        let worker = || {
            loop {
                let port = self.next.fetch_add(1, Ordering::Relaxed);
                if port >= end {
                    return;
                }
                sent.fetch_add(self.start(port, time, labels), Ordering::Relaxed);
                let number = port - first + 1;
                if number.is_multiple_of(100) {
                    println!("{number} of {starts} starts, {:.0?}", began.elapsed());
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(usize::from(starts)) {
                scope.spawn(worker);
            }
        });
        self.next.store(end, Ordering::Relaxed);
        thread::sleep(TAIL);
        let (took, sent) = (began.elapsed(), sent.into_inner());
        println!("{starts} starts sent {sent} frames in {took:.0?}");
        first..end
    }

    /// One start, to its end; how many frames it sent.
    fn start(&self, port: u16, time: Duration, labels: &[&str]) -> u64 {
        let targets = self.receivers.iter().flat_map(|receiver| {
            let at = |address| format!("{}@{}", SocketAddr::new(address, port), receiver.mac);
            receiver.addresses.map(at)
        });
        let mut run = self.engine.command(&["run", "--rm", "--network=shop"]);
        run.args(labels).args(["dfwt", "dfw-probe", "blast"]);
        run.arg(time.as_millis().to_string()).args(targets);
        let sent = process::run(&mut run);
        let sent = sent.trim().parse().expect("the probe prints a number");
        assert!(sent > 0, "the first process sent nothing");
        sent
    }

    /// A test that cannot fail shows nothing: without dfw everything arrives.
    #[track_caller]
    fn assert_all_delivered(&self, ports: Range<u16>) {
        for Receiver { name, receipts, .. } in &self.receivers {
            let seen = receipts.seen();
            for port in ports.clone() {
                let kinds = seen.get(&port).cloned().unwrap_or_default();
                assert!(is_complete(&kinds), "{name} got {kinds:?} without dfw");
            }
        }
    }

    #[track_caller]
    fn assert_none_delivered(&self, what: &str, ports: Range<u16>) {
        let mut leaks = Vec::new();
        for Receiver { name, receipts, .. } in &self.receivers {
            for (port, kinds) in receipts.seen().range(ports.clone()) {
                leaks.push(format!("start {}: {name}: {kinds:?}", port - ports.start));
            }
        }
        let starts = ports.len();
        assert!(
            leaks.is_empty(),
            "{what}: of {starts} starts:\n{}",
            leaks.join("\n")
        );
        println!("{what}: {starts} starts, 0 packets delivered");
    }
}

#[test]
fn on_a_node_that_enforces() {
    let site = Site::new();
    let targets = site.targets();
    targets.assert_all_delivered(targets.blast(2, SECOND, &[]));
    let _agent = site.agent("enforce");
    let ports = targets.blast(scale(10, 1000), SECOND, &[]);
    targets.assert_none_delivered("enforce", ports);
}

/// Here the container's own rules have to be in force in time; there is no backstop.
#[test]
fn with_rules_of_its_own_on_a_node_in_audit() {
    let site = Site::new();
    let targets = site.targets();
    targets.assert_all_delivered(targets.blast(2, SECOND, &["--label=dfw.egress="]));
    let _agent = site.agent("audit");
    let ports = targets.blast(scale(10, 300), SECOND, &["--label=dfw.egress="]);
    targets.assert_none_delivered("audit, with rules", ports);
}

#[test]
fn while_the_agent_is_killed_and_started_again() {
    let site = Site::new();
    let targets = site.targets();
    let mut agent = site.agent("enforce");
    let mut kills = 0;
    let ports = thread::scope(|scope| {
        let blast = scope.spawn(|| targets.blast(scale(10, 1000), SECOND, &[]));
        // At any moment, also before it has taken over.
        let mut pause = pauses();
        while !blast.is_finished() {
            thread::sleep(pause(4000));
            agent.kill();
            thread::sleep(pause(1000));
            agent.launch();
            kills += 1;
        }
        blast.join().expect("no panic")
    });
    targets.assert_none_delivered(&format!("{kills} kills"), ports);
}

/// Those that were born without it have the agent's programs before the bridge is told that they are endpoints.
#[test]
fn when_the_agent_comes_back() {
    let site = Site::new();
    let targets = site.targets();
    let mut agent = site.agent("enforce");
    agent.kill();
    let ports = thread::scope(|scope| {
        let blast = scope.spawn(|| targets.blast(8, SECOND * 6, &[]));
        // Most of them run by then.
        thread::sleep(SECOND * 4);
        agent.start_again();
        blast.join().expect("no panic")
    });
    targets.assert_none_delivered("born without an agent", ports);
}

/// While no agent runs, the engine gives the address of one that is gone to the next.
#[test]
fn with_the_address_of_one_that_is_gone() {
    let site = Site::new();
    let targets = site.targets();
    let start = |name: &str| {
        let fixed = ["--network=shop", "--ip=10.78.1.99", "--ip6=fd78:1::99"];
        site.engine.container(name, &fixed, &[])
    };
    let gone = start("gone");
    let mut agent = site.agent("enforce");
    agent.expect_ready("all are there", 3);
    agent.kill();
    gone.remove();
    let fixed = ["--ip=10.78.1.99", "--ip6=fd78:1::99"];
    targets.assert_none_delivered("no agent", targets.blast(1, SECOND, &fixed));
}

/// Times of up to so many milliseconds, other ones in each run (xorshift, Marsaglia 2003).
fn pauses() -> impl FnMut(u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut state = now.map_or(1, |now| now.as_nanos() as u64 | 1);
    move |most| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_millis(state % most)
    }
}

/// The engine keeps 256 events and skips slow readers, so most of the news is lost.
#[test]
fn while_the_agent_is_stopped() {
    let site = Site::new();
    let targets = site.targets();
    let mut agent = site.agent("enforce");
    let engine = &site.engine;
    let start = |name: &str, label| engine.container(name, &["--network=shop", label], &LISTEN);
    let client = start("client", "--label=dfw.egress=any to any");
    let leaving = start("leaving", "--label=dfw.egress=any to any");
    agent.expect_ready("all are there", 4);

    agent.signal(Signal::STOP);
    let ports = targets.blast(scale(10, 300), SECOND / 10, &[]);
    let kept = ["kept-1", "kept-2", "kept-3"]
        .map(|name| start(name, "--label=dfw.ingress=tcp/80 from container:client"));
    leaving.remove();
    targets.assert_none_delivered("stopped", ports);

    agent.signal(Signal::CONT);
    let continued = Instant::now();
    let names = ["client", "guarded", "kept-1", "kept-2", "kept-3", "plain"];
    let patience = CONVERGENCE * 4;
    wait::expect("the agent is right again", patience, || {
        let status = agent.status();
        let endpoints = status["endpoints"].as_array()?;
        let ready = endpoints.iter().filter(|known| known["state"] == "ready");
        let ready: BTreeSet<&str> = ready
            .filter_map(|known| known["container"].as_str())
            .collect();
        (endpoints.len() == names.len() && ready == BTreeSet::from(names)).then_some(())
    });
    let took = continued.elapsed();
    println!("right again {took:.1?} after it went on");
    assert!(took <= CONVERGENCE, "it took {took:?}");
    let (client, other) = (client.netns(), kept[0].netns());
    for to in kept[1].at("shop", 80) {
        for (from, is_allowed) in [(&client, true), (&other, false)] {
            from.assert_reaches("after it went on", to, is_allowed);
        }
    }
}
