use std::sync::Arc;

use insta::assert_snapshot;

use super::{ask, learned, shop, suggested, told, value, wish};
use crate::{
    model::{Container, Endpoint, Inventory, Unanswerable},
    policy::{
        Form, Mode, Wish,
        tests::{file::with_file, node::options},
    },
};

/// What `cache` is told when everybody has come to it: the project and the stranger, not the network.
#[track_caller]
fn assert_everybody_is_named(inventory: Inventory) {
    let all = [
        "in tcp/1 shop/api",
        "in tcp/1 shop/db",
        "in tcp/1 shop/web",
        "in tcp/1 mon/prometheus",
    ];
    assert_eq!(
        value(inventory, "cache", &all),
        "tcp/1 from project:shop,service:mon/prometheus"
    );
}

#[test]
fn services_instead_of_addresses() {
    let records: &[(&str, &[&str])] = &[
        (
            "shop/web",
            &[
                "in tcp/80 198.51.100.7",
                "in tcp/80 host",
                "out tcp/8000 shop/api",
            ],
        ),
        (
            "shop/api",
            &[
                "in tcp/8000 shop/web",
                "in tcp/8000 mon/prometheus",
                "out tcp/5432 shop/db",
                "out tcp/6379 cache",
                "out udp/53 9.9.9.9",
            ],
        ),
        ("shop/db", &["in tcp/5432 shop/api"]),
        (
            "mon/prometheus",
            &["out tcp/8000 shop/api", "in tcp/9090 host"],
        ),
        ("cache", &["in tcp/6379 shop/api"]),
    ];
    assert_snapshot!(suggested(shop(&[]), records), @r#"
    Service { project: "mon", service: "prometheus" } audit
      dfw.ingress: "tcp/9090 from host"
        tcp/9090 from host | 11 1011-2011 | 0
      dfw.egress: "tcp/8000 to service:shop/api"
        tcp/8000 to service:shop/api | 10 1010-2010 | 0
    Service { project: "shop", service: "api" } audit
      dfw.ingress: "tcp/8000 from service:mon/prometheus,service:web"
        tcp/8000 from service:mon/prometheus,service:web | 9 1004-2005 | 0
      dfw.egress: "tcp/5432 to service:db; tcp/6379 to container:cache; udp/53 to 9.9.9.9/32"
        tcp/5432 to service:db | 6 1006-2006 | 0
        tcp/6379 to container:cache | 7 1007-2007 | 0
        udp/53 to 9.9.9.9/32 | 8 1008-2008 | 0
    Service { project: "shop", service: "db" } audit
      dfw.ingress: "tcp/5432 from service:api"
        tcp/5432 from service:api | 9 1009-2009 | 0
      dfw.egress: ""
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/80 from host,198.51.100.7/32"
        tcp/80 from host,198.51.100.7/32 | 3 1001-2002 | 0
      dfw.egress: "tcp/8000 to service:api"
        tcp/8000 to service:api | 3 1003-2003 | 0
    Container("cache") audit
      dfw.ingress: "tcp/6379 from service:shop/api"
        tcp/6379 from service:shop/api | 12 1012-2012 | 0
      dfw.egress: ""
    "#);
}

#[test]
fn ports_and_peers_are_joined() {
    for (sightings, wanted) in [
        (
            &["in tcp/80 shop/api", "in tcp/443 shop/api"][..],
            "tcp/80,443 from service:api",
        ),
        (
            &["in tcp/80 shop/api", "in tcp/80 mon/prometheus"],
            "tcp/80 from service:mon/prometheus,service:api",
        ),
        (
            &["in udp/4000 host", "in udp/4001 host", "in tcp/1 host"],
            "tcp/1,udp/4000-4001 from host",
        ),
        (
            &["in icmp/8 cache", "in icmp6/128 shop/db"],
            "icmp/8 from container:cache; icmp6/128 from service:db",
        ),
        (
            &[
                "out udp/5353 group 224.0.0.251",
                "out udp/5353 group ff02::fb",
            ],
            "udp/5353 to 224.0.0.251/32,ff02::fb/128",
        ),
        // The broadcast address of one network is somebody's on another.
        (
            &["out udp/9 group 10.0.0.255", "out tcp/79 10.0.0.255"],
            "tcp/79,udp/9 to 10.0.0.255/32",
        ),
        (
            &["out proto-47/0 198.51.100.1"],
            "proto-47 to 198.51.100.1/32",
        ),
        // Gone, but it had a name.
        (
            &["in tcp/80 shop/migrate", "in tcp/81 old"],
            "tcp/80 from service:migrate; tcp/81 from container:old",
        ),
    ] {
        assert_eq!(value(shop(&[]), "shop/web", sightings), wanted);
    }
}

#[test]
fn a_word_for_several_means_exactly_those() {
    for (of, sightings, wanted) in [
        // The group's two, both whole.
        (
            "shop/web",
            &["out tcp/1 shop/api", "out tcp/1 shop/db"][..],
            "tcp/1 to group:tier",
        ),
        (
            "shop/web",
            &["out tcp/1 shop/api", "out tcp/2 shop/db"],
            "tcp/1 to service:api; tcp/2 to service:db",
        ),
        // The whole project, as seen by another.
        (
            "mon/prometheus",
            &[
                "out tcp/1 shop/api",
                "out tcp/1 shop/db",
                "out tcp/1 shop/web",
            ],
            "tcp/1 to project:shop",
        ),
        // All of the network but itself: the network would be more.
        (
            "shop/web",
            &[
                "out tcp/1 shop/api",
                "out tcp/1 shop/db",
                "out tcp/1 mon/prometheus",
            ],
            "tcp/1 to group:tier,service:mon/prometheus",
        ),
        (
            "cache",
            &[
                "in tcp/1 shop/api",
                "in tcp/1 shop/db",
                "in tcp/1 shop/web",
                "in tcp/1 mon/prometheus",
            ],
            "tcp/1 from net:front",
        ),
    ] {
        assert_eq!(value(shop(&[]), of, sightings), wanted, "{sightings:?}");
    }
    // One of two replicas has the group.
    let mut inventory = shop(&[]);
    for endpoint in &mut inventory.endpoints {
        if endpoint.container.name == "shop-db-2" {
            Arc::make_mut(&mut endpoint.container)
                .labels
                .remove("dfw.group");
        }
    }
    let both = ["out tcp/1 shop/api", "out tcp/1 shop/db"];
    assert_eq!(
        value(inventory, "shop/web", &both),
        "tcp/1 to service:api,service:db"
    );
    // A container of it is on another network too, where it would not be meant.
    let mut inventory = shop(&[]);
    let leg = Endpoint {
        ifindex: 200,
        network: 11,
        ..inventory.endpoints[0].clone()
    };
    inventory.endpoints.push(leg);
    assert_everybody_is_named(inventory);
}

#[test]
fn addresses_of_the_world_are_summed_up() {
    let few = [
        "out tcp/443 198.51.100.0",
        "out tcp/443 198.51.100.1",
        "out tcp/443 198.51.100.4",
        "out tcp/443 2001:db8::1",
    ];
    assert_eq!(
        value(shop(&[]), "shop/web", &few),
        "tcp/443 to 198.51.100.0/31,198.51.100.4/32,2001:db8::1/128"
    );
    let many: Vec<String> = (0..9)
        .map(|n| format!("out tcp/443 198.51.100.{}", n * 2))
        .collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("out udp/53 198.51.100.0");
    assert_snapshot!(suggested(shop(&[]), &[("cache", &many)]), @r#"
    Container("cache") audit
      dfw.ingress: ""
      dfw.egress: "udp/53 to 198.51.100.0/32; tcp/443 to world"
        udp/53 to 198.51.100.0/32 | 10 1010-2010 | 0
        tcp/443 to world | 45 1001-2009 | 9
    "#);
    many.remove(0);
    assert!(value(shop(&[]), "shop/web", &many).starts_with("tcp/443 to 198.51.100.2/32,"));
}

#[test]
fn what_is_there_already() {
    // A label of another name stays, so what it allows need not be said again; the one of the same name is replaced.
    let labels = [
        ("dfw.mode", "audit"),
        ("dfw.ingress.public", "tcp/80 from world"),
        (
            "dfw.ingress",
            "tcp/9100 from service:mon/prometheus; tcp/1 from any; deny tcp/80 from 198.51.100.66",
        ),
    ];
    let records: &[(&str, &[&str])] = &[(
        "shop/web",
        &[
            "in tcp/80 198.51.100.7",
            "in tcp/9100 mon/prometheus",
            "in tcp/80 198.51.100.66",
            "out tcp/8000 shop/api",
        ],
    )];
    assert_snapshot!(suggested(shop(&labels), records), @r#"
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/9100 from service:mon/prometheus; deny tcp/80 from 198.51.100.66/32" (was "tcp/9100 from service:mon/prometheus; tcp/1 from any; deny tcp/80 from 198.51.100.66")
        tcp/9100 from service:mon/prometheus | 2 1002-2002 | 0
        deny tcp/80 from 198.51.100.66/32 |  | 0
      dfw.egress: "tcp/8000 to service:api"
        tcp/8000 to service:api | 4 1004-2004 | 0
      note: denied all the same, though it was seen: tcp/80 from 198.51.100.66, by dfw.ingress: "deny tcp/80 from 198.51.100.66/32"
    "#);
    // The same again, in another order, is the same.
    let labels = [
        ("dfw.mode", "audit"),
        ("dfw.ingress", "tcp/2 from host;tcp/1 from service:api"),
        ("dfw.egress", ""),
    ];
    let records: &[(&str, &[&str])] = &[("shop/web", &["in tcp/1 shop/api", "in tcp/2 host"])];
    assert_snapshot!(suggested(shop(&labels), records), @r#"
    Service { project: "shop", service: "web" } audit
      dfw.ingress: "tcp/1 from service:api; tcp/2 from host" (as it is)
        tcp/1 from service:api | 1 1001-2001 | 0
        tcp/2 from host | 2 1002-2002 | 0
      dfw.egress: "" (as it is)
    "#);
}

/// What was seen of the host was seen of some address of it, be it that of another interface.
#[test]
fn a_rule_for_one_address_of_the_host_is_not_enough() {
    let labels = [
        ("dfw.mode", "audit"),
        ("dfw.egress.own", "tcp/80 to 10.0.0.1/32,fd00::1/128"),
    ];
    assert_eq!(
        value(shop(&labels), "shop/web", &["out tcp/80 host"]),
        "tcp/80 to host"
    );
    let labels = [("dfw.mode", "audit"), ("dfw.egress.own", "tcp/80 to host")];
    let records: &[(&str, &[&str])] = &[("shop/web", &["out tcp/80 host"])];
    assert_snapshot!(suggested(shop(&labels), records), @"");
}

#[test]
fn entries_of_a_policy_file_add_to_what_is_there() {
    let labels = [("dfw.mode", "audit"), ("dfw.ingress", "tcp/80 from world")];
    let records = learned(&[(
        "shop/web",
        &[
            "in tcp/80 198.51.100.7",
            "in tcp/81 shop/api",
            "out tcp/8000 shop/api",
        ],
    )]);
    let wish = Wish {
        form: Form::Policy,
        ..wish()
    };
    let suggestions = ask(shop(&labels), options(Mode::Audit), &records, &wish).expect("an answer");
    assert_snapshot!(told(&suggestions), @r#"
    Service { project: "shop", service: "web" } audit
      dfw.ingress.2: "tcp/81 from service:shop/api"
        tcp/81 from service:shop/api | 2 1002-2002 | 0
      dfw.egress: "tcp/8000 to service:shop/api"
        tcp/8000 to service:shop/api | 3 1003-2003 | 0
    "#);
    assert_eq!(
        suggestions.suggestions[3].selector.as_deref(),
        Some("service:shop/web")
    );
}

#[test]
fn a_ceiling_is_told() {
    let file = "[[ceiling]]\nfor = \"project:shop\"\negress = \"any to project:shop\"\n";
    let options = with_file(file);
    let records = learned(&[(
        "shop/web",
        &["out tcp/443 198.51.100.7", "out tcp/1 shop/api"],
    )]);
    let answer = ask(shop(&[]), options, &records, &wish()).expect("an answer");
    assert_snapshot!(told(&answer), @r#"
    Service { project: "shop", service: "web" } audit
      dfw.ingress: ""
      dfw.egress: "tcp/1 to service:api; tcp/443 to 198.51.100.7/32"
        tcp/1 to service:api | 2 1002-2002 | 0
        tcp/443 to 198.51.100.7/32 | 1 1001-2001 | 0
      note: denied all the same, though it was seen: tcp/443 to 198.51.100.7, by policy.toml:3 ceiling egress: "nothing beyond it"
    "#);
}

#[test]
fn whom_it_is_about() {
    let records: &[(&str, &[&str])] = &[
        ("shop/web", &["in tcp/80 host"]),
        ("shop/gone", &["out tcp/1 host"]),
    ];
    let about = |selector: Option<&str>, unlabelled| {
        let wish = Wish {
            selector: selector.map(str::to_owned),
            ..wish()
        };
        match ask(shop(&[]), options(unlabelled), &learned(records), &wish) {
            Ok(answer) => {
                let all = answer
                    .suggestions
                    .iter()
                    .map(|one| format!("{:?}", one.subject));
                all.collect::<Vec<_>>().join("\n")
            }
            Err(Unanswerable { message, hint }) => format!("{message}: {hint}"),
        }
    };
    assert_eq!(about(None, Mode::Audit).lines().count(), 6);
    assert_eq!(about(Some("project:shop"), Mode::Audit).lines().count(), 4);
    assert_eq!(
        about(Some("service:shop/gone"), Mode::Audit)
            .lines()
            .count(),
        1
    );
    assert_eq!(
        about(Some("project:shop group:tier"), Mode::Audit)
            .lines()
            .count(),
        2
    );
    // Who enforces is not looked at, unless asked for.
    assert_eq!(about(None, Mode::Enforce).lines().count(), 1);
    assert_eq!(
        about(Some("project:shop"), Mode::Enforce).lines().count(),
        2
    );
    assert_snapshot!(about(Some("service:shop/wbe"), Mode::Audit), @"`service:shop/wbe` selects nobody at present: did you mean `service:shop/web`?: select as `for` in the policy file does: service:PROJECT/N, project:N, container:N, any");
    assert_snapshot!(about(Some("service:web"), Mode::Audit), @"`service:web` names no project, and there is none here to take: write service:PROJECT/web: select as `for` in the policy file does: service:PROJECT/N, project:N, container:N, any");
    assert_snapshot!(about(Some("net:back"), Mode::Enforce), @"nothing was seen of `net:back`: it was not in audit: switch it to audit, `dfw mode SELECTOR audit --for 1d`, and ask again later");
    assert_snapshot!(about(Some("container:cache"), Mode::Enforce), @"nothing was seen of `container:cache`: it was not in audit: switch it to audit, `dfw mode SELECTOR audit --for 1d`, and ask again later");
}

/// A port that nobody claims has no labels.
#[test]
fn who_is_no_container_gets_nothing() {
    let mut inventory = shop(&[]);
    let port = Container {
        id: "interface 120".to_owned(),
        name: "veth120".to_owned(),
        ..Container::default()
    };
    let endpoint = Endpoint {
        ifindex: 120,
        container: Arc::new(port),
        addresses: Vec::new(),
        ..inventory.endpoints[0].clone()
    };
    inventory.endpoints.push(endpoint);
    let answer = ask(
        inventory.clone(),
        options(Mode::Audit),
        &learned(&[]),
        &wish(),
    );
    let answer = answer.expect("an answer").suggestions;
    let about: Vec<String> = answer.iter().map(|one| one.subject.to_string()).collect();
    assert_eq!(
        about,
        ["mon/prometheus", "shop/api", "shop/db", "shop/web", "cache"]
    );
    // It is on the network all the same, which so means more than was seen.
    assert_everybody_is_named(inventory);
}
