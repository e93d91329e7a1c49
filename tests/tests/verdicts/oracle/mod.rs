//! A second reading of docs/semantics.md, which shares no code with dfw-common: what must become of a frame. Simple
//! rather than quick; addresses, rules and flows lie in plain lists.

mod class;
mod flow;
mod guard;
mod link;
mod read;
mod uplink;

use std::{collections::HashMap, net::IpAddr};

use flow::{Entry, Key};

/// Section 1: who is governed, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Off,
    Audit,
    Enforce,
}

/// What a side counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    Audit,
}

/// Reasons by their names in section 14. More than one where the page leaves open which of several faults is told.
pub(crate) type Reasons = Vec<&'static str>;

/// One side's count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Count {
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Reasons,
}

/// What must become of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) passes: bool,
    /// What the hook's endpoint (or the bridge) counts.
    pub(crate) own: Option<Count>,
    /// Whose ingress side denied it at the sender's hook, and why.
    pub(crate) peer: Option<(u32, Reasons)>,
    /// Section 12: who gets it past the bridge, and counts it.
    pub(crate) past: Option<(u32, Count)>,
}

/// Where a frame is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spot {
    /// The S-hook of the port with this ifindex.
    Sends(u32),
    /// The R-hook of a port, come by the interface `ingress`; 0 is the host.
    Receives { ifindex: u32, ingress: u32 },
    /// The bridge device, towards the host.
    Up(u32),
    /// The bridge device, from the host.
    Down(u32),
}

/// A managed port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) ifindex: u32,
    /// ifindex of its bridge.
    pub(crate) network: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mode: Mode,
    /// As every network sees them.
    pub(crate) addresses: Vec<IpAddr>,
    /// As its own network sees it.
    pub(crate) link_local: IpAddr,
    /// Nobody but dfw has a say in its packets on the bridge.
    pub(crate) is_open: bool,
}

/// Whom a rule speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Endpoint(u32),
    Host,
    World,
    /// Multicast and broadcast.
    Groups,
    /// An address and how many bits of it count.
    Cidr(IpAddr, u8),
}

/// `allow` or `deny` of one protocol and port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) owner: u32,
    pub(crate) is_ingress: bool,
    pub(crate) peer: Peer,
    pub(crate) protocol: u8,
    /// ICMP: the type; 0 where the protocol has none.
    pub(crate) port: u16,
    pub(crate) allows: bool,
}

/// What a node is told.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) ports: Vec<Port>,
    /// Addresses of the host; with the network where it is only seen on one.
    pub(crate) host: Vec<(Option<u32>, IpAddr)>,
    /// Managed subnets: network, address, bits.
    pub(crate) subnets: Vec<(u32, IpAddr, u8)>,
    /// Broadcast addresses of them.
    pub(crate) broadcasts: Vec<(u32, IpAddr)>,
    pub(crate) rules: Vec<Rule>,
    /// `--unlabelled enforce`.
    pub(crate) enforces: bool,
    /// Whether TCP connections that are older than dfw are taken in.
    pub(crate) adopts: bool,
}

/// A node, and what it remembers of packets.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    known: Known,
    /// Counts changes: what was judged before the last one is judged again.
    epoch: u64,
    /// Milliseconds.
    now: u64,
    flows: HashMap<Key, Entry>,
}

impl Answer {
    /// Goes on, and nobody counts it.
    fn silent() -> Self {
        Self {
            passes: true,
            own: None,
            peer: None,
            past: None,
        }
    }

    fn counted(verdict: Verdict, reasons: Reasons) -> Self {
        Self {
            passes: verdict != Verdict::Deny,
            own: Some(Count { verdict, reasons }),
            peer: None,
            past: None,
        }
    }

    fn denied(reason: &'static str) -> Self {
        Self::counted(Verdict::Deny, vec![reason])
    }
}

impl Node {
    /// A node that has seen nothing yet.
    pub(crate) fn new(known: Known) -> Self {
        Self {
            known,
            epoch: 0,
            now: 0,
            flows: HashMap::new(),
        }
    }

    /// It is told something else.
    pub(crate) fn tell(&mut self, known: Known) {
        self.known = known;
        self.epoch += 1;
    }

    /// Nothing happens for so many milliseconds.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now += milliseconds;
    }

    /// As if no packet had ever been seen.
    pub(crate) fn forget(&mut self) {
        self.flows.clear();
    }

    /// What must become of a frame.
    pub(crate) fn judge(&mut self, spot: Spot, frame: &[u8]) -> Answer {
        match spot {
            Spot::Up(network) => self.backstop(network, true, frame),
            Spot::Down(network) => self.backstop(network, false, frame),
            Spot::Sends(ifindex) | Spot::Receives { ifindex, .. } => {
                match self.port(ifindex).cloned() {
                    // Section 9.
                    None => Answer::denied("not-ready"),
                    Some(me) => self.at_port(&me, spot, frame),
                }
            }
        }
    }

    fn port(&self, ifindex: u32) -> Option<&Port> {
        self.known.ports.iter().find(|port| port.ifindex == ifindex)
    }

    /// Section 10: managed endpoint or drop, by address alone.
    fn backstop(&self, network: u32, is_up: bool, frame: &[u8]) -> Answer {
        if !self.known.enforces {
            return Answer::silent();
        }
        let (addresses, faults) = match read::frame(frame) {
            Ok(frame) => (Some(frame.addresses()), Vec::new()),
            Err(broken) => (broken.addresses, broken.faults),
        };
        let address = addresses.map(|(source, destination)| match is_up {
            true => source,
            false => destination,
        });
        let Some(address) = address else {
            return Answer::counted(Verdict::Deny, faults);
        };
        if address.is_unspecified() {
            return match (faults.is_empty(), is_up) {
                (true, true) => Answer::silent(),
                (true, false) => Answer::denied("unmanaged"),
                (false, _) => Answer::counted(Verdict::Deny, faults),
            };
        }
        let passes = match self.class(network, address) {
            class::Class::Endpoint(ifindex) => self
                .port(ifindex)
                .is_some_and(|port| port.network == network),
            class::Class::Group => !is_up,
            class::Class::Host | class::Class::Unknown | class::Class::World => false,
        };
        match passes {
            true => Answer::silent(),
            false => Answer::denied("unmanaged"),
        }
    }
}
