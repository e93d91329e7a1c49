//! The kernel's maps and the oracle's node, with the same contents.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{Array, HashMap};
use dfw_agent::policy::Blocks;
use dfw_common::{
    decide::Hook,
    key::{ANY_NETWORK, AddressKey, PolicyKey},
    maps,
    plain::Tables,
    reason::{Direction, Verdict},
    value::{Endpoint, PolicyEntry, Settings, mode},
};

use crate::{
    corpus::Random,
    kernel::Kernel,
    oracle::{self, Answer, Known, Mode, Node, Peer, Port, Spot},
    scenario::{self, BRIDGE, ENDPOINTS, Family, OTHER_BRIDGE, RULES, Rule, Who},
    table::{At, Fate, Seen},
};

/// Flows that an endpoint may own: more than it opens in an episode, for the oracle knows no quota.
const QUOTA: u32 = 1024;
/// Room for everybody's.
pub(super) const FLOWS: u32 = 8192;
/// Jiffies a second: so many that what an episode really takes is nothing.
const HZ: u32 = 100_000;
/// How long the window for older connections is, in jiffies: longer than an episode.
const WINDOW: u32 = 1 << 30;

pub(super) struct Twin<'k> {
    pub(super) kernel: &'k mut Kernel,
    pub(super) node: Node,
    tables: Tables,
    rules: Vec<Rule>,
    is_changed: bool,
}

fn tables() -> Tables {
    let mut tables = scenario::tables(HZ);
    for (number, endpoint) in (0..).zip(tables.endpoints.values_mut()) {
        endpoint.ring_base = number * QUOTA;
        endpoint.ring_mask = QUOTA - 1;
        endpoint.redirects = 1;
    }
    for family in Family::ALL {
        let addressed = |ip: IpAddr| AddressKey {
            network: ANY_NETWORK,
            addr: ip.into(),
        };
        let gateway = tables.addresses[&addressed(Who::Host.ip(family))];
        let own = addressed(outside(family));
        tables.addresses.insert(own, gateway);
    }
    tables
}

/// The host's address where the world is.
pub(super) fn outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(192, 0, 2, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    }
}

impl<'k> Twin<'k> {
    pub(super) fn new(kernel: &'k mut Kernel) -> Self {
        let tables = tables();
        kernel.write(&tables);
        Self {
            kernel,
            node: Node::new(known(&tables, &RULES)),
            tables,
            rules: RULES.to_vec(),
            is_changed: false,
        }
    }

    /// As at first.
    pub(super) fn reset(&mut self) {
        if self.is_changed {
            self.is_changed = false;
            self.write(tables(), RULES.to_vec());
        }
        self.kernel.forget(&self.tables);
        self.node.forget();
    }

    /// Something changes, as the agent would write it: entries first, the epoch last.
    pub(super) fn change(&mut self, random: &mut Random) {
        let mut tables = self.tables.clone();
        let mut rules = self.rules.clone();
        match random.below(9) {
            0..=2 => {
                let who = random.of(&ENDPOINTS).ifindex();
                let mode = *random.of(&[mode::OFF, mode::AUDIT, mode::ENFORCE]);
                let endpoint = tables.endpoints.get_mut(&who);
                endpoint.expect("the endpoint is there").mode = mode;
            }
            // What is said of the world is said of its denied part too, and must stay so.
            3..=5 => {
                let rule = *random.of(&RULES);
                if !matches!(rule.2, Who::World | Who::Denied) {
                    let is_it = |held: &Rule| {
                        (held.0, held.1, held.2, held.3, held.4)
                            == (rule.0, rule.1, rule.2, rule.3, rule.4)
                    };
                    rules.retain(|held| !is_it(held));
                    let says = random.below(3);
                    if says > 0 {
                        let verdict = [PolicyEntry::DENY, PolicyEntry::ALLOW][says - 1];
                        rules.push((rule.0, rule.1, rule.2, rule.3, rule.4, verdict));
                    }
                }
            }
            6 => tables.settings.enforcing ^= 1,
            7 => {
                let who = random.of(&ENDPOINTS).ifindex();
                let endpoint = tables.endpoints.get_mut(&who);
                endpoint.expect("the endpoint is there").redirects ^= 1;
            }
            _ => {
                let settings = &mut tables.settings;
                settings.adopt_until = match settings.adopt_until {
                    0 => self.kernel.now().wrapping_add(WINDOW).max(1),
                    _ => 0,
                };
            }
        }
        tables.policy = scenario::policy(&rules);
        self.write(tables, rules);
        self.is_changed = true;
    }

