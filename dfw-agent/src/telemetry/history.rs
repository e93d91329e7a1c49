//! The last flow events, and how many were lost: one ring that observers read at their own pace.
//!
//! Nothing is queued for an observer. Who falls behind the ring's oldest entry is told how many events it missed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};

use super::events::{FlowEvent, wire};

/// What the history holds, and what observers are sent, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// A flow.
    Flow(FlowEvent),
    /// Here others are missing.
    Lost(Lost),
}

/// Events that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When this was noticed, as milliseconds since 1970 in JSON.
    #[serde(rename = "time_ms", with = "wire::millis")]
    pub time: SystemTime,
    /// How many.
    pub lost: u64,
    /// Where.
    pub by: By,
}

/// Where events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// In the kernel: over the rate, or no room in its buffer.
    Kernel,
    /// The observer reads more slowly than events come.
    Observer,
    /// They are older than the history, which is shorter than what was asked for. This many at most.
    History,
}

/// Bounds of a history.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries.
    pub count: usize,
    /// Bytes, what entries share counted for each of them.
    pub bytes: usize,
}

impl Limits {
    /// The agent's: a quarter of an hour at 18 flows a second, in what 1 000 endpoints leave of 64 MiB.
    pub const AGENT: Self = Self {
        count: 16_384,
        bytes: 8 << 20,
    };
}

/// Most observers at a time: each costs what it is sent, and a connection that commands cannot have.
const OBSERVERS_MAX: usize = 16;

/// The history, for one writer and several readers.
#[derive(Debug)]
pub struct History {
    ring: Mutex<Ring>,
    /// Position behind the newest entry.
    grown: watch::Sender<u64>,
    pub(super) seats: Arc<Semaphore>,
}

/// The entries. Positions count from the first entry ever.
#[derive(Debug)]
pub(super) struct Ring {
    limits: Limits,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Position of the oldest entry.
    first: u64,
    /// Events that the entries before stood for.
    gone: u64,
    /// Events that the entries stand for.
    held: u64,
    /// Since when nothing is missing but what entries say.
    since: SystemTime,
}

/// How far an observer has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Position of the next entry.
    pub(super) next: u64,
    /// Events that the entries before stood for.
    seen: u64,
}

impl Entry {
    /// When it happened or was noticed.
    pub const fn time(&self) -> SystemTime {
        match self {
            Self::Flow(event) => event.time,
            Self::Lost(lost) => lost.time,
        }
    }

    /// Events that it stands for.
    const fn events(&self) -> u64 {
        match self {
            Self::Flow(_) => 1,
            Self::Lost(lost) => lost.lost,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Flow(event) => size_of::<Self>() - size_of::<FlowEvent>() + event.weight(),
            Self::Lost(_) => size_of::<Self>(),
        }
    }
}

impl History {
    /// An empty one that begins at `now`.
    pub fn new(limits: Limits, now: SystemTime) -> Self {
        Self {
            ring: Mutex::new(Ring {
                limits,
                entries: VecDeque::new(),
                bytes: 0,
                first: 0,
                gone: 0,
                held: 0,
                since: now,
            }),
            grown: watch::Sender::new(0),
            seats: Arc::new(Semaphore::new(OBSERVERS_MAX)),
        }
    }

    /// Adds entries; the oldest make room. Observers are woken once.
    pub fn append(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut ring = self.ring();
        for entry in entries {
            ring.push(entry);
        }
        let end = ring.end().next;
        drop(ring);
        self.grown.send_if_modified(|grown| {
            let has_grown = *grown != end;
            *grown = end;
            has_grown
        });
    }

    /// How many observers there are.
    pub fn observers(&self) -> usize {
        OBSERVERS_MAX - self.seats.available_permits()
    }

    /// The entries as they are now; nobody writes or reads meanwhile.
    pub(super) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when there is more.
    pub(super) fn grown(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }
}

impl Ring {
    /// Adds an entry. Room is made before, or the queue would grow to twice the size for one entry too many.
    fn push(&mut self, entry: Entry) {
        let weight = entry.weight();
        while self.entries.len() >= self.limits.count || self.bytes + weight > self.limits.bytes {
            let Some(oldest) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
            self.first += 1;
            self.gone += oldest.events();
            self.held -= oldest.events();
            self.since = oldest.time();
        }
        self.bytes += weight;
        self.held += entry.events();
        self.entries.push_back(entry);
    }

    /// Every entry, oldest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// Before the oldest entry.
    const fn begin(&self) -> Cursor {
        Cursor {
            next: self.first,
            seen: self.gone,
        }
    }

    /// Behind the newest entry.
    pub(super) fn end(&self) -> Cursor {
        Cursor {
            next: self.first + self.entries.len() as u64,
            seen: self.gone + self.held,
        }
    }

    /// Before the entry with this index among those that are here.
    pub(super) fn before(&self, index: usize) -> Cursor {
        let passed: u64 = self.entries.iter().take(index).map(Entry::events).sum();
        Cursor {
            next: self.first + index as u64,
            seen: self.gone + passed,
        }
    }

    /// What is missing when somebody wants everything since `time`.
    pub(super) fn missing_since(&self, time: SystemTime) -> Option<Lost> {
        (time < self.since).then_some(Lost {
            time: self.since,
            lost: self.gone,
            by: By::History,
        })
    }

    /// Shows entries from the cursor on, `most` of them, until `show` has enough, and moves the cursor behind them. First
    /// what the observer missed because it was too slow.
    pub(super) fn read(
        &self,
        cursor: &mut Cursor,
        most: usize,
        mut show: impl FnMut(&Entry) -> bool,
    ) {
        let begin = self.begin();
        if cursor.next < begin.next {
            let missed = Lost {
                time: self.since,
                lost: begin.seen - cursor.seen,
                by: By::Observer,
            };
            *cursor = begin;
            show(&Entry::Lost(missed));
        }
        let index = usize::try_from(cursor.next - begin.next).unwrap_or(usize::MAX);
        for entry in self.entries.iter().skip(index).take(most) {
            cursor.next += 1;
            cursor.seen += entry.events();
            if !show(entry) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
