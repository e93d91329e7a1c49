//! A bridge with plain namespaces behind it: endpoints without Docker, on both address families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Namespace;

/// A bridge in a host's namespace, with the gateway's addresses `10.77.N.1/24` and `fd77:N::1/64`.
#[derive(Debug)]
pub struct Bridge<'host> {
    host: &'host Namespace,
    name: String,
    subnet: u8,
    endpoints: u8,
}

/// A namespace behind a bridge.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it lives; its interface is `eth0`.
    pub netns: Namespace,
    /// Its veth on the host's side.
    pub veth: String,
    /// Its addresses.
    pub v4: Ipv4Addr,
    /// Its addresses.
    pub v6: Ipv6Addr,
}

impl<'host> Bridge<'host> {
    /// Makes one that routes; `subnet` is the N of its addresses.
    ///
    /// # Panics
    /// When the name is taken.
    #[track_caller]
    pub fn new(host: &'host Namespace, name: &str, subnet: u8) -> Self {
        host.run(&format!("ip link add {name} type bridge"));
        let bridge = Self {
            host,
            name: name.to_owned(),
            subnet,
            endpoints: 1,
        };
        let (v4, v6) = bridge.gateway();
        host.run(&format!("ip address add {v4}/24 dev {name}"));
        host.run(&format!("ip address add {v6}/64 dev {name} nodad"));
        host.run(&format!("ip link set {name} up"));
        host.sysctl("ipv4/ip_forward", "1");
        host.sysctl("ipv6/conf/all/forwarding", "1");
        bridge
    }

    /// The interface of the bridge.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's own addresses on it.
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.addresses(1)
    }

    /// Plugs in a namespace; its veth on the host's side is `veth-NAME`, of at most 15 bytes.
    ///
    /// # Panics
    /// When the name is taken or too long.
    #[track_caller]
    pub fn plug(&mut self, name: &str) -> Endpoint {
        self.endpoints += 1;
        let (v4, v6) = self.addresses(self.endpoints);
        let (gateway4, gateway6) = self.gateway();
        let veth = format!("veth-{name}");
        let netns = Namespace::new();
        self.host.veth(&veth, &netns, "eth0");
        self.host
            .run(&format!("ip link set {veth} master {}", self.name));
        netns.run(&format!("ip address add {v4}/24 dev eth0"));
        netns.run(&format!("ip address add {v6}/64 dev eth0 nodad"));
        netns.run(&format!("ip route add default via {gateway4}"));
        netns.run(&format!("ip route add default via {gateway6}"));
        Endpoint {
            netns,
            veth,
            v4,
            v6,
        }
    }

    fn addresses(&self, number: u8) -> (Ipv4Addr, Ipv6Addr) {
        let (subnet, host) = (u16::from(self.subnet), u16::from(number));
        (
            Ipv4Addr::new(10, 77, self.subnet, number),
            Ipv6Addr::new(0xfd77, subnet, 0, 0, 0, 0, 0, host),
        )
    }
}

impl Endpoint {
    /// Both its addresses with a port.
    pub fn at(&self, port: u16) -> [SocketAddr; 2] {
        [IpAddr::V4(self.v4), IpAddr::V6(self.v6)].map(|address| (address, port).into())
    }
}
