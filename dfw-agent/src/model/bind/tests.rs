//! One bridge `br` (10) and one `br2` (20); veth n leads to MAC 02:00:00:00:00:0n.

use super::*;
use crate::model::{HostAddress, Peer};

const BR: u32 = 10;
const BR2: u32 = 20;

fn mac(n: u8) -> Mac {
    Mac::new([2, 0, 0, 0, 0, n])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| ip(text)).collect()
}

fn bridge(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.into(),
        kind: LinkKind::Bridge,
        up: true,
        bridge: None,
        peer_here: None,
        peer: None,
        detour: None,
    }
}

fn veth(ifindex: u32, bridge: u32, peer: Option<(u8, &[&str])>) -> Link {
    Link {
        ifindex,
        name: format!("veth{ifindex}"),
        kind: LinkKind::Veth,
        up: true,
        bridge: Some(bridge),
        peer_here: None,
        peer: peer.map(|(n, addresses)| Peer {
            mac: mac(n),
            addresses: ips(addresses),
        }),
        detour: None,
    }
}

fn links(more: impl IntoIterator<Item = Link>) -> Links {
    let all = [bridge(BR, "br"), bridge(BR2, "br2")]
        .into_iter()
        .chain(more);
    Links {
        links: all.map(|link| (link.ifindex, link)).collect(),
        host_addresses: Vec::new(),
    }
}

fn network(id: &str, bridge: &str) -> Network {
    Network {
        id: id.into(),
        name: id.into(),
        project: None,
        short_name: None,
        filtered: false,
        bridge: bridge.into(),
        subnets: Vec::new(),
    }
}

fn on(network: &str, n: u8, addresses: &[&str]) -> Attachment {
    Attachment {
        network: network.into(),
        interface: None,
        mac: Some(mac(n)),
        addresses: ips(addresses),
    }
}

fn at(network: &str, interface: &str) -> Attachment {
    Attachment {
        network: network.into(),
        interface: Some(interface.into()),
        ..Attachment::default()
    }
}

fn container(name: &str, attachments: impl IntoIterator<Item = Attachment>) -> Arc<Container> {
    Arc::new(Container {
        id: name.into(),
        name: name.into(),
        running: true,
        attachments: attachments.into_iter().collect(),
        ..Container::default()
    })
}

fn docker(containers: impl IntoIterator<Item = Arc<Container>>) -> Snapshot {
    Snapshot {
        networks: vec![network("n", "br"), network("m", "br2")],
        containers: containers.into_iter().collect(),
    }
}

fn inventory(containers: impl IntoIterator<Item = Arc<Container>>) -> Snapshot {
    Snapshot {
        networks: vec![network("n", ""), network("m", "")],
        containers: containers.into_iter().collect(),
    }
}

/// Container, ifindex, bridge.
type Place<'a> = (&'a str, u32, u32);
/// Code and subject.
type Noticed<'a> = (&'a str, &'a str);
type Case<'a> = (&'a str, Snapshot, Links, &'a [Place<'a>], &'a [Noticed<'a>]);

fn outcome(bound: &Inventory) -> (Vec<Place<'_>>, Vec<Noticed<'_>>) {
    (
        bound
            .endpoints
            .iter()
            .map(|e| (e.container.name.as_str(), e.ifindex, e.network))
            .collect(),
        bound
            .findings
            .iter()
            .map(|f| (f.code.as_str(), f.subject.as_str()))
            .collect(),
    )
}

#[test]
fn docker_by_mac() {
    let a = container("a", [on("n", 1, &["10.0.0.1"]), on("m", 2, &["10.9.0.1"])]);
    let b = container("b", [on("n", 3, &["10.0.0.3"])]);
    let cases: [Case<'_>; 7] = [
        (
            "one container on two networks, one on one",
            docker([a.clone(), b.clone()]),
            links([
                veth(1, BR, Some((1, &[]))),
                veth(2, BR2, Some((2, &[]))),
                veth(3, BR, Some((3, &[]))),
            ]),
            &[("a", 1, BR), ("a", 2, BR2), ("b", 3, BR)],
            &[],
        ),
        (
            "the right MAC on the wrong bridge is nobody's",
            docker([b.clone()]),
            links([veth(3, BR2, Some((3, &[])))]),
            &[],
            &[],
        ),
        (
            "two veths with one MAC",
            docker([b.clone()]),
            links([veth(3, BR, Some((3, &[]))), veth(4, BR, Some((3, &[])))]),
            &[],
            &[("ambiguous-mac", "b")],
        ),
        (
            "two containers with one MAC",
            docker([b.clone(), container("c", [on("n", 3, &["10.0.0.4"])])]),
            links([veth(3, BR, Some((3, &[])))]),
            &[],
            &[("ambiguous-mac", "b"), ("ambiguous-mac", "c")],
        ),
        (
            "a MAC that was changed before first sight",
            docker([b.clone()]),
            links([veth(3, BR, Some((9, &[])))]),
            &[],
            &[("no-port", "b")],
        ),
        (
            "its veth is not there yet",
            docker([b.clone()]),
            links([]),
            &[],
            &[],
        ),
        (
            "its veth leads nowhere yet",
            docker([b]),
            links([veth(3, BR, None)]),
            &[],
            &[],
        ),
    ];
    for (case, snapshot, links, endpoints, findings) in cases {
        let bound = bind(&snapshot, &links);
        assert_eq!(
            outcome(&bound),
            (endpoints.to_vec(), findings.to_vec()),
            "{case}"
        );
    }
}

