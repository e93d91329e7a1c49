//! Truth tables: everybody tries everything with everybody, and what gets through is compared with what is written.

use std::{collections::BTreeMap, net::IpAddr, thread};

use dfw_probe::{Attempt, Outcome, Protocol};

use crate::NetNs;

/// What is tried, by its letter in a cell: an open port, another open port, a datagram, an echo request.
pub const TRIES: [(char, Protocol, u16); 4] = [
    ('t', Protocol::Tcp, 80),
    ('o', Protocol::Tcp, 81),
    ('u', Protocol::Udp, 53),
    ('i', Protocol::Icmp, 0),
];

/// Somebody who tries, and is tried.
#[derive(Debug)]
pub struct Member {
    /// As in the table.
    pub name: String,
    /// Where it lives.
    pub netns: NetNs,
    /// Its addresses of both families.
    pub addresses: [IpAddr; 2],
}

/// What gets through, by source and destination: one letter a try, IPv4 and IPv6.
#[derive(Debug)]
pub struct Table(BTreeMap<(String, String), [String; 2]>);

impl Table {
    /// Reads a table: a line of destinations, then a line for each source. A cell holds the letters of [`TRIES`] that get
    /// through, `-` for each that does not, `.` for oneself; `x/y` where IPv4 and IPv6 differ.
    ///
    /// # Panics
    /// When a line has another number of cells than the first.
    pub fn parse(text: &str) -> Self {
        let mut lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut lines = lines.by_ref().filter(|line| !line.is_empty());
        let destinations = lines.next().expect("a table has a first line");
        let mut cells = BTreeMap::new();
        for line in lines {
            let (source, row) = line.split_first().expect("empty lines are left out");
            assert_eq!(row.len(), destinations.len(), "the line of {source}");
            for (destination, cell) in destinations
                .iter()
                .zip(row)
                .filter(|(_, cell)| **cell != ".")
            {
                let (v4, v6) = cell.split_once('/').unwrap_or((cell, cell));
                let key = ((*source).to_owned(), (*destination).to_owned());
                cells.insert(key, [v4.to_owned(), v6.to_owned()]);
            }
        }
        Self(cells)
    }

    /// Whether a try gets through, by its letter.
    ///
    /// # Panics
    /// When the two are not in the table.
    pub fn passes(&self, source: &str, destination: &str, is_v4: bool, letter: char) -> bool {
        let key = (source.to_owned(), destination.to_owned());
        let [v4, v6] = self.0.get(&key).expect("the two are in the table");
        if is_v4 { v4 } else { v6 }.contains(letter)
    }

    /// A table in which everything gets through.
    pub fn open(members: &[Member]) -> Self {
        let all: String = TRIES.iter().map(|(letter, ..)| letter).collect();
        let pairs = members
            .iter()
            .flat_map(|a| members.iter().map(move |b| (a, b)));
        let others = pairs.filter(|(a, b)| a.name != b.name);
        Self(
            others
                .map(|(a, b)| ((a.name.clone(), b.name.clone()), [all.clone(), all.clone()]))
                .collect(),
        )
    }

    /// Tries everything with real packets, and returns what differs, one line each: nothing when all is as written. What
    /// is denied must be silent: a reset or an answer would come from behind the firewall.
    ///
    /// # Panics
    /// When a member is missing, or an attempt is not possible.
    pub fn differences(&self, members: &[Member]) -> Vec<String> {
        thread::scope(|scope| {
            let sources: Vec<_> = members
                .iter()
                .map(|source| scope.spawn(|| self.of_source(source, members)))
                .collect();
            let lines = sources
                .into_iter()
                .map(|source| source.join().expect("no panic"));
            lines.flatten().collect()
        })
    }

    fn of_source(&self, source: &Member, members: &[Member]) -> Vec<String> {
        let mut attempts = Vec::new();
        for destination in members.iter().filter(|member| member.name != source.name) {
            let key = (source.name.clone(), destination.name.clone());
            let cells = self
                .0
                .get(&key)
                .unwrap_or_else(|| panic!("{key:?} is not in the table"));
            for (address, cell) in destination.addresses.iter().zip(cells) {
                for (letter, protocol, port) in TRIES {
                    let passes = cell.contains(letter);
                    let attempt = Attempt::new(protocol, (*address, port).into());
                    let attempt = attempt.expecting(passes);
                    attempts.push((destination.name.as_str(), passes, attempt));
                }
            }
        }
        let outcomes = outcomes(&source.netns, attempts.iter().map(|(.., attempt)| *attempt));
        let pairs = attempts.iter().zip(outcomes);
        let wrong = pairs.filter(|((_, passes, _), outcome)| match outcome {
            Outcome::Answered(_) => !passes,
            Outcome::Silent | Outcome::Unreachable => *passes,
            Outcome::Accepted | Outcome::Refused => true,
        });
        wrong
            .map(|((destination, passes, attempt), outcome)| {
                let Attempt { protocol, to, .. } = attempt;
                let wanted = if *passes { "passes" } else { "is denied" };
                format!(
                    "{} -> {destination} {protocol:?} {to}: {outcome}, but it {wanted}",
                    source.name
                )
            })
            .collect()
    }
}

/// Runs attempts at the same time from one namespace; their outcomes in the same order.
///
/// # Panics
/// When an attempt is not possible.
pub fn outcomes(netns: &NetNs, attempts: impl IntoIterator<Item = Attempt> + Send) -> Vec<Outcome> {
    // Threads are born in the namespace of who makes them.
    netns.enter(|| {
        thread::scope(|scope| {
            let running: Vec<_> = attempts
                .into_iter()
                .map(|attempt| (attempt, scope.spawn(move || attempt.run())))
                .collect();
            let outcomes = running.into_iter().map(|(attempt, thread)| {
                let outcome = thread.join().expect("an attempt does not panic");
                outcome.unwrap_or_else(|error| panic!("{attempt:?}: {error}"))
            });
            outcomes.collect()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_written() {
        let table = Table::parse("\n     a    b\n a   .   to--/--u-\n b  ----  .\n");
        let cell = |source: &str, destination: &str| {
            &table.0[&(source.to_owned(), destination.to_owned())]
        };
        assert_eq!(table.0.len(), 2);
        assert_eq!(cell("a", "b"), &["to--", "--u-"]);
        assert_eq!(cell("b", "a"), &["----", "----"]);
    }
}
