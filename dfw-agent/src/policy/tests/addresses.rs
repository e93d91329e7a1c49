//! Classes of addresses: docs/semantics.md section 2, case by case.

use std::sync::Arc;

use dfw_common::{
    reason::Direction::Ingress,
    value::kind::{ENDPOINT, GROUP, HOST, UNKNOWN, WORLD},
};

use super::{
    kernel::Kernel,
    node::{Node, codes, container, ip},
};
use crate::policy::Compiled;

fn kind(compiled: &Compiled, network: u32, address: &str) -> (u32, u32) {
    let class = Kernel(compiled).class(network, ip(address));
    (class.kind, class.ifindex)
}

fn two_networks() -> Node {
    let a = Arc::new(container("a", &[]));
    let b = Arc::new(container("b", &[]));
    Node::default()
        .network(10, "one", &["10.0.0.0/24", "fd00::/64"])
        .network(20, "two", &["10.0.1.0/24"])
        .host(1, "127.0.0.1/8")
        .host(1, "::1/128")
        .host(2, "192.0.2.1/24")
        .host(2, "fe80::99/64")
        .host(10, "10.0.0.1/24")
        .host(10, "fe80::1/64")
        .endpoint(100, 10, &a, &["10.0.0.2", "fd00::2", "fe80::2"])
        .endpoint(200, 20, &b, &["10.0.1.2", "fe80::2"])
}

#[test]
fn each_class_on_each_network() {
    let compiled = two_networks().compile();
    let table = [
        ("10.0.0.2", (ENDPOINT, 100), (ENDPOINT, 100)),
        ("fd00::2", (ENDPOINT, 100), (ENDPOINT, 100)),
        ("10.0.1.2", (ENDPOINT, 200), (ENDPOINT, 200)),
        // Link-local addresses are the same on every bridge.
        ("fe80::2", (ENDPOINT, 100), (ENDPOINT, 200)),
        ("fe80::1", (HOST, 0), (UNKNOWN, 0)),
        ("fe80::99", (UNKNOWN, 0), (UNKNOWN, 0)),
        ("10.0.0.1", (HOST, 0), (HOST, 0)),
        ("192.0.2.1", (HOST, 0), (HOST, 0)),
        ("127.0.0.53", (HOST, 0), (HOST, 0)),
        ("::1", (HOST, 0), (HOST, 0)),
        ("10.0.0.9", (UNKNOWN, 0), (UNKNOWN, 0)),
        ("fd00::9", (UNKNOWN, 0), (UNKNOWN, 0)),
        // A broadcast address is one only on its own network.
        ("10.0.0.255", (GROUP, 0), (UNKNOWN, 0)),
        ("10.0.1.255", (UNKNOWN, 0), (GROUP, 0)),
        ("224.0.0.251", (GROUP, 0), (GROUP, 0)),
        ("255.255.255.255", (GROUP, 0), (GROUP, 0)),
        ("ff02::1", (GROUP, 0), (GROUP, 0)),
        ("192.0.2.2", (WORLD, 0), (WORLD, 0)),
        ("2001:db8::1", (WORLD, 0), (WORLD, 0)),
    ];
    for (address, one, two) in table {
        assert_eq!(kind(&compiled, 10, address), one, "{address} on one");
        assert_eq!(kind(&compiled, 20, address), two, "{address} on two");
    }
}

#[test]
fn equal_subnets_keep_their_endpoints_apart() {
    let a = Arc::new(container("a", &[]));
    let b = Arc::new(container("b", &[]));
    let node = Node::default()
        .network(10, "one", &["10.0.0.0/24"])
        .network(20, "two", &["10.0.0.0/24"])
        .network(30, "three", &["10.3.0.0/24"])
        .endpoint(100, 10, &a, &["10.0.0.2", "10.0.0.3"])
        .endpoint(200, 20, &b, &["10.0.0.2"]);
    let compiled = node.compile();
    assert_eq!(compiled.findings, []);
    assert_eq!(kind(&compiled, 10, "10.0.0.2"), (ENDPOINT, 100));
    assert_eq!(kind(&compiled, 20, "10.0.0.2"), (ENDPOINT, 200));
    // Which one the host would route to is not known.
    assert_eq!(kind(&compiled, 30, "10.0.0.2"), (UNKNOWN, 0));
    assert_eq!(kind(&compiled, 30, "10.0.0.3"), (UNKNOWN, 0));
    // On its own network, nobody has what only the other's endpoint has.
    assert_eq!(kind(&compiled, 20, "10.0.0.3"), (UNKNOWN, 0));
}

#[test]
fn nested_subnets_follow_the_longest() {
    let a = Arc::new(container("a", &[]));
    let b = Arc::new(container("b", &[]));
    let node = Node::default()
        .network(10, "wide", &["10.0.0.0/16"])
        .network(20, "narrow", &["10.0.5.0/24"])
        .network(30, "other", &["10.9.0.0/24"])
        .endpoint(100, 10, &a, &["10.0.5.2", "10.0.0.2"])
        .endpoint(200, 20, &b, &["10.0.5.3"]);
    let compiled = node.compile();
    assert_eq!(kind(&compiled, 30, "10.0.5.3"), (ENDPOINT, 200));
    assert_eq!(kind(&compiled, 30, "10.0.5.2"), (UNKNOWN, 0));
    assert_eq!(kind(&compiled, 30, "10.0.0.2"), (ENDPOINT, 100));
    assert_eq!(kind(&compiled, 10, "10.0.5.3"), (UNKNOWN, 0));
    assert_eq!(kind(&compiled, 20, "10.0.5.2"), (UNKNOWN, 0));
}

