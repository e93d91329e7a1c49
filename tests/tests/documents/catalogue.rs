//! The table of attacks and faults in docs/security.md: every row is there, and what shows it is a test.

use std::{collections::BTreeSet, fs};

use super::{markdown, none, root};

/// Every row, so that none is lost by an edit.
const ROWS: [&str; 43] = [
    "unknown ethertype: MPLS, LLC/SNAP, PPPoE, LLDP",
    "VLAN 0, QinQ, stacked VLAN 0",
    "raw unicast to a neighbour despite policy",
    "forged source MAC, flood of MACs",
    "ARP spoofing, gratuitous ARP",
    "discovery: ARP and ND sweeps",
    "sniffing: promiscuous mode, flooding, a full or flushed table of the bridge",
    "ND spoofing, rogue router advertisements, redirects",
    "rogue DHCP or DHCPv6 server",
    "a container's address from outside; an address that a deny list names, behind a VLAN tag too",
    "a deny list that is broken, or names private networks",
    "forged source address, IPv4 and IPv6",
    "IPv6 on a network without IPv6",
    "fragments: not the first, out of order, tiny, overlapping, without a whole header",
    "IPv4 options, header length below 5, truncation",
    "IPv6 extension headers",
    "IPIP, GRE, VXLAN, SCTP inside",
    "forged ICMP error",
    "ICMP echo that reuses an id the other way",
    "TCP without SYN; SYN on an old flow",
    "rule revoked during a flow, TCP and UDP",
    "flood of the flow table",
    "map full",
    "race at the start of a container",
    "second network, connect and disconnect",
    "reuse of an address, events out of order",
    "restart with a new address; rename or move of the inner interface",
    "agent killed, out of memory, panicked",
    "restart, upgrade, downgrade",
    "the verifier refuses a new object",
    "`tc qdisc del dev X clsact`",
    "another TCX program placed before dfw's",
    "foreign detach, pin removed",
    "`nft flush ruleset`, `iptables -F`, firewalld reload",
    "dockerd killed or restarted; its socket answers errors, garbage, or hangs",
    "loss of events",
    "an image carries `dfw.mode=off` or a compose service label",
    "label `exitCode=0` and the like",
    "hostile label values and names",
    "published port from another host, from a neighbour by the host's address, from loopback",
    "unpublished port, routed from the LAN",
    "metadata address 169.254.169.254",
    "host network, macvlan, ipvlan, shared namespace, privileged",
];

/// Where tests are that are there for this table alone.
const ROOM: &str = "tests/tests/catalogue";

#[test]
fn every_attack_has_its_row_and_its_test() {
    let table = markdown::table("docs/security.md", "attack or fault");
    let titles: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(titles, ROWS);
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for row in &table {
        let [attack, _, shown] = &row[..] else {
            panic!("three columns: {row:?}");
        };
        let tests: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() && shown != "–" {
            wrong.push(format!("{attack}: neither a test nor –: {shown}"));
        }
        wrong.extend(
            tests
                .iter()
                .filter(|test| !is_test(test))
                .map(|test| format!("{attack}: {test} is no test")),
        );
        named.extend(tests);
    }
    let orphans = tests_of_the_catalogue()
        .into_iter()
        .filter(|test| !named.contains(test.as_str()));
    wrong.extend(orphans.map(|test| format!("{test} belongs to no row")));
    none(wrong);
}

/// `path::name`, a test function in that file.
pub(crate) fn is_test(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else {
        return false;
    };
    let source = fs::read_to_string(root().join(path)).unwrap_or_default();
    tests_in(&source).contains(&name)
}

fn tests_of_the_catalogue() -> Vec<String> {
    let mut tests = Vec::new();
    for file in fs::read_dir(root().join(ROOM)).expect(ROOM) {
        let file = file.expect(ROOM);
        let source = fs::read_to_string(file.path()).unwrap_or_default();
        let name = file.file_name();
        let path = format!("{ROOM}/{}", name.to_string_lossy());
        tests.extend(
            tests_in(&source)
                .iter()
                .map(|test| format!("{path}::{test}")),
        );
    }
    tests
}

/// The names that follow the attribute.
fn tests_in(source: &str) -> Vec<&str> {
    let tests = source.split("#[test]\n").skip(1);
    tests
        .filter_map(|rest| rest.split_once("fn ")?.1.split('(').next())
        .collect()
}
