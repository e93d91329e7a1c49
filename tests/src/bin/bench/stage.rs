//! A host with a bridge, a client and a server on it: plain namespaces, or two containers of an engine. Or a host with an uplink, the
//! client beyond it and the server on the host.

use std::net::IpAddr;

use dfw_tests::{
    Bridge, Endpoint, Engine, EngineOptions, Inventory, Namespace, NetNs, process::Daemon,
    scratch::Scratch,
};

use crate::{contenders::Contender, machine, rival::Rival, uplink};

/// Where the server serves.
pub(crate) const PORT: u16 = 5201;
/// Where nobody may go.
pub(crate) const DENIED_PORT: u16 = 9;

const CLIENT: &str = "client";
const SERVER: &str = "server";

/// One contender's own host. Dropped, everything of it goes.
pub(crate) struct Stage {
    pub(crate) contender: &'static Contender,
    // In the order in which they must end.
    _server: Daemon,
    place: Place,
    ends: [End; 2],
    pub(crate) rival: Option<Rival>,
    _logs: Scratch,
}

/// Between what ends packets go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Plain namespaces on a bridge.
    Bridge,
    /// Containers of a Docker engine of its own.
    Engine,
    /// A namespace beyond the host's NIC, with so many queues, and the host.
    Uplink { queues: u8 },
}

enum Place {
    Engine(Engine),
    Uplink {
        _outside: Namespace,
        inventory: Inventory,
        policy: Scratch,
        host: Namespace,
    },
    Namespaces {
        _endpoints: [Endpoint; 2],
        inventory: Inventory,
        host: Namespace,
    },
}

/// The client or the server.
pub(crate) struct End {
    pub(crate) netns: NetNs,
    pub(crate) v4: IpAddr,
    /// Containers of Docker's default bridge have none.
    pub(crate) v6: Option<IpAddr>,
}

impl Stage {
    /// Makes one; `rules` are those that the server has besides the one that lets the client in.
    pub(crate) fn new(contender: &'static Contender, cpu: usize) -> Self {
        let labels = labels(contender.rules);
        let (place, ends) = match contender.on {
            On::Bridge => on_namespaces(&labels),
            On::Engine => on_engine(&labels),
            On::Uplink { queues } => on_uplink(queues),
        };
        for end in &ends {
            // No connection waits for the port of one that was just closed.
            end.netns.sysctl("ipv4/tcp_max_tw_buckets", "0");
            end.netns.sysctl("ipv4/ip_local_port_range", "1024 65535");
        }
        let logs = Scratch::new();
        let [program, arguments @ ..] = machine::pinned(cpu);
        let mut serve = ends[1].netns.command(&program);
        serve.args(arguments).arg(env!("DFW_PROBE"));
        serve.args(["serve", &PORT.to_string()]);
        let log = logs.path().join("server");
        let mut server = Daemon::start(&mut serve, &log);
        server.expect(
            "the server serves",
            std::time::Duration::from_secs(5),
            || {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                said.contains("serving").then_some(())
            },
        );
        Self {
            contender,
            _server: server,
            place,
            ends,
            rival: None,
            _logs: logs,
        }
    }

    /// The namespace that is the host.
    pub(crate) fn host(&self) -> &Namespace {
        match &self.place {
            Place::Engine(engine) => engine.host(),
            Place::Namespaces { host, .. } | Place::Uplink { host, .. } => host,
        }
    }

    /// Its engine, if it has one.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        match &self.place {
            Place::Engine(engine) => Some(engine),
            Place::Namespaces { .. } | Place::Uplink { .. } => None,
        }
    }

    /// What tells an agent where the endpoints are, and what it does besides.
    pub(crate) fn options(&self) -> Vec<String> {
        let [option, value] = match &self.place {
            Place::Engine(engine) => ["--docker-host".to_owned(), engine.socket()],
            Place::Namespaces { inventory, .. } | Place::Uplink { inventory, .. } => {
                ["--inventory".to_owned(), inventory.argument()]
            }
        };
        let mut options = vec![option, value];
        if let Place::Uplink { policy, .. } = &self.place {
            options.extend(uplink::options(policy));
        }
        options
    }

    pub(crate) fn client(&self) -> &End {
        &self.ends[0]
    }

    pub(crate) fn server(&self) -> &End {
        &self.ends[1]
    }
}

impl End {
    /// MAC of its interface.
    pub(crate) fn mac(&self) -> String {
        let text = self.netns.run("ip -oneline link show eth0");
        let mut words = text
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        words.nth(1).expect("a veth has a MAC").to_owned()
    }
}

type Labels = Vec<(String, String)>;

fn labels(rules: usize) -> [Labels; 2] {
    let ports = format!("tcp/{PORT},udp/{PORT}");
    let client = vec![(
        "dfw.egress".to_owned(),
        format!("{ports} to container:{SERVER}"),
    )];
    let mut server = dfw_tests::rules::many(rules);
    server.push((
        "dfw.ingress.client".to_owned(),
        format!("{ports} from container:{CLIENT}"),
    ));
    [client, server]
}

/// On the engine's default bridge, with everything as it comes.
fn on_engine(labels: &[Labels; 2]) -> (Place, [End; 2]) {
    let options = EngineOptions {
        ipv6: false,
        ..EngineOptions::default()
    };
    let engine = Engine::start(options);
    let end = |name: &str, labels: &Labels| {
        let labels = labels.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("--label={key}={value}"))
            .collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let container = engine.container(name, &labels, &[]);
        End {
            netns: container.netns(),
            v4: container.addresses("bridge").0.into(),
            v6: None,
        }
    };
    let ends = [end(CLIENT, &labels[0]), end(SERVER, &labels[1])];
    (Place::Engine(engine), ends)
}

/// Bridged frames pass no iptables unless an emulation asks for it.
fn on_namespaces(labels: &[Labels; 2]) -> (Place, [End; 2]) {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 1);
    for family in ["ip", "ip6"] {
        host.sysctl(&format!("bridge/bridge-nf-call-{family}tables"), "0");
    }
    let endpoints = [bridge.plug(CLIENT), bridge.plug(SERVER)];
    let mut inventory = Inventory::new();
    for ((name, endpoint), labels) in [CLIENT, SERVER].into_iter().zip(&endpoints).zip(labels) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        inventory.set(name, endpoint, "lan", &labels);
    }
    inventory.write();
    let ends = [&endpoints[0], &endpoints[1]].map(|endpoint| End {
        netns: endpoint.netns.again(),
        v4: endpoint.v4.into(),
        v6: Some(endpoint.v6.into()),
    });
    let place = Place::Namespaces {
        _endpoints: endpoints,
        inventory,
        host,
    };
    (place, ends)
}

/// No container is on it: what an uplink does is for the host too.
fn on_uplink(queues: u8) -> (Place, [End; 2]) {
    let (host, outside) = (Namespace::new(), Namespace::new());
    let ends = uplink::plug(&host, &outside, queues);
    let policy = Scratch::new();
    uplink::write_policy(&policy);
    let place = Place::Uplink {
        _outside: outside,
        inventory: Inventory::new(),
        policy,
        host,
    };
    (place, ends)
}
