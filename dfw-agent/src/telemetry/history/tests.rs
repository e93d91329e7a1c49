use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::telemetry::events::tests::flow;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn entry(second: u64) -> Entry {
    Entry::Flow(FlowEvent {
        time: at(second),
        ..flow()
    })
}

fn lost(second: u64, lost: u64) -> Entry {
    Entry::Lost(Lost {
        time: at(second),
        lost,
        by: By::Kernel,
    })
}

fn history(count: usize) -> History {
    let limits = Limits {
        count,
        bytes: usize::MAX,
    };
    History::new(limits, at(0))
}

/// Everything from the cursor on.
fn read(history: &History, cursor: &mut Cursor) -> Vec<Entry> {
    let mut seen = Vec::new();
    history.ring().read(cursor, usize::MAX, |entry| {
        seen.push(entry.clone());
        true
    });
    seen
}

#[test]
fn each_observer_reads_at_its_own_pace() {
    let history = history(8);
    let mut early = history.ring().end();
    history.append([entry(1), entry(2)]);
    let mut late = history.ring().end();
    history.append([entry(3)]);
    assert_eq!(read(&history, &mut early), [entry(1), entry(2), entry(3)]);
    assert_eq!(read(&history, &mut late), [entry(3)]);
    assert_eq!(early, late);
    assert_eq!(read(&history, &mut early), []);
}

#[test]
fn who_has_seen_enough_goes_on_from_there() {
    let history = history(8);
    let mut cursor = history.ring().end();
    history.append([entry(1), entry(2), entry(3)]);
    let mut seen = Vec::new();
    history.ring().read(&mut cursor, 8, |entry| {
        seen.push(entry.clone());
        seen.len() < 2
    });
    history.ring().read(&mut cursor, 1, |entry| {
        seen.push(entry.clone());
        true
    });
    assert_eq!(seen, [entry(1), entry(2), entry(3)]);
}

#[test]
fn what_a_slow_observer_misses_is_counted_with_the_losses_in_it() {
    let history = history(3);
    let mut cursor = history.ring().end();
    history.append([entry(1), lost(2, 10), entry(3), entry(4), entry(5)]);
    let missed = Lost {
        time: at(2),
        lost: 11,
        by: By::Observer,
    };
    assert_eq!(
        read(&history, &mut cursor),
        [Entry::Lost(missed), entry(3), entry(4), entry(5)]
    );
    history.append([lost(6, 5), entry(7)]);
    assert_eq!(
        read(&history, &mut cursor),
        [lost(6, 5), entry(7)],
        "nothing more was missed"
    );
}

#[test]
fn count_and_bytes_are_bounded() {
    let weight = entry(1).weight();
    let limits = Limits {
        count: 100,
        bytes: 10 * weight,
    };
    let history = History::new(limits, at(0));
    history.append((0..1000).map(entry));
    {
        let ring = history.ring();
        assert_eq!(ring.entries().len(), 10);
        assert_eq!(ring.bytes, 10 * weight);
        assert_eq!((ring.gone, ring.held), (990, 10));
    }
    // What is larger than all of it is there alone.
    let tiny = History::new(
        Limits {
            count: 100,
            bytes: 1,
        },
        at(0),
    );
    tiny.append([entry(1), entry(2)]);
    let (gone, held) = {
        let ring = tiny.ring();
        (ring.gone, ring.held)
    };
    assert_eq!((gone, held), (1, 1));
    // The queue itself has no room to spare.
    let full = self::history(64);
    full.append((0..1000).map(entry));
    assert_eq!(full.ring().entries.capacity(), 64);
    // The agent's own history.
    let node = Limits::AGENT.count * size_of::<Entry>();
    assert!(node < 16 << 20, "{node} bytes without names");
}

#[test]
fn a_history_that_is_shorter_than_wanted_says_so() {
    let history = history(2);
    let missing = |second| history.ring().missing_since(at(second));
    let said = |second, lost| {
        Some(Lost {
            time: at(second),
            lost,
            by: By::History,
        })
    };
    history.append([entry(5), entry(6)]);
    assert_eq!(missing(0), None, "it began then");
    history.append([entry(7), lost(8, 4)]);
    assert_eq!(missing(1), said(6, 2));
    assert_eq!(missing(6), None);
    history.append([entry(9), entry(10)]);
    assert_eq!(missing(1), said(8, 7));
}

#[tokio::test]
async fn observers_are_woken_by_what_is_new() {
    let history = history(8);
    let mut grown = history.grown();
    history.append([]);
    assert!(!grown.has_changed().expect("it is there"));
    history.append([entry(1)]);
    grown.changed().await.expect("it is there");
}

#[test]
fn json() {
    let lost = serde_json::to_string(&lost(15, 7)).expect("JSON");
    assert_eq!(lost, r#"{"time_ms":15000,"lost":7,"by":"kernel"}"#);
    for entry in [lost, serde_json::to_string(&entry(1)).expect("JSON")] {
        let read: Entry = serde_json::from_str(&entry).expect("an entry");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), entry);
    }
}
