use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use dfw_common::{addr::Addr, key::proto, reason::Direction};
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{ask, wish};
use crate::{
    model::{Container, Endpoint, Inventory},
    policy::{
        Action, Compiler, Form, Held, Learned, Mode, Record, Rule, Seen, SeenPeer, Sighting,
        Subject, Times, Wish, check_labels, parse_rules,
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

/// Of which endpoint, to or from which address, on which port, and whether it took it.
type Pick = (Index, Index, Index, bool);

fn picks() -> impl Strategy<Value = Vec<Pick>> {
    vec(any::<Pick>(), 0..60)
}

/// What would have been seen, had each pick been a flow.
fn sightings(inventory: &Inventory, picks: Vec<Pick>) -> BTreeMap<Subject, Seen> {
    let oracle = Oracle(inventory);
    let mut records: BTreeMap<Subject, Seen> = BTreeMap::new();
    for (endpoint, address, flow, is_ingress) in picks {
        if inventory.endpoints.is_empty() {
            break;
        }
        let endpoint = endpoint.get(&inventory.endpoints);
        let address = ip(ADDRESSES[address.index(ADDRESSES.len())]);
        let direction = if is_ingress {
            Direction::Ingress
        } else {
            Direction::Egress
        };
        let peer = match oracle.class(endpoint.network, address) {
            Who::Endpoint(other) => SeenPeer::Subject(subject(&other.container)),
            Who::Host => SeenPeer::Host,
            Who::World => SeenPeer::World(address),
            Who::Group if !is_ingress => SeenPeer::Group(address),
            Who::Group | Who::Unknown => continue,
        };
        let (protocol, port) = *flow.get(&FLOWS);
        let seen = records.entry(subject(&endpoint.container)).or_default();
        let times = Times {
            flows: 1,
            first: 1,
            last: 1,
        };
        let sighting = Sighting {
            direction,
            peer,
            protocol,
            port,
        };
        seen.sightings.insert(sighting, times);
    }
    records
}

fn learned(records: &BTreeMap<Subject, Seen>) -> Learned {
    let record = |(subject, seen): (&Subject, &Seen)| Record {
        subject: subject.clone(),
        since: 0,
        seen: seen.clone(),
    };
    Learned {
        records: records.iter().map(record).collect(),
        ..Learned::default()
    }
}

/// Every packet that is asked about.
fn packets() -> impl Iterator<Item = (Direction, IpAddr, (u8, u16))> {
    Direction::ALL.into_iter().flat_map(|direction| {
        let addresses = ADDRESSES.into_iter().map(ip);
        addresses.flat_map(move |address| {
            FLOWS
                .into_iter()
                .map(move |flow| (direction, address, flow))
        })
    })
}

/// Whether such packets are sent: from an address of its own, in the protocol's family, and to neighbours by the addresses
/// that people write.
fn is_sent(
    oracle: &Oracle<'_>,
    own: &Endpoint,
    other: Who<'_>,
    address: IpAddr,
    protocol: u8,
) -> bool {
    let is_of_family = match protocol {
        proto::ICMP => address.is_ipv4(),
        proto::ICMP6 => address.is_ipv6(),
        _ => true,
    };
    let is_own = |own_address: &IpAddr| {
        let class = oracle.class(own.network, *own_address);
        own_address.is_ipv4() == address.is_ipv4()
            && !Addr::from(*own_address).is_link_local_v6()
            && matches!(class, Who::Endpoint(found) if found.ifindex == own.ifindex)
    };
    let is_neighbour = match other {
        Who::Endpoint(other) => {
            other.network == own.network && other.container.id != own.container.id
        }
        Who::Group | Who::Host | Who::Unknown | Who::World => true,
    };
    let is_dialled = !Addr::from(address).is_link_local_v6() && !address.is_loopback();
    is_of_family && is_neighbour && is_dialled && own.addresses.iter().any(is_own)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What was seen passes; what was not does not, but for ports of the world that were seen with more than so many addresses.
    #[test]
    fn exactly_what_was_seen(
        inventory in inventory(),
        picks in picks(),
        world_after in 0_usize..4,
    ) {
        let bare = relabelled(&inventory, |_| BTreeMap::new());
        let oracle = Oracle(&bare);
        let records = sightings(&bare, picks);
        let wish = Wish { world_after, ..wish() };
        prop_assume!(!bare.endpoints.is_empty());
        let answer = ask(bare.clone(), options(Mode::Audit), &learned(&records), &wish).expect("an answer");
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
            for (direction, address, flow) in packets() {
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

    /// With rules that are there: what stays says what it said, deny rules too, and what was seen is added to it.
    #[test]
    fn beside_what_stays(
        inventory in inventory(),
        picks in picks(),
        names in vec(any::<bool>(), 8),
        as_labels in any::<bool>(),
        world_after in 0_usize..4,
    ) {
        prop_assume!(!inventory.endpoints.is_empty());
        // All of a service have the labels of the first one; some under a name, which is not replaced.
        let there = |container: &Container| -> BTreeMap<String, String> {
            let mut all = inventory.endpoints.iter().map(|one| &one.container);
            let first = all.find(|one| subject(one) == subject(container));
            let labels = first.into_iter().flat_map(|one| &one.labels);
            let rules = labels.filter(|(key, _)| Direction::ALL.iter().any(|d| **key == format!("dfw.{}", d.name())));
            let named = rules.zip(names.iter().cycle()).map(|((key, value), is_named)| {
                let key = if *is_named { format!("{key}.own") } else { key.clone() };
                (key, value.clone())
            });
            named.chain([("dfw.mode".to_owned(), "audit".to_owned())]).collect()
        };
        let before = relabelled(&inventory, there);
        let records = sightings(&before, picks);
        let form = if as_labels { Form::Labels } else { Form::Policy };
        let wish = Wish { world_after, form, ..wish() };
        let answer = ask(before.clone(), options(Mode::Audit), &learned(&records), &wish).expect("an answer");
        let applied = relabelled(&before, |container| {
            let own = answer.suggestions.iter().find(|one| one.subject == subject(container));
            let lines = own.into_iter().flat_map(|one| &one.lines);
            let lines = lines.map(|line| (line.label.clone(), line.value.clone()));
            there(container).into_iter().chain(lines).collect()
        });
        let compiled = Compiler::new(1, Held::default()).compile(&applied, &options(Mode::Audit));
        let (kernel, oracle) = (Kernel(&compiled), Oracle(&before));
        let nothing = Seen::default();
        for endpoint in &applied.endpoints {
            let own = &endpoint.container;
            let policy = compiled.endpoints[&endpoint.ifindex].policy;
            let seen = records.get(&subject(own)).unwrap_or(&nothing);
            let labels = there(own);
            for (direction, address, flow) in packets() {
                let key = format!("dfw.{}", direction.name());
                let rules = |key: &str| -> Vec<Rule> {
                    let text = labels.get(key).map(String::as_str).unwrap_or_default();
                    parse_rules(direction, text).expect("right rules")
                };
                let mut stay = rules(&format!("{key}.own"));
                stay.extend(rules(&key).into_iter().filter(|rule| !as_labels || rule.action == Action::Deny));
                let who = oracle.class(endpoint.network, address);
                let stays = oracle.judge(own, &stay, who, address, flow);
                let class = kernel.class(endpoint.network, address);
                let allowed = kernel.judge(policy, direction, class, flow).allowed;
                let same_port = || seen.sightings.keys().filter(move |s| s.direction == direction && (s.protocol, s.port) == flow);
                let world = same_port().filter(|s| matches!(s.peer, SeenPeer::World(_))).count();
                let is_seen = |may_widen: bool| (flow.1 != 0 || flow.0 != 6) && same_port().any(|s| match (&s.peer, who) {
                    (_, Who::Unknown) => false,
                    (SeenPeer::Subject(other), Who::Endpoint(endpoint)) => *other == subject(&endpoint.container),
                    (SeenPeer::Host, Who::Host) => true,
                    (SeenPeer::World(_), Who::World) if may_widen && world > world_after => true,
                    // As `world` it is not who has that address elsewhere.
                    (SeenPeer::World(seen), who) => *seen == address && (may_widen || matches!(who, Who::World) || world <= world_after),
                    (SeenPeer::Group(seen), _) => *seen == address,
                    (SeenPeer::Subject(_) | SeenPeer::Host, _) => false,
                });
                let at = format!("{:?} {} {} {:?} {:?} {:?}", direction, own.name, address, flow, who, own.labels);
                if allowed {
                    prop_assert!(stays.allowed || !stays.decided && is_seen(true), "opened: {}", at);
                } else {
                    prop_assert!(!stays.allowed, "closed: {}", at);
                    prop_assert!(stays.decided || !is_seen(false) || !is_sent(&oracle, endpoint, who, address, flow.0), "seen, and denied: {}", at);
                }
            }
        }
    }
}
