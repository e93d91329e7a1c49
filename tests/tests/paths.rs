//! Every way that a packet can take to and from a container (docs/semantics.md section 7), on a real engine.
//!
//! A server has four ports, and each is open to another class of clients: which of them answer tells who the client is
//! taken for.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use dfw_tests::{
    Agent, Attempt, Container, Engine, EngineOptions, Listener, Namespace, NetNs, Outcome,
    Protocol, agent, table,
};

/// Ports and who may use them: endpoints, the host, the world, the one client of the LAN by its address.
const CLASSES: [(u16, &str); 4] = [(91, "endpoint"), (92, "host"), (93, "world"), (94, "lan")];
const ENDPOINT: &[&str] = &["endpoint"];
const HOST: &[&str] = &["host"];
const WORLD: &[&str] = &["world", "lan"];
const NOBODY: &[&str] = &[];

/// Each port of the server is published with this added, and the one for the host also on loopback.
const PUBLISHED: u16 = 8000;
const ON_LOOPBACK: u16 = 9000;
/// Those of a container without IPv6.
const PUBLISHED_V4: u16 = 7000;

/// The first Docker whose raw table drops what the world sends to a container's own address.
const CLOSES_UNPUBLISHED: u32 = 28;

const UPLINK: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
);
const LAN: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
);
const LOOPBACK: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);

const INGRESS: &str = "dfw.ingress=tcp/91 from container:open,container:around,container:picky,container:far; tcp/92 from host; \
    tcp/93 from world; tcp/94 from 192.0.2.2,2001:db8::2";
const ANY_EGRESS: &str = "dfw.egress=any to any";
const PICKY_EGRESS: &str = "dfw.egress=tcp/91 to container:server; tcp/92,8091 to host; tcp/93 to world; \
    tcp/94 to 192.0.2.2,2001:db8::2";

type Pair = (Ipv4Addr, Ipv6Addr);

/// One way, of one address family.
struct Path<'a> {
    name: &'a str,
    from: &'a NetNs,
    to: IpAddr,
    /// Added to the ports of [`CLASSES`].
    base: u16,
    /// Whether Docker itself carries it.
    is_open: bool,
    /// Who the client is taken for.
    seen: &'static [&'static str],
    /// The client's own address, where it must arrive unchanged.
    real: Option<IpAddr>,
}

impl<'a> Path<'a> {
    fn new(
        name: &'a str,
        from: &'a NetNs,
        to: impl Into<IpAddr>,
        base: u16,
        seen: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            from,
            to: to.into(),
            base,
            is_open: true,
            seen,
            real: None,
        }
    }

    /// The same way on both families.
    fn both(
        name: &'a str,
        from: &'a NetNs,
        (v4, v6): Pair,
        base: u16,
        seen: &'static [&'static str],
    ) -> [Self; 2] {
        [
            Self::new(name, from, v4, base, seen),
            Self::new(name, from, v6, base, seen),
        ]
    }

    /// A way that Docker carries only in some configurations.
    fn only_if(self, is_open: bool) -> Self {
        let seen = if is_open { self.seen } else { NOBODY };
        Self {
            is_open,
            seen,
            ..self
        }
    }

    /// The classes whose port answers.
    fn walk(&self) -> Vec<&'static str> {
        let attempts = CLASSES.map(|(port, _)| Attempt {
            patience: Duration::from_millis(500),
            ..Attempt::new(Protocol::Tcp, (self.to, self.base + port).into())
        });
        let outcomes = table::outcomes(self.from, attempts);
        let answered = CLASSES
            .into_iter()
            .zip(outcomes)
            .filter(|(_, outcome)| match outcome {
                Outcome::Answered(seen_as) => self.real.is_none_or(|real| real == seen_as.ip()),
                Outcome::Accepted | Outcome::Refused | Outcome::Silent | Outcome::Unreachable => {
                    false
                }
            });
        answered.map(|((_, class), _)| class).collect()
    }
}

/// An engine with a LAN.
struct Site {
    lan: Namespace,
    engine: Engine,
    has_proxy: bool,
}