#[test]
fn foreign_port_makes_the_rest_of_a_network_world() {
    let a = Arc::new(container(
        "a",
        &[(
            "dfw.ingress",
            "any from 10.0.0.0/30; deny any from 10.0.0.3",
        )],
    ));
    let b = Arc::new(container("b", &[]));
    let mut node = Node::default()
        .network(10, "one", &["10.0.0.0/24", "fd00::/64"])
        .network(20, "two", &["10.0.0.0/24"])
        .endpoint(100, 10, &a, &["10.0.0.9"])
        .endpoint(200, 20, &b, &["10.0.0.2"]);
    node.0.networks[0].foreign_ports.push("eth1".to_owned());
    let compiled = node.compile();
    for address in ["10.0.0.2", "10.0.0.7", "fd00::7", "fe80::7"] {
        assert_eq!(kind(&compiled, 10, address), (WORLD, 0), "{address}");
    }
    assert_eq!(kind(&compiled, 20, "10.0.0.7"), (UNKNOWN, 0));
    let kernel = Kernel(&compiled);
    let enters = |address: &str| {
        let peer = kernel.class(10, ip(address));
        kernel
            .judge(compiled.endpoints[&100].policy, Ingress, peer, (6, 80))
            .allowed
    };
    assert!(enters("10.0.0.1") && enters("10.0.0.2"));
    assert!(!enters("10.0.0.3") && !enters("10.0.0.7"));
}

#[test]
fn disputed_addresses_go_to_the_host_then_to_the_older_link() {
    let a = Arc::new(container("a", &[]));
    let b = Arc::new(container("b", &[]));
    let node = Node::default()
        .network(10, "one", &["10.0.0.0/24"])
        .host(10, "10.0.0.1/24")
        .host(10, "fe80::1/64")
        .endpoint(101, 10, &b, &["10.0.0.2", "10.0.0.1", "fe80::1"])
        .endpoint(100, 10, &a, &["10.0.0.2", "10.0.0.2"]);
    let compiled = node.compile();
    assert_eq!(kind(&compiled, 10, "10.0.0.2"), (ENDPOINT, 100));
    assert_eq!(kind(&compiled, 10, "10.0.0.1"), (HOST, 0));
    assert_eq!(kind(&compiled, 10, "fe80::1"), (HOST, 0));
    assert_eq!(codes(&compiled.findings), ["duplicate-address"; 3]);
    assert!(
        compiled
            .findings
            .iter()
            .all(|finding| finding.subject == "b")
    );
    assert_eq!(
        compiled.findings[1].message,
        "10.0.0.2 on `one` belongs to `a` already, and this container is not given it: change one of the two"
    );
}

#[test]
fn addresses_that_nobody_can_have() {
    let a = Arc::new(container("a", &[]));
    let bad = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "10.0.0.255",
        "::",
        "::1",
        "ff02::1",
    ];
    let node = Node::default()
        .network(10, "one", &["10.0.0.0/24"])
        .endpoint(100, 10, &a, &bad);
    let compiled = node.compile();
    assert_eq!(codes(&compiled.findings), ["bad-endpoint-address"; 7]);
    assert!(
        compiled
            .addresses
            .values()
            .all(|address| address.kind != ENDPOINT)
    );
    // A v4-mapped address is the IPv4 one.
    let mapped = Node::default()
        .network(10, "one", &["10.0.0.0/24"])
        .endpoint(100, 10, &a, &["::ffff:10.0.0.2"])
        .compile();
    assert_eq!(kind(&mapped, 10, "10.0.0.2"), (ENDPOINT, 100));
}

#[test]
fn every_covering_cidr_counts() {
    let rules =
        "any from 10.0.0.0/8,::/0; deny any from 10.1.0.0/16; any from 10.1.2.0/24,192.0.2.1";
    let a = Arc::new(container("a", &[("dfw.ingress", rules)]));
    let node = Node::default()
        .network(10, "one", &["10.0.0.0/24"])
        .host(1, "10.200.0.1/24")
        .endpoint(100, 10, &a, &["10.0.0.2"])
        .endpoint(101, 10, &Arc::new(container("b", &[])), &["10.0.0.3"]);
    let compiled = node.compile();
    let kernel = Kernel(&compiled);
    let enters = |address: &str| {
        let peer = kernel.class(10, ip(address));
        kernel
            .judge(compiled.endpoints[&100].policy, Ingress, peer, (6, 80))
            .allowed
    };
    // World, host and endpoint alike.
    assert!(enters("10.2.0.1") && enters("10.200.0.1") && enters("10.0.0.3"));
    assert!(enters("192.0.2.1") && !enters("192.0.2.2"));
    assert!(
        !enters("10.1.0.1") && !enters("10.1.2.1"),
        "deny beats allow at any depth"
    );
    assert!(
        !enters("10.0.0.77"),
        "nobody's address is denied though a CIDR covers it"
    );
    // `::/0` is every IPv6 address, and no IPv4 one.
    assert!(enters("2001:db8::1") && enters("ff02::1") && !enters("198.51.100.1"));
}
