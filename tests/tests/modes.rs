//! Modes: what is dropped, and what is counted on which side (docs/semantics.md sections 1, 5 and 11).

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, NetNs, Protocol,
    canary::Transfer, http::Metrics, table,
};

const PROJECT: (&str, &str) = ("com.docker.compose.project", "t");
const SERVICE: &str = "com.docker.compose.service";

/// The last packets of a connection are counted when this is over.
const SETTLE: Duration = Duration::from_millis(50);

/// Packets of one side of a service so far.
fn packets(metrics: &Metrics, service: &str, direction: &str, verdict: &str) -> u64 {
    let labels = [
        format!("service=\"{service}\""),
        format!("direction=\"{direction}\""),
        format!("verdict=\"{verdict}\""),
    ];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    metrics.sum("dfw_endpoint_packets_total", &labels) as u64
}

/// One line of the table of modes.
struct Row {
    /// Mode of the sender, and whether its egress rules allow.
    a: (&'static str, bool),
    /// Mode of the receiver, and whether its ingress rules allow.
    b: (&'static str, bool),
    passes: bool,
    /// What the sender and the receiver count.
    counts: [Option<&'static str>; 2],
}

const ROWS: [Row; 11] = [
    Row {
        a: ("enforce", true),
        b: ("enforce", true),
        passes: true,
        counts: [Some("allow"), Some("allow")],
    },
    Row {
        a: ("audit", false),
        b: ("enforce", true),
        passes: true,
        counts: [Some("audit"), Some("allow")],
    },
    Row {
        a: ("audit", false),
        b: ("enforce", false),
        passes: false,
        counts: [Some("audit"), Some("deny")],
    },
    Row {
        a: ("enforce", false),
        b: ("enforce", true),
        passes: false,
        counts: [Some("deny"), None],
    },
    Row {
        a: ("enforce", false),
        b: ("enforce", false),
        passes: false,
        counts: [Some("deny"), None],
    },
    Row {
        a: ("enforce", false),
        b: ("audit", false),
        passes: false,
        counts: [Some("deny"), None],
    },
    Row {
        a: ("enforce", true),
        b: ("audit", false),
        passes: true,
        counts: [Some("allow"), Some("audit")],
    },
    Row {
        a: ("audit", false),
        b: ("audit", false),
        passes: true,
        counts: [Some("audit"), Some("audit")],
    },
    Row {
        a: ("off", false),
        b: ("enforce", true),
        passes: true,
        counts: [None, Some("allow")],
    },
    Row {
        a: ("off", false),
        b: ("enforce", false),
        passes: false,
        counts: [None, Some("deny")],
    },
    Row {
        a: ("enforce", true),
        b: ("off", false),
        passes: true,
        counts: [Some("allow"), None],
    },
];

#[test]
fn every_row_of_the_table() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 20);
    let (a, b) = (bridge.plug("a"), bridge.plug("b"));
    let _listener = b
        .netns
        .enter(|| Listener::start(&[], &[53]))
        .expect("the port is free");
    let mut inventory = Inventory::new();
    let mut agent: Option<Agent<'_>> = None;
    for row in &ROWS {
        // Another port keeps the pair known to each other: only what is asked for is denied and counted.
        let egress = if row.a.1 {
            "tcp/9,udp/53 to service:b"
        } else {
            "tcp/9 to service:b"
        };
        let ingress = if row.b.1 {
            "tcp/9,udp/53 from service:a"
        } else {
            "tcp/9 from service:a"
        };
        let of_a = [
            PROJECT,
            (SERVICE, "a"),
            ("dfw.mode", row.a.0),
            ("dfw.egress", egress),
        ];
        let of_b = [
            PROJECT,
            (SERVICE, "b"),
            ("dfw.mode", row.b.0),
            ("dfw.ingress", ingress),
        ];
        inventory.set("a", &a, "lab", &of_a);
        inventory.set("b", &b, "lab", &of_b);
        if let Some(agent) = &agent {
            agent.expect_taken(&inventory);
        } else {
            inventory.write();
        }
        let agent = agent
            .get_or_insert_with(|| Agent::start(&host, &["--inventory", &inventory.argument()]));
        for to in b.at(53) {
            assert_row(row, agent, &a, to);
        }
    }
}

/// Sends one datagram. The kernel multicasts now and then what is counted too, so the figures may be off by that once,
/// but not again and again.
#[track_caller]
fn assert_row(row: &Row, agent: &Agent<'_>, a: &Endpoint, to: SocketAddr) {
    let mut wrong = row.try_once(agent, a, to);
    for _ in 0..2 {
        if wrong.is_some() {
            wrong = row.try_once(agent, a, to);
        }
    }
    if let Some(wrong) = wrong {
        panic!("a {:?}, b {:?}, {to}: {wrong}", row.a, row.b);
    }
}

impl Row {
    /// What is wrong.
    fn try_once(&self, agent: &Agent<'_>, a: &Endpoint, to: SocketAddr) -> Option<String> {
        let before = agent.metrics();
        let attempt = Attempt::new(Protocol::Udp, to).expecting(false);
        let outcome = a
            .netns
            .enter(|| attempt.run())
            .expect("the attempt is possible");
        thread::sleep(SETTLE);
        let after = agent.metrics();
        if outcome.is_answered() != self.passes {
            return Some(outcome.to_string());
        }
        for (service, direction, wanted) in [
            ("a", "egress", self.counts[0]),
            ("b", "ingress", self.counts[1]),
        ] {
            for verdict in ["allow", "deny", "audit"] {
                let counted = packets(&after, service, direction, verdict)
                    - packets(&before, service, direction, verdict);
                if counted != u64::from(wanted == Some(verdict)) {
                    return Some(format!(
                        "{service} counts {counted} {verdict} in {direction}"
                    ));
                }
            }
        }
        None
    }
}

/// A try of the traffic that is replayed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    source: &'static str,
    destination: &'static str,
    letter: char,
    is_v4: bool,
}