impl Site {
    fn new(userland_proxy: bool) -> Self {
        let engine = Engine::start(EngineOptions {
            userland_proxy,
            ..EngineOptions::default()
        });
        let lan = Namespace::new();
        let host = engine.host();
        host.veth("uplink", &lan, "eth0");
        for (netns, device, (v4, v6)) in [(host, "uplink", UPLINK), (&lan, "eth0", LAN)] {
            netns.run(&format!("ip address add {v4}/24 dev {device}"));
            netns.run(&format!("ip address add {v6}/64 dev {device} nodad"));
        }
        // As a neighbour on the LAN may do at any time.
        lan.run(&format!("ip route add 10.78.0.0/16 via {}", UPLINK.0));
        lan.run(&format!("ip route add fd78::/16 via {}", UPLINK.1));
        host.sysctl("ipv6/conf/all/forwarding", "1");
        engine.network("shop", 1);
        // Without masquerading, containers of two networks meet under their own addresses.
        engine.docker(&[
            "network",
            "create",
            "--ipv6",
            "--subnet=10.78.2.0/24",
            "--subnet=fd78:2::/64",
            "--opt=com.docker.network.bridge.enable_ip_masquerade=false",
            "plain",
        ]);
        engine.docker(&["network", "create", "--subnet=10.78.3.0/24", "v4"]);
        Self {
            lan,
            engine,
            has_proxy: userland_proxy,
        }
    }

    /// A container that serves every class.
    fn container(&self, name: &str, network: &str, options: &[String]) -> Container<'_> {
        let mut all = vec!["--network", network, "--label", INGRESS];
        all.extend(options.iter().map(String::as_str));
        let listen = CLASSES.map(|(port, _)| format!("tcp/{port}"));
        let mut command = vec!["dfw-probe", "listen"];
        command.extend(listen.iter().map(String::as_str));
        self.engine.container(name, &all, &command)
    }

    fn set_br_netfilter(&self, on: bool) {
        let value = if on { "1" } else { "0" };
        for name in [
            "bridge/bridge-nf-call-iptables",
            "bridge/bridge-nf-call-ip6tables",
        ] {
            self.engine.host().sysctl(name, value);
        }
    }

    /// Docker's own rules, which else hide what dfw does to routed packets: those in FORWARD, and from 28 on those in the raw
    /// table, for what is sent to a container's address from anywhere but its own bridge.
    fn set_docker_isolation(&self, on: bool) {
        let action = if on { "-D" } else { "-I" };
        for tables in ["iptables", "ip6tables"] {
            for chain in ["FORWARD", "PREROUTING -t raw"] {
                self.engine
                    .host()
                    .run(&format!("{tables} --wait {action} {chain} -j ACCEPT"));
            }
        }
    }

    /// Every row of the table.
    fn paths<'a>(&'a self, ends: &'a Ends, br_netfilter: bool) -> Vec<Path<'a>> {
        let Ends {
            server,
            open,
            around,
            picky,
            far,
            server_at,
            far_at,
        } = ends;
        let (host, lan) = (self.engine.host(), &self.lan);
        let gateway = (
            Ipv4Addr::new(10, 78, 1, 1),
            Ipv6Addr::new(0xfd78, 1, 0, 0, 0, 0, 0, 1),
        );
        let by_proxy = self.has_proxy;
        // Without the proxy the answer of a neighbour has to be translated on its way through the bridge.
        let hairpin = by_proxy || br_netfilter;
        let of_hairpin = if by_proxy { HOST } else { ENDPOINT };
        // By proxy the port that it may dial and the one that the server opens to the host differ.
        let of_picky_hairpin = if by_proxy { NOBODY } else { ENDPOINT };

        let mut paths = Vec::new();
        paths.extend(Path::both("neighbour", open, *server_at, 0, ENDPOINT));
        paths.extend(Path::both(
            "neighbour, egress rules",
            picky,
            *server_at,
            0,
            ENDPOINT,
        ));
        paths.extend(Path::both(
            "neighbour through the gateway",
            around,
            *server_at,
            0,
            ENDPOINT,
        ));
        paths.extend(Path::both("other bridge", far, *server_at, 0, ENDPOINT));
        paths.extend(Path::both(
            "other bridge, masqueraded",
            open,
            *far_at,
            0,
            HOST,
        ));
        paths.extend(Path::both("container to gateway", picky, gateway, 0, HOST));
        paths.extend(Path::both("container to host", picky, UPLINK, 0, HOST));
        paths.extend(Path::both("host to container", host, *server_at, 0, HOST));
        paths.extend(Path::both("container to world", picky, LAN, 0, WORLD));
        paths.extend(
            Path::both("world to published", lan, UPLINK, PUBLISHED, WORLD).map(|path| {
                let real = if path.to.is_ipv4() {
                    IpAddr::V4(LAN.0)
                } else {
                    IpAddr::V6(LAN.1)
                };
                Path {
                    real: Some(real),
                    ..path
                }
            }),
        );
        paths.push(
            Path::new("world to IPv4 by IPv6", lan, UPLINK.1, PUBLISHED_V4, HOST).only_if(by_proxy),
        );
        paths.extend(
            Path::both("hairpin", open, gateway, PUBLISHED, of_hairpin)
                .map(|path| path.only_if(hairpin)),
        );
        paths.extend(
            Path::both("hairpin to host", open, UPLINK, PUBLISHED, of_hairpin)
                .map(|path| path.only_if(hairpin)),
        );
        for path in Path::both(
            "hairpin, egress rules",
            picky,
            gateway,
            PUBLISHED,
            of_picky_hairpin,
        ) {
            paths.push(if hairpin { path } else { path.only_if(false) });
        }
        paths.extend(Path::both(
            "own published port",
            server,
            gateway,
            PUBLISHED,
            HOST,
        ));
        for (name, base) in [
            ("host to published", PUBLISHED),
            ("published on loopback", ON_LOOPBACK),
        ] {
            let [v4, v6] = Path::both(name, host, LOOPBACK, base, HOST);
            paths.extend([v4, v6.only_if(by_proxy)]);
        }
        paths.extend(Path::both(
            "world to unpublished",
            lan,
            *server_at,
            0,
            WORLD,
        ));
        paths
    }
}

