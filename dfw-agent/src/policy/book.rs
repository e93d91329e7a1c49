//! What is known of each subject, added up and bounded. Pure: times come in as seconds since 1970.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dfw_common::reason::Direction;

use super::seen::{Learned, Record, Seen, SeenPeer, Sighting, Subject, Times};

/// Most sightings at the expense of one subject: what it opened, and what host and world opened to it.
pub const SIGHTINGS_EACH: usize = 1_024;
/// Most sightings of all.
pub const SIGHTINGS_MAX: usize = 16_384;
/// How much room is made when there is none.
const ROOM_AT_ONCE: usize = SIGHTINGS_MAX / 16;

/// The records, and who has filled them. What is seen at both ends is at the expense of who opened it, so that nobody
/// fills another's record.
#[derive(Clone, Debug, Default)]
pub struct Book {
    since: u64,
    records: BTreeMap<Subject, (u64, Seen)>,
    /// Sightings by whom they are at the expense of.
    spent: HashMap<Subject, usize>,
    total: usize,
    missing: u64,
}

impl Book {
    /// An empty one, begun now.
    pub fn new(now: u64) -> Self {
        Self {
            since: now,
            ..Self::default()
        }
    }

    /// What an earlier one came to.
    pub fn open(learned: Learned) -> Self {
        let mut book = Self::new(learned.since);
        book.missing = learned.missing;
        for Record {
            subject,
            since,
            seen,
        } in learned.records
        {
            book.miss(&subject, seen.missing);
            for (sighting, times) in seen.sightings {
                book.note(&subject, sighting, times);
            }
            if let Some(record) = book.records.get_mut(&subject) {
                record.0 = since;
            }
        }
        book
    }

    /// Everything, for whoever asks or keeps it.
    pub fn learned(&self) -> Learned {
        let records = self.records.iter().map(|(subject, (since, seen))| Record {
            subject: subject.clone(),
            since: *since,
            seen: seen.clone(),
        });
        Learned {
            since: self.since,
            records: records.collect(),
            missing: self.missing,
            unkept: None,
        }
    }

    /// Everybody who has a record.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.records.keys()
    }

    /// Whether this is known already.
    pub fn knows(&self, subject: &Subject, sighting: &Sighting) -> bool {
        let record = self.records.get(subject);
        record.is_some_and(|(_, seen)| seen.sightings.contains_key(sighting))
    }

    /// Whether this is new, and would be taken.
    pub fn is_news(&self, subject: &Subject, sighting: &Sighting) -> bool {
        !self.knows(subject, sighting) && self.has_room(payer(subject, sighting))
    }

    /// Whether anything can be added at the expense of a subject.
    pub fn has_room(&self, payer: &Subject) -> bool {
        let spent = self.spent.get(payer);
        spent.is_none_or(|spent| *spent < SIGHTINGS_EACH)
    }

    /// Adds what was seen of a subject.
    pub fn note(&mut self, subject: &Subject, sighting: Sighting, times: Times) {
        let record = self.records.get_mut(subject);
        if let Some(known) = record.and_then(|(_, seen)| seen.sightings.get_mut(&sighting)) {
            known.flows = known.flows.saturating_add(times.flows);
            known.first = known.first.min(times.first);
            known.last = known.last.max(times.last);
            return;
        }
        if self.total >= SIGHTINGS_MAX {
            self.drop_old_containers();
        }
        let payer = payer(subject, &sighting).clone();
        if self.has_room(&payer)
            && self.total < SIGHTINGS_MAX
            && let Some(seen) = self.record(subject)
        {
            seen.sightings.insert(sighting, times);
            *self.spent.entry(payer).or_default() += 1;
            self.total += 1;
            return;
        }
        // Told of whoever does too much, if it has a record of its own.
        let is_recorded = self.records.contains_key(&payer);
        let of = if is_recorded { &payer } else { subject };
        self.miss(of, times.flows);
    }

    /// Counts flows of a subject for which nothing can be added.
    pub fn miss(&mut self, subject: &Subject, flows: u64) {
        match self.record(subject) {
            Some(seen) => seen.missing = seen.missing.saturating_add(flows),
            None => self.miss_somewhere(flows),
        }
    }

    /// What is known of a subject; none where there is no room for another.
    fn record(&mut self, subject: &Subject) -> Option<&mut Seen> {
        if !self.records.contains_key(subject) {
            if self.records.len() >= SIGHTINGS_MAX {
                self.drop_old_containers();
            }
            if self.records.len() >= SIGHTINGS_MAX {
                return None;
            }
            let record = (self.since, Seen::default());
            self.records.insert(subject.clone(), record);
        }
        self.records.get_mut(subject).map(|(_, seen)| seen)
    }

    /// Makes room by the containers of no service that have done nothing for the longest time: a name that was made up once
    /// does not come again. Whom they met lacks it.
    fn drop_old_containers(&mut self) {
        let mut containers: Vec<(u64, &Subject, usize)> = Vec::new();
        for (subject, (_, seen)) in &self.records {
            if let Subject::Container(_) = subject {
                let last = seen.sightings.values().map(|times| times.last).max();
                containers.push((last.unwrap_or(0), subject, seen.sightings.len()));
            }
        }
        containers.sort_unstable();
        let mut room = 0;
        let mut old = BTreeSet::new();
        for (_, subject, sightings) in containers {
            if room >= ROOM_AT_ONCE {
                break;
            }
            room += sightings;
            old.insert(subject.clone());
        }
        if old.is_empty() {
            return;
        }
        for (subject, (_, seen)) in &mut self.records {
            let is_old = old.contains(subject);
            seen.sightings.retain(|sighting, times| {
                let is_peer =
                    matches!(&sighting.peer, SeenPeer::Subject(peer) if old.contains(peer));
                if is_old || is_peer {
                    seen.missing = seen.missing.saturating_add(times.flows);
                    self.total -= 1;
                    if let Some(spent) = self.spent.get_mut(payer(subject, sighting)) {
                        *spent -= 1;
                    }
                }
                !(is_old || is_peer)
            });
        }
        self.records.retain(|subject, _| !old.contains(subject));
        self.spent.retain(|_, spent| *spent > 0);
    }

    /// Counts flows of which nobody knows whose they are.
    pub fn miss_somewhere(&mut self, flows: u64) {
        self.missing = self.missing.saturating_add(flows);
    }

    /// Begins anew for some; what others have seen of them stays. Returns whom.
    pub fn forget(&mut self, is_meant: impl Fn(&Subject) -> bool, now: u64) -> Vec<Subject> {
        let meant: Vec<Subject> = self
            .records
            .keys()
            .filter(|one| is_meant(one))
            .cloned()
            .collect();
        for subject in &meant {
            let Some((since, seen)) = self.records.get_mut(subject) else {
                continue;
            };
            let forgotten = std::mem::take(seen);
            *since = now;
            for sighting in forgotten.sightings.keys() {
                self.total -= 1;
                if let Some(spent) = self.spent.get_mut(payer(subject, sighting)) {
                    *spent -= 1;
                }
            }
        }
        meant
    }
}

