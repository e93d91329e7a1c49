//! What speaks of Docker, on a real engine.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use dfw_common::reason::Reason;
use dfw_tests::{
    Agent, Attempt, Container, Engine, EngineOptions, Listener, Namespace, NetNs, Protocol, Tap,
    campaign::scale,
    canary::Datagrams,
    frame::{flags, icmp, protocol, tcp, udp},
    leaks::LeakCheck,
    wait,
};

use crate::{
    frames,
    lab::OPEN_PORTS,
    neighbours, packets,
    stage::{Attack, Attacker, BROADCAST, CLOSED, Family, OPEN, Party, Stage},
};

/// For what is denied.
const SHORT: Duration = Duration::from_millis(300);
/// How long a change may take until it holds; far more than it does.
const PATIENCE: Duration = Duration::from_secs(5);
const NET: &str = "shop";
const ANY_EGRESS: &str = "--label=dfw.egress=any to any";

/// An engine with a network on both families.
struct Site {
    engine: Engine,
    // At last.
    _leaks: LeakCheck,
}

impl Site {
    fn new() -> Self {
        let leaks = LeakCheck::new();
        let engine = Engine::start(EngineOptions {
            // It would drop what is malformed before it arrives, with dfw or without.
            br_netfilter: false,
            ..EngineOptions::default()
        });
        engine.network(NET, 1);
        Self {
            engine,
            _leaks: leaks,
        }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::start(
            self.engine.host(),
            &["--docker-host", &self.engine.socket()],
        )
    }

    /// A container on the network that serves port 80.
    fn server(&self, name: &str, options: &[&str]) -> Container<'_> {
        let options = [&["--network", NET], options].concat();
        self.engine
            .container(name, &options, &["dfw-probe", "listen", "tcp/80"])
    }

    /// The host on a network, by the engine's bridge.
    fn gateway(&self, network: &str, at: (&str, &str)) -> Party {
        let id = self
            .engine
            .docker(&["network", "inspect", "--format", "{{.Id}}", network]);
        let bridge = format!("br-{}", &id[..12]);
        let (v4, v6) = (at.0.parse(), at.1.parse());
        let host = self.engine.host().again();
        Party::new(
            host,
            &bridge,
            v4.expect("an address"),
            v6.expect("an address"),
        )
    }
}

fn party(container: &Container<'_>) -> Party {
    let (v4, v6) = container.addresses(NET);
    let v6 = v6.expect("the network has IPv6");
    Party::new(container.netns(), "eth0", v4, v6)
}

fn reaches(from: &NetNs, to: SocketAddr) -> bool {
    let attempt = Attempt {
        patience: SHORT,
        ..Attempt::new(Protocol::Tcp, to)
    };
    let outcome = from.enter(|| attempt.run());
    outcome.expect("the attempt is possible").is_answered()
}

/// On both families, as soon as a change has come through.
#[track_caller]
fn assert_becomes(what: &str, from: &NetNs, to: [SocketAddr; 2], is_open: bool) {
    let is_so = || {
        to.iter()
            .all(|to| reaches(from, *to) == is_open)
            .then_some(())
    };
    assert!(
        wait::until(PATIENCE, is_so).is_some(),
        "{what}: {to:?}, open: {is_open}"
    );
}

/// The attacker has no labels, and the node does not enforce: as most containers are.
#[test]
fn attacks_between_containers() {
    let site = Site::new();
    let open = format!("--label=dfw.ingress={OPEN_PORTS} from container:attacker,container:friend");
    let silent = "--label=dfw.egress=";
    let options = ["--network", NET, &open, silent];
    let victim = site.engine.container("victim", &options, &[]);
    let friend = site.engine.container("friend", &options, &[]);
    let attacker = site.engine.container("attacker", &["--network", NET], &[]);
    let stage = Stage {
        attacker: party(&attacker),
        victim: party(&victim),
        friend: party(&friend),
        gateway: site.gateway(NET, ("10.78.1.1", "fd78:1::1")),
    };
    let topics: [fn(&Stage) -> Vec<Attack<'_>>; 14] = [
        frames::ethertypes,
        frames::tags,
        frames::unicast,
        frames::macs,
        neighbours::arp_claims,
        neighbours::nd_claims,
        neighbours::routers,
        neighbours::dhcp,
        packets::addresses,
        packets::fragments,
        packets::options,
        packets::malformed,
        packets::extensions,
        packets::tunnels,
    ];
    for topic in topics {
        stage.assert_arrive(&topic(&stage));
    }
    let agent = site.agent();
    agent.expect_ready("everybody is governed", 3);
    for topic in topics {
        stage.assert_dropped(&agent, Attacker::IsFree, &topic(&stage));
    }
}

