//! Uplinks on real interfaces: a veth plays the node's NIC, and beyond it are a friend, a foe whom a list names, somebody's LAN, and
//! one who claims a container's address (docs/semantics.md section 17).

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    path::PathBuf,
    process::Output,
    time::Duration,
};

use aya::{EbpfLoader, programs::XdpMode};
use dfw_agent::datapath::{
    load::{self, OBJECT},
    sys,
};
use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, Protocol,
    canary::{Canaries, Datagrams},
    frame::{self, Ip, Mac},
    process,
    scratch::Scratch,
    tap::{self, Tap},
    wait,
};

/// For what is denied.
const SHORT: Duration = Duration::from_millis(300);
/// For what shall come: on a busy machine it may come late.
const COMES: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(10);

/// The host's MAC on the wire, and its addresses.
const NIC: Mac = [2, 0, 0, 0, 0, 1];
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
const FRIEND: [&str; 2] = ["198.51.100.2", "2001:db8:100::2"];
const FOE: [&str; 2] = ["203.0.113.7", "2001:db8:dead::7"];
const LAN: [&str; 2] = ["10.99.0.5", "fd99::5"];

/// Of the foe and of whom lists of others' making name as well: everybody's LAN.
const LIST: &str = "# a feed
203.0.113.0/24 ; of the foe
10.0.0.0/8
2001:db8:dead::/48
fc00::/7
";
const POLICY: &str = "[edge]\ndeny = [\"./deny.txt\", \"192.0.2.0/24\"]\n";

/// How the driver has XDP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Native,
    /// Not for a peer with more queues than it has itself.
    Generic,
}

struct Stage {
    host: Namespace,
    wire: Namespace,
    driver: Driver,
    web: Endpoint,
    vault: Endpoint,
    inventory: Inventory,
    scratch: Scratch,
    _listeners: Vec<Listener>,
}

impl Stage {
    fn new(subnet: u8, driver: Driver) -> Self {
        let (host, wire) = (Namespace::new(), Namespace::new());
        let mut bridge = Bridge::new(&host, "br0", subnet);
        let (web, vault) = (bridge.plug("web"), bridge.plug("vault"));
        wire.run("ip link add sw type bridge");
        wire.run("ip link set sw up");
        let mut inventory = Inventory::new();
        inventory.set("web", &web, "lab", &[("dfw.ingress", "tcp/80 from world")]);
        inventory.set("vault", &vault, "lab", &[("dfw.ingress", "")]);
        inventory.write();
        let rules = format!(
            "table inet published {{
                chain prerouting {{
                    type nat hook prerouting priority -100
                    ip daddr {} tcp dport 8080 dnat ip to {}:80
                    ip6 daddr {} tcp dport 8080 dnat ip6 to [{}]:80
                }}
            }}",
            HOST[0], web.v4, HOST[1], web.v6
        );
        process::run(host.command("nft").arg(rules));
        let listeners =
            [(&*host, 22), (&*web.netns, 80), (&*vault.netns, 80)].map(|(netns, port)| {
                netns
                    .enter(|| Listener::start(&[port], &[]))
                    .expect("ports are free")
            });
        let stage = Self {
            host,
            wire,
            driver,
            web,
            vault,
            inventory,
            scratch: Scratch::new(),
            _listeners: listeners.into(),
        };
        stage.plug_wire();
        stage.list(LIST);
        stage
    }

    /// The node's NIC comes, and is configured.
    fn plug_wire(&self) {
        let queues = match self.driver {
            Driver::Native => 1,
            Driver::Generic => 2,
        };
        let host = &self.host;
        host.run(&format!(
            "ip link add up0 address 02:00:00:00:00:01 mtu 9000 numtxqueues 1 numrxqueues 1 type veth peer name eth0 mtu 9000 numtxqueues {queues} numrxqueues {queues} netns {}",
            self.wire.name()
        ));
        self.wire.run("ip link set eth0 master sw");
        self.wire.run("ip link set eth0 up");
        host.run("ip link set up0 up");
        host.run(&format!("ip address add {}/24 dev up0", HOST[0]));
        host.run(&format!("ip address add {}/64 dev up0 nodad", HOST[1]));
        for [v4, v6] in [FOE, LAN] {
            host.run(&format!("ip route add {v4} dev up0"));
            host.run(&format!("ip route add {v6} dev up0"));
        }
    }

    /// Somebody on the wire.
    fn outside(&self, name: &str, [v4, v6]: [&str; 2]) -> Namespace {
        let outside = Namespace::new();
        self.wire.veth(name, &outside, "eth0");
        self.wire
            .run(&format!("ip link set {name} mtu 9000 master sw"));
        outside.run("ip link set eth0 mtu 9000");
        outside.run(&format!("ip address add {v4}/32 dev eth0"));
        outside.run(&format!("ip address add {v6}/128 dev eth0 nodad"));
        for (host, default) in HOST.iter().zip(["0.0.0.0/0", "::/0"]) {
            outside.run(&format!("ip route add {host} dev eth0"));
            outside.run(&format!("ip route add {default} via {host}"));
        }
        outside
    }

    fn list(&self, text: &str) -> PathBuf {
        self.scratch.file("deny.txt", text)
    }

    fn policy(&self) -> String {
        self.scratch
            .file("policy.toml", POLICY)
            .display()
            .to_string()
    }

    fn start(&self, more: &[&str]) -> Agent<'_> {
        let (inventory, policy) = (self.inventory.argument(), self.policy());
        let own = ["--inventory", &inventory, "--policy", &policy];
        Agent::start(&self.host, &[&own, more].concat())
    }

    fn mode(&self) -> &'static str {
        match self.driver {
            Driver::Native => "native",
            Driver::Generic => "generic",
        }
    }

    /// What `ip link` says of the NIC.
    fn nic(&self) -> String {
        self.host.run("ip -d link show up0")
    }
}