/// The namespaces of the containers, and the addresses of the two that are dialled.
struct Ends {
    server: NetNs,
    open: NetNs,
    around: NetNs,
    picky: NetNs,
    far: NetNs,
    server_at: Pair,
    far_at: Pair,
}

#[test]
fn with_docker_proxy() {
    every_path(true);
}

#[test]
fn without_docker_proxy() {
    every_path(false);
}

fn every_path(userland_proxy: bool) {
    let site = Site::new(userland_proxy);
    let publish = |base: u16, address: &str| {
        CLASSES.map(|(port, _)| format!("--publish={address}{}:{port}", base + port))
    };
    let label = |label: &str| [format!("--label={label}")];
    let published = [
        publish(PUBLISHED, ""),
        publish(ON_LOOPBACK, "127.0.0.1:"),
        publish(ON_LOOPBACK, "[::1]:"),
    ];
    let server = site.container(
        "server",
        "shop",
        &[published.as_flattened(), &label(ANY_EGRESS)].concat(),
    );
    let open = site.container("open", "shop", &label(ANY_EGRESS));
    let around = site.container("around", "shop", &label(ANY_EGRESS));
    let picky = site.container("picky", "shop", &label(PICKY_EGRESS));
    let far = site.container(
        "far",
        "plain",
        &label("dfw.egress=tcp/91 to container:server"),
    );
    let _old = site.container("old", "v4", &publish(PUBLISHED_V4, ""));
    let ends = Ends {
        server: server.netns(),
        open: open.netns(),
        around: around.netns(),
        picky: picky.netns(),
        far: far.netns(),
        server_at: dual(server.addresses("shop")),
        far_at: dual(far.addresses("plain")),
    };
    // Through the gateway, as a container might try to get around what is judged on the bridge.
    ends.around.run(&format!(
        "ip route add {}/32 via 10.78.1.1",
        ends.server_at.0
    ));
    ends.around.run(&format!(
        "ip route add {}/128 via fd78:1::1",
        ends.server_at.1
    ));
    let ports = CLASSES.map(|(port, _)| port);
    let listen = |netns: &NetNs| {
        netns
            .enter(|| Listener::start(&ports, &[]))
            .expect("ports are free")
    };
    let _listeners = [listen(site.engine.host()), listen(&site.lan)];

    site.set_docker_isolation(false);
    for br_netfilter in [true, false] {
        site.set_br_netfilter(br_netfilter);
        // What Docker itself does not carry would say nothing about dfw.
        assert_walks(
            &site.paths(&ends, br_netfilter),
            &format!("without dfw, br_netfilter {br_netfilter}"),
            |path, seen| path.is_open != seen.is_empty(),
        );
    }
    let agent = Agent::start(
        site.engine.host(),
        &["--docker-host", &site.engine.socket()],
    );
    for br_netfilter in [true, false] {
        site.set_br_netfilter(br_netfilter);
        assert_walks(
            &site.paths(&ends, br_netfilter),
            &format!("br_netfilter {br_netfilter}"),
            |path, seen| path.seen == seen,
        );
    }
    site.set_docker_isolation(true);
    let routed = if site.engine.major_version() < CLOSES_UNPUBLISHED {
        WORLD
    } else {
        NOBODY
    };
    let isolated = [
        ("other bridge", &ends.far, NOBODY),
        ("world to unpublished", &*site.lan, routed),
    ]
    .map(|(name, from, seen)| Path::both(name, from, ends.server_at, 0, seen));
    assert_walks(
        isolated.as_flattened(),
        "dfw opens nothing that Docker closes",
        |path, seen| path.seen == seen,
    );
    assert_warned(&site.engine, &agent, &server);
}

