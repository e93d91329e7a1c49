//! The Docker source against a real engine, with links beside it as the agent has them.

use std::{future::Future, sync::Arc, time::Duration};

use dfw_agent::{
    model::{Container, Endpoint, Inventory, Unprotected, bind},
    source::{
        Source,
        docker::{ConnectError, DockerSource},
        netlink::LinkWatcher,
    },
};
use dfw_tests::{
    Engine, EngineOptions,
    proxy::{Fault, Proxy},
    scratch::Scratch,
};
use tokio::time::{Instant, timeout};

/// What the agent's loop does, without policy.
struct Node {
    source: DockerSource,
    links: LinkWatcher,
}

impl Node {
    async fn new(host: &str) -> Self {
        let links = LinkWatcher::open().await.expect("links");
        let source = DockerSource::connect(Some(host), "dfw.")
            .await
            .expect("engine");
        Self { source, links }
    }

    async fn until(&mut self, what: &str, met: impl Fn(&Inventory) -> bool) -> Inventory {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let inventory = bind(self.source.snapshot(), self.links.links());
            for endpoint in &inventory.endpoints {
                self.links.pin_peer(endpoint.ifindex);
            }
            if met(&inventory) {
                return inventory;
            }
            tokio::select! {
                () = self.source.changed() => {}
                change = self.links.changed() => drop(change.expect("links")),
                () = tokio::time::sleep_until(deadline) => panic!("waits in vain until {what}: {inventory:#?}"),
            }
        }
    }
}

fn inside<F: Future<Output = ()>>(engine: &Engine, test: impl FnOnce() -> F + Send) {
    engine.host().enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            timeout(Duration::from_secs(120), test())
                .await
                .expect("it hangs")
        });
    });
}

fn container<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a Arc<Container>> {
    inventory
        .containers
        .iter()
        .find(|container| container.name == name)
}

fn endpoints<'a>(inventory: &'a Inventory, name: &str) -> Vec<&'a Endpoint> {
    inventory
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.container.name == name)
        .collect()
}

/// `docker run` in the background; the runtime's only thread must be free meanwhile.
fn start(engine: &Engine, arguments: &str) -> std::process::Child {
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.splice(0..0, ["run", "--detach"]);
    arguments.extend(["dfwt", "sleep", "1000"]);
    engine
        .command(&arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("docker")
}

#[test]
fn an_endpoint_is_known_before_its_process_runs() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    inside(&engine, || async {
        let mut node = Node::new(&engine.socket()).await;
        node.until("the networks are bound", |i| i.networks.len() == 2)
            .await;
        for round in 0..5 {
            let name = format!("a{round}");
            let begin = Instant::now();
            let mut child = start(
                &engine,
                &format!("--name {name} --network shop --label dfw.group=g{round}"),
            );
            node.until("its labels are known", |i| container(i, &name).is_some())
                .await;
            let labels = begin.elapsed();
            let bound = node
                .until("it is bound", |i| !endpoints(i, &name).is_empty())
                .await;
            let endpoint = begin.elapsed();
            assert!(
                !container(&bound, &name).expect("listed").running,
                "it ran before it was bound"
            );
            assert_eq!(
                endpoints(&bound, &name)[0].addresses.len(),
                3,
                "{:?}",
                bound.endpoints
            );
            node.until("it runs", |i| {
                container(i, &name).is_some_and(|c| c.running)
            })
            .await;
            println!(
                "labels {labels:?}, endpoint {endpoint:?}, runs {:?}",
                begin.elapsed()
            );
            assert!(child.wait().expect("docker").success());
        }
    });
}

