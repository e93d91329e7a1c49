//! The rules of one direction.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use dfw_common::reason::Direction;

use super::{
    Evidence, Wish,
    ports::{self, Port},
    who::Who,
    world::{World, nets},
};
use crate::policy::{
    rule::{Action, Peer, Ports, Rule},
    seen::{SeenPeer, Sighting, Subject, Times},
};

/// Ports of one other end, and how often they were seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) ports: BTreeSet<Port>,
    pub(super) times: Option<Times>,
}

/// A rule to be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) rule: Rule,
    pub(super) times: Option<Times>,
    pub(super) widened: usize,
}

/// Rules of one direction, in the order in which people read them.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) drafts: Vec<Draft>,
    /// Sightings that no rule can name.
    pub(super) nameless: usize,
}

impl Share {
    pub(super) fn add(&mut self, port: Port, times: Times) {
        self.ports.insert(port);
        self.times = joined(self.times, Some(times));
    }

    fn join(&mut self, other: Self) {
        self.ports.extend(other.ports);
        self.times = joined(self.times, other.times);
    }

    /// Those with the same ports, whose times these now are too.
    fn among(self, alike: &mut BTreeMap<BTreeSet<Port>, Alike>) -> &mut Alike {
        let one = alike.entry(self.ports).or_default();
        one.times = joined(one.times, self.times);
        one
    }
}

impl Draft {
    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            rule: self.rule.to_string(),
            times: self.times,
            widened: self.widened,
        }
    }
}

/// Both together.
fn joined(a: Option<Times>, b: Option<Times>) -> Option<Times> {
    let (Some(one), Some(other)) = (a, b) else {
        return a.or(b);
    };
    Some(Times {
        flows: one.flows.saturating_add(other.flows),
        first: one.first.min(other.first),
        last: one.last.max(other.last),
    })
}

/// The other ends that have the same ports.
#[derive(Default)]
struct Alike {
    subjects: BTreeSet<Subject>,
    /// Of the world and of groups.
    addresses: BTreeSet<IpAddr>,
    host: bool,
    everybody: bool,
    times: Option<Times>,
}

pub(super) fn draft<'a>(
    who: &Who<'_>,
    own: &Subject,
    direction: Direction,
    sightings: impl Iterator<Item = (&'a Sighting, &'a Times)>,
    wish: &Wish,
) -> Drafts {
    let mut subjects: BTreeMap<&Subject, Share> = BTreeMap::new();
    let mut single: BTreeMap<IpAddr, Share> = BTreeMap::new();
    let (mut host, mut world) = (Share::default(), World::default());
    let mut nameless = 0;
    for (sighting, times) in sightings {
        let port = (sighting.protocol, sighting.port);
        if !ports::is_writable(port) {
            nameless += 1;
            continue;
        }
        match &sighting.peer {
            SeenPeer::Subject(subject) => {
                if who.is_nameable(subject) {
                    subjects.entry(subject).or_default().add(port, *times);
                } else {
                    nameless += 1;
                }
            }
            SeenPeer::Host => host.add(port, *times),
            SeenPeer::World(address) => world.add(port, *address, *times),
            SeenPeer::Group(address) => single.entry(*address).or_default().add(port, *times),
        }
    }
    let summary = world.sum_up(wish.world_after);
    for (address, share) in summary.single {
        single.entry(address).or_default().join(share);
    }

    let mut alike: BTreeMap<BTreeSet<Port>, Alike> = BTreeMap::new();
    for (subject, share) in subjects {
        share.among(&mut alike).subjects.insert(subject.clone());
    }
    for (address, share) in single {
        share.among(&mut alike).addresses.insert(address);
    }
    if !host.ports.is_empty() {
        host.among(&mut alike).host = true;
    }
    if !summary.everybody.ports.is_empty() {
        summary.everybody.among(&mut alike).everybody = true;
    }

    let mut drafts: Vec<Draft> = alike
        .into_iter()
        .map(|(ports, one)| one.draft(who, own, direction, &ports, wish, summary.widened))
        .collect();
    drafts.sort_by_cached_key(|draft| (rank(&draft.rule), draft.rule.to_string()));
    Drafts { drafts, nameless }
}

/// Containers come first, then the host, addresses, and the world.
fn rank(rule: &Rule) -> usize {
    match rule.peers.first() {
        Some(Peer::Host) => 1,
        Some(Peer::Cidr(_)) => 2,
        Some(Peer::World | Peer::Any) | None => 3,
        Some(
            Peer::Service { .. }
            | Peer::Project(_)
            | Peer::Group(_)
            | Peer::Container(_)
            | Peer::Net(_)
            | Peer::Label { .. },
        ) => 0,
    }
}

impl Alike {
    fn draft(
        self,
        who: &Who<'_>,
        own: &Subject,
        direction: Direction,
        ports: &BTreeSet<Port>,
        wish: &Wish,
        widened: usize,
    ) -> Draft {
        let mut peers = who.peers(own, self.subjects, wish.form);
        peers.extend(self.host.then_some(Peer::Host));
        peers.extend(nets(self.addresses).into_iter().map(Peer::Cidr));
        peers.extend(self.everybody.then_some(Peer::World));
        let rule = Rule {
            direction,
            action: Action::Allow,
            ports: Ports::Items(ports::items(ports)),
            peers,
            log: false,
        };
        Draft {
            rule,
            times: self.times,
            widened: if self.everybody { widened } else { 0 },
        }
    }
}
