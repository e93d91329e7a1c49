//! The verdict table: packets, and what the shipped object makes of them (BPF_PROG_TEST_RUN). Every row is tried in the
//! kernel and on plain maps; both must do and count the same.

mod addresses;
mod arp;
mod bridge;
mod campaign;
mod corpus;
mod differential;
mod discovery;
mod flows;
mod groups;
mod guards;
mod icmp;
mod kernel;
mod lifetimes;
mod modes;
mod oracle;
mod quota;
mod redirect;
mod routers;
mod scenario;
mod seen;
mod state;
mod table;
mod uplink;

use std::{collections::BTreeSet, env};

use dfw_agent::datapath::load::Options;
use dfw_common::reason::Reason;

use crate::{
    scenario::Family,
    table::{Lab, Row},
};

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let topics: [fn(Family) -> Vec<Row>; 12] = [
            guards::rows,
            addresses::rows,
            flows::rows,
            lifetimes::rows,
            modes::rows,
            icmp::rows,
            neighbours,
            groups::rows,
            bridge::rows,
            quota::rows,
            redirect::rows,
            uplink::rows,
        ];
        for topic in topics {
            let of_family = topic(family).into_iter();
            rows.extend(of_family.map(|row| Row {
                name: format!("{family:?}: {}", row.name),
                ..row
            }));
        }
    }
    rows
}

fn neighbours(family: Family) -> Vec<Row> {
    match family {
        Family::V4 => arp::rows(),
        Family::V6 => discovery::rows()
            .into_iter()
            .chain(routers::rows())
            .collect(),
    }
}

#[test]
fn every_row_has_its_verdict() {
    let rows = rows();
    let is_mutant = env::var_os("DFW_MUTANT").is_some_and(|number| number != "0");
    let mut failures = Vec::new();
    for is_open in ways() {
        let found: Vec<String> = in_lab(is_open, |lab| {
            let mut order: Vec<&Row> = rows.iter().collect();
            let mut enough = rows.len();
            if is_mutant {
                // To `cargo xtask mutate` one is enough, and plain maps know where to look.
                order.sort_by_cached_key(|row| !lab.is_suspect(row));
                enough = 1;
            }
            let failures = order.into_iter().filter_map(|row| lab.check(row).err());
            failures.take(enough).collect()
        });
        failures.extend(found);
        if is_mutant && !failures.is_empty() {
            break;
        }
    }
    let (failed, all) = (failures.len(), rows.len() * ways().len());
    assert!(
        failures.is_empty(),
        "{failed} of {all} rows:\n{}",
        failures.join("\n")
    );
}

#[test]
fn the_table_has_every_reason() {
    let rows = rows();
    let found: BTreeSet<Reason> = rows.iter().flat_map(|row| row.expect.reasons()).collect();
    let missing: Vec<_> = Reason::ALL
        .iter()
        .filter(|reason| !found.contains(reason))
        .collect();
    assert!(missing.is_empty(), "no row has {missing:?}");
}

/// Every packet on the bridge, and some past it, unless `DFW_FAST_PATH` says one of both.
fn ways() -> Vec<bool> {
    match env::var("DFW_FAST_PATH").as_deref() {
        Ok("off") => vec![false],
        Ok("on") => vec![true],
        _ => vec![false, true],
    }
}

fn in_lab<T: Send>(is_open: bool, test: impl FnOnce(&mut Lab<'_>) -> T + Send) -> T {
    let options = Options {
        flows: Some(scenario::FLOWS),
        fast_path: is_open,
        ..Options::default()
    };
    kernel::inside(&scenario::INTERFACES, options, |kernel| {
        test(&mut Lab::new(kernel, is_open))
    })
}
