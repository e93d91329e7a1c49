//! A host whose NIC is one end of a veth, and everybody beyond it: one whom a list of many prefixes names, and one whom it does not.

use std::net::IpAddr;

use dfw_tests::{
    Namespace,
    prefixes::{self, Random},
    scratch::Scratch,
};
use ipnet::IpNet;

use crate::stage::End;

/// The NIC, on both sides.
const NIC: &str = "eth0";
/// The file in which the list is named.
const POLICY: &str = "policy.toml";
/// The host, for those whom the list does not name: they are next to it.
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:100::1"];
const STRANGER: [&str; 2] = ["198.51.100.9", "2001:db8:100::9"];
/// The host, for those whom the list names: by this the sender chooses who it is.
const HOST_FOR_LISTED: [&str; 2] = ["198.51.100.2", "2001:db8:100::2"];

/// Where the sender speaks to as one whom the list names.
pub(crate) fn for_listed(is_v4: bool) -> IpAddr {
    let text = HOST_FOR_LISTED[usize::from(!is_v4)];
    text.parse().expect("an address")
}

/// Who is denied: always the same ones.
fn list() -> Vec<IpNet> {
    prefixes::many(&mut Random(1))
}

/// Joins both by a veth, the host's end with one queue; for a peer with more of them than that the driver has no XDP.
pub(crate) fn plug(host: &Namespace, outside: &Namespace, queues: u8) -> [End; 2] {
    host.run(&format!(
        "ip link add {NIC} mtu 9000 numtxqueues 1 numrxqueues 1 type veth peer name {NIC} mtu 9000 numtxqueues {queues} numrxqueues {queues} netns {}",
        outside.name()
    ));
    for netns in [host, outside] {
        netns.run(&format!("ip link set {NIC} up"));
    }
    let list = list();
    for (family, bits) in [32, 128].into_iter().enumerate() {
        let (near, far) = (HOST[family], HOST_FOR_LISTED[family]);
        let (stranger, listed) = (STRANGER[family], list[family].addr());
        for own in [near, far] {
            host.run(&format!("ip address add {own}/{bits} dev {NIC}"));
        }
        outside.run(&format!("ip address add {stranger}/{bits} dev {NIC}"));
        outside.run(&format!("ip address add {listed}/{bits} dev {NIC}"));
        host.run(&format!("ip route add {stranger} dev {NIC} src {near}"));
        host.run(&format!("ip route add {listed} dev {NIC} src {far}"));
        outside.run(&format!("ip route add {near} dev {NIC} src {stranger}"));
        outside.run(&format!("ip route add {far} dev {NIC} src {listed}"));
    }
    let end = |netns: &Namespace, [v4, v6]: [&str; 2]| End {
        netns: netns.again(),
        v4: v4.parse().expect("an address"),
        v6: Some(v6.parse().expect("an address")),
    };
    [end(outside, STRANGER), end(host, HOST)]
}

/// Writes the list, and the policy that names it.
pub(crate) fn write_policy(scratch: &Scratch) {
    let lines = list().into_iter().map(|net| format!("{net}\n"));
    scratch.file("deny.txt", &lines.collect::<String>());
    scratch.file(POLICY, "[edge]\ndeny = [\"./deny.txt\"]\n");
}

/// Options of an agent that has it in force.
pub(crate) fn options(scratch: &Scratch) -> [String; 4] {
    let policy = scratch.path().join(POLICY).display().to_string();
    ["--uplink", NIC, "--policy", &policy].map(str::to_owned)
}

/// The same by others.
pub(crate) fn nft() -> String {
    let (v4, v6): (Vec<_>, Vec<_>) = list().into_iter().partition(|net| net.addr().is_ipv4());
    let set = |name: &str, kind: &str, nets: &[IpNet]| {
        let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
        let nets = nets.join(", ");
        format!(
            "set {name} {{ type {kind}; flags interval; auto-merge; elements = {{ {nets} }} }}\n"
        )
    };
    format!(
        "table netdev edge {{\n{}{}\
         chain ingress {{\ntype filter hook ingress device {NIC} priority -500\n\
         ip saddr @denied4 counter drop\n\
         ip6 saddr @denied6 counter drop\n\
         }}\n}}\n",
        set("denied4", "ipv4_addr", &v4),
        set("denied6", "ipv6_addr", &v6)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_one_of_both_senders_and_no_host() {
        let list = list();
        let is_listed = |address: IpAddr| list.iter().any(|net| net.contains(&address));
        for (family, is_v4) in [true, false].into_iter().enumerate() {
            assert_eq!(list[family].addr().is_ipv4(), is_v4);
            assert!(!is_listed(for_listed(is_v4)));
            for text in [HOST[family], STRANGER[family]] {
                assert!(!is_listed(text.parse().expect("an address")), "{text}");
            }
        }
    }
}
