//! Where the demo plays: containers of an engine, or namespaces with the same names and labels.

use dfw_tests::{
    Bridge, Endpoint, Engine, Inventory, Namespace, process::Daemon, scratch::Scratch,
    table::Member,
};

const NETWORK: &str = "shop";

/// Somebody who plays.
pub(crate) struct Role {
    pub(crate) project: &'static str,
    pub(crate) service: &'static str,
    /// The TCP port that it serves.
    pub(crate) port: Option<u16>,
    /// Its `dfw.` labels.
    pub(crate) rules: &'static [(&'static str, &'static str)],
}

pub(crate) const WEB: Role = Role {
    project: "shop",
    service: "web",
    port: Some(80),
    rules: &[
        ("dfw.ingress", "tcp/80 from world,host"),
        (
            "dfw.egress",
            "tcp/8080 to service:api; udp/53,tcp/53 to world",
        ),
    ],
};
pub(crate) const API: Role = Role {
    project: "shop",
    service: "api",
    port: Some(8080),
    rules: &[
        ("dfw.ingress", "tcp/8080 from service:web"),
        (
            "dfw.egress",
            "tcp/5432 to service:db; udp/53,tcp/53 to world",
        ),
    ],
};
pub(crate) const DB: Role = Role {
    project: "shop",
    service: "db",
    port: Some(5432),
    rules: &[("dfw.ingress", "tcp/5432 from service:api")],
};
pub(crate) const ATTACKER: Role = Role {
    project: "other",
    service: "attacker",
    port: None,
    rules: &[],
};
pub(crate) const LEGACY: Role = Role {
    project: "other",
    service: "legacy",
    port: Some(9100),
    rules: &[],
};
pub(crate) const CAST: [&Role; 5] = [&WEB, &API, &DB, &ATTACKER, &LEGACY];

impl Role {
    /// As compose names the first container of a service.
    pub(crate) fn container(&self) -> String {
        format!("{}-{}-1", self.project, self.service)
    }

    fn labels(&self) -> Vec<(&'static str, &'static str)> {
        let compose = [
            ("com.docker.compose.project", self.project),
            ("com.docker.compose.service", self.service),
        ];
        compose
            .into_iter()
            .chain(self.rules.iter().copied())
            .collect()
    }
}

/// A bridge with the cast on it. Dropped, everything goes.
pub(crate) struct Stage {
    place: Place,
    members: Vec<Member>,
}

enum Place {
    Engine(Engine),
    Namespaces {
        // In the order in which they must end.
        _servers: Vec<Daemon>,
        _endpoints: Vec<Endpoint>,
        _logs: Scratch,
        inventory: Inventory,
        host: Namespace,
    },
}

impl Stage {
    /// Containers on a user-defined network.
    pub(crate) fn on_engine(engine: Engine) -> Self {
        engine.network(NETWORK, 50);
        let mut members = Vec::new();
        for role in CAST {
            let name = role.container();
            let labels = role.labels();
            let labels: Vec<_> = labels
                .iter()
                .map(|(key, value)| format!("--label={key}={value}"))
                .collect();
            let mut options = vec!["--network", NETWORK];
            options.extend(labels.iter().map(String::as_str));
            let port = role.port.map(|port| format!("tcp/{port}"));
            let serve = port.as_deref().map(|port| ["dfw-probe", "listen", port]);
            let serve = serve.as_ref().map_or(&[][..], |command| command);
            let container = engine.container(&name, &options, serve);
            let netns = container.netns();
            let addresses = container.at(NETWORK, 0).map(|address| address.ip());
            members.push(Member {
                name,
                netns,
                addresses,
            });
        }
        Self {
            place: Place::Engine(engine),
            members,
        }
    }

    /// Namespaces and an inventory.
    pub(crate) fn on_namespaces() -> Self {
        let host = Namespace::new();
        let mut bridge = Bridge::new(&host, "br-shop", 50);
        let mut inventory = Inventory::new();
        let logs = Scratch::new();
        let (mut endpoints, mut servers, mut members) = (Vec::new(), Vec::new(), Vec::new());
        for role in CAST {
            let endpoint = bridge.plug(role.service);
            let name = role.container();
            inventory.set(&name, &endpoint, NETWORK, &role.labels());
            if let Some(port) = role.port {
                let mut server = endpoint.netns.command(env!("DFW_PROBE"));
                server.args(["listen", &format!("tcp/{port}")]);
                servers.push(Daemon::start(&mut server, &logs.path().join(&name)));
            }
            members.push(Member {
                name,
                netns: endpoint.netns.again(),
                addresses: endpoint.at(0).map(|address| address.ip()),
            });
            endpoints.push(endpoint);
        }
        inventory.write();
        Self {
            place: Place::Namespaces {
                _servers: servers,
                _endpoints: endpoints,
                _logs: logs,
                inventory,
                host,
            },
            members,
        }
    }

    /// The namespace that is the host, where the agent runs.
    pub(crate) fn host(&self) -> &Namespace {
        match &self.place {
            Place::Engine(engine) => engine.host(),
            Place::Namespaces { host, .. } => host,
        }
    }

    /// What tells the agent where the endpoints are.
    pub(crate) fn source(&self) -> [String; 2] {
        match &self.place {
            Place::Engine(engine) => ["--docker-host".to_owned(), engine.socket()],
            Place::Namespaces { inventory, .. } => ["--inventory".to_owned(), inventory.argument()],
        }
    }

    /// The engine's socket.
    pub(crate) fn engine(&self) -> Option<String> {
        match &self.place {
            Place::Engine(engine) => Some(engine.socket()),
            Place::Namespaces { .. } => None,
        }
    }

    /// One of the cast.
    pub(crate) fn member(&self, role: &Role) -> &Member {
        let name = role.container();
        let found = self.members.iter().find(|member| member.name == name);
        found.expect("the whole cast is on stage")
    }

    /// The words before a command that runs it where one of the cast lives, up to `dfw-probe` itself.
    pub(crate) fn probe(&self, role: &Role) -> String {
        match &self.place {
            Place::Engine(engine) => format!(
                "docker -H {} exec {} dfw-probe",
                engine.socket(),
                role.container()
            ),
            Place::Namespaces { .. } => format!(
                "nsenter --net={} {}",
                self.member(role).netns.path().display(),
                env!("DFW_PROBE")
            ),
        }
    }
}