#[test]
fn a_restart_binds_anew() {
    let a = container("a", [on("n", 1, &["10.0.0.1"])]);
    let before = bind(&docker([a.clone()]), &links([veth(1, BR, Some((1, &[])))]));
    let after = bind(&docker([a]), &links([veth(7, BR, Some((1, &[])))]));
    assert_eq!(outcome(&before).0, [("a", 1, BR)]);
    assert_eq!(outcome(&after).0, [("a", 7, BR)]);
}

#[test]
fn inventory_by_name() {
    let a = container("a", [at("n", "veth1")]);
    let b = container("b", [at("n", "veth2")]);
    let cases: [Case<'_>; 6] = [
        (
            "both on the network's bridge",
            inventory([a.clone(), b.clone()]),
            links([
                veth(1, BR, Some((1, &["10.0.0.1"]))),
                veth(2, BR, Some((2, &["10.0.0.2"]))),
            ]),
            &[("a", 1, BR), ("b", 2, BR)],
            &[],
        ),
        (
            "the second on another bridge",
            inventory([a.clone(), b.clone()]),
            links([
                veth(1, BR, Some((1, &["10.0.0.1"]))),
                veth(2, BR2, Some((2, &["10.0.0.2"]))),
            ]),
            &[("a", 1, BR)],
            &[("other-bridge", "b")],
        ),
        (
            "not a port, and not there",
            inventory([a.clone(), b.clone(), container("c", [at("n", "veth3")])]),
            links([
                veth(1, BR, Some((1, &["10.0.0.1"]))),
                Link {
                    bridge: None,
                    ..veth(2, BR, Some((2, &["10.0.0.2"])))
                },
            ]),
            &[("a", 1, BR)],
            &[("no-interface", "c"), ("not-a-port", "b")],
        ),
        (
            "no address yet, no MAC to be seen",
            inventory([a.clone(), b.clone()]),
            links([veth(1, BR, Some((1, &["fe80::1"]))), veth(2, BR, None)]),
            &[],
            &[("no-address", "a"), ("no-address", "b")],
        ),
        (
            "two networks on one bridge",
            inventory([a.clone(), container("c", [at("m", "veth2")])]),
            links([
                veth(1, BR, Some((1, &["10.0.0.1"]))),
                veth(2, BR, Some((2, &["10.0.0.2"]))),
            ]),
            &[("a", 1, BR)],
            &[("bridge-shared", "m")],
        ),
        (
            "one interface for two",
            inventory([a, container("c", [at("n", "veth1")])]),
            links([veth(1, BR, Some((1, &["10.0.0.1"])))]),
            &[("a", 1, BR)],
            &[("interface-shared", "c")],
        ),
    ];
    for (case, snapshot, links, endpoints, findings) in cases {
        let bound = bind(&snapshot, &links);
        assert_eq!(
            outcome(&bound),
            (endpoints.to_vec(), findings.to_vec()),
            "{case}"
        );
    }
}

#[test]
fn addresses() {
    let eui = "fe80::ff:fe00:1";
    type Row<'a> = (
        &'a str,
        Attachment,
        &'a [&'a str],
        &'a [&'a str],
        &'a [&'a str],
    );
    let cases: [Row<'_>; 5] = [
        (
            "the record, and EUI-64",
            on("n", 1, &["10.0.0.1"]),
            &[],
            &["10.0.0.1", eui],
            &[],
        ),
        (
            "the record beats what is seen, link-local is taken as seen",
            on("n", 1, &["10.0.0.1"]),
            &["10.0.0.66", "fe80::66"],
            &["10.0.0.1", eui, "fe80::66"],
            &["address-differs"],
        ),
        (
            "no record: as seen",
            at("n", "veth1"),
            &["10.0.0.1", "fd00::1", eui],
            &[eui, "10.0.0.1", "fd00::1"],
            &[],
        ),
        (
            "another MAC is reported, the record holds",
            Attachment {
                mac: Some(mac(7)),
                addresses: ips(&["10.0.0.1"]),
                ..at("n", "veth1")
            },
            &["10.0.0.1"],
            &["10.0.0.1", "fe80::ff:fe00:7"],
            &["address-differs"],
        ),
        (
            "IPv4 link-local is an ordinary address",
            at("n", "veth1"),
            &["169.254.1.1"],
            &[eui, "169.254.1.1"],
            &[],
        ),
    ];
    for (case, attachment, seen, expected, codes) in cases {
        let snapshot = docker([container("a", [attachment])]);
        let bound = bind(&snapshot, &links([veth(1, BR, Some((1, seen)))]));
        assert_eq!(bound.endpoints.len(), 1, "{case}");
        assert_eq!(bound.endpoints[0].addresses, ips(expected), "{case}");
        assert_eq!(
            bound
                .findings
                .iter()
                .map(|f| f.code.as_str())
                .collect::<Vec<_>>(),
            codes,
            "{case}"
        );
    }
}