    fn write(&mut self, mut tables: Tables, rules: Vec<Rule>) {
        tables.settings.epoch = self.tables.settings.epoch.wrapping_add(1).max(1);
        let mut policy: HashMap<_, PolicyKey, PolicyEntry> = self.kernel.map(maps::POLICY);
        for (key, entry) in &tables.policy {
            if self.tables.policy.get(key) != Some(entry) {
                policy.insert(key, entry, 0).expect("the map has room");
            }
        }
        for key in self.tables.policy.keys() {
            if !tables.policy.contains_key(key) {
                policy.remove(key).expect("the entry is there");
            }
        }
        let mut endpoints: Array<_, Endpoint> = self.kernel.map(maps::ENDPOINTS);
        for (ifindex, endpoint) in &tables.endpoints {
            if self.tables.endpoints.get(ifindex) != Some(endpoint) {
                let slot = maps::endpoint_slot(*ifindex, 0);
                endpoints.set(slot, endpoint, 0).expect("a slot");
            }
        }
        let mut settings: Array<_, Settings> = self.kernel.map(maps::SETTINGS);
        settings.set(0, tables.settings, 0).expect("settings");
        self.node.tell(known(&tables, &rules));
        (self.tables, self.rules) = (tables, rules);
    }

    /// Puts a deny list in force, and the subnets.
    pub(super) fn list(&mut self, denied: &Blocks, subnets: &Blocks) {
        let (of_denied, of_subnets) = (1, 2);
        self.tables.uplink.denied = denied.list(of_denied);
        self.tables.uplink.subnets = subnets.list(of_subnets);
        let blocks = denied.numbered(of_denied);
        self.tables.blocks = blocks.chain(subnets.numbered(of_subnets)).collect();
        self.kernel.write(&self.tables);
    }

    /// Nothing happens for so many milliseconds.
    pub(super) fn wait(&mut self, milliseconds: u32) {
        self.node.wait(milliseconds.into());
        let jiffies = milliseconds * (HZ / 1000);
        self.kernel.change_flows(|_, entry| {
            entry.flow.seen = entry.flow.seen.wrapping_sub(jiffies);
        });
    }
}

/// What the scenario is to the oracle.
fn known(tables: &Tables, rules: &[Rule]) -> Known {
    let port = |who: &Who| {
        let endpoint = tables.endpoints.get(&who.ifindex());
        Port {
            ifindex: who.ifindex(),
            network: who.network(),
            mac: who.mac(),
            mode: match endpoint.expect("the endpoint is there").mode {
                mode::OFF => Mode::Off,
                mode::AUDIT => Mode::Audit,
                _ => Mode::Enforce,
            },
            addresses: Family::ALL.map(|family| who.ip(family)).to_vec(),
            link_local: who.link_local().into(),
            is_open: endpoint.expect("the endpoint is there").redirects != 0,
        }
    };
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    Known {
        ports: ENDPOINTS.iter().map(port).collect(),
        host: vec![
            (None, Who::Host.ip(Family::V4)),
            (None, Who::Host.ip(Family::V6)),
            (None, outside(Family::V4)),
            (None, outside(Family::V6)),
            (Some(BRIDGE), Who::Host.link_local().into()),
        ],
        subnets: vec![
            (BRIDGE, ip("10.1.0.0"), 24),
            (BRIDGE, ip("fd01::"), 64),
            (OTHER_BRIDGE, ip("10.2.0.0"), 24),
            (OTHER_BRIDGE, ip("fd02::"), 64),
        ],
        broadcasts: vec![(BRIDGE, ip("10.1.0.255")), (OTHER_BRIDGE, ip("10.2.0.255"))],
        rules: rules.iter().flat_map(spoken).collect(),
        enforces: tables.settings.enforcing != 0,
        adopts: tables.settings.adopt_until != 0,
    }
}

