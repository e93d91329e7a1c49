//! Many endpoints on one node, by inventory and without Docker.

use std::{collections::BTreeMap, fmt::Write as _, ops::Range};

use crate::{Namespace, inventory::entry, process, scratch::Scratch};

/// The first two have namespaces of their own, so that they can be tried; the others share these.
pub const TRIED: usize = 2;
const SHARED: usize = 8;
/// Endpoints of one service.
const SERVICE: usize = 20;

/// A host with one bridge. Dropped, it goes with everything on it.
#[derive(Debug)]
pub struct Crowd {
    /// Where the agent runs.
    pub host: Namespace,
    /// Where the first two live.
    pub tried: [Namespace; TRIED],
    /// Where all others do: they go when this is cleared.
    pub shared: Vec<Namespace>,
}

/// Both addresses of an endpoint.
pub fn addresses(number: usize) -> (String, String) {
    let (high, low) = ((number + 2) / 250, (number + 2) % 250 + 1);
    (
        format!("10.80.{high}.{low}"),
        format!("fd80::{high:x}:{low:x}"),
    )
}

impl Crowd {
    /// The first two.
    ///
    /// # Panics
    /// Without root.
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        let namespace = || {
            let namespace = Namespace::new();
            namespace.sysctl("ipv6/conf/default/router_solicitations", "0");
            namespace
        };
        let crowd = Self {
            host: Namespace::new(),
            tried: [namespace(), namespace()],
            shared: (0..SHARED).map(|_| namespace()).collect(),
        };
        crowd
            .host
            .run("ip link add br0 type bridge mcast_snooping 0");
        crowd.host.run("ip address add 10.80.255.254/16 dev br0");
        crowd.host.run("ip address add fd80::ffff/64 dev br0 nodad");
        crowd.host.run("ip link set br0 up");
        crowd.plug(0..TRIED);
        crowd
    }

    fn namespace(&self, number: usize) -> &Namespace {
        let shared = || &self.shared[number % SHARED];
        self.tried.get(number).unwrap_or_else(shared)
    }

    /// Plugs in more.
    ///
    /// # Panics
    /// When one of them is there already.
    pub fn plug(&self, numbers: Range<usize>) {
        let mut outside = String::new();
        let mut inside: BTreeMap<&str, String> = BTreeMap::new();
        for number in numbers {
            let netns = self.namespace(number).name();
            let (v4, v6) = addresses(number);
            // A thousand ports that flood each other with their multicast reports say nothing of dfw.
            let flood = if number < TRIED { "on" } else { "off" };
            // Writing to a string does not fail.
            let _ = writeln!(
                outside,
                "link add v{number} type veth peer name e{number} netns {netns}\n\
                 link set v{number} master br0 up\n\
                 link set v{number} type bridge_slave mcast_flood {flood}"
            );
            let _ = writeln!(
                inside.entry(netns).or_default(),
                "address add {v4}/16 dev e{number}\n\
                 address add {v6}/64 dev e{number} nodad\n\
                 link set e{number} up"
            );
        }
        batch(&self.host, &outside);
        for namespace in self.tried.iter().chain(&self.shared) {
            batch(
                namespace,
                inside.get(namespace.name()).map_or("", |text| text),
            );
        }
    }

    /// Every endpoint may be reached on tcp/80 by the services next to its own.
    pub fn inventory(&self, numbers: Range<usize>) -> String {
        let endpoint = |number: usize| {
            let service = number / SERVICE;
            let peers = format!("service:s{service}, service:s{}", service + 1);
            let (own, interface) = (format!("s{service}"), format!("v{number}"));
            let (ingress, egress) = (format!("tcp/80 from {peers}"), format!("any to {peers}"));
            let labels = [
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", &own),
                ("dfw.ingress", &ingress),
                ("dfw.egress", &egress),
            ];
            entry(&format!("shop-{number}"), &interface, "shop", &labels)
        };
        numbers.map(endpoint).collect()
    }
}

fn batch(namespace: &Namespace, text: &str) {
    let scratch = Scratch::new();
    let file = scratch.file("batch", text);
    process::run(namespace.command("ip").arg("-batch").arg(file));
}
