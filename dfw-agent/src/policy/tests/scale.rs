//! What a large node needs of the maps, and what one container may take of them.

use std::sync::Arc;

use dfw_common::maps::{ADDRESSES_MAX, POLICY_MAX, PREFIXES_MAX};

use super::node::{Node, codes, container, options, service};
use crate::policy::{Compiler, Held, Mode, State};

/// 1 000 endpoints of 100 projects, 10 000 rules of which none is equal to another.
fn large() -> Node {
    let mut node = Node::default();
    for project in 0..100u32 {
        let network = 10 + project;
        let subnets = [
            format!("10.{project}.0.0/24"),
            format!("fd00:{project:x}::/64"),
        ];
        let subnets: Vec<&str> = subnets.iter().map(String::as_str).collect();
        node = node.network(network, &format!("net{project}"), &subnets);
        for number in 0..10u32 {
            let peer = (number + 1) % 10;
            let mut ingress = format!("tcp/80 from service:s{peer}; any from host log");
            for rule in 0..6u32 {
                let port = 1000 + rule * 10 + number;
                ingress += &format!(
                    "; tcp/{port}-{} from 10.{project}.{number}.{}/32",
                    port + 99,
                    rule
                );
            }
            let egress = format!("any to project:p{project}; udp/53 to 192.0.2.{number}/32");
            let labels = [
                ("dfw.ingress", ingress.as_str()),
                ("dfw.egress", egress.as_str()),
            ];
            let container = Arc::new(service(
                &format!("p{project}"),
                &format!("s{number}"),
                &labels,
            ));
            let host = number + 2;
            let addresses = [
                format!("10.{project}.0.{host}"),
                format!("fd00:{project:x}::{host:x}"),
                format!("fe80::{project:x}:{host:x}"),
            ];
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            node = node.endpoint(
                1000 + project * 10 + number,
                network,
                &container,
                &addresses,
            );
        }
    }
    node
}

#[test]
fn thousand_endpoints_and_ten_thousand_rules_fit() {
    let node = large();
    let mut compiler = Compiler::new(1, Held::default());
    let compiled = compiler.compile(&node.0, &options(Mode::Audit));
    let again = compiler.compile(&node.0, &options(Mode::Audit));
    assert_eq!(again.policy, compiled.policy);
    assert_eq!(compiled.endpoints.len(), 1000);
    assert_eq!(compiled.rules.len(), 10_000);
    assert_eq!(compiled.findings, []);
    assert!(compiled.policy.len() < POLICY_MAX as usize);
    assert!(compiled.addresses.len() < ADDRESSES_MAX as usize);
    assert!(compiled.prefixes.len() < PREFIXES_MAX as usize);
}

#[test]
fn one_container_cannot_fill_the_map() {
    let nets: Vec<String> = (0..200).map(|n| format!("10.0.{n}.0/24")).collect();
    let ports: Vec<String> = (1..2000).step_by(2).map(|port| port.to_string()).collect();
    let ingress = format!("tcp/{} from any", ports.join(","));
    let log = format!("tcp/80 from {} log", nets.join(","));
    let greedy = container(
        "greedy",
        &[("dfw.ingress.a", &ingress), ("dfw.ingress.b", &log)],
    );
    let modest = container("modest", &[("dfw.ingress", "tcp/80 from any")]);
    let (greedy, modest) = (Arc::new(greedy), Arc::new(modest));
    let compiled = Node::default()
        .network(10, "lan", &["10.9.0.0/24"])
        .endpoint(100, 10, &greedy, &["10.9.0.2"])
        .endpoint(101, 10, &modest, &["10.9.0.3"])
        .compile();
    assert_eq!(codes(&compiled.findings), ["policy-too-large"]);
    assert_eq!(compiled.findings[0].subject, "greedy");
    assert_eq!(compiled.endpoints[&100].state, State::Error);
    assert_eq!(compiled.endpoints[&101].state, State::Ready);
    let policies: Vec<u32> = compiled.policy.keys().map(|key| key.policy).collect();
    assert_eq!(policies, [compiled.endpoints[&101].policy; 2]);
}
