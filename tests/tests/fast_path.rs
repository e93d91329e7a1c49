//! Past the bridge: what both ends allow is not seen there, counts as ever, and takes the bridge wherever somebody else has a
//! say in it.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, Outcome, Protocol, Tap,
    canary::{Canaries, Datagrams, Transfer},
    tap,
};
use serde_json::Value;

/// How long the bridge is watched.
const WATCH: Duration = Duration::from_millis(400);

/// Two that enforce and may talk, and one in audit, on one bridge.
struct Site<'host> {
    host: &'host Namespace,
    client: Endpoint,
    server: Endpoint,
    inventory: Inventory,
}

impl<'host> Site<'host> {
    fn new(host: &'host Namespace) -> Self {
        let mut bridge = Bridge::new(host, "br0", 31);
        let (client, server) = (bridge.plug("client"), bridge.plug("server"));
        let mut inventory = Inventory::new();
        let ingress = [(
            "dfw.ingress",
            "tcp/80,udp/7001,icmp,icmp6 from container:client",
        )];
        let egress = [("dfw.egress", "any to container:server")];
        inventory.set("client", &client, "shop", &egress);
        inventory.set("server", &server, "shop", &ingress);
        inventory.write();
        Self {
            host,
            client,
            server,
            inventory,
        }
    }

    fn agent(&self, switch: &str) -> Agent<'host> {
        let inventory = self.inventory.argument();
        let agent = Agent::start(
            self.host,
            &["--inventory", &inventory, "--fast-path", switch],
        );
        agent.expect_ready("both are known", 2);
        agent
    }

    /// Whether the receiver's port of the bridge carries datagrams while the canaries go on.
    fn is_bridged(&self) -> bool {
        let tap = Tap::open(self.host, &self.server.veth);
        let frames = tap.during(WATCH);
        // A tap that is being opened may see some of other interfaces.
        frames.iter().filter(|frame| is_datagram(frame)).count() > 20
    }
}

fn is_datagram(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&17),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&17),
        _ => false,
    }
}

fn send(from: &Endpoint, to: SocketAddr, length: usize) {
    let own = from.at(0)[usize::from(to.is_ipv6())];
    let socket = from.netns.enter(|| UdpSocket::bind(own));
    let sent = socket.and_then(|socket| socket.send_to(&vec![0; length], to));
    sent.unwrap_or_else(|error| panic!("{length} bytes to {to}: {error}"));
}

fn canaries(site: &Site<'_>) -> Canaries {
    let (client, server) = (&site.client.netns, &site.server.netns);
    let mut canaries = Canaries::default();
    for to in site.server.at(7001) {
        canaries.allow(client, server, to);
    }
    for to in site.server.at(7002) {
        canaries.deny(client, server, to);
    }
    for to in site.server.at(80) {
        canaries.transfer(client, to);
    }
    canaries
}

fn detour<'a>(status: &'a Value, container: &str) -> &'a Value {
    let endpoints = status["endpoints"].as_array().expect("endpoints");
    let one = endpoints.iter().find(|one| one["container"] == container);
    &one.expect("it is known")["detour"]
}

#[test]
fn is_switched_on_and_off_under_traffic() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let _listener = site.server.netns.enter(|| Listener::start(&[80], &[]));
    let mut agent = site.agent("on");
    let canaries = canaries(&site);
    canaries.assert_going_on("on");
    assert!(!site.is_bridged());
    for (switch, is_on) in [("off", false), ("on", true)] {
        agent.terminate();
        assert_eq!(site.is_bridged(), is_on, "as before while no agent runs");
        agent.set_argument("--fast-path", switch);
        agent.start_again();
        agent.expect_status("it is switched", |status| {
            status["fast_path"].is_null() == is_on && detour(status, "server").is_null() == is_on
        });
        canaries.assert_going_on(switch);
        assert_eq!(site.is_bridged(), !is_on, "{switch}");
        let said = agent.command(&["status"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = if is_on {
            "on for 2 of 2 endpoints"
        } else {
            "off"
        };
        assert!(said.contains(&format!("fast path    {line}\n")), "{said}");
    }
    println!("{}", canaries.assert_unharmed());
}

#[test]
fn is_left_wherever_others_have_a_say() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let agent = site.agent("on");
    let (client, server) = (&site.client.netns, &site.server.netns);
    let to = site.server.at(7001);
    let flows = to.map(|to| Datagrams::start(client, server, to));
    let port = &site.server.veth;
    let isolated = |how| format!("bridge link set dev {port} isolated {how}");
    let by_ip = |how| format!("ip link set {port} type bridge_slave isolated {how}");
    let queue = |how: &str| format!("tc qdisc {how} dev {port} root pfifo limit 1000");
    let filters = |how: &str| format!("tc qdisc {how} dev {port} clsact");
    for (why, does, undoes) in [
        ("port", isolated("on"), isolated("off")),
        ("port", by_ip("on"), by_ip("off")),
        ("queue", queue("add"), queue("del")),
        ("queue", filters("add"), filters("del")),
    ] {
        host.run(&does);
        agent.expect_status(&does, |status| detour(status, "server") == why);
        assert!(site.is_bridged(), "{does}");
        host.run(&undoes);
        agent.expect_status(&undoes, |status| detour(status, "server").is_null());
        assert!(!site.is_bridged(), "{undoes}");
    }
    // Others' queues lose what is in them when they go.
    for tally in flows.map(Datagrams::stop) {
        assert!(tally.arrived > tally.sent / 2, "{tally:?}");
    }
}

