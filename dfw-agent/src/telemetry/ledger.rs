//! Packets by service. The kernel counts by endpoint and forgets an endpoint that is gone; the sums here outlive it and
//! never go back.

use std::collections::{BTreeMap, HashMap};

use dfw_common::reason::{Direction, Verdict};

use super::{kernel::EndpointCounter, text};
use crate::model::View;

/// Most owners that are told apart; more are counted as [`Owner::other`]. Bounds the series at six times as many.
pub const OWNERS_MAX: usize = 1000;
/// Most characters of a project's or service's name in a metric.
pub const NAME_MAX: usize = 128;

/// Packets by direction and verdict.
type Counts = [[u64; Verdict::ALL.len()]; Direction::ALL.len()];

/// Whose packets they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    project: String,
    service: String,
}

impl Owner {
    /// The service of a project, with names cut at [`NAME_MAX`].
    pub fn new(project: &str, service: &str) -> Self {
        let clip = |name| text::clip(name, NAME_MAX).to_owned();
        Self {
            project: clip(project),
            service: clip(service),
        }
    }

    /// Whoever is not known, or beyond [`OWNERS_MAX`].
    pub fn other() -> Self {
        Self::new("", "other")
    }

    /// Project; empty if none.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Service.
    pub fn service(&self) -> &str {
        &self.service
    }
}

/// The sums.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: BTreeMap<Owner, Counts>,
    last: BTreeMap<u32, Counts>,
}

impl Ledger {
    /// Adds what each endpoint's counters gained since the last call. A counter that went back was zeroed in between, and
    /// all of it is gain.
    pub fn update<'a>(
        &mut self,
        figures: &[EndpointCounter],
        owner: impl Fn(u32) -> Option<(&'a str, &'a str)>,
    ) {
        for figure in figures {
            let (direction, verdict) = (figure.direction as usize, figure.verdict as usize);
            let last = &mut self.last.entry(figure.ifindex).or_default()[direction][verdict];
            let gain = figure.packets.checked_sub(*last).unwrap_or(figure.packets);
            *last = figure.packets;
            let owner = owner(figure.ifindex).map_or_else(Owner::other, |(project, service)| {
                Owner::new(project, service)
            });
            let total = &mut self.account(owner)[direction][verdict];
            *total = total.saturating_add(gain);
        }
    }

    /// Forgets an endpoint that is gone. What it counted stays in the sums.
    pub fn retire(&mut self, ifindex: u32) {
        self.last.remove(&ifindex);
    }

    /// Every sum.
    pub fn totals(&self) -> impl Iterator<Item = (&Owner, Direction, Verdict, u64)> {
        self.totals.iter().flat_map(|(owner, counts)| {
            Direction::ALL.into_iter().flat_map(move |direction| {
                Verdict::ALL.into_iter().map(move |verdict| {
                    (
                        owner,
                        direction,
                        verdict,
                        counts[direction as usize][verdict as usize],
                    )
                })
            })
        })
    }

    fn account(&mut self, owner: Owner) -> &mut Counts {
        let has_room = self.totals.len() < OWNERS_MAX || self.totals.contains_key(&owner);
        self.totals
            .entry(if has_room { owner } else { Owner::other() })
            .or_default()
    }
}

/// Project and service by ifindex, as the view has them.
pub fn owners<'a>(view: &'a View) -> impl Fn(u32) -> Option<(&'a str, &'a str)> {
    let by_ifindex: HashMap<_, _> = view
        .endpoints
        .iter()
        .map(|endpoint| {
            (
                endpoint.ifindex,
                (endpoint.project.as_str(), endpoint.service.as_str()),
            )
        })
        .collect();
    move |ifindex| by_ifindex.get(&ifindex).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn denied(ifindex: u32, packets: u64) -> EndpointCounter {
        let (direction, verdict) = (Direction::Ingress, Verdict::Deny);
        EndpointCounter {
            ifindex,
            direction,
            verdict,
            packets,
        }
    }

    fn total(ledger: &Ledger, service: &str) -> u64 {
        ledger
            .totals()
            .filter(|(owner, ..)| owner.service() == service)
            .map(|(.., packets)| packets)
            .sum()
    }

    fn shop(ifindex: u32) -> Option<(&'static str, &'static str)> {
        match ifindex {
            1 | 2 => Some(("shop", "web")),
            3 => Some(("shop", "db")),
            _ => None,
        }
    }

    #[test]
    fn replicas_add_up_and_strangers_are_other() {
        let mut ledger = Ledger::default();
        ledger.update(
            &[denied(1, 5), denied(2, 7), denied(3, 1), denied(9, 2)],
            shop,
        );
        ledger.update(
            &[denied(1, 6), denied(2, 7), denied(3, 1), denied(9, 2)],
            shop,
        );
        assert_eq!(
            [
                total(&ledger, "web"),
                total(&ledger, "db"),
                total(&ledger, "other")
            ],
            [13, 1, 2]
        );
    }

    #[test]
    fn sums_outlive_the_endpoint() {
        let mut ledger = Ledger::default();
        ledger.update(&[denied(1, 5)], shop);
        ledger.update(&[], shop);
        ledger.retire(1);
        ledger.update(&[], |_| None);
        assert_eq!(total(&ledger, "web"), 5);
        ledger.update(&[denied(2, 3)], shop);
        assert_eq!(total(&ledger, "web"), 8);
    }

    #[test]
    fn a_zeroed_counter_starts_anew() {
        let mut ledger = Ledger::default();
        ledger.update(&[denied(1, 5)], shop);
        ledger.update(&[denied(1, 2)], shop);
        assert_eq!(total(&ledger, "web"), 7);
        ledger.retire(1);
        ledger.update(&[denied(1, 2)], shop);
        assert_eq!(total(&ledger, "web"), 9);
    }

    #[test]
    fn owners_are_bounded_and_nothing_is_lost() {
        let names: Vec<String> = (0..2 * OWNERS_MAX)
            .map(|n| format!("service-{n}"))
            .collect();
        let figures: Vec<_> = (0..names.len() as u32)
            .map(|ifindex| denied(ifindex, 1))
            .collect();
        let owner = |ifindex: u32| Some(("p", names[ifindex as usize].as_str()));
        let mut ledger = Ledger::default();
        ledger.update(&figures, owner);
        ledger.update(&figures, owner);
        let owners = ledger.totals().count() / (Direction::ALL.len() * Verdict::ALL.len());
        assert_eq!(owners, OWNERS_MAX + 1);
        assert_eq!(
            ledger.totals().map(|(.., packets)| packets).sum::<u64>(),
            names.len() as u64
        );
    }

    #[test]
    fn long_names_are_cut() {
        let owner = Owner::new(&"p".repeat(10_000), &"ß".repeat(10_000));
        assert_eq!(
            (
                owner.project().chars().count(),
                owner.service().chars().count()
            ),
            (NAME_MAX, NAME_MAX)
        );
    }

    proptest! {
        #[test]
        fn no_sum_ever_goes_back(
            steps in prop::collection::vec((1u32..5, 0u64..100, any::<bool>()), 0..200)
        ) {
            let mut ledger = Ledger::default();
            let mut before = [0; 3];
            for (ifindex, packets, retire) in steps {
                if retire {
                    ledger.retire(ifindex);
                } else {
                    ledger.update(&[denied(ifindex, packets)], shop);
                }
                let now = ["web", "db", "other"].map(|service| total(&ledger, service));
                prop_assert!(now.iter().zip(before).all(|(now, before)| *now >= before));
                before = now;
            }
        }
    }
}
