//! Who the ends of a question are.

use std::sync::Arc;

use insta::assert_snapshot;

use super::{ask, in_force, node, shop, told};
use crate::{
    model::{Container, Unprotected},
    policy::{
        Mode,
        tests::node::{Node, container},
    },
};

#[test]
fn host_and_world_have_no_side() {
    assert_snapshot!(told(&node(), "world web tcp/80"), @r#"
    world -> shop-web-1 IPv4
    world -> shop-web-1 IPv6
    ingress shop/web allow dfw.ingress: "tcp/80 from world"
    passes
    "#);
    assert_snapshot!(told(&node(), "host web tcp/80"), @r#"
    host -> shop-web-1 IPv4
    host -> shop-web-1 IPv6
    ingress shop/web deny nothing allows it
    hint: web dfw.ingress.host: "tcp/80 from host"
    denied
    "#);
    assert_snapshot!(told(&node(), "198.51.100.7 guest udp/53"), @r#"
    198.51.100.7 -> guest IPv4
    ingress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    hint: guest dfw.ingress: "udp/53 from 198.51.100.7"
    passes
    "#);
    assert_snapshot!(told(&node(), "web 10.0.0.99 tcp/80"), @r"
    shop-web-1 -> 10.0.0.99 IPv4
    egress shop/web deny the peer's address belongs to a managed network, but to no known endpoint
    denied
    ");
    assert_snapshot!(told(&node(), "host world tcp/80"), @"neither end is a container, so nothing is judged: name somebody whom `dfw ls` lists at one end");
}

/// A rule for one address of the world says nothing of the world.
#[test]
fn the_world_is_where_no_rule_names_an_address() {
    let one = container(
        "one",
        &[("dfw.egress", "tcp/443 to 192.0.2.0/24,2001:db8::/32")],
    );
    let node = Node::default()
        .network(10, "lan", &["10.0.0.0/24", "fd00::/64"])
        .endpoint(100, 10, &Arc::new(one), &["10.0.0.2", "fd00::2"]);
    let node = in_force(node.0, Mode::Audit);
    assert!(!ask(&node, "one world tcp/443").expect("an answer").passes);
    assert!(
        ask(&node, "one 192.0.2.1 tcp/443")
            .expect("an answer")
            .passes
    );
    assert!(
        ask(&node, "one 2001:db8::1 tcp/443")
            .expect("an answer")
            .passes
    );
}

#[test]
fn other_networks_are_routed() {
    assert_snapshot!(told(&node(), "plain cache tcp/6379"), @r#"
    plain -> back-cache-1 IPv4
    egress plain audit nothing allows it; passes all the same, for it has no rules, and the node's --unlabelled is audit
    ingress back/cache deny nothing allows it
    hint: cache dfw.ingress.plain: "tcp/6379 from container:plain"
    note: `plain` and `back/cache` share no network: Docker keeps its networks apart by rules of its own, whatever dfw allows
    denied
    "#);
}

#[test]
fn what_a_word_may_mean() {
    let web = container("web", &[]);
    let host = Container {
        unprotected: vec![Unprotected::HostNetwork],
        ..container("exporter", &[])
    };
    let gone = container("gone", &[]);
    let joiner = Container {
        shares: Some("id-shop-web-1".to_owned()),
        ..container("probe", &[])
    };
    let [web, host, gone, joiner] = [web, host, gone, joiner].map(Arc::new);
    let node = shop()
        .endpoint(106, 10, &web, &["10.0.0.7"])
        .with(&host)
        .with(&gone)
        .with(&joiner);
    let node = in_force(node.0, Mode::Audit);
    for (question, expected) in [
        (
            "web plain tcp/80",
            "`web` is several: `shop/web`, `web`: name one of them, or write container:web for the container",
        ),
        (
            "dbb plain tcp/80",
            "nobody here is called `dbb`: did you mean `db`?",
        ),
        (
            "\u{1b}[2J plain tcp/80",
            "nobody here is called `\\u{1b}[2J`: name a container, PROJECT/SERVICE, a service, an address, host or world",
        ),
        (
            "gone plain tcp/80",
            "`gone` has no port that is governed: it does not run, or its port is not known yet: name somebody whom `dfw ls` lists",
        ),
        (
            "plain plain tcp/80",
            "no packet of tcp/80 goes between the two: they need addresses of one family and must be two containers; icmp is IPv4's, icmp6 IPv6's",
        ),
        (
            "plain guest icmp6",
            "no packet of icmp6 goes between the two: they need addresses of one family and must be two containers; icmp is IPv4's, icmp6 IPv6's",
        ),
    ] {
        assert_eq!(told(&node, question), expected);
    }
    let asked = |question| told(&node, question);
    assert!(asked("container:web plain tcp/80").starts_with("web -> plain IPv4\n"));
    assert!(asked("service:shop/web plain tcp/80").starts_with("shop-web-1 -> plain IPv4\n"));
    assert!(asked("id-shop-web-1 plain tcp/80").starts_with("shop-web-1 -> plain IPv4\n"));
    assert!(asked("10.0.0.2 plain tcp/80").starts_with("shop-web-1 -> plain IPv4\n"));
    assert_snapshot!(asked("exporter guest tcp/80"), @r#"
    host -> guest IPv4
    ingress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    hint: guest dfw.ingress: "tcp/80 from host"
    note: `exporter` runs in the host's network: to rules it is `host`
    passes
    "#);
    assert_snapshot!(asked("probe guest tcp/80"), @r#"
    shop-web-1 -> guest IPv4
    egress shop/web deny nothing allows it
    ingress guest audit nothing allows it; passes all the same, for dfw.mode is audit
    hint: web dfw.egress.guest: "tcp/80 to container:guest"
    hint: guest dfw.ingress: "tcp/80 from service:shop/web"
    note: `probe` shares the network of `shop/web`, whose rules govern it
    denied
    "#);
}

#[test]
fn one_port_and_no_more() {
    let refusals = [
        "tcp",
        "tcp/80-81",
        "tcp/80,81",
        "any",
        "5432",
        "tpc/80",
        "icmp6/135",
        "tcp/0",
        "gre/1",
        "",
        "tcp/80;",
        "proto-256",
        "\u{202e}",
    ];
    let refusals = refusals.map(|ports| match ask(&node(), &format!("web db {ports}")) {
        Ok(_) => panic!("{ports} is taken"),
        Err(refusal) => refusal.message,
    });
    assert_snapshot!(refusals.join("\n"), @r"
    `tcp` names no port
    `tcp/80-81` is more than one port
    `tcp/80,81` is not one port
    `any` is not one port
    port 5432 has no protocol: write tcp/5432 or udp/5432
    unknown protocol `tpc`: did you mean `tcp`?
    icmp6/135 is neighbour discovery, which needs no rule
    `0` is out of range: ports go from 1 to 65535
    unknown protocol `gre`: use tcp, udp, sctp, icmp, icmp6, or proto-N with N from 0 to 255
    `` is not one port
    `tcp/80;` is not one port
    unknown protocol `proto-256`: use tcp, udp, sctp, icmp, icmp6, or proto-N with N from 0 to 255
    `\u{202e}` is not one port
    ");
    for ports in [
        "icmp",
        "icmp/8",
        "icmp/3",
        "icmp6/128",
        "udp/65535",
        "sctp/1",
        "proto-47",
        "proto-0",
        "proto-255",
    ] {
        assert!(ask(&node(), &format!("web db {ports}")).is_ok(), "{ports}");
    }
}
