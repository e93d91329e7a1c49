//! The support library does what it says, without dfw: otherwise a denied packet might be one that was never sent.

use std::{fs, net::SocketAddr};

use dfw_tests::{
    Attempt, Bridge, Container, Engine, EngineOptions, Listener, Namespace, Outcome, Protocol,
};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

#[test]
fn endpoints_of_a_bridge_reach_each_other_on_both_families() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 1);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let _listener = server
        .netns
        .enter(|| Listener::start(&[80], &[53]))
        .expect("ports are free");

    for (address, own) in server.at(0).into_iter().zip(client.at(0)) {
        for (protocol, port) in [
            (Protocol::Tcp, 80),
            (Protocol::Udp, 53),
            (Protocol::Icmp, 0),
        ] {
            let to = SocketAddr::new(address.ip(), port);
            let outcome = client.netns.enter(|| Attempt::new(protocol, to).run());
            let outcome = outcome.expect("the attempt is possible");
            let Outcome::Answered(seen_as) = outcome else {
                panic!("{protocol:?} to {to}: {outcome}")
            };
            if protocol != Protocol::Icmp {
                assert_eq!(seen_as.ip(), own.ip());
            }
        }
        let closed = SocketAddr::new(address.ip(), 81);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let outcome = client.netns.enter(|| Attempt::new(protocol, closed).run());
            assert_eq!(outcome.expect("the attempt is possible"), Outcome::Refused);
        }
    }
}

#[test]
fn what_a_firewall_drops_is_silent() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 2);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    server.netns.run("nft add table inet t");
    server
        .netns
        .run("nft add chain inet t c { type filter hook input priority 0 ; policy drop ; }");
    server.netns.run(
        "nft add rule inet t c icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
    );
    for protocol in PROTOCOLS {
        for to in server.at(80) {
            let outcome = client.netns.enter(|| Attempt::new(protocol, to).run());
            assert_eq!(
                outcome.expect("the attempt is possible"),
                Outcome::Silent,
                "{protocol:?} {to}"
            );
        }
    }
}

#[test]
fn a_source_port_can_be_chosen() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 3);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let _listener = server
        .netns
        .enter(|| Listener::start(&[80], &[]))
        .expect("the port is free");
    for (to, from) in server.at(80).into_iter().zip(client.at(4711)) {
        let attempt = Attempt {
            from: Some(from),
            ..Attempt::new(Protocol::Tcp, to)
        };
        let outcome = client
            .netns
            .enter(|| attempt.run())
            .expect("the attempt is possible");
        assert_eq!(outcome, Outcome::Answered(from));
    }
}

#[test]
fn containers_of_an_engine_reach_each_other_with_br_netfilter() {
    containers_reach_each_other(true);
}

#[test]
fn containers_of_an_engine_reach_each_other_without_br_netfilter() {
    containers_reach_each_other(false);
}

fn containers_reach_each_other(br_netfilter: bool) {
    let engine = Engine::start(EngineOptions {
        br_netfilter,
        ..EngineOptions::default()
    });
    engine.network("shop", 1);
    for network in ["bridge", "shop"] {
        let server = format!("{network}-server");
        let options = ["--network", network];
        let listen = ["dfw-probe", "listen", "tcp/80", "udp/53"];
        let server = engine.container(&server, &options, &listen);
        let client = engine.container(&format!("{network}-client"), &options, &[]);
        let (v4, v6) = server.addresses(network);
        let v6 = v6.expect("both networks have IPv6");
        for (protocol, port) in [("tcp", "80"), ("udp", "53"), ("icmp", "0")] {
            for address in [v4.to_string(), v6.to_string()] {
                client.exec(&["dfw-probe", protocol, &address, port]);
            }
        }
        assert_eq!(
            seen_from_outside(&client, (v4, 80).into()),
            client.addresses(network).0.to_string()
        );
    }
    let toggle = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let call = engine.host().enter(|| fs::read_to_string(toggle));
    let call = call.expect("the module is there");
    assert_eq!(call.trim(), if br_netfilter { "1" } else { "0" });
}

/// As by `exec`, but from a thread of the test in the container's namespace: faster where there are many attempts.
fn seen_from_outside(client: &Container<'_>, to: SocketAddr) -> String {
    match client
        .netns()
        .enter(|| Attempt::new(Protocol::Tcp, to).run())
    {
        Ok(Outcome::Answered(seen_as)) => seen_as.ip().to_string(),
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn a_published_port_is_reached_from_another_host() {
    let engine = Engine::start(EngineOptions::default());
    let lan = Namespace::new();
    engine.host().veth("uplink", &lan, "eth0");
    engine.host().run("ip address add 192.0.2.1/24 dev uplink");
    lan.run("ip address add 192.0.2.2/24 dev eth0");
    let listen = ["dfw-probe", "listen", "tcp/80"];
    let _web = engine.container("web", &["--publish", "8080:80"], &listen);

    let to = SocketAddr::from(([192, 0, 2, 1], 8080));
    let outcome = lan
        .enter(|| Attempt::new(Protocol::Tcp, to).run())
        .expect("the attempt is possible");
    // Destination NAT leaves the client its address.
    let Outcome::Answered(seen_as) = outcome else {
        panic!("{outcome}")
    };
    assert_eq!(seen_as.ip().to_string(), "192.0.2.2");
}
