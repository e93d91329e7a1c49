//! The link watcher against real namespaces and veths.

use std::{future::Future, net::IpAddr, time::Duration};

use dfw_agent::{
    model::{Link, LinkKind},
    source::netlink::{LinkChange, LinkWatcher},
};
use dfw_tests::{Namespace, NetNs, scratch::Scratch};

const MAC: &str = "02:42:ac:12:00:02";

/// A host with a bridge.
fn host() -> Namespace {
    let host = Namespace::new();
    host.run("ip link add br0 type bridge");
    host.run("ip link set br0 up");
    host
}

/// A port of the bridge whose other end, `eth0`, is in a namespace of its own.
fn plug(host: &Namespace) -> Namespace {
    let inside = Namespace::new();
    host.run(&format!(
        "ip link add v0 type veth peer name eth0 netns {}",
        inside.name()
    ));
    host.run("ip link set v0 master br0 up");
    inside
}

/// Runs a test in a namespace. It fails where nothing comes of it.
fn inside<F: Future<Output = ()>>(netns: &NetNs, test: impl FnOnce() -> F + Send) {
    netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(30), test())
                .await
                .expect("it hangs");
        });
    });
}

fn link<'a>(watcher: &'a LinkWatcher, name: &str) -> &'a Link {
    watcher
        .links()
        .links
        .values()
        .find(|link| link.name == name)
        .expect("link is known")
}

async fn until(watcher: &mut LinkWatcher, what: &str, met: impl Fn(&LinkWatcher) -> bool) {
    while !met(watcher) {
        let change = tokio::time::timeout(Duration::from_secs(5), watcher.changed()).await;
        change
            .unwrap_or_else(|_| panic!("waits in vain until {what}"))
            .expect("netlink");
    }
}

/// Takes in all news until there is none for a while.
async fn settle(watcher: &mut LinkWatcher) -> Vec<LinkChange> {
    let mut changes = Vec::new();
    while let Ok(change) = tokio::time::timeout(Duration::from_millis(600), watcher.changed()).await
    {
        changes.push(change.expect("netlink"));
    }
    changes
}

fn mac(link: &Link) -> String {
    link.peer
        .as_ref()
        .map(|peer| peer.mac.to_string())
        .unwrap_or_default()
}

fn addresses(link: &Link) -> Vec<String> {
    let addresses = link.peer.iter().flat_map(|peer| &peer.addresses);
    addresses
        .map(IpAddr::to_string)
        .filter(|address| !address.starts_with("fe80"))
        .collect()
}

#[test]
fn other_ends_are_read_from_the_hosts_namespace() {
    let host = host();
    let container = plug(&host);
    container.run(&format!("ip link set eth0 address {MAC}"));
    container.run("ip addr add 172.18.0.2/16 dev eth0");
    container.run("ip addr add fd00:9::2/64 dev eth0 nodad");
    container.run("ip addr add 192.0.2.1/24 dev lo");
    container.run("ip link set eth0 up");
    host.run("ip link add near0 type veth peer name near1");
    host.run("ip addr add 172.18.0.1/16 dev br0");
    inside(&host, || async {
        let watcher = LinkWatcher::open().await.expect("open");
        let (bridge, veth) = (link(&watcher, "br0"), link(&watcher, "v0"));
        assert_eq!((bridge.kind, veth.kind), (LinkKind::Bridge, LinkKind::Veth));
        assert_eq!((veth.bridge, veth.peer_here), (Some(bridge.ifindex), None));
        assert_eq!(mac(veth), MAC);
        assert_eq!(addresses(veth), ["172.18.0.2", "fd00:9::2"]);

        let near = link(&watcher, "near0");
        assert_eq!(
            (near.peer_here, &near.peer),
            (Some(link(&watcher, "near1").ifindex), &None)
        );

        let own = watcher
            .links()
            .host_addresses
            .iter()
            .filter(|address| address.ifindex == bridge.ifindex);
        let own: Vec<String> = own.map(|address| address.net.to_string()).collect();
        assert!(own.contains(&"172.18.0.1/16".to_owned()), "{own:?}");
        assert!(
            own.iter()
                .any(|net| net.starts_with("fe80::") && net.ends_with("/64")),
            "{own:?}"
        );
    });
}

