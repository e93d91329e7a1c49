//! docs/migration.md: the chain of iptables that it shows and the labels beside it let the same real connections pass.

use std::{io::Write as _, net::SocketAddr, process::Stdio};

use dfw_tests::{Agent, Attempt, Bridge, Inventory, Listener, Namespace, Protocol};

use crate::{blocks_of, markdown::Document};

/// As the page translates its rules.
const INGRESS: &str = "tcp/80 from 192.0.2.0/24";
const EGRESS: &str = "any to any; deny any to 169.254.169.254";

/// Client, or none for the container itself; where it connects to; whether it gets there.
const CONNECTIONS: [(Option<&str>, &str, bool); 4] = [
    (Some("192.0.2.7"), "203.0.113.1:8080", true),
    (Some("198.51.100.7"), "203.0.113.1:8080", false),
    (None, "203.0.113.2:80", true),
    (None, "169.254.169.254:80", false),
];

#[test]
fn the_chain_and_its_labels_let_the_same_pass() {
    let page = Document::read("docs/migration.md".to_owned()).text;
    for said in [INGRESS, "deny any to 169.254.169.254"] {
        assert!(page.contains(said), "the page translates otherwise: {said}");
    }
    let (host, outside) = (Namespace::new(), Namespace::new());
    host.veth("eth0", &outside, "eth0");
    host.run("ip address add 203.0.113.1/24 dev eth0");
    host.run("ip route add default via 203.0.113.2");
    for address in [
        "203.0.113.2/24",
        "192.0.2.7/32",
        "198.51.100.7/32",
        "169.254.169.254/32",
    ] {
        outside.run(&format!("ip address add {address} dev eth0"));
    }
    outside.run("ip route add default via 203.0.113.1");
    let mut bridge = Bridge::new(&host, "br0", 42);
    let web = bridge.plug("web");
    let listen = || Listener::start(&[80], &[]).expect("the port is free");
    let (_inside, _outside) = (web.netns.enter(listen), outside.enter(listen));
    // What Docker makes around the chain.
    host.run("iptables -N DOCKER-USER");
    host.run("iptables -A FORWARD -j DOCKER-USER");
    let published = format!("--to-destination {}:80", web.v4);
    host.run(&format!(
        "iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT {published}"
    ));
    for block in blocks_of("iptables") {
        restore(&host, &block.lines.join("\n"));
    }
    let compare = |when: &str| {
        for (client, to, is_allowed) in CONNECTIONS {
            let to: SocketAddr = to.parse().expect("an address");
            let attempt = Attempt::new(Protocol::Tcp, to).expecting(is_allowed);
            let outcome = match client {
                None => web.netns.enter(|| attempt.run()),
                Some(own) => {
                    outside.run(&format!(
                        "ip route replace {} src {own} via 203.0.113.1",
                        to.ip()
                    ));
                    outside.enter(|| attempt.run())
                }
            };
            let outcome = outcome.expect("the attempt is possible");
            assert_eq!(
                outcome.is_answered(),
                is_allowed,
                "{when}: {client:?} {to} {outcome}"
            );
        }
    };
    compare("with the chain");
    host.run("iptables -F DOCKER-USER");
    let mut inventory = Inventory::new();
    let labels = [("dfw.ingress", INGRESS), ("dfw.egress", EGRESS)];
    inventory.set("web", &web, "lab", &labels);
    inventory.write();
    let _agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    compare("with the labels");
}

fn restore(host: &Namespace, rules: &str) {
    let mut command = host.command("iptables-restore");
    let child = command.arg("--noflush").stdin(Stdio::piped()).spawn();
    let mut child = child.expect("iptables-restore");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(rules.as_bytes()).expect("it reads");
    stdin.write_all(b"\n").expect("it reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{rules}");
}
