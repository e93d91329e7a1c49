//! The link watcher against real namespaces and veths. Each test makes namespaces of its own and works in one of them.

use std::{
    fs::File,
    future::Future,
    net::IpAddr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use dfw_agent::{
    model::{Link, LinkKind},
    source::netlink::{LinkChange, LinkWatcher},
};

/// Namespaces that go when the test ends, however it ends.
struct Lab {
    host: String,
    inside: String,
}

impl Lab {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let lab = Self {
            host: format!("dfwt-h{id}"),
            inside: format!("dfwt-c{id}"),
        };
        for namespace in [&lab.host, &lab.inside] {
            run(&["ip", "netns", "add", namespace]);
        }
        lab.ip("link add br0 type bridge");
        lab.ip("link set br0 up");
        lab
    }

    fn ip(&self, arguments: &str) {
        ip(&self.host, arguments);
    }

    fn ip_inside(&self, arguments: &str) {
        ip(&self.inside, arguments);
    }

    /// Runs a test on a thread of its own that has entered the host's namespace; sockets opened there stay there.
    fn run<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.host);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = File::open(&path).expect("namespace");
                enter(&namespace);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("runtime");
                runtime.block_on(async {
                    tokio::time::timeout(Duration::from_secs(30), test())
                        .await
                        .expect("the test hangs");
                });
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.host, &self.inside] {
            // Not asserted: a panic while a test panics would hide its message.
            let _: std::io::Result<_> = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

fn enter(namespace: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: setns(2) reads a descriptor that outlives the call, and moves this thread alone.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

fn ip(namespace: &str, arguments: &str) {
    let mut command = vec!["ip", "-n", namespace];
    command.extend(arguments.split_whitespace());
    run(&command);
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .expect("command");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
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

fn addresses(link: &Link) -> Vec<String> {
    let peer = link.peer.as_ref().expect("peer is known");
    peer.addresses
        .iter()
        .map(IpAddr::to_string)
        .filter(|address| !address.starts_with("fe80"))
        .collect()
}

#[test]
#[ignore = "needs root: run by xtask test"]
fn dump_reads_peers_in_other_namespaces() {
    let lab = Lab::new();
    lab.ip(&format!(
        "link add v0 type veth peer name eth0 netns {}",
        lab.inside
    ));
    lab.ip("link set v0 master br0 up");
    lab.ip_inside("link set eth0 address 02:42:ac:12:00:02");
    lab.ip_inside("addr add 172.18.0.2/16 dev eth0");
    lab.ip_inside("addr add fd00:9::2/64 dev eth0 nodad");
    lab.ip_inside("addr add 192.0.2.1/24 dev lo");
    lab.ip_inside("link set eth0 up");
    lab.ip("link add near0 type veth peer name near1");
    lab.ip("addr add 172.18.0.1/16 dev br0");
    lab.run(|| async {
        let watcher = LinkWatcher::open().await.expect("open");
        let (bridge, veth) = (link(&watcher, "br0"), link(&watcher, "v0"));
        assert_eq!((bridge.kind, veth.kind), (LinkKind::Bridge, LinkKind::Veth));
        assert_eq!((veth.bridge, veth.peer_here), (Some(bridge.ifindex), None));
        assert_eq!(
            veth.peer.as_ref().expect("peer").mac.to_string(),
            "02:42:ac:12:00:02"
        );
        assert_eq!(addresses(veth), ["172.18.0.2", "fd00:9::2"]);

        let near = link(&watcher, "near0");
        assert_eq!(
            (near.peer_here, near.peer.as_ref()),
            (Some(link(&watcher, "near1").ifindex), None)
        );

        let own: Vec<String> = watcher
            .links()
            .host_addresses
            .iter()
            .filter(|address| address.ifindex == bridge.ifindex)
            .map(|address| address.net.to_string())
            .collect();
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
#[ignore = "needs root: run by xtask test"]
fn a_veth_as_an_engine_makes_it() {
    let lab = Lab::new();
    lab.run(|| async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let bridge = link(&watcher, "br0").ifindex;
        lab.ip("link add v0 type veth peer name p0");
        lab.ip("link set v0 master br0 up");
        loop {
            match watcher.changed().await.expect("netlink") {
                LinkChange::Appeared {
                    ifindex,
                    name,
                    bridge: on,
                } => {
                    assert_eq!((name.as_str(), on), ("v0", bridge));
                    assert_eq!(ifindex, link(&watcher, "v0").ifindex);
                    break;
                }
                LinkChange::Other => {}
                LinkChange::Overrun => panic!("nothing to overrun"),
            }
        }
        until(&mut watcher, "the other end is seen here", |w| {
            link(w, "v0").peer_here.is_some()
        })
        .await;

        lab.ip(&format!("link set p0 netns {} name eth0", lab.inside));
        lab.ip_inside("link set eth0 address 02:42:ac:12:00:02");
        lab.ip_inside("addr add 172.18.0.2/16 dev eth0");
        lab.ip_inside("link set eth0 up");
        until(&mut watcher, "the peer is read", |w| {
            let link = link(w, "v0");
            link.peer
                .as_ref()
                .is_some_and(|peer| peer.mac.to_string() == "02:42:ac:12:00:02")
                && addresses(link) == ["172.18.0.2"]
        })
        .await;
        assert_eq!(link(&watcher, "v0").peer_here, None);

        // What is changed inside once it is up is not learned: not by news, not by asking, not by a full reading.
        lab.ip_inside("link set eth0 down");
        lab.ip_inside("link set eth0 address 02:42:ac:12:00:66");
        lab.ip_inside("addr add 172.18.0.66/16 dev eth0");
        lab.ip_inside("link set eth0 up");
        let ifindex = link(&watcher, "v0").ifindex;
        while tokio::time::timeout(Duration::from_millis(300), watcher.changed())
            .await
            .is_ok()
        {}
        assert!(!watcher.refresh_peer(ifindex).await.expect("netlink"));
        watcher.resync().await.expect("netlink");
        let peer = link(&watcher, "v0").peer.as_ref().expect("peer");
        assert_eq!(peer.mac.to_string(), "02:42:ac:12:00:02");
        assert_eq!(addresses(link(&watcher, "v0")), ["172.18.0.2"]);

        lab.ip("link del v0");
        until(&mut watcher, "the veth is gone", |w| {
            w.links().links.values().all(|link| link.name != "v0")
        })
        .await;
    });
}

#[test]
#[ignore = "needs root: run by xtask test"]
fn an_address_that_comes_late() {
    let lab = Lab::new();
    lab.ip(&format!(
        "link add v0 type veth peer name eth0 netns {}",
        lab.inside
    ));
    lab.ip("link set v0 master br0 up");
    lab.ip_inside("link set eth0 up");
    lab.run(|| async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let ifindex = link(&watcher, "v0").ifindex;
        assert_eq!(addresses(link(&watcher, "v0")), [""; 0]);
        // No news of it reaches the host's namespace.
        lab.ip_inside("addr add 10.0.0.2/24 dev eth0");
        assert!(watcher.refresh_peer(ifindex).await.expect("netlink"));
        assert_eq!(addresses(link(&watcher, "v0")), ["10.0.0.2"]);
    });
}

#[test]
#[ignore = "needs root: run by xtask test"]
fn a_bound_port_is_not_looked_at_again() {
    let lab = Lab::new();
    lab.ip(&format!(
        "link add v0 type veth peer name eth0 netns {}",
        lab.inside
    ));
    lab.ip("link set v0 master br0 up");
    lab.run(|| async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let ifindex = link(&watcher, "v0").ifindex;
        watcher.settle_peer(ifindex);
        lab.ip_inside("addr add 10.0.0.2/24 dev eth0");
        lab.ip_inside("link set eth0 up");
        assert!(!watcher.refresh_peer(ifindex).await.expect("netlink"));
        assert_eq!(addresses(link(&watcher, "v0")), [""; 0]);
    });
}

#[test]
#[ignore = "needs root: run by xtask test"]
fn ports_and_host_addresses_come_and_go() {
    let lab = Lab::new();
    lab.ip("link add d0 type vxlan id 1 dstport 4789");
    lab.run(|| async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let bridge = link(&watcher, "br0").ifindex;
        lab.ip("link set d0 master br0");
        until(&mut watcher, "it is a port", |w| {
            link(w, "d0").bridge == Some(bridge)
        })
        .await;
        lab.ip("link set d0 nomaster");
        until(&mut watcher, "it is no port", |w| {
            link(w, "d0").bridge.is_none()
        })
        .await;
        lab.ip("addr add 10.1.0.1/24 dev d0");
        let has = |w: &LinkWatcher| {
            w.links()
                .host_addresses
                .iter()
                .any(|a| a.net.to_string() == "10.1.0.1/24")
        };
        until(&mut watcher, "the address is there", has).await;
        lab.ip("addr del 10.1.0.1/24 dev d0");
        until(&mut watcher, "the address is gone", |w| !has(w)).await;
    });
}

/// News that nobody reads for long are dropped by the kernel; afterwards everything is as it is.
#[test]
#[ignore = "needs root: run by xtask test"]
fn an_overrun_is_noticed() {
    let lab = Lab::new();
    lab.run(|| async {
        let mut watcher = LinkWatcher::open().await.expect("open");
        let batch = std::env::temp_dir().join(format!("{}.batch", lab.host));
        let mut lines: String = (0..100)
            .map(|n| format!("link add d{n} type veth peer name e{n}\nlink del d{n}\n"))
            .collect();
        lines.push_str("link add last type veth peer name after\n");
        std::fs::write(&batch, lines).expect("batch");
        // Blocks the only thread of the runtime, so that the socket is not read meanwhile.
        run(&["ip", "-n", &lab.host, "-b", batch.to_str().expect("path")]);
        std::fs::remove_file(&batch).expect("batch");
        let mut overrun = false;
        while let Ok(change) =
            tokio::time::timeout(Duration::from_millis(500), watcher.changed()).await
        {
            overrun |= change.expect("netlink") == LinkChange::Overrun;
        }
        assert!(overrun);
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