/// The engine switches IPv6 off inside; the wire does not know of it.
#[test]
fn ipv6_between_containers_without_ipv6() {
    let site = Site::new();
    site.engine
        .docker(&["network", "create", "--subnet=10.78.3.0/24", "v4"]);
    let start = |name: &str, options: &[&str]| {
        let options = [&["--network=v4"], options].concat();
        let container = site.engine.container(name, &options, &[]);
        let unused = "fd78:3::9".parse().expect("an address");
        let (v4, _) = container.addresses("v4");
        let party = Party::new(container.netns(), "eth0", v4, unused);
        (party, container)
    };
    let open = format!("--label=dfw.ingress={OPEN_PORTS} from container:attacker,container:friend");
    let (victim, _victim) = start("victim", &[&open]);
    let (friend, _friend) = start("friend", &[&open]);
    let (attacker, _attacker) = start("attacker", &[ANY_EGRESS]);
    let stage = Stage {
        attacker,
        victim,
        friend,
        gateway: site.gateway("v4", ("10.78.3.1", "fd78:3::1")),
    };
    let attacks: Vec<_> = [
        ("echo", icmp(protocol::ICMP6, 128, 0, &[1, 2, 3, 4])),
        ("UDP", udp(4000, CLOSED)),
        ("TCP", tcp(4000, CLOSED, flags::SYN)),
    ]
    .into_iter()
    .map(|(name, upper)| {
        let mut packet = stage.packet(Family::V6, &stage.victim, upper);
        packet.source = stage.attacker.link_local().into();
        packet.destination = stage.victim.link_local().into();
        Attack::new(name, &stage.victim, packet.frame(), Reason::NoRule)
    })
    .collect();
    stage.assert_arrive(&attacks);
    let agent = site.agent();
    agent.expect_ready("everybody is governed", 3);
    stage.assert_dropped(&agent, Attacker::Enforces, &attacks);
}

/// Sends to everybody on the network, without a pause, what is meant for an address that somebody will have.
fn under_fire<T>(attacker: &Party, at: [SocketAddr; 2], work: impl FnOnce() -> T) -> (u64, T) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let tap = attacker.tap();
    let upper = || udp(4000, OPEN);
    let frames = at.map(|at| {
        let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut packet = crate::stage::packet(family, attacker, attacker, upper());
        packet.macs[0] = BROADCAST;
        packet.destination = at.ip();
        packet.frame()
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                frames.iter().for_each(|frame| tap.send(frame));
                sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(200));
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (sent.load(Ordering::Relaxed), done)
    })
}

/// The victim joins the network of an attacker that nobody governs and leaves it again, and what it has elsewhere goes on.
#[test]
fn networks_come_and_go_under_fire() {
    let site = Site::new();
    site.engine.network("back", 2);
    let friend = site
        .engine
        .container("friend", &["--network", NET, ANY_EGRESS], &[]);
    let open = "--label=dfw.ingress=udp/7 from container:friend";
    let victim = site
        .engine
        .container("victim", &["--network", NET, open], &[]);
    let attacker = site.engine.container("attacker", &["--network=back"], &[]);
    let (v4, v6) = attacker.addresses("back");
    let v6 = v6.expect("the network has IPv6");
    let attacker = Party::new(attacker.netns(), "eth0", v4, v6);
    let (at4, at6) = ("10.78.2.99", "fd78:2::99");
    let at = [at4, at6].map(|at| SocketAddr::new(at.parse().expect("an address"), OPEN));
    let inside = victim.netns();
    let join_and_leave = || {
        let tap = Tap::of_all(&inside);
        let connect = [
            "network",
            "connect",
            "--ip",
            at4,
            "--ip6",
            at6,
            "back",
            victim.id(),
        ];
        site.engine.docker(&connect);
        thread::sleep(Duration::from_millis(100));
        site.engine
            .docker(&["network", "disconnect", "back", victim.id()]);
        let frames = tap.during(Duration::from_millis(30));
        frames
            .iter()
            .filter(|frame| frame[6..12] == attacker.mac)
            .count()
    };
    let (sent, arrived) = under_fire(&attacker, at, join_and_leave);
    assert!(
        sent > 100 && arrived > 20,
        "without dfw: {arrived} of {sent}"
    );

    let agent = site.agent();
    agent.expect_ready("everybody is governed", 3);
    let allowed = victim
        .at(NET, OPEN)
        .map(|to| Datagrams::start(&friend.netns(), &inside, to));
    for round in 0..scale(3, 100) {
        let (sent, arrived) = under_fire(&attacker, at, join_and_leave);
        assert!(sent > 100, "{sent}");
        assert_eq!(arrived, 0, "round {round}: of {sent}");
    }
    for datagrams in allowed {
        let tally = datagrams.stop();
        assert!(tally.sent > 500, "{tally:?}");
        assert_eq!(tally.sent, tally.arrived, "the other network was disturbed");
    }
}

