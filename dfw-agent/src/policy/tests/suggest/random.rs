use std::{collections::BTreeMap, sync::Arc};

use dfw_common::reason::Direction;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{ask, wish};
use crate::{
    model::{Container, Inventory},
    policy::{
        Compiler, Held, Learned, Mode, Record, Seen, SeenPeer, Sighting, Subject, Times, Wish,
        check_labels,
        tests::{
            kernel::Kernel,
            node::{ip, options},
            oracle::{Oracle, Who},
            random::{ADDRESSES, FLOWS, inventory},
        },
    },
};

/// The same with other labels; only `dfw.group` stays of dfw's own.
fn relabelled(
    inventory: &Inventory,
    labels: impl Fn(&Container) -> BTreeMap<String, String>,
) -> Inventory {
    let mut inventory = inventory.clone();
    let all = inventory
        .containers
        .iter_mut()
        .chain(inventory.endpoints.iter_mut().map(|e| &mut e.container));
    for container in all {
        let container = Arc::make_mut(container);
        container
            .labels
            .retain(|key, _| !key.starts_with("dfw.") || key == "dfw.group");
        let more = labels(container);
        container.labels.extend(more);
    }
    inventory
}

fn subject(container: &Container) -> Subject {
    Subject::of(container.project(), container.service(), &container.name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What was seen passes; what was not does not, but for ports of the world that were seen with more than so many addresses.
    #[test]
    fn exactly_what_was_seen(
        inventory in inventory(),
        picks in vec((any::<Index>(), any::<Index>(), any::<Index>(), any::<bool>()), 0..60),
        world_after in 0_usize..4,
    ) {
        let bare = relabelled(&inventory, |_| BTreeMap::new());
        let oracle = Oracle(&bare);
        let mut records: BTreeMap<Subject, Seen> = BTreeMap::new();
        for (endpoint, address, flow, is_ingress) in picks {
            if bare.endpoints.is_empty() {
                break;
            }
            let (endpoint, address) = (endpoint.get(&bare.endpoints), ip(ADDRESSES[address.index(ADDRESSES.len())]));
            let direction = if is_ingress { Direction::Ingress } else { Direction::Egress };
            let peer = match oracle.class(endpoint.network, address) {
                Who::Endpoint(other) => SeenPeer::Subject(subject(&other.container)),
                Who::Host => SeenPeer::Host,
                Who::World => SeenPeer::World(address),
                Who::Group if !is_ingress => SeenPeer::Group(address),
                Who::Group | Who::Unknown => continue,
            };
            let (protocol, port) = *flow.get(&FLOWS);
            let seen = records.entry(subject(&endpoint.container)).or_default();
            let times = Times { flows: 1, first: 1, last: 1 };
            seen.sightings.insert(Sighting { direction, peer, protocol, port }, times);
        }
        let learned = Learned {
            records: records.iter().map(|(subject, seen)| Record { subject: subject.clone(), since: 0, seen: seen.clone() }).collect(),
            ..Learned::default()
        };
        let wish = Wish { world_after, ..wish() };
        prop_assume!(!bare.endpoints.is_empty());
        let answer = ask(bare.clone(), options(Mode::Audit), &learned, &wish).expect("an answer");
        let applied = relabelled(&bare, |container| {
            let own = answer.suggestions.iter().find(|one| one.subject == subject(container));
            let lines = own.into_iter().flat_map(|one| &one.lines);
            lines.map(|line| (line.label.clone(), line.value.clone())).collect()
        });
        for container in &applied.containers {
            let errors = check_labels(&container.labels, None, "dfw.");
            prop_assert!(errors.iter().all(|one| one.level != crate::model::Level::Error), "{:?}", errors);
        }
        let compiled = Compiler::new(1, Held::default()).compile(&applied, &options(Mode::Audit));
        let kernel = Kernel(&compiled);
        let nothing = Seen::default();
        for endpoint in &applied.endpoints {
            let one = &compiled.endpoints[&endpoint.ifindex];
            prop_assert_eq!(one.mode, Mode::Enforce);
            let seen = records.get(&subject(&endpoint.container)).unwrap_or(&nothing);
            for (direction, address, flow) in Direction::ALL.into_iter().flat_map(|d| {
                ADDRESSES.into_iter().flat_map(move |a| FLOWS.into_iter().map(move |f| (d, ip(a), f)))
            }) {
                let class = kernel.class(endpoint.network, address);
                let allowed = kernel.judge(one.policy, direction, class, flow).allowed;
                let who = oracle.class(endpoint.network, address);
                let same_port = || seen.sightings.keys().filter(move |s| s.direction == direction && (s.protocol, s.port) == flow);
                let world = same_port().filter(|s| matches!(s.peer, SeenPeer::World(_))).count();
                let is_widened = world > world_after;
                let expected = (flow.1 != 0 || flow.0 != 6) && same_port().any(|s| match (&s.peer, who) {
                    (_, Who::Unknown) => false,
                    (SeenPeer::Subject(other), Who::Endpoint(endpoint)) => *other == subject(&endpoint.container),
                    (SeenPeer::Host, Who::Host) => true,
                    (SeenPeer::World(_), Who::World) if is_widened => true,
                    // By address, whoever has it on this network.
                    (SeenPeer::World(seen), _) => *seen == address && !is_widened,
                    (SeenPeer::Group(seen), _) => *seen == address,
                    (SeenPeer::Subject(_) | SeenPeer::Host, _) => false,
                });
                prop_assert_eq!(allowed, expected, "{:?} {} {} {:?} {:?} {:?}", direction, endpoint.container.name, address, flow, who, endpoint.container.labels);
            }
        }
    }
}
