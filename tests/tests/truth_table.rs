//! Eight workloads, each with each: what gets through equals what the labels say, by real connections, and `dfw explain` says
//! the same of each.
//!
//! The table is written by hand from the labels, without a line of dfw's own code.

use std::thread;

use dfw_probe::Protocol;
use dfw_tests::{
    Agent, Bridge, Container, Endpoint, Engine, EngineOptions, Inventory, Listener, Namespace,
    table::{Member, TRIES, Table},
};
use serde_json::Value;

/// Labels of a workload. `{net}`, `{v4}` and `{v6}` stand for the network's name and subnets.
struct Workload {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
}

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";

/// Every kind of peer, every mode, both directions, deny against allow, one family without the other.
const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "web",
        labels: &[
            (PROJECT, "shop"),
            (SERVICE, "web"),
            ("dfw.ingress", "tcp/80 from any; icmp,icmp6 from group:ops"),
            (
                "dfw.egress",
                "tcp/80,udp/53 to service:api; icmp to service:api",
            ),
        ],
    },
    Workload {
        name: "api",
        labels: &[
            (PROJECT, "shop"),
            (SERVICE, "api"),
            (
                "dfw.ingress",
                "any from project:shop; deny tcp/81 from service:web",
            ),
            ("dfw.ingress.ops", "tcp/80 from group:ops"),
            ("dfw.egress", "tcp/80-81 to service:db; any to group:ops"),
        ],
    },
    Workload {
        name: "db",
        labels: &[
            (PROJECT, "shop"),
            (SERVICE, "db"),
            (
                "dfw.ingress",
                "tcp/80,81 from service:api; udp/53 from net:{net}; deny udp/53 from label:tier=admin",
            ),
        ],
    },
    Workload {
        name: "ops",
        labels: &[
            ("tier", "admin"),
            ("dfw.group", "night,ops"),
            (
                "dfw.ingress",
                "udp/53 from service:shop/api; icmp6 from container:guest; tcp/81 from {v4}",
            ),
            ("dfw.egress", "any to any"),
        ],
    },
    Workload {
        name: "peek",
        labels: &[("dfw.mode", "audit"), ("dfw.ingress", "tcp/80 from host")],
    },
    Workload {
        name: "blind",
        labels: &[("dfw.mode", "off"), ("dfw.ingress", "")],
    },
    Workload {
        name: "guest",
        labels: &[("tier", "guest")],
    },
    Workload {
        name: "lan",
        labels: &[
            (
                "dfw.ingress",
                "tcp/80 from {v4}; udp/53 from {v6}; any from world,host",
            ),
            ("dfw.egress", "tcp/80 to {v6}; any to container:web"),
        ],
    },
];

/// Lines send, columns receive; what the letters mean is in [`dfw_tests::table::TRIES`].
const TABLE: &str = "
           web   api        db    ops        peek       blind      guest      lan
    web    .     t-ui/t-u-  ----  ----       ----       ----       ----       ----
    api    ----  .          to--  -ou-/--u-  ----       ----       ----       ----
    db     ----  ----       .     ----       ----       ----       ----       ----
    ops    t--i  t---       ----  .          toui       toui       toui       t---/--u-
    peek   t---  ----       --u-  -o--/----  .          toui       toui       t---/--u-
    blind  t---  ----       --u-  -o--/----  toui       .          toui       t---/--u-
    guest  t---  ----       --u-  -o--/---i  toui       toui       .          t---/--u-
    lan    t---  ----       ----  ----       ----/t---  ----/t---  ----/t---  .
";

/// The network that the workloads are on.
struct Place<'a> {
    net: &'a str,
    v4: &'a str,
    v6: &'a str,
}

impl Workload {
    fn labels(&self, place: &Place<'_>) -> Vec<(&'static str, String)> {
        let fill = |value: &str| {
            value
                .replace("{net}", place.net)
                .replace("{v4}", place.v4)
                .replace("{v6}", place.v6)
        };
        self.labels
            .iter()
            .map(|(key, value)| (*key, fill(value)))
            .collect()
    }
}

#[test]
fn on_namespaces() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 10);
    let place = Place {
        net: "lab",
        v4: "10.77.10.0/24",
        v6: "fd77:a::/64",
    };
    let mut inventory = Inventory::new();
    let mut endpoints: Vec<(&str, Endpoint)> = Vec::new();
    for workload in &WORKLOADS {
        let endpoint = bridge.plug(workload.name);
        let labels = workload.labels(&place);
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        inventory.set(workload.name, &endpoint, place.net, &labels);
        endpoints.push((workload.name, endpoint));
    }
    inventory.write();
    let _listeners: Vec<_> = endpoints
        .iter()
        .map(|(_, endpoint)| endpoint.netns.enter(|| Listener::start(&[80, 81], &[53])))
        .collect();
    let members: Vec<_> = endpoints
        .iter()
        .map(|(name, endpoint)| Member {
            name: (*name).to_owned(),
            netns: endpoint.netns.again(),
            addresses: [endpoint.v4.into(), endpoint.v6.into()],
        })
        .collect();

    assert_table(&Table::open(&members), &members, "without dfw");
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    let table = Table::parse(TABLE);
    assert_table(&table, &members, "by inventory");
    assert_explained(&agent, &table);
    assert_counted(&agent);
}