#[test]
fn the_life_of_a_container() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let docker = |line: &str| engine.docker(&line.split_whitespace().collect::<Vec<_>>());
    inside(&engine, || async {
        let a = engine.container(
            "web",
            &["--network", "shop", "--publish", "127.0.0.1:8080:80/udp"],
            &[],
        );
        let mut node = Node::new(&engine.socket()).await;
        let first = node
            .until("it is bound", |i| endpoints(i, "web").len() == 1)
            .await;
        let shop = first
            .networks
            .iter()
            .find(|network| network.network.name == "shop")
            .expect("shop");
        let subnets: Vec<String> = shop
            .network
            .subnets
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(subnets, ["10.78.1.0/24", "fd78:1::/64"]);
        let endpoint = endpoints(&first, "web")[0];
        assert_eq!(
            (endpoint.network, endpoint.container.id.as_str()),
            (shop.ifindex, a.id())
        );
        let ports: Vec<String> = endpoint
            .container
            .published
            .iter()
            .map(|p| {
                format!(
                    "{}:{} {}/{}",
                    p.host_ip, p.host_port, p.container_port, p.protocol
                )
            })
            .collect();
        assert_eq!(ports, ["127.0.0.1:8080 80/17"]);

        docker("network connect bridge web");
        let both = node
            .until("it is on both networks", |i| endpoints(i, "web").len() == 2)
            .await;
        let bridges: Vec<&str> = both
            .networks
            .iter()
            .map(|network| network.network.bridge.as_str())
            .collect();
        assert!(bridges.contains(&"docker0"), "{bridges:?}");
        docker("network disconnect shop web");
        node.until("it left one", |i| endpoints(i, "web").len() == 1)
            .await;
        docker("network connect shop web");
        node.until("it is back", |i| endpoints(i, "web").len() == 2)
            .await;

        docker("rename web www");
        node.until("it is renamed", |i| endpoints(i, "www").len() == 2)
            .await;
        docker("pause www");
        docker("unpause www");
        let before: Vec<u32> = endpoints(&both, "web").iter().map(|e| e.ifindex).collect();
        docker("restart --time 0 www");
        node.until("it has new links", |i| {
            let now = endpoints(i, "www");
            now.len() == 2
                && now.iter().all(|e| !before.contains(&e.ifindex))
                && now[0].container.running
        })
        .await;
        docker("stop --time 0 www");
        node.until("it is stopped", |i| {
            container(i, "www").is_none() && i.endpoints.is_empty()
        })
        .await;
        docker("start www");
        node.until("it is started", |i| endpoints(i, "www").len() == 2)
            .await;
        a.remove();
        node.until("it is gone", |i| i.containers.is_empty()).await;
        docker("network rm shop");
        node.until("the network is gone, too", |i| {
            i.networks.len() == 1 && i.findings.is_empty()
        })
        .await;
    });
}

#[test]
fn what_the_engine_says_of_containers() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    engine
        .host()
        .run("ip link add nic type veth peer name wire");
    engine.docker(&[
        "network",
        "create",
        "--driver",
        "macvlan",
        "--opt",
        "parent=nic",
        "mac",
    ]);
    let mark = [
        "LABEL dfw.mode=off role=admin com.docker.compose.project=x com.docker.compose.service=db",
    ];
    engine.load_image("marked", &mark);
    let marked = engine.container_of("marked", "marked", &["--label", "dfw.group=g"], &[]);
    let composed = [
        "--label=com.docker.compose.config-hash=1f",
        "--label=com.docker.compose.project=x",
        "--label=com.docker.compose.service=db",
    ];
    let _composed = engine.container_of("marked", "composed", &composed, &[]);
    let _host = engine.container("host", &["--network", "host"], &[]);
    let joiner = format!("container:{}", marked.id());
    let _joiner = engine.container("joiner", &["--network", &joiner], &[]);
    let _none = engine.container("none", &["--network", "none"], &[]);
    let _macvlan = engine.container("macvlan", &["--network", "mac"], &[]);
    let _admin = engine.container("admin", &["--cap-add", "net_admin"], &[]);
    engine.docker(&["create", "--name", "created", "dfwt", "true"]);
    // Only made: not every machine that runs the tests may grant all capabilities.
    engine.docker(&[
        "create",
        "--name",
        "privileged",
        "--privileged",
        "dfwt",
        "true",
    ]);
    inside(&engine, || async {
        let mut node = Node::new(&engine.socket()).await;
        let is = |i: &Inventory, name: &str, why: &[Unprotected]| {
            container(i, name).is_some_and(|c| c.unprotected == why)
        };
        let seen = node
            .until("everything is read", |i| {
                is(i, "privileged", &[Unprotected::Privileged])
                    && is(i, "admin", &[Unprotected::NetAdmin])
            })
            .await;
        assert!(
            is(&seen, "host", &[Unprotected::HostNetwork])
                && is(&seen, "joiner", &[Unprotected::Shared])
        );
        assert!(is(&seen, "none", &[]) && is(&seen, "created", &[]) && is(&seen, "marked", &[]));
        assert_eq!(
            container(&seen, "joiner")
                .expect("listed")
                .shares
                .as_deref(),
            Some(marked.id())
        );

        let marked = container(&seen, "marked").expect("listed");
        assert_eq!(
            marked
                .labels
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>(),
            ["dfw.group=g"]
        );
        let ignored = [
            "com.docker.compose.project",
            "com.docker.compose.service",
            "dfw.mode",
        ];
        assert_eq!(marked.image_labels, ignored);
        let composed = container(&seen, "composed").expect("listed");
        assert_eq!(
            (
                composed.display_name().as_str(),
                composed.image_labels.as_slice()
            ),
            ("x/db", &["dfw.mode".to_owned()][..])
        );

        let names: Vec<&str> = seen
            .networks
            .iter()
            .map(|network| network.network.name.as_str())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(seen.endpoints.len(), 3, "{:#?}", seen.endpoints);
        assert_eq!(seen.findings, []);
    });
}