#[test]
fn counts_alike_on_and_off() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let counts = ["on", "off"].map(|switch| {
        let _listener = site.server.netns.enter(|| Listener::start(&[80], &[7001]));
        let agent = site.agent(switch);
        let tries = [
            (Protocol::Udp, 7001),
            (Protocol::Icmp, 0),
            (Protocol::Udp, 7002),
        ];
        for (protocol, port) in tries {
            for to in site.server.at(port) {
                let attempt = Attempt::new(protocol, to).expecting(port != 7002);
                let outcome = site.client.netns.enter(|| attempt.run());
                let passes = matches!(outcome.expect("possible"), Outcome::Answered(_));
                assert_eq!(passes, port != 7002, "{protocol:?} {to}");
            }
        }
        // What is denied is tried again, as often as there is time.
        let metrics = agent.metrics();
        let sum = |name: &str, direction: &str, reason: &str| {
            let labels = [
                ("verdict", "allow"),
                ("direction", direction),
                ("reason", reason),
            ];
            let labels = labels.map(|(name, value)| format!("{name}=\"{value}\""));
            metrics.sum(name, &labels.each_ref().map(String::as_str))
        };
        ["egress", "ingress"].map(|direction| {
            ["allowed", "reply"].map(|reason| {
                let names = ["dfw_packets_total", "dfw_bytes_total"];
                names.map(|name| sum(name, direction, reason))
            })
        })
    });
    assert!(
        counts[0]
            .as_flattened()
            .iter()
            .all(|[packets, _]| *packets >= 4.0),
        "{counts:?}"
    );
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_receiver_that_is_gone_swallows_nothing() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 32);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let mut inventory = Inventory::new();
    inventory.set(
        "client",
        &client,
        "shop",
        &[("dfw.egress", "any to container:server")],
    );
    inventory.set(
        "server",
        &server,
        "shop",
        &[("dfw.ingress", "any from container:client")],
    );
    inventory.write();
    let mut agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    agent.expect_status("both are redirected", |status| {
        detour(status, "client").is_null() && detour(status, "server").is_null()
    });
    let arrives = |at: &Namespace, to: SocketAddr| {
        let tap = Tap::open(at, "eth0");
        send(&client, to, 8);
        tap.until("the datagram", is_datagram);
    };
    for to in server.at(7001) {
        arrives(&server.netns, to);
    }
    agent.kill();
    // Another one takes its place, address and MAC before an agent is back.
    let mac = tap::mac(&server.netns, "eth0")
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    host.run(&format!("ip link del {}", server.veth));
    let heir = bridge.plug("heir");
    heir.netns.run(&format!("ip link set eth0 address {mac}"));
    for (address, bits) in [(server.at(0)[0].ip(), 24), (server.at(0)[1].ip(), 64)] {
        let nodad = if bits == 64 { "nodad" } else { "" };
        heir.netns
            .run(&format!("ip address add {address}/{bits} dev eth0 {nodad}"));
    }
    for to in server.at(7001) {
        arrives(&heir.netns, to);
    }
}

#[test]
fn sizes_are_those_of_the_bridge() {
    let host = Namespace::new();
    let site = Site::new(&host);
    let _listener = site.server.netns.enter(|| Listener::start(&[80], &[7001]));
    let lost = ["on", "off"].map(|switch| {
        let _agent = site.agent(switch);
        host.run(&format!("ip link set {} mtu 1000", site.server.veth));
        let tap = Tap::open(&site.server.netns, "eth0");
        for to in site.server.at(7001) {
            for length in [900, 1400, 1] {
                send(&site.client, to, length);
            }
        }
        let came = tap.during(WATCH);
        host.run(&format!("ip link set {} mtu 1500", site.server.veth));
        // What is still to be cut into segments passes whole.
        for to in site.server.at(80) {
            let transfer = Transfer::open(&site.client.netns, to);
            assert!(transfer.goes_on(), "{switch} {to}");
            transfer.stop().expect("it is not cut");
        }
        [900, 1400].map(|length| came.iter().filter(|frame| frame.len() > length).count())
    });
    assert_eq!(lost, [[2, 0]; 2], "frames of 900 and of 1400 bytes or more");
}