/// `from host` on a port that docker-proxy opens to the world is warned of, by the agent and before.
fn assert_warned(engine: &Engine, agent: &Agent<'_>, server: &Container<'_>) {
    let status = agent.status();
    let findings = status["findings"].as_array().expect("a list");
    let mut warnings = findings
        .iter()
        .filter(|finding| finding["code"] == "host-is-world");
    assert!(
        warnings.any(|finding| finding["subject"] == "server"),
        "{status:#}"
    );

    let mut check = Command::new(agent::binary());
    check
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut check = check.spawn().expect("dfw is there");
    let inspection = engine.docker(&["inspect", server.id()]);
    check
        .stdin
        .take()
        .expect("it is a pipe")
        .write_all(inspection.as_bytes())
        .expect("dfw reads");
    let output = check.wait_with_output().expect("dfw ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("host-is-world") && said.contains("port 92 is published"),
        "{said}"
    );
}

/// Walks all at once; each must be as wanted.
#[track_caller]
fn assert_walks(paths: &[Path<'_>], title: &str, wanted: impl Fn(&Path<'_>, &[&str]) -> bool) {
    let walked: Vec<_> = thread::scope(|scope| {
        let walks: Vec<_> = paths
            .iter()
            .map(|path| scope.spawn(|| path.walk()))
            .collect();
        walks
            .into_iter()
            .map(|walk| walk.join().expect("a walk does not panic"))
            .collect()
    });
    let wrong: Vec<_> = paths
        .iter()
        .zip(walked)
        .filter(|(path, seen)| !wanted(path, seen))
        .map(|(path, seen)| {
            let Path {
                name,
                to,
                is_open,
                seen: right,
                ..
            } = path;
            format!("{name} ({to}): seen as {seen:?}, not {right:?}; open without dfw: {is_open}")
        })
        .collect();
    assert!(wrong.is_empty(), "{title}:\n{}", wrong.join("\n"));
}

fn dual((v4, v6): (Ipv4Addr, Option<Ipv6Addr>)) -> Pair {
    (v4, v6.expect("the network has IPv6"))
}