#[test]
fn on_an_engine() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 10);
    let places = [
        Place {
            net: "bridge",
            v4: "172.17.0.0/16",
            v6: "fd77:d0c:0:1::/64",
        },
        Place {
            net: "shop",
            v4: "10.78.10.0/24",
            v6: "fd78:10::/64",
        },
    ];
    let mut agent: Option<Agent<'_>> = None;
    for place in &places {
        let containers: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> = WORKLOADS
                .iter()
                .map(|workload| scope.spawn(|| start(&engine, workload, place)))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().expect("it starts"))
                .collect()
        });
        let members: Vec<_> = containers
            .iter()
            .zip(&WORKLOADS)
            .map(|(c, w)| member(c, w, place))
            .collect();
        if agent.is_none() {
            assert_table(&Table::open(&members), &members, "without dfw");
        }
        // The first containers run when dfw comes, the others are born under it.
        let agent = agent.get_or_insert_with(|| {
            Agent::start(engine.host(), &["--docker-host", &engine.socket()])
        });
        agent.expect_ready("every workload is governed", WORKLOADS.len());
        for call in ["1", "0"] {
            engine.host().sysctl("bridge/bridge-nf-call-iptables", call);
            engine
                .host()
                .sysctl("bridge/bridge-nf-call-ip6tables", call);
            let title = format!("network {}, br_netfilter {call}", place.net);
            assert_table(&Table::parse(TABLE), &members, &title);
        }
        assert_explained(agent, &Table::parse(TABLE));
        assert_counted(agent);
        thread::scope(|scope| {
            for container in containers {
                scope.spawn(move || container.remove());
            }
        });
    }
}

fn start<'engine>(
    engine: &'engine Engine,
    workload: &Workload,
    place: &Place<'_>,
) -> Container<'engine> {
    let labels = workload.labels(place);
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mut options = vec!["--network", place.net];
    options.extend(labels.iter().flat_map(|label| ["--label", label]));
    let listen = ["dfw-probe", "listen", "tcp/80", "tcp/81", "udp/53"];
    engine.container(workload.name, &options, &listen)
}

fn member(container: &Container<'_>, workload: &Workload, place: &Place<'_>) -> Member {
    let (v4, v6) = container.addresses(place.net);
    let v6 = v6.expect("both networks have IPv6");
    Member {
        name: workload.name.to_owned(),
        netns: container.netns(),
        addresses: [v4.into(), v6.into()],
    }
}

#[track_caller]
fn assert_table(table: &Table, members: &[Member], title: &str) {
    let differences = table.differences(members);
    assert!(
        differences.is_empty(),
        "{title}:\n{}",
        differences.join("\n")
    );
}

/// The command says of each try what became of the real ones, and exits accordingly.
#[track_caller]
fn assert_explained(agent: &Agent<'_>, table: &Table) {
    let wrong: Vec<String> = thread::scope(|scope| {
        let sources: Vec<_> = WORKLOADS
            .iter()
            .map(|source| scope.spawn(|| explained_otherwise(agent, table, source.name)))
            .collect();
        let wrong = sources
            .into_iter()
            .map(|source| source.join().expect("no panic"));
        wrong.flatten().collect()
    });
    assert!(wrong.is_empty(), "dfw explain:\n{}", wrong.join("\n"));
}

fn explained_otherwise(agent: &Agent<'_>, table: &Table, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for destination in WORKLOADS.map(|workload| workload.name) {
        if destination == source {
            continue;
        }
        for (letter, protocol, port) in TRIES {
            let words = match protocol {
                Protocol::Tcp => [format!("tcp/{port}"), format!("tcp/{port}")],
                Protocol::Udp => [format!("udp/{port}"), format!("udp/{port}")],
                Protocol::Icmp => ["icmp".to_owned(), "icmp6".to_owned()],
            };
            for (word, family) in words.iter().zip(["IPv4", "IPv6"]) {
                let expected = table.passes(source, destination, family == "IPv4", letter);
                let said = explain(agent, source, destination, word, family);
                if said != [expected] {
                    wrong.push(format!(
                        "{source} -> {destination} {word} {family}: {said:?}, not {expected}"
                    ));
                }
            }
        }
    }
    wrong
}

/// What each path of a family comes to.
fn explain(
    agent: &Agent<'_>,
    source: &str,
    destination: &str,
    word: &str,
    family: &str,
) -> Vec<bool> {
    let arguments = ["explain", source, destination, word, "--output", "json"];
    let output = agent.command(&arguments);
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
    let code = if answer["passes"] == true { 0 } else { 3 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {answer}");
    let paths = answer["paths"].as_array().expect("paths");
    let has_family = |path: &&Value| {
        let pairs = path["pairs"].as_array().expect("pairs");
        pairs.iter().any(|pair| pair["family"] == family)
    };
    let of_family = paths.iter().filter(has_family);
    of_family.map(|path| path["passes"] == true).collect()
}

/// Where so much was denied and allowed on both sides, each figure moved.
#[track_caller]
fn assert_counted(agent: &Agent<'_>) {
    let metrics = agent.metrics();
    for direction in ["direction=\"ingress\"", "direction=\"egress\""] {
        for verdict in ["verdict=\"allow\"", "verdict=\"deny\"", "verdict=\"audit\""] {
            let packets = metrics.sum("dfw_packets_total", &[direction, verdict]);
            assert!(
                packets > 0.0,
                "dfw_packets_total{{{direction},{verdict}}} is {packets}"
            );
        }
    }
}