impl fmt::Debug for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_v4 { "IPv4" } else { "IPv6" };
        write!(
            f,
            "{} -> {} {} {family}",
            self.source, self.destination, self.letter
        )
    }
}

/// Four services with rules of every kind.
const SERVICES: [(&str, &[(&str, &str)]); 4] = [
    (
        "web",
        &[
            ("dfw.ingress", "tcp/80 from any"),
            (
                "dfw.egress",
                "tcp/80,udp/53 to service:api; icmp to service:api",
            ),
        ],
    ),
    (
        "api",
        &[
            (
                "dfw.ingress",
                "any from project:t; deny tcp/81 from service:web",
            ),
            ("dfw.egress", "tcp/80-81 to service:db; any to group:ops"),
        ],
    ),
    (
        "db",
        &[(
            "dfw.ingress",
            "tcp/80,81 from service:api; udp/53 from net:lab",
        )],
    ),
    (
        "ops",
        &[
            ("dfw.group", "ops"),
            ("dfw.ingress", "udp/53 from service:api"),
            ("dfw.egress", "any to 10.77.21.0/24"),
        ],
    ),
];

#[test]
fn audit_counts_what_enforce_denies() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 21);
    let endpoints = SERVICES.map(|(name, _)| bridge.plug(name));
    let listeners = endpoints
        .each_ref()
        .map(|endpoint| endpoint.netns.enter(|| Listener::start(&[80, 81], &[53])));
    assert!(listeners.iter().all(Result::is_ok), "ports are free");
    let mut inventory = Inventory::new();
    let set_mode = |inventory: &mut Inventory, mode| {
        for ((name, rules), endpoint) in SERVICES.iter().zip(&endpoints) {
            let mut labels = vec![PROJECT, (SERVICE, name), ("dfw.mode", mode)];
            labels.extend(*rules);
            inventory.set(name, endpoint, "lab", &labels);
        }
    };
    set_mode(&mut inventory, "audit");
    inventory.write();
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);

    let audit = |metrics: &Metrics| {
        SERVICES.map(|(name, _)| {
            ["ingress", "egress"].map(|side| packets(metrics, name, side, "audit"))
        })
    };
    let mut audited = BTreeSet::new();
    let mut before = audit(&agent.metrics());
    for (a_try, from, attempt) in traffic(&endpoints) {
        let outcome = from
            .enter(|| attempt.run())
            .expect("the attempt is possible");
        assert!(
            outcome.is_answered(),
            "audit drops nothing: {a_try:?} {outcome}"
        );
        thread::sleep(SETTLE);
        let after = audit(&agent.metrics());
        if after != before {
            audited.insert(a_try);
        }
        before = after;
    }

    set_mode(&mut inventory, "enforce");
    agent.expect_taken(&inventory);
    let traffic = traffic(&endpoints);
    let denied: BTreeSet<_> = thread::scope(|scope| {
        let running: Vec<_> = traffic
            .iter()
            .map(|(a_try, from, attempt)| (a_try, scope.spawn(|| from.enter(|| attempt.run()))))
            .collect();
        let outcomes = running.into_iter().map(|(a_try, thread)| {
            let outcome = thread.join().expect("an attempt does not panic");
            (*a_try, outcome.expect("the attempt is possible"))
        });
        outcomes
            .filter(|(_, outcome)| !outcome.is_answered())
            .map(|(a_try, _)| a_try)
            .collect()
    });
    assert!(
        !denied.is_empty() && denied.len() < traffic.len(),
        "{denied:?}"
    );
    assert_eq!(audited, denied);
}