#[test]
fn a_lost_engine_is_found_again() {
    let engine = Engine::start(EngineOptions::default());
    let scratch = Scratch::new();
    let socket = scratch.path().join("proxy.sock");
    let proxy = Proxy::new(&socket, &engine.socket(), Fault::None);
    inside(&engine, || async {
        let _web = engine.container("web", &[], &[]);
        let mut node = Node::new(&proxy.socket()).await;
        node.until("it is bound", |i| endpoints(i, "web").len() == 1)
            .await;
        assert!(node.source.status().connected && node.source.status().synced);

        for (round, fault) in Fault::ALL.into_iter().enumerate() {
            let name = format!("late{round}");
            proxy.set(fault);
            while node.source.status().connected {
                node.source.changed().await;
            }
            assert!(
                node.source
                    .findings()
                    .iter()
                    .any(|finding| finding.code == "engine-lost")
            );
            let mut child = start(&engine, &format!("--name {name}"));
            assert!(child.wait().expect("docker").success());
            let kept = bind(node.source.snapshot(), node.links.links());
            assert_eq!(
                endpoints(&kept, "web").len(),
                1,
                "the last good answer stays"
            );
            proxy.set(Fault::None);
            node.until("what happened meanwhile is known", |i| {
                endpoints(i, &name).len() == 1
            })
            .await;
            while !node.source.status().connected {
                node.source.changed().await;
            }
            assert_eq!(node.source.findings(), []);
        }
        assert!(node.source.status().resyncs > Fault::ALL.len() as u64);
    });
}

#[test]
fn where_there_is_no_engine() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let connect = async |host: String| {
            DockerSource::connect(Some(&host), "dfw.")
                .await
                .map(drop)
                .expect_err("no engine")
        };
        let unix = |name: &str| format!("unix://{}", path(name).display());

        assert!(matches!(
            connect(unix("none")).await,
            ConnectError::NoSocket { .. }
        ));
        assert!(matches!(
            connect("ssh://host".to_owned()).await,
            ConnectError::Unsupported { .. }
        ));
        scratch.file("file", "");
        assert!(matches!(
            connect(unix("file")).await,
            ConnectError::Refused { .. }
        ));
        for fault in Fault::ALL {
            let name = format!("{fault:?}");
            let _proxy = Proxy::new(&path(&name), "", fault);
            let error = connect(unix(&name)).await;
            assert!(
                matches!(error, ConnectError::NotAnEngine { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains(&unix(&name)), "{error}");
        }
    });
}
