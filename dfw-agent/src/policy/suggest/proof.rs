//! Sightings sent as packets through what other labels would be compiled to, were everybody to enforce.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use dfw_common::{addr::Addr, reason::Direction};

use super::{ports, who::Who};
use crate::{
    model::Container,
    policy::{
        explain::{self, End, InForce, Side, trial::Kernel},
        mode::Mode,
        rule::{Item, PortRange, Protocol, preposition},
        seen::{Record, SeenPeer, Sighting, Subject},
        select::Select,
        stance::Override,
    },
};

/// Denials that one note names.
const NAMED: usize = 3;

pub(super) struct Proof {
    node: InForce,
    kernel: Kernel,
    /// The addresses of the host that containers dial, or are dialled from.
    host: BTreeSet<IpAddr>,
}

impl Proof {
    /// With other labels where `labels` gives some.
    pub(super) fn new(
        node: &InForce,
        labels: impl Fn(&Container) -> Option<BTreeMap<String, String>>,
    ) -> Self {
        let relabelled = |container: &Arc<Container>| match labels(container) {
            Some(labels) => Arc::new(Container {
                labels,
                ..Container::clone(container)
            }),
            None => Arc::clone(container),
        };
        let mut inventory = (*node.inventory).clone();
        for container in &mut inventory.containers {
            *container = relabelled(container);
        }
        for endpoint in &mut inventory.endpoints {
            endpoint.container = relabelled(&endpoint.container);
        }
        let mut options = node.options.clone();
        options.overrides.push(Override {
            select: Select::everybody(),
            mode: Mode::Enforce,
        });
        let host = inventory.host_addresses.iter().map(|one| one.net.addr());
        let host = host.filter(|one| !one.is_loopback() && !Addr::from(*one).is_link_local_v6());
        let host = host.collect();
        let node = InForce::planned(inventory, options);
        let kernel = Kernel::new(&node.compiled);
        Self { node, kernel, host }
    }

    /// Whether its own side lets each packet of a sighting pass; not where there is none to be sent.
    pub(super) fn allows(&mut self, who: &Who<'_>, subject: &Subject, sighting: &Sighting) -> bool {
        let sides = self.sides(who, subject, sighting);
        !sides.is_empty() && sides.iter().all(|side| side.verdict == "allow")
    }

    /// What it saw and would be denied, in words.
    pub(super) fn broken(&mut self, who: &Who<'_>, record: &Record) -> Option<String> {
        let mut denied = Vec::new();
        for sighting in record.seen.sightings.keys() {
            let sides = self.sides(who, &record.subject, sighting);
            let side = sides.into_iter().find(|side| side.verdict != "allow");
            if let Some((side, item)) = side.zip(item(sighting)) {
                let (word, peer) = (preposition(sighting.direction), named(&sighting.peer));
                let why = side.rule.map_or(side.reason, |rule| rule.to_string());
                denied.push(format!("{item} {word} {peer}, by {why}"));
            }
        }
        let more = denied.len().saturating_sub(NAMED);
        denied.truncate(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        (!denied.is_empty()).then(|| {
            format!(
                "denied all the same, though it was seen: {}{more}",
                denied.join(", ")
            )
        })
    }

    fn sides(&mut self, who: &Who<'_>, subject: &Subject, sighting: &Sighting) -> Vec<Side> {
        let Some(item) = item(sighting) else {
            return Vec::new();
        };
        let others = match &sighting.peer {
            SeenPeer::Subject(other) => vec![End::Endpoints(who.endpoints(other).to_vec(), None)],
            // Nobody knows which of its addresses it was.
            SeenPeer::Host => self.host.iter().copied().map(End::Address).collect(),
            SeenPeer::World(address) | SeenPeer::Group(address) => vec![End::Address(*address)],
        };
        let mut sides = Vec::new();
        for other in others {
            let own = End::Endpoints(who.endpoints(subject).to_vec(), None);
            let (from, to) = match sighting.direction {
                Direction::Egress => (own, other),
                Direction::Ingress => (other, own),
            };
            sides.extend(explain::sides(
                &self.node,
                &mut self.kernel,
                &from,
                &to,
                &item,
                sighting.direction,
            ));
        }
        sides
    }
}

/// As a rule would say it; none where none could.
fn item(sighting: &Sighting) -> Option<Item> {
    let Sighting { protocol, port, .. } = *sighting;
    ports::is_writable((protocol, port)).then(|| {
        let protocol = Protocol(protocol);
        let range = protocol.port_limits().map(|_| PortRange {
            low: port,
            high: port,
        });
        Item { protocol, range }
    })
}

fn named(peer: &SeenPeer) -> String {
    match peer {
        SeenPeer::Subject(Subject::Service { project, service }) => format!("{project}/{service}"),
        SeenPeer::Subject(Subject::Container(name)) => name.clone(),
        SeenPeer::Host => "host".to_owned(),
        SeenPeer::World(address) | SeenPeer::Group(address) => address.to_string(),
    }
}
