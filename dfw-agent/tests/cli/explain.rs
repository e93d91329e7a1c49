//! `dfw explain`, of a served agent and of compose files.

use std::{fs, sync::Arc};

use dfw_agent::{
    model::{BoundNetwork, Container, Endpoint, Inventory, LABEL_PROJECT, LABEL_SERVICE, Network},
    policy::{InForce, Options},
};

use super::{Served, code, run, stderr, stdout, view};

/// A shop of web and db on one network; web may go to db, which lets nobody in.
fn shop() -> InForce {
    let service = |name: &str, number: u8, label: (&str, &str)| Endpoint {
        ifindex: number.into(),
        interface: format!("veth{number}"),
        network: 5,
        container: Arc::new(Container {
            id: name.to_owned(),
            name: format!("shop-{name}-1"),
            labels: [(LABEL_PROJECT, "shop"), (LABEL_SERVICE, name), label]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..Container::default()
        }),
        mac: format!("02:00:00:00:00:0{number}").parse().expect("MAC"),
        addresses: vec![[172, 18, 0, number].into()],
    };
    let network = Network {
        id: "net".to_owned(),
        name: "shop_default".to_owned(),
        project: Some("shop".to_owned()),
        short_name: Some("default".to_owned()),
        filtered: false,
        bridge: "br-0".to_owned(),
        subnets: vec!["172.18.0.0/16".parse().expect("net")],
    };
    let inventory = Inventory {
        endpoints: vec![
            service("web", 2, ("dfw.egress", "any to service:db")),
            service("db", 3, ("dfw.mode", "enforce")),
            service("cron\u{1b}[2J", 4, ("dfw.mode", "audit")),
        ],
        networks: vec![BoundNetwork {
            ifindex: 5,
            network,
            foreign_ports: Vec::new(),
        }],
        ..Inventory::default()
    };
    InForce::planned(inventory, Options::default())
}