#[test]
fn a_new_address_and_a_renamed_interface() {
    let site = Site::new();
    let rule = "--label=dfw.ingress=tcp/80 from container:client";
    let server = site.server("server", &[rule]);
    let client = site.server("client", &[ANY_EGRESS, "--cap-add=NET_ADMIN"]);
    let _agent = site.agent();
    let to = server.at(NET, 80);
    assert_becomes("at first", &client.netns(), to, true);

    let old = client.addresses(NET);
    site.engine.docker(&["stop", "--time=0", client.id()]);
    let heir = site.server("heir", &[ANY_EGRESS]);
    assert_eq!(
        heir.addresses(NET),
        old,
        "it has the client's former address"
    );
    assert_becomes("the heir of an address", &heir.netns(), to, false);
    site.engine.docker(&["start", client.id()]);
    assert_ne!(client.addresses(NET), old);
    assert_becomes("with another address", &client.netns(), to, true);
    assert_becomes("the heir of an address", &heir.netns(), to, false);

    // As a container with NET_ADMIN may do to itself.
    let (v4, v6) = client.addresses(NET);
    let v6 = v6.expect("the network has IPv6");
    let inside = client.netns();
    for line in [
        "ip link set eth0 down",
        "ip link set eth0 name other0",
        "ip link set other0 up",
        &format!("ip -6 address replace {v6}/64 dev other0 nodad"),
    ] {
        inside.run(line);
    }
    assert_becomes("renamed", &inside, to, true);
    let (heirs4, heirs6) = heir.addresses(NET);
    let heirs6 = heirs6.expect("the network has IPv6");
    for line in [
        &format!("ip address del {v4}/24 dev other0"),
        &format!("ip -6 address del {v6}/64 dev other0"),
        "ip address add 10.78.1.77/24 dev other0",
        "ip -6 address add fd78:1::77/64 dev other0 nodad",
    ] {
        inside.run(line);
    }
    assert_becomes("with an address that it gave itself", &inside, to, false);
    for line in [
        "ip address flush dev other0",
        &format!("ip address add {heirs4}/24 dev other0"),
        &format!("ip -6 address add {heirs6}/64 dev other0 nodad"),
    ] {
        inside.run(line);
    }
    assert_becomes("with the address of another", &inside, to, false);
}

/// Docker copies a container's labels over the attributes of its events.
#[test]
fn labels_that_look_like_an_event() {
    let site = Site::new();
    let rule = "--label=dfw.ingress=tcp/80 from container:client,service:shop/client";
    let server = site.server("server", &[rule]);
    let client = site.server("client", &[ANY_EGRESS]);
    let agent = site.agent();
    let id = format!("--label=container={}", client.id());
    let forged = [
        ANY_EGRESS,
        "--label=name=client",
        &id,
        "--label=id=client",
        "--label=type=network",
        "--label=Type=bridge",
        "--label=action=destroy",
        "--label=exitCode=0",
        "--label=signal=9",
        "--label=image=client",
        "--label=execID=1",
    ];
    let to = server.at(NET, 80);
    for _ in 0..2 {
        let forger = site.server("forger", &forged);
        assert_becomes("the forger", &forger.netns(), to, false);
        assert_becomes("who it claims to be", &client.netns(), to, true);
        // More events in its name.
        forger.exec(&["sh", "-c", "exit 0"]);
        site.engine.docker(&["pause", forger.id()]);
        site.engine.docker(&["unpause", forger.id()]);
        site.engine.docker(&["kill", forger.id()]);
        assert_becomes("who it claims to be", &client.netns(), to, true);
        forger.remove();
        assert_becomes("who it claims to be", &client.netns(), to, true);
        agent.expect_ready("the forger is gone", 2);
    }
}