/// As Docker 20.10 does it: both ends here, enslave, move, configure, up.
#[test]
fn a_veth_is_followed_from_its_birth() {
    let host = host();
    let container = Namespace::new();
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let bridge = link(&watcher, "br0").ifindex;
        host.run("ip link add v0 type veth peer name p0");
        host.run("ip link set v0 master br0 up");
        let changes = settle(&mut watcher).await;
        let ifindex = link(&watcher, "v0").ifindex;
        let appeared = LinkChange::Appeared {
            ifindex,
            name: "v0".to_owned(),
            bridge,
        };
        assert_eq!(
            changes.iter().filter(|change| **change == appeared).count(),
            1,
            "{changes:?}"
        );
        assert_eq!(
            link(&watcher, "v0").peer_here,
            Some(link(&watcher, "p0").ifindex)
        );

        host.run(&format!(
            "ip link set p0 netns {} name eth0",
            container.name()
        ));
        container.run(&format!("ip link set eth0 address {MAC}"));
        container.run("ip addr add 172.18.0.2/16 dev eth0");
        container.run("ip link set eth0 up");
        until(&mut watcher, "the other end is read", |w| {
            mac(link(w, "v0")) == MAC && addresses(link(w, "v0")) == ["172.18.0.2"]
        })
        .await;
        assert_eq!(link(&watcher, "v0").peer_here, None);

        host.run("ip link del v0");
        until(&mut watcher, "it is gone", |w| {
            w.links().links.values().all(|link| link.name != "v0")
        })
        .await;
    });
}

/// Not by news, not by asking, not by a full reading.
#[test]
fn what_a_container_changes_is_not_learned() {
    let host = host();
    let container = plug(&host);
    container.run(&format!("ip link set eth0 address {MAC}"));
    container.run("ip addr add 172.18.0.2/16 dev eth0");
    container.run("ip link set eth0 up");
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let ifindex = link(&watcher, "v0").ifindex;
        container.run("ip link set eth0 address 02:42:ac:12:00:66");
        settle(&mut watcher).await;
        assert_eq!(mac(link(&watcher, "v0")), MAC);

        container.run("ip link set eth0 down");
        container.run("ip addr add 172.18.0.66/16 dev eth0");
        container.run("ip link set eth0 up");
        settle(&mut watcher).await;
        assert!(!watcher.refresh_peer(ifindex).await.expect("netlink"));
        watcher.resync().await.expect("netlink");
        assert_eq!(mac(link(&watcher, "v0")), MAC);
        assert_eq!(addresses(link(&watcher, "v0")), ["172.18.0.2"]);
    });
}

#[test]
fn addresses_that_come_late_are_read() {
    let host = host();
    let container = plug(&host);
    container.run("ip link set eth0 up");
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let ifindex = link(&watcher, "v0").ifindex;
        settle(&mut watcher).await;
        assert_eq!(addresses(link(&watcher, "v0")), [""; 0]);

        container.run("ip addr add 10.0.0.2/24 dev eth0");
        assert!(watcher.refresh_peer(ifindex).await.expect("netlink"));
        assert_eq!(addresses(link(&watcher, "v0")), ["10.0.0.2"]);
        container.run("ip addr add fd00::2/64 dev eth0 nodad");
        settle(&mut watcher).await;
        assert_eq!(addresses(link(&watcher, "v0")), ["10.0.0.2", "fd00::2"]);
    });
}

#[test]
fn a_bound_port_keeps_its_mac() {
    let host = host();
    let container = plug(&host);
    container.run(&format!("ip link set eth0 address {MAC}"));
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        watcher.pin_peer(link(&watcher, "v0").ifindex);
        container.run("ip link set eth0 address 02:42:ac:12:00:66");
        container.run("ip link set eth0 up");
        settle(&mut watcher).await;
        assert_eq!(mac(link(&watcher, "v0")), MAC);
    });
}

#[test]
fn ports_and_host_addresses_come_and_go() {
    let host = host();
    host.run("ip link add x0 type vxlan id 1 dstport 4789");
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let bridge = link(&watcher, "br0").ifindex;
        host.run("ip link set x0 master br0");
        until(&mut watcher, "it is a port", |w| {
            link(w, "x0").bridge == Some(bridge)
        })
        .await;
        host.run("ip link set x0 nomaster");
        until(&mut watcher, "it is no port", |w| {
            link(w, "x0").bridge.is_none()
        })
        .await;
        let has = |w: &LinkWatcher| {
            w.links()
                .host_addresses
                .iter()
                .any(|a| a.net.to_string() == "10.1.0.1/24")
        };
        host.run("ip addr add 10.1.0.1/24 dev x0");
        until(&mut watcher, "the address is there", has).await;
        host.run("ip addr del 10.1.0.1/24 dev x0");
        until(&mut watcher, "the address is gone", |w| !has(w)).await;
    });
}

/// News that nobody reads in time are dropped by the kernel.
#[test]
fn after_an_overrun_everything_is_as_it_is() {
    let host = host();
    let scratch = Scratch::new();
    let line = |n| format!("link add a{n} type veth peer name b{n}\nlink del a{n}\n");
    let lines: String = (0..100)
        .map(line)
        .chain(["link add last type veth peer name after\n".to_owned()])
        .collect();
    let batch = scratch.file("batch", &lines);
    inside(&host, || async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        // Keeps the only thread of the runtime from reading.
        host.run(&format!("ip -batch {}", batch.display()));
        assert!(settle(&mut watcher).await.contains(&LinkChange::Overrun));
        let veths = watcher
            .links()
            .links
            .values()
            .filter(|link| link.kind == LinkKind::Veth);
        let mut names: Vec<&str> = veths.map(|link| link.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["after", "last"]);
    });
}