fn at(addresses: [&str; 2], port: u16) -> [SocketAddr; 2] {
    addresses.map(|address| (address.parse::<IpAddr>().expect("an address"), port).into())
}

#[track_caller]
fn reaches(from: &Namespace, to: [SocketAddr; 2], expected: bool) {
    for to in to {
        let attempt = Attempt {
            patience: if expected { COMES } else { SHORT },
            ..Attempt::new(Protocol::Tcp, to)
        };
        let outcome = from.enter(|| attempt.run()).expect("it is possible");
        assert_eq!(outcome.is_answered(), expected, "{to}: {outcome}");
    }
}

/// How many of a burst of datagrams arrive at the host, over each family.
fn arrive(from: &Namespace, host: &Namespace, port: u16) -> [u64; 2] {
    at(HOST, port).map(|to| {
        let datagrams = Datagrams::start(from, host, to);
        std::thread::sleep(SHORT);
        let tally = datagrams.stop();
        assert!(tally.sent > 20, "{tally:?}");
        tally.arrived
    })
}

fn is_tcp_to(frame: &[u8], endpoint: &Endpoint) -> bool {
    let [v4, v6] = [&endpoint.v4.octets()[..], &endpoint.v6.octets()[..]];
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(30..34) == Some(v4) && frame[23] == 6,
        Some([0x86, 0xdd]) => frame.get(38..54) == Some(v6) && frame[20] == 6,
        _ => false,
    }
}

fn denied(agent: &Agent<'_>, reason: &str) -> f64 {
    let labels = [
        "direction=\"ingress\"",
        "verdict=\"deny\"",
        &format!("reason=\"{reason}\""),
    ];
    agent.metrics().sum("dfw_packets_total", &labels)
}