#[test]
fn explain_tells_what_is_denied_and_what_is_missing() {
    let served = Served::with(view(), Some(shop()));
    let output = served.run(&["explain", "shop/web", "shop/db", "tcp/5432"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (3, ""));
    insta::assert_snapshot!(stdout(&output), @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress: "tcp/5432 from service:web"
    "#);

    let output = served.run(&["explain", "cron\u{1b}[2J", "172.18.0.99", "udp/53"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    insta::assert_snapshot!(stdout(&output), @r"egress   shop/cron\u{1b}[2J   audit   the peer's address belongs to a managed network, but to no known endpoint; passes all the same, for dfw.mode is audit");

    let output = served.run(&["explain", "web", "db", "tcp/5432", "-o", "json"]);
    assert_eq!(code(&output), 3);
    insta::assert_snapshot!(stdout(&output), @r#"{"passes":false,"paths":[{"pairs":[{"from":"shop-web-1","to":"shop-db-1","family":"IPv4"}],"passes":false,"sides":[{"direction":"egress","endpoint":"shop/web","mode":"enforce","governed":true,"verdict":"allow","reason":"allowed","rule":{"label":"dfw.egress","text":"any to service:db","ceiling":false},"why":"dfw.egress: \"any to service:db\"","hint":null},{"direction":"ingress","endpoint":"shop/db","mode":"enforce","governed":true,"verdict":"deny","reason":"no-rule","rule":null,"why":"nothing allows it","hint":{"on":"db","text":"dfw.ingress: \"tcp/5432 from service:web\""}}]}],"notes":[]}"#);

    let output = served.run(&["explain", "wbe", "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: nobody here is called `wbe`
    hint: did you mean `web`?
    ");

    let long = "a".repeat(20_000);
    let output = served.run(&["explain", &long, "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
    insta::assert_snapshot!(stderr(&output), @r"
    dfw: error: that is longer than any name
    hint: name those whom `dfw ls` lists
    ");
}

/// Without an agent, of what is only planned.
#[test]
fn explain_reads_compose_files() {
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("compose.json");
    let project = r#"{"name":"shop","networks":{"back":{"enable_ipv6":true},"lan":{"driver":"macvlan"}},"services":{
        "web":{"labels":{"dfw.egress":"any to service:db"},"networks":{"back":null}},
        "db":{"labels":{"dfw.ingress":"tcp/5432 from service:api"},"networks":{"back":{"ipv4_address":"172.18.0.9"}}},
        "cron":{"networks":["back"]},
        "printer":{"networks":["lan"]},
        "probe":{"network_mode":"service:db"}}}"#;
    fs::write(&file, project).expect("written");
    let file = file.to_str().expect("UTF-8");
    let explain = |arguments: &[&str]| {
        let output = run(&[&["explain", "-f", file], arguments].concat());
        let said = stdout(&output) + &stderr(&output);
        (code(&output), said.replace(file, "FILE"))
    };
    let (code, said) = explain(&["web", "db", "tcp/5432"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(said, @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    "#);
    let (code, said) = explain(&["web", "172.18.0.9", "tcp/5432", "-o", "json"]);
    assert_eq!(code, 3);
    assert!(
        said.contains(r#""to":"db","family":"IPv4""#)
            && !said.contains("IPv6")
            && said.ends_with("\"notes\":[]}\n"),
        "{said}"
    );
    let (code, said) = explain(&["web", "probe", "tcp/5432"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(said, @r#"
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    note: `shop/probe` shares the network of `shop/db`, whose rules govern it
    "#);
    let (code, said) = explain(&["cron", "host", "udp/53"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(said, @"egress   shop/cron   audit   nothing allows it; passes all the same, for it has no rules, and the node's --unlabelled is audit");
    let (code, _) = explain(&["cron", "host", "udp/53", "--unlabelled", "enforce"]);
    assert_eq!(code, 3);
    let (code, said) = explain(&["printer", "db", "tcp/5432"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(said, @r"
    dfw: error: `printer` has no port that is governed: macvlan
    hint: name somebody whom `dfw ls` lists
    ");
    let (code, said) = explain(&["web", "dbb", "tcp/5432"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(said, @r"
    dfw: error: nobody here is called `dbb`
    hint: did you mean `db`?
    ");

    let by_address = project.replace("service:api", "172.16.0.0/12");
    fs::write(file, by_address).expect("written");
    let (code, said) = explain(&["web", "db", "tcp/5432"]);
    assert_eq!(code, 3, "IPv6 is not in that net");
    insta::assert_snapshot!(said, @r#"
    web -> db (IPv4):
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    allow   dfw.ingress: "tcp/5432 from 172.16.0.0/12"

    web -> db (IPv6):
    egress   shop/web   allow   dfw.egress: "any to service:db"
    ingress  shop/db    deny    nothing allows it
    hint: on db   dfw.ingress.web: "tcp/5432 from service:web"
    note: addresses are invented, so rules by address may say otherwise once it runs
    "#);

    let labels = directory.path().join("labels");
    fs::write(&labels, "dfw.ingress: tcp/80 from any").expect("written");
    let labels = labels.to_str().expect("UTF-8");
    let output = run(&["explain", "-f", labels, "a", "b", "tcp/80"]);
    assert_eq!(self::code(&output), 78);
    insta::assert_snapshot!(stderr(&output).replace(labels, "FILE"), @r"
    dfw: error: FILE is no compose project, which says who is on which network
    hint: name compose files, or what `docker compose config --format json` prints
    ");
}

#[test]
fn explain_waits_for_what_is_in_force() {
    let served = Served::new(view());
    let output = served.run(&["explain", "web", "db", "tcp/5432"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (69, ""));
    let socket = served.socket.to_str().expect("UTF-8");
    insta::assert_snapshot!(stderr(&output).replace(socket, "SOCKET"), @r"
    dfw: error: the agent on SOCKET cannot answer now: nothing is in force yet
    hint: ask again in a moment; `dfw status` tells what it waits for
    ");
}
