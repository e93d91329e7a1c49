//! Rules as others write them. Each counts what it accepts or drops, so that rules which were not asked are noticed.

use std::fmt::Write as _;

use crate::{
    contenders::Ends,
    stage::{DENIED_PORT, PORT},
};

/// How those begin that need no br_netfilter.
pub(crate) const BRIDGE_TABLE: &str = "table bridge";

/// Containers beside which whalewall's rules are measured.
const CONTAINERS: u32 = 100;
/// Rule pairs of a container.
const PAIRS: u32 = 100;

/// A container's chain: what it may open, what may be opened to it, and nothing else.
fn chain(name: &str, pairs: &[(String, String)], port: u16) -> String {
    let mut text = format!("chain {name} {{\n");
    for (client, server) in pairs {
        for protocol in ["tcp", "udp"] {
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "ip saddr {client} ip daddr {server} {protocol} dport {port} ct state new,established counter accept\n\
                 ip saddr {server} ip daddr {client} {protocol} sport {port} ct state established counter accept"
            );
        }
    }
    text + "counter drop\n}\n"
}

/// A verdict map of addresses, and a jump by source and by destination.
fn whalewall(chains: &[(String, String)]) -> String {
    let mut text = "table ip filter {\n".to_owned();
    let mut elements = Vec::new();
    for (number, (address, chain)) in chains.iter().enumerate() {
        text += &chain.replace("NAME", &format!("whalewall-{number}"));
        elements.push(format!("{address} : jump whalewall-{number}"));
    }
    let elements = elements.join(", ");
    text + &format!(
        "map whalewall-container-addrs {{ type ipv4_addr : verdict; elements = {{ {elements} }} }}\n\
         chain whalewall {{\n\
         ip saddr vmap @whalewall-container-addrs\n\
         ip daddr vmap @whalewall-container-addrs\n\
         }}\n\
         chain FORWARD {{ type filter hook forward priority filter; policy accept; counter jump whalewall; }}\n\
         }}\n"
    )
}

/// Both ends and many containers that have nothing to do with them.
pub(crate) fn whalewall_containers(ends: &Ends<'_>) -> String {
    let pair = (ends.client.v4.to_string(), ends.server.v4.to_string());
    let own = [&pair.0, &pair.1].map(|address| {
        let chain = chain("NAME", std::slice::from_ref(&pair), PORT);
        (address.clone(), chain)
    });
    let others = (own.len() as u32..CONTAINERS).map(|number| {
        let address = format!("10.99.0.{number}");
        let peer = format!("10.99.1.{number}");
        (address.clone(), chain("NAME", &[(address, peer)], 80))
    });
    whalewall(&own.into_iter().chain(others).collect::<Vec<_>>())
}

/// Both ends, with many peers, of which the last is the other end.
pub(crate) fn whalewall_rules(ends: &Ends<'_>) -> String {
    let [client, server] = [ends.client, ends.server].map(|end| end.v4.to_string());
    let peer = |number| format!("10.99.2.{number}");
    let mut of_client: Vec<_> = (1..PAIRS)
        .map(|number| (client.clone(), peer(number)))
        .collect();
    let mut of_server: Vec<_> = (1..PAIRS)
        .map(|number| (peer(number), server.clone()))
        .collect();
    for pairs in [&mut of_client, &mut of_server] {
        pairs.push((client.clone(), server.clone()));
    }
    whalewall(&[
        (client, chain("NAME", &of_client, PORT)),
        (server, chain("NAME", &of_server, PORT)),
    ])
}

/// A FORWARD chain of so many rules about others, then those that match, then nothing else.
pub(crate) fn iptables(ends: &Ends<'_>, rules: u32, established_first: bool) -> String {
    let mut text = "*filter\n:FORWARD ACCEPT [0:0]\n".to_owned();
    if established_first {
        text += "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    }
    for number in 0..rules {
        let (high, low) = (number / 250, number % 250);
        let _ = writeln!(
            text,
            "-A FORWARD -s 10.98.{high}.{low}/32 -d 10.97.{high}.{low}/32 -p tcp -m tcp --dport {PORT} -j ACCEPT"
        );
    }
    let (client, server) = (ends.client.v4, ends.server.v4);
    text + &format!(
        "-A FORWARD -s {client}/32 -d {server}/32 -j ACCEPT\n\
         -A FORWARD -s {server}/32 -d {client}/32 -j ACCEPT\n\
         -A FORWARD -j DROP\n\
         COMMIT\n"
    )
}

/// The least that drops one port.
fn drop(table: &str) -> String {
    format!(
        "{table} denied {{\nchain forward {{\ntype filter hook forward priority filter;\n\
         udp dport {DENIED_PORT} counter drop\n\
         tcp dport {DENIED_PORT} counter drop\n\
         }}\n}}\n"
    )
}

/// Where Docker's own chains are.
pub(crate) fn drop_in_ip(_: &Ends<'_>) -> String {
    drop("table ip")
}

/// Where nothing else has to look at the packet.
pub(crate) fn drop_in_bridge(_: &Ends<'_>) -> String {
    drop(BRIDGE_TABLE)
}