/// At whose expense a sighting is: who opened it, where that is a subject.
fn payer<'a>(subject: &'a Subject, sighting: &'a Sighting) -> &'a Subject {
    match (&sighting.direction, &sighting.peer) {
        (Direction::Ingress, SeenPeer::Subject(peer)) => peer,
        _ => subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LearnedView;

    fn named(name: &str) -> Subject {
        Subject::of(Some("shop"), Some(name), "")
    }

    fn one(direction: Direction, peer: SeenPeer, port: u16) -> Sighting {
        Sighting {
            direction,
            peer,
            protocol: 6,
            port,
        }
    }

    fn at(flows: u64, second: u64) -> Times {
        Times {
            flows,
            first: second,
            last: second,
        }
    }

    fn record<'a>(learned: &'a Learned, name: &str) -> &'a Record {
        let subject = named(name);
        let found = learned.records.iter().find(|one| one.subject == subject);
        found.expect("it has a record")
    }

    #[test]
    fn the_same_adds_up() {
        let mut book = Book::new(100);
        let sighting = one(Direction::Egress, SeenPeer::Host, 80);
        for (flows, second) in [(1, 120), (2, 110), (3, 130)] {
            book.note(&named("web"), sighting.clone(), at(flows, second));
        }
        assert!(book.knows(&named("web"), &sighting));
        let learned = book.learned();
        let web = record(&learned, "web");
        let times = Times {
            flows: 6,
            first: 110,
            last: 130,
        };
        assert_eq!((web.since, web.seen.missing), (100, 0));
        assert_eq!(web.seen.sightings, [(sighting, times)].into());
        let figures = LearnedView {
            since: 100,
            sightings: 1,
            subjects: 1,
            missing: 0,
        };
        assert_eq!(learned.figures(), figures);
    }

    /// A scanner of everybody fills its own record, and others have theirs whole.
    #[test]
    fn who_does_too_much_fills_its_own_record() {
        let (bad, db, web) = (named("bad"), named("db"), named("web"));
        let mut book = Book::new(0);
        let peer = |subject: &Subject| SeenPeer::Subject(subject.clone());
        for port in 1..=2 * SIGHTINGS_EACH as u16 {
            book.note(&bad, one(Direction::Egress, peer(&db), port), at(1, 1));
            book.note(&db, one(Direction::Ingress, peer(&bad), port), at(1, 1));
        }
        book.note(&db, one(Direction::Ingress, peer(&web), 5432), at(1, 1));
        book.note(&db, one(Direction::Ingress, SeenPeer::Host, 5432), at(1, 1));
        book.note(&web, one(Direction::Egress, peer(&db), 5432), at(1, 1));
        let learned = book.learned();
        let of = |name| &record(&learned, name).seen;
        assert_eq!(
            of("bad").sightings.len() + of("db").sightings.len(),
            SIGHTINGS_EACH + 2
        );
        assert_eq!(of("bad").missing, 3 * SIGHTINGS_EACH as u64);
        assert_eq!((of("db").missing, of("web").missing), (0, 0));
        assert!(book.knows(&db, &one(Direction::Ingress, peer(&web), 5432)));
        assert!(book.knows(&web, &one(Direction::Egress, peer(&db), 5432)));
        // Nobody is to hurry for what finds no room.
        assert!(
            !book.has_room(&bad) && !book.is_news(&db, &one(Direction::Ingress, peer(&bad), 1))
        );
        assert!(!book.is_news(&db, &one(Direction::Ingress, peer(&bad), 65_535)));
        assert!(book.is_news(&db, &one(Direction::Ingress, peer(&web), 65_535)));
        assert_eq!(
            Book::open(learned.clone()).learned(),
            learned,
            "kept and opened again"
        );
    }

    #[test]
    fn who_has_no_record_is_missed_by_whom_it_meets() {
        let mut book = Book::new(0);
        let bad = SeenPeer::Subject(named("bad"));
        for port in 0..=SIGHTINGS_EACH as u16 {
            book.note(
                &named("db"),
                one(Direction::Ingress, bad.clone(), port),
                at(1, 1),
            );
        }
        assert_eq!(record(&book.learned(), "db").seen.missing, 1);
    }

    #[test]
    fn all_together_are_bounded_too() {
        let mut book = Book::new(0);
        let subjects = SIGHTINGS_MAX / SIGHTINGS_EACH + 2;
        for number in 0..subjects {
            for port in 0..SIGHTINGS_EACH as u16 {
                let sighting = one(Direction::Egress, SeenPeer::Host, port);
                book.note(&named(&number.to_string()), sighting, at(1, 1));
            }
        }
        let figures = book.learned().figures();
        assert_eq!(figures.sightings, SIGHTINGS_MAX);
        let beyond = 2 * SIGHTINGS_EACH as u64;
        assert_eq!(figures.missing, beyond, "none is lost silently");
    }

    #[test]
    fn containers_that_come_and_go_leave_room() {
        let mut book = Book::new(0);
        let db = named("db");
        for number in 0..(SIGHTINGS_MAX + ROOM_AT_ONCE) as u64 {
            let job = Subject::Container(format!("job-{number}"));
            book.note(
                &job,
                one(Direction::Egress, SeenPeer::Host, 53),
                at(1, number),
            );
        }
        assert_eq!(
            book.learned().figures().missing,
            0,
            "nobody met who was dropped"
        );
        let job = Subject::Container("job".to_owned());
        let (from_job, from_host) = (
            one(Direction::Ingress, SeenPeer::Subject(job.clone()), 5432),
            one(Direction::Ingress, SeenPeer::Host, 5432),
        );
        book.note(&job, one(Direction::Egress, SeenPeer::Host, 53), at(1, 0));
        book.note(&db, from_job.clone(), at(3, 1));
        book.note(&db, from_host.clone(), at(1, 1));
        assert!(book.knows(&db, &from_job) && book.knows(&db, &from_host));
        for number in 0..=ROOM_AT_ONCE as u64 {
            let job = Subject::Container(format!("late-{number}"));
            let to_host = one(Direction::Egress, SeenPeer::Host, 53);
            book.note(&job, to_host, at(1, 9 * SIGHTINGS_MAX as u64));
        }
        assert!(!book.knows(&db, &from_job) && book.knows(&db, &from_host));
        assert_eq!(
            record(&book.learned(), "db").seen.missing,
            3,
            "it lacks those"
        );
    }

    /// Those that came and went and of which nothing is known but that something is missing take no room for ever.
    #[test]
    fn who_left_nothing_behind_leaves_room() {
        let mut book = Book::new(0);
        for number in 0..SIGHTINGS_MAX {
            book.miss(&Subject::Container(format!("job-{number}")), 1);
        }
        let to_host = one(Direction::Egress, SeenPeer::Host, 53);
        book.note(&named("web"), to_host.clone(), at(1, 1));
        assert!(book.knows(&named("web"), &to_host));
    }

    #[test]
    fn forgetting_begins_anew() {
        let (web, db) = (named("web"), named("db"));
        let mut book = Book::new(10);
        let to_db = one(Direction::Egress, SeenPeer::Subject(db.clone()), 5432);
        let from_web = one(Direction::Ingress, SeenPeer::Subject(web.clone()), 5432);
        book.note(&web, to_db.clone(), at(1, 11));
        book.note(&db, from_web.clone(), at(1, 11));
        book.miss(&web, 7);
        assert_eq!(book.forget(|one| *one == web, 20), vec![web.clone()]);
        assert!(!book.knows(&web, &to_db) && book.knows(&db, &from_web));
        let learned = book.learned();
        assert_eq!(
            (record(&learned, "web").since, record(&learned, "db").since),
            (20, 10)
        );
        assert_eq!(
            (learned.figures().sightings, learned.figures().missing),
            (1, 0)
        );
        let again = Book::open(learned);
        assert_eq!(
            record(&again.learned(), "web").since,
            20,
            "also to the next agent"
        );
    }
}