#[test]
fn the_metadata_address() {
    let site = Site::new();
    let cloud = Namespace::new();
    let host = site.engine.host();
    host.veth("uplink", &cloud, "eth0");
    for (netns, device, v4, v6) in [
        (host, "uplink", "192.0.2.1", "2001:db8::1"),
        (&cloud, "eth0", "192.0.2.2", "2001:db8::2"),
    ] {
        netns.run(&format!("ip address add {v4}/24 dev {device}"));
        netns.run(&format!("ip address add {v6}/64 dev {device} nodad"));
    }
    let at = ["169.254.169.254", "fd00:ec2::254"];
    for (address, router, back, gateway) in [
        (at[0], "192.0.2.2", "10.78.0.0/16", "192.0.2.1"),
        (at[1], "2001:db8::2", "fd78::/16", "2001:db8::1"),
    ] {
        cloud.run(&format!("ip address add {address} dev lo"));
        cloud.run(&format!("ip route add {back} via {gateway}"));
        host.run(&format!("ip route add {address} via {router}"));
    }
    host.sysctl("ipv6/conf/all/forwarding", "1");
    let _listener = cloud
        .enter(|| Listener::start(&[80], &[]))
        .expect("the port is free");
    let to = at.map(|at| SocketAddr::new(at.parse().expect("an address"), 80));
    let cases = [
        ("nothing", "--label=dfw.egress=", false),
        (
            "others",
            "--label=dfw.egress=tcp/443 to world; tcp/80 to host,group:a",
            false,
        ),
        (
            "deny",
            "--label=dfw.egress=any to world; deny any to 169.254.169.254/32,fd00:ec2::254/128",
            false,
        ),
        (
            "wide-deny",
            "--label=dfw.egress=any to any; deny any to 169.254.0.0/16,fd00:ec2::/32",
            false,
        ),
        (
            "written",
            "--label=dfw.egress=tcp/80 to 169.254.169.254/32,fd00:ec2::254/128",
            true,
        ),
    ];
    let containers = cases.map(|(name, label, _)| site.server(name, &[label]));
    for container in &containers {
        assert!(
            to.iter().all(|to| reaches(&container.netns(), *to)),
            "without dfw"
        );
    }
    let agent = site.agent();
    agent.expect_ready("everybody is governed", cases.len());
    for ((name, _, is_open), container) in cases.iter().zip(&containers) {
        for to in to {
            assert_eq!(reaches(&container.netns(), to), *is_open, "{name}: {to}");
        }
    }
}

/// What dfw does not govern is said, and counted.
#[test]
fn what_is_unprotected_is_listed() {
    let site = Site::new();
    site.engine
        .host()
        .run("ip link add nic type veth peer name wire");
    site.engine.docker(&[
        "network",
        "create",
        "--driver=macvlan",
        "--opt=parent=nic",
        "mac",
    ]);
    let owner = site.server("owner", &[]);
    let joined = format!("--network=container:{}", owner.id());
    let _running = [
        ("on-host", "--network=host"),
        ("on-macvlan", "--network=mac"),
        ("joiner", &joined),
        ("mighty", "--cap-add=NET_ADMIN"),
    ]
    .map(|(name, option)| site.engine.container(name, &[option], &[]));
    // Only made: not every machine that runs the tests may grant all capabilities.
    site.engine.docker(&[
        "create",
        "--name=privileged",
        "--privileged",
        "dfwt",
        "true",
    ]);
    let agent = site.agent();
    let all = [
        ("on-host", "host-network"),
        ("on-macvlan", "macvlan"),
        ("joiner", "shared"),
        ("mighty", "net-admin"),
        ("privileged", "privileged"),
    ];
    agent.expect_status("all are listed", |status| {
        let listed = status["unprotected"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        all.iter().all(|(name, why)| {
            listed
                .iter()
                .any(|entry| entry["container"] == *name && entry["why"] == *why)
        })
    });
    let metrics = agent.metrics();
    for (name, why) in all {
        let count = metrics.sum("dfw_unprotected_containers", &[&format!("why=\"{why}\"")]);
        assert!(count > 0.0, "{name}: {why}");
    }
}