#[test]
fn an_address_has_one_owner() {
    let victim = "fe80::ff:fe00:1";
    let a = container("a", [on("n", 1, &["10.0.0.1"])]);
    let thief = container("b", [on("n", 2, &["10.0.0.2"])]);
    let bound = bind(
        &docker([a.clone(), thief]),
        &links([
            veth(1, BR, Some((1, &[victim]))),
            veth(2, BR, Some((2, &[victim]))),
        ]),
    );
    assert_eq!(bound.endpoints[0].addresses, ips(&["10.0.0.1", victim]));
    assert_eq!(
        bound.endpoints[1].addresses,
        ips(&["10.0.0.2", "fe80::ff:fe00:2"])
    );
    assert_eq!(outcome(&bound).1, [("address-conflict", "b")]);

    let twice = container("c", [on("n", 3, &["10.0.0.1"])]);
    let elsewhere = container("d", [on("m", 4, &["10.0.0.1"])]);
    let bound = bind(
        &docker([a, twice, elsewhere]),
        &links([
            veth(1, BR, Some((1, &[]))),
            veth(3, BR, Some((3, &[]))),
            veth(4, BR2, Some((4, &[]))),
        ]),
    );
    assert_eq!(bound.endpoints[0].addresses, ips(&[victim]));
    assert_eq!(bound.endpoints[1].addresses, ips(&["fe80::ff:fe00:3"]));
    assert_eq!(
        bound.endpoints[2].addresses,
        ips(&["10.0.0.1", "fe80::ff:fe00:4"])
    );
    assert_eq!(
        outcome(&bound).1,
        [("address-conflict", "a"), ("address-conflict", "c")]
    );
}

#[test]
fn networks() {
    let mut host = links([veth(1, BR, Some((1, &["10.0.0.2"])))]);
    for (ifindex, net) in [
        (BR, "10.0.0.1/24"),
        (BR, "fd00::1/64"),
        (BR, "fe80::1/64"),
        (BR2, "10.9.0.1/24"),
    ] {
        host.host_addresses.push(HostAddress {
            ifindex,
            net: net.parse().expect("prefix"),
        });
    }
    let bound = bind(&inventory([container("a", [at("n", "veth1")])]), &host);
    assert_eq!(bound.networks.len(), 1);
    let network = &bound.networks[0];
    assert_eq!(
        (network.ifindex, network.network.bridge.as_str()),
        (BR, "br")
    );
    let subnets: Vec<String> = network
        .network
        .subnets
        .iter()
        .map(IpNet::to_string)
        .collect();
    assert_eq!(subnets, ["10.0.0.0/24", "fd00::/64"]);

    let mut gone = docker([]);
    gone.networks[0].bridge = "br-gone".into();
    let bound = bind(&gone, &host);
    assert_eq!(
        bound
            .networks
            .iter()
            .map(|n| n.network.id.as_str())
            .collect::<Vec<_>>(),
        ["m"]
    );
    assert_eq!(outcome(&bound).1, [("no-bridge", "n")]);
}

#[test]
fn ports_that_nobody_claims() {
    let here = |peer| Link {
        peer_here: Some(peer),
        ..veth(3, BR, None)
    };
    let loose = |up| Link {
        up,
        bridge: None,
        ..veth(4, BR, None)
    };
    let nic = Link {
        kind: LinkKind::Other,
        name: "eth1".into(),
        ..veth(5, BR, None)
    };
    type Row<'a> = (&'a str, Vec<Link>, &'a [u32], &'a [&'a str]);
    let cases: [Row<'_>; 5] = [
        (
            "a veth that has just appeared",
            vec![veth(3, BR, None)],
            &[3],
            &[],
        ),
        (
            "a veth to a namespace that nobody claims",
            vec![veth(3, BR, Some((3, &[])))],
            &[3],
            &[],
        ),
        ("a NIC", vec![nic], &[], &["eth1"]),
        (
            "the other end is here and down: not moved yet",
            vec![here(4), loose(false)],
            &[3],
            &[],
        ),
        (
            "the other end is here and up",
            vec![here(4), loose(true)],
            &[],
            &["veth3"],
        ),
    ];
    for (case, ports, unclaimed, foreign) in cases {
        let bound = bind(&docker([]), &links(ports));
        let expected: Vec<(u32, u32)> = unclaimed.iter().map(|&ifindex| (ifindex, BR)).collect();
        assert_eq!(bound.unclaimed, expected, "{case}");
        assert_eq!(bound.networks[0].foreign_ports, foreign, "{case}");
    }
}