#[track_caller]
fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn codes(agent: &Agent<'_>) -> Vec<String> {
    let status = agent.status();
    let findings = status["findings"].as_array().expect("a list").iter();
    findings
        .map(|finding| finding["code"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn in_the_driver() {
    what_is_dropped_and_what_is_not(61, Driver::Native);
}

#[test]
fn in_front_of_the_stack() {
    what_is_dropped_and_what_is_not(62, Driver::Generic);
}

fn what_is_dropped_and_what_is_not(subnet: u8, driver: Driver) {
    let stage = Stage::new(subnet, driver);
    let (friend, foe, lan) = (
        stage.outside("friend", FRIEND),
        stage.outside("foe", FOE),
        stage.outside("lan", LAN),
    );
    let claimed = [format!("10.77.{subnet}.99"), format!("fd77:{subnet:x}::99")];
    let liar = stage.outside("liar", [&claimed[0], &claimed[1]]);
    // Without dfw everybody gets through.
    for who in [&friend, &foe, &lan] {
        reaches(who, at(HOST, 22), true);
        reaches(who, at(HOST, 8080), true);
    }
    assert!(
        arrive(&liar, &stage.host, 5000)
            .iter()
            .all(|arrived| *arrived > 0)
    );

    let agent = stage.start(&["--uplink", "up0"]);
    let status = agent.status();
    assert_eq!(
        status["uplinks"][0]["state"],
        stage.mode(),
        "{status:#}\n{}",
        agent.log()
    );
    assert_eq!(status["denied"], 5);
    assert!(
        agent.log().contains("may take the link down"),
        "{}",
        agent.log()
    );
    let shown = done(&agent.command(&["status"]));
    assert!(
        shown.contains(&format!("up0 {}; 5 prefixes denied", stage.mode())),
        "{shown}"
    );
    for who in [&friend, &lan] {
        reaches(who, at(HOST, 22), true);
        reaches(who, at(HOST, 8080), true);
        // As routers do: the rule names the world.
        reaches(who, stage.web.at(80), true);
    }
    reaches(&foe, at(HOST, 22), false);
    reaches(&foe, at(HOST, 8080), false);
    assert!(denied(&agent, "deny-list") >= 4.0);
    assert_eq!(arrive(&liar, &stage.host, 5001), [0, 0]);
    assert!(denied(&agent, "spoofed-address") > 40.0);
    // Its own hook would deny it; it comes not that far.
    let tap = Tap::open(&stage.host, "br0");
    let before = denied(&agent, "no-rule");
    reaches(&friend, stage.vault.at(80), false);
    assert!(denied(&agent, "no-rule") >= before + 2.0);
    let forwarded = tap.during(SHORT);
    assert!(!forwarded.iter().any(|frame| is_tcp_to(frame, &stage.vault)));
    // More than a page: several buffers for the driver.
    for to in at(HOST, 5002) {
        let inside = stage
            .host
            .enter(|| UdpSocket::bind(to))
            .expect("the port is free");
        inside.set_read_timeout(Some(COMES)).expect("not zero");
        friend.enter(|| {
            let any = SocketAddr::new(
                if to.is_ipv4() {
                    [0; 4].into()
                } else {
                    [0_u16; 8].into()
                },
                0,
            );
            let socket = UdpSocket::bind(any).expect("a port is free");
            socket.send_to(&[7; 8000], to).expect("it fits the MTU");
        });
        assert_eq!(
            inside.recv(&mut [0; 9000]).expect("it arrives"),
            8000,
            "{to}"
        );
    }
    // Tags hide nobody, and nobody is harmed by having one.
    let tap = Tap::open(&stage.host, "up0");
    for (outside, addresses) in [(&foe, FOE), (&friend, FRIEND)] {
        let wire = Tap::open(outside, "eth0");
        for (source, destination) in addresses.iter().zip(HOST) {
            let packet = Ip {
                macs: [NIC, tap::mac(outside, "eth0")],
                source: source.parse().expect("an address"),
                destination: destination.parse().expect("an address"),
                hops: 64,
                options: Vec::new(),
                extensions: Vec::new(),
                fragment: None,
                upper: frame::udp(4000, 5003),
            };
            wire.send(&frame::tagged(&packet.frame(), 0x8100, 7));
        }
    }
    let is_from = |frame: &[u8], [v4, v6]: [&str; 2]| {
        let octets = |text: &str| match text.parse().expect("an address") {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        // The port is in no other frame.
        let has = |bytes: &[u8]| frame.windows(bytes.len()).any(|window| window == bytes);
        has(&5003_u16.to_be_bytes()) && (has(&octets(v4)) || has(&octets(v6)))
    };
    let seen = tap.during(SHORT);
    assert_eq!(
        seen.iter().filter(|frame| is_from(frame, FRIEND)).count(),
        2
    );
    assert!(!seen.iter().any(|frame| is_from(frame, FOE)));

    done(&agent.uninstall());
    assert!(!stage.nic().contains("prog/xdp"), "{}", stage.nic());
}

#[test]
fn lists_are_swapped_under_traffic() {
    let stage = Stage::new(63, Driver::Native);
    let (friend, foe) = (stage.outside("friend", FRIEND), stage.outside("foe", FOE));
    let agent = stage.start(&["--uplink", "up0"]);
    let mut canaries = Canaries::default();
    for to in at(HOST, 5000) {
        canaries.allow(&friend, &stage.host, to);
    }
    for to in at(HOST, 5001) {
        canaries.deny(&foe, &stage.host, to);
    }
    for to in at(HOST, 22) {
        canaries.transfer(&friend, to);
    }
    // Other lists of other lengths, and the foe by another prefix each time.
    for (round, own) in [
        "203.0.113.7\n2001:db8:8000::/33\n",
        LIST,
        "203.0.112.0/20\n2001:db8:dead::7\n",
        LIST,
    ]
    .into_iter()
    .enumerate()
    {
        let many = (0..20_000_u32).map(|n| {
            let [a, b, c, _] = (n * 7 + round as u32).to_be_bytes();
            format!(
                "45.{}.{c}.{}\n2a00:{a:x}{b:02x}:{c:02x}{round}::/48\n",
                b,
                n % 256
            )
        });
        stage.list(&many.chain([own.to_owned()]).collect::<String>());
        let said = done(&agent.command(&["reload"]));
        assert!(said.contains("is in force"), "{said}");
        canaries.assert_going_on("a list was swapped");
    }
    assert!(agent.status()["denied"].as_u64() > Some(40_000));

    stage.list("203.0.113.0/24\n2001:db8:dead::/48\n10.0.0.1/8\n");
    let output = agent.command(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in [
        "deny.txt:3",
        "write 10.0.0.0/8",
        "the last good one stays in force",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert!(codes(&agent).contains(&"bad-deny-list".to_owned()));
    canaries.assert_going_on("a list was refused");
    println!("{}", canaries.assert_unharmed());

    stage.list("192.0.2.1\n");
    done(&agent.command(&["reload"]));
    assert!(!codes(&agent).contains(&"bad-deny-list".to_owned()));
    reaches(&foe, at(HOST, 22), true);
}

#[test]
fn what_is_in_force_outlives_the_agent_and_the_interface() {
    let stage = Stage::new(64, Driver::Native);
    let foe = stage.outside("foe", FOE);
    let mut agent = stage.start(&["--uplink", "up0"]);
    reaches(&foe, at(HOST, 22), false);
    agent.kill();
    reaches(&foe, at(HOST, 22), false);
    // The next agent cannot read the list: the last good one is in the kernel.
    stage.list("nonsense\n");
    agent.start_again();
    reaches(&foe, at(HOST, 22), false);
    let status = agent.status();
    assert_eq!(status["uplinks"][0]["state"], "native", "{status:#}");
    assert!(codes(&agent).contains(&"bad-deny-list".to_owned()));
    stage.list(LIST);
    done(&agent.command(&["reload"]));
    reaches(&foe, at(HOST, 22), false);

    // Others take it away.
    let pin = fs::read_dir(agent.bpffs().join("links")).expect("pins");
    let pin = pin
        .filter_map(Result::ok)
        .find(|pin| pin.file_name().to_string_lossy().starts_with("uplink-"));
    let link = sys::open_pinned(&pin.expect("the uplink is pinned").path()).expect("a link");
    sys::detach(link.as_fd()).expect("root may");
    wait::expect("the program is there again", PATIENCE, || {
        stage.nic().contains("prog/xdp").then_some(())
    });
    agent.expect_status("it is told", |status| {
        status["findings"].to_string().contains("detached from XDP")
    });
    reaches(&foe, at(HOST, 22), false);

    stage.host.run("ip link delete up0");
    agent.expect_status("it is missed", |status| {
        status["uplinks"][0]["state"] == "absent"
    });
    stage.plug_wire();
    agent.expect_status("it is back", |status| {
        status["uplinks"][0]["state"] == "native"
    });
    reaches(&foe, at(HOST, 22), false);

    // Without the flag it is no uplink any more.
    agent.terminate();
    drop(agent);
    let agent = stage.start(&[]);
    reaches(&foe, at(HOST, 22), true);
    assert!(codes(&agent).contains(&"deny-without-uplink".to_owned()));
}

#[test]
fn containers_interfaces_are_no_uplinks() {
    let stage = Stage::new(65, Driver::Native);
    let uplinks = ["veth-web", "br0", "lo", "eth7"];
    let agent = stage.start(&["--uplink", &uplinks.join(","), "--uplink", "up0"]);
    let status = agent.status();
    let states: Vec<(&str, &str)> = status["uplinks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|uplink| {
            (
                uplink["interface"].as_str().expect("a name"),
                uplink["state"].as_str().expect("a state"),
            )
        })
        .collect();
    let expected = [
        ("veth-web", "refused"),
        ("br0", "refused"),
        ("lo", "refused"),
        ("eth7", "absent"),
        ("up0", "native"),
    ];
    assert_eq!(states, expected);
    for part in [
        "veth-web is no uplink: it is a port of the network lab",
        "br0 is no uplink",
        "there is no interface eth7",
    ] {
        assert!(
            status["findings"].to_string().contains(part),
            "{part} in {status:#}"
        );
    }
    for interface in ["veth-web", "br0"] {
        let shown = stage.host.run(&format!("ip -d link show {interface}"));
        assert!(!shown.contains("prog/xdp"), "{shown}");
    }
}

#[test]
fn a_network_that_is_somebodys_lan_too_is_not_judged() {
    let stage = Stage::new(66, Driver::Native);
    // The engine chose a subnet for its containers in which the node's own LAN lies.
    stage.host.run("ip address add 10.77.66.129/28 dev up0");
    stage.host.run("ip route add 10.77.66.130 dev up0");
    let neighbour = stage.outside("neighbour", ["10.77.66.130", "2001:db8:100::3"]);
    let agent = stage.start(&["--uplink", "up0"]);
    assert!(codes(&agent).contains(&"subnet-outside".to_owned()));
    reaches(&neighbour, at(HOST, 22), true);
}

#[test]
fn another_xdp_program_keeps_its_place() {
    let stage = Stage::new(67, Driver::Native);
    let mut object = stage.host.enter(|| {
        let mut object = EbpfLoader::new().load(OBJECT).expect("the object loads");
        let program = load::xdp(&mut object).expect("it has one");
        program.load().expect("the verifier takes it");
        program
            .attach("up0", XdpMode::default())
            .expect("the place is free");
        object
    });
    let agent = stage.start(&["--uplink", "up0"]);
    let status = agent.status();
    assert_eq!(status["uplinks"][0]["state"], "failed", "{status:#}");
    assert!(
        status["findings"]
            .to_string()
            .contains("another XDP program is there"),
        "{status:#}"
    );
    let tries = || agent.log().matches("may take the link down").count();
    agent.command(&["reload"]);
    assert_eq!(tries(), 1, "each try may take the link down");
    load::xdp(&mut object)
        .expect("it has one")
        .unload()
        .expect("it is loaded");
}
