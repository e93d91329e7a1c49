//! Five services of real software, from the Debian packages of this machine, in containers of an engine of their own.
//!
//! Their image has nothing of it: /usr of the machine is mounted, read-only.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dfw_tests::{Container, Engine, EngineOptions, Namespace, http, process, wait};

/// Their start: initdb takes longest.
const PATIENCE: Duration = Duration::from_secs(40);

/// Configurations, mounted at /stack.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suggest/stack");

pub(crate) const PROJECT: &str = "shop";
pub(crate) const UPLINK: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
);
/// A client outside.
pub(crate) const CLIENT: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
);
const PUBLISHED: u16 = 8080;

/// A service.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// Last number of its addresses.
    number: u8,
    pub(crate) port: u16,
    options: &'static [&'static str],
    command: &'static [&'static str],
}

/// In the order in which they are started.
pub(crate) const SERVICES: [Service; 5] = [
    Service {
        name: "db",
        number: 13,
        port: 5432,
        options: &[],
        command: &[
            "sh",
            "-ec",
            "mkdir /tmp/data; /usr/bin/chown 70:70 /tmp/data; \
             exec /usr/bin/setpriv --reuid=70 --regid=70 --clear-groups sh -ec \"\
             bin=/usr/lib/postgresql/15/bin; \
             \\$bin/initdb -D /tmp/data -U app --auth trust --no-sync >/dev/null; \
             echo host all all all trust >>/tmp/data/pg_hba.conf; \
             exec \\$bin/postgres -D /tmp/data -c listen_addresses='*' -c fsync=off -k /tmp/data\"",
        ],
    },
    Service {
        name: "cache",
        number: 14,
        port: 6379,
        options: &[],
        command: &[
            "/usr/bin/redis-server",
            "--bind",
            "*",
            "-::*",
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            "/tmp",
        ],
    },
    Service {
        name: "app",
        number: 12,
        port: 8000,
        options: &[],
        command: &["/usr/bin/python3", "/stack/app.py"],
    },
    Service {
        name: "web",
        number: 11,
        port: 80,
        options: &["--publish", "8080:80"],
        command: &["/usr/sbin/nginx", "-e", "stderr", "-c", "/stack/nginx.conf"],
    },
    Service {
        name: "prometheus",
        number: 15,
        port: 9090,
        options: &[],
        command: &[
            "/usr/bin/prometheus",
            "--config.file=/stack/prometheus.yml",
            "--storage.tsdb.path=/tmp/data",
        ],
    },
];

impl Service {
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        let number = u16::from_str_radix(&self.number.to_string(), 16).expect("two digits");
        [
            Ipv4Addr::new(10, 78, 1, self.number).into(),
            Ipv6Addr::new(0xfd78, 1, 0, 0, 0, 0, 0, number).into(),
        ]
    }
}

/// Labels by service.
pub(crate) type Labels = BTreeMap<String, BTreeMap<String, String>>;

/// The engine, and a client on its uplink.
pub(crate) struct Site {
    pub(crate) client: Namespace,
    pub(crate) engine: Engine,
}

impl Site {
    pub(crate) fn new() -> Self {
        let engine = Engine::start(EngineOptions::default());
        let client = Namespace::new();
        let host = engine.host();
        host.veth("uplink", &client, "eth0");
        for (netns, device, (v4, v6)) in [(host, "uplink", UPLINK), (&client, "eth0", CLIENT)] {
            netns.run(&format!("ip address add {v4}/24 dev {device}"));
            netns.run(&format!("ip address add {v6}/64 dev {device} nodad"));
        }
        host.sysctl("ipv6/conf/all/forwarding", "1");
        engine.network("shop_default", 1);
        Self { client, engine }
    }

    /// Starts all of them, and waits until each does its work.
    pub(crate) fn up(&self, labels: &Labels) -> Vec<Container<'_>> {
        let containers: Vec<Container<'_>> = SERVICES
            .iter()
            .map(|one| self.start(one, labels.get(one.name)))
            .collect();
        let works = wait::until(PATIENCE, || self.work().ok());
        if works.is_none() {
            let ids = containers.iter().map(Container::id);
            let logs = ids.map(|id| {
                let output = process::output(&mut self.engine.command(&["logs", "--tail=20", id]));
                [output.stdout, output.stderr]
                    .map(|text| String::from_utf8_lossy(&text).into_owned())
                    .concat()
            });
            let logs: Vec<String> = logs.collect();
            panic!(
                "the services work: {}\n{}",
                self.work().err().unwrap_or_default(),
                logs.join("\n---\n")
            );
        }
        containers
    }

    fn start(&self, service: &Service, labels: Option<&BTreeMap<String, String>>) -> Container<'_> {
        let [v4, v6] = service.addresses().map(|address| address.to_string());
        let mut options: Vec<String> = [
            "--network=shop_default",
            &format!("--ip={v4}"),
            &format!("--ip6={v6}"),
            &format!("--network-alias={}", service.name),
            "--tmpfs=/tmp",
            &format!("--volume={FILES}:/stack:ro"),
            &format!("--volume={FILES}/passwd:/etc/passwd:ro"),
            &format!("--volume={FILES}/group:/etc/group:ro"),
            &format!("--label=com.docker.compose.project={PROJECT}"),
            &format!("--label=com.docker.compose.service={}", service.name),
        ]
        .map(str::to_owned)
        .into();
        options.extend(["/usr", "/lib", "/lib64"].map(|path| format!("--volume={path}:{path}:ro")));
        let labels = labels.into_iter().flatten();
        options.extend(labels.map(|(key, value)| format!("--label={key}={value}")));
        options.extend(service.options.iter().map(|option| (*option).to_owned()));
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        self.engine.container(
            &format!("{PROJECT}-{}-1", service.name),
            &options,
            service.command,
        )
    }

    /// What users, the operator and Prometheus do all day, over both families.
    pub(crate) fn work(&self) -> Result<(), String> {
        let through = [SERVICES[0].addresses(), SERVICES[1].addresses()].concat();
        for to in [IpAddr::from(UPLINK.0), UPLINK.1.into()] {
            for path in ["/v4", "/v6"] {
                let body = self.client.enter(|| ask((to, PUBLISHED).into(), path))?;
                let missing = through.iter().find(|address| {
                    !body
                        .split_whitespace()
                        .any(|word| word == address.to_string())
                });
                if let Some(missing) = missing {
                    return Err(format!("{to}{path} did not ask {missing}: {body}"));
                }
            }
        }
        for to in SERVICES[4].addresses() {
            let query = "/api/v1/query?query=count(up%20==%201)";
            let body = self.engine.host().enter(|| ask((to, 9090).into(), query))?;
            if !body.contains("\"4\"") {
                return Err(format!(
                    "Prometheus does not reach its four targets: {body}"
                ));
            }
        }
        Ok(())
    }
}

fn ask(to: SocketAddr, path: &str) -> Result<String, String> {
    match http::get(to, path) {
        Ok((200, body)) => Ok(body),
        other => Err(format!("{to}{path}: {other:?}")),
    }
}