/// A rule of the scenario, as the oracle has it.
fn spoken((owner, side, peer, protocol, port, verdict): &Rule) -> Vec<oracle::Rule> {
    let cidr = |text: &str, bits| Peer::Cidr(text.parse().expect("an address"), bits);
    let peers = match peer {
        Who::A | Who::B | Who::C | Who::D | Who::E => vec![Peer::Endpoint(peer.ifindex())],
        Who::Host => vec![Peer::Host],
        Who::World => vec![Peer::World],
        Who::Group => vec![Peer::Groups],
        Who::Denied => vec![cidr("198.51.100.0", 24), cidr("2001:db8:bad::", 48)],
        Who::Nobody => vec![],
    };
    let rule = |peer| oracle::Rule {
        owner: owner.ifindex(),
        is_ingress: *side == Direction::Ingress,
        peer,
        protocol: *protocol,
        port: *port,
        allows: *verdict == PolicyEntry::ALLOW,
    };
    peers.into_iter().map(rule).collect()
}

/// Where the oracle sees a frame.
pub(super) fn spot(at: At) -> Spot {
    match at {
        At::Bridge(Hook::From) => Spot::Up(BRIDGE),
        At::Bridge(Hook::To) => Spot::Down(BRIDGE),
        At::Uplink => panic!("uplinks have a campaign of their own"),
        At::Endpoint(place) => match place.hook {
            Hook::From => Spot::Sends(place.ifindex),
            Hook::To => Spot::Receives {
                ifindex: place.ifindex,
                ingress: place.ingress,
            },
        },
    }
}

/// The side that is counted at a hook.
pub(super) fn direction(spot: Spot) -> (u32, Direction) {
    match spot {
        Spot::Up(_) => (0, Direction::Egress),
        Spot::Down(_) => (0, Direction::Ingress),
        Spot::Sends(ifindex) => (ifindex, Direction::Egress),
        Spot::Receives { ifindex, .. } => (ifindex, Direction::Ingress),
    }
}

pub(super) fn is_endpoint(ifindex: u32) -> bool {
    ENDPOINTS.iter().any(|who| who.ifindex() == ifindex)
}

fn verdict(verdict: oracle::Verdict) -> Verdict {
    match verdict {
        oracle::Verdict::Allow => Verdict::Allow,
        oracle::Verdict::Deny => Verdict::Deny,
        oracle::Verdict::Audit => Verdict::Audit,
    }
}

/// Where a frame goes by an answer.
pub(super) fn fate(answer: &Answer) -> Fate {
    match (answer.passes, &answer.past) {
        (false, _) => Fate::Dropped,
        (true, None) => Fate::Passed,
        (true, Some(_)) => Fate::Redirected,
    }
}

/// Who counts what for an answer.
pub(super) fn counts(spot: Spot, answer: &Answer) -> Vec<(u32, Verdict, Direction)> {
    let (ifindex, of) = direction(spot);
    let own = answer
        .own
        .iter()
        .map(|own| (ifindex, verdict(own.verdict), of));
    let peer = answer.peer.iter();
    let peer = peer.map(|(ifindex, _)| (*ifindex, Verdict::Deny, Direction::Ingress));
    let past = answer.past.iter();
    let past = past.map(|(ifindex, past)| (*ifindex, verdict(past.verdict), Direction::Ingress));
    own.chain(peer).chain(past).collect()
}

/// Whether the kernel counted a frame with a reason that the oracle takes.
pub(super) fn tells(seen: &Seen, spot: Spot, answer: &Answer) -> bool {
    let (_, of) = direction(spot);
    let own = answer.own.iter();
    let own = own.map(|own| (of, verdict(own.verdict), &own.reasons));
    let peer = answer.peer.iter();
    let peer = peer.map(|(_, reasons)| (Direction::Ingress, Verdict::Deny, reasons));
    let past = answer.past.iter();
    let past = past.map(|(_, past)| (Direction::Ingress, verdict(past.verdict), &past.reasons));
    let expected: Vec<_> = own.chain(peer).chain(past).collect();
    let all: u64 = seen.reasons.values().sum();
    all == expected.len() as u64
        && expected.iter().all(|(of, verdict, reasons)| {
            let mut seen = seen.reasons.keys();
            seen.any(|(side, found, why)| {
                side == of && found == verdict && reasons.contains(&why.name())
            })
        })
}