/// The same each time.
fn traffic(endpoints: &[Endpoint; 4]) -> Vec<(Try, &NetNs, Attempt)> {
    let mut traffic = Vec::new();
    for ((source, _), from) in SERVICES.iter().zip(endpoints) {
        for ((destination, _), to) in SERVICES.iter().zip(endpoints) {
            if source == destination {
                continue;
            }
            for address in [IpAddr::V4(to.v4), IpAddr::V6(to.v6)] {
                for (letter, protocol, port) in table::TRIES {
                    let to = (address, port).into();
                    let attempt = Attempt::new(protocol, to).expecting(false);
                    let a_try = Try {
                        source,
                        destination,
                        letter,
                        is_v4: address.is_ipv4(),
                    };
                    traffic.push((a_try, &*from.netns, attempt));
                }
            }
        }
    }
    traffic
}

#[test]
fn unlabelled_containers_follow_the_node() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 22);
    let (plain, open) = (bridge.plug("plain"), bridge.plug("open"));
    let _listeners = [&plain, &open].map(|endpoint| {
        endpoint
            .netns
            .enter(|| Listener::start(&[80], &[53]))
            .expect("ports are free")
    });
    let mut inventory = Inventory::new();
    // A project and a service are no rules.
    inventory.set("plain", &plain, "lab", &[PROJECT, (SERVICE, "plain")]);
    let rules = [
        ("dfw.ingress", "any from any"),
        ("dfw.egress", "any to any"),
    ];
    inventory.set(
        "open",
        &open,
        "lab",
        &[&[PROJECT, (SERVICE, "open")][..], &rules].concat(),
    );
    inventory.write();
    let inventory = inventory.argument();
    for (mode, passes, counted) in [
        ("audit", true, Some("audit")),
        ("enforce", false, Some("deny")),
        ("off", true, None),
    ] {
        let agent = Agent::start(&host, &["--inventory", &inventory, "--unlabelled", mode]);
        let status = agent.status();
        assert_eq!(status["unlabelled"], mode);
        let all = plain.at(80).into_iter().map(|to| (&open, to));
        let all = all.chain(open.at(80).into_iter().map(|to| (&plain, to)));
        for (from, to) in all {
            from.netns
                .assert_reaches(&format!("--unlabelled {mode}"), to, passes);
        }
        thread::sleep(SETTLE);
        let metrics = agent.metrics();
        for direction in ["ingress", "egress"] {
            for verdict in ["allow", "deny", "audit"] {
                let packets = packets(&metrics, "plain", direction, verdict);
                let is_right = match counted {
                    Some(counted) if counted == verdict => packets > 0,
                    // Nothing else is allowed to it, and in mode off nothing is counted at all.
                    _ => packets == 0,
                };
                assert!(
                    is_right,
                    "--unlabelled {mode}: {packets} {direction} {verdict}"
                );
            }
        }
    }
}

#[test]
fn from_audit_to_enforce_cuts_what_is_not_allowed() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 23);
    let (client, server) = (bridge.plug("client"), bridge.plug("server"));
    let _listener = server
        .netns
        .enter(|| Listener::start(&[80, 81], &[]))
        .expect("ports are free");
    let mut inventory = Inventory::new();
    let rule = ("dfw.ingress", "tcp/81 from container:client");
    inventory.set("client", &client, "lab", &[("dfw.egress", "any to any")]);
    inventory.set("server", &server, "lab", &[("dfw.mode", "audit"), rule]);
    inventory.write();
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    let open = |to| {
        let stream = client
            .netns
            .enter(|| Attempt::new(Protocol::Tcp, to).connect());
        Transfer::start(stream.unwrap_or_else(|error| panic!("{to}: {error}")))
    };
    let audited = server.at(80).map(open);
    let allowed = server.at(81).map(open);
    assert!(audited.iter().chain(&allowed).all(Transfer::goes_on));

    inventory.set("server", &server, "lab", &[rule]);
    agent.expect_taken(&inventory);
    for transfer in allowed {
        assert!(transfer.goes_on());
        transfer
            .stop()
            .expect("an allowed connection is not touched");
    }
    for transfer in audited {
        assert!(transfer.stop().is_err());
    }
}
