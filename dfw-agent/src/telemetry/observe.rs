//! What an observer asks for, and the stream that it gets. Filters run here, so that nobody pays for what others see.

mod filter;

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use axum::body::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::yield_now,
};

use self::filter::Filter;
pub use self::filter::{Peer, PortFilter};
use super::history::{Cursor, Entry, History, Lost};
use crate::model::{Unanswerable, View};

/// The question, as a command sends it. Several values of a field mean any of them, no value means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Who sends: words for [`Peer`].
    pub from: Vec<String>,
    /// Who receives.
    pub to: Vec<String>,
    /// Port of either end.
    pub ports: Vec<PortFilter>,
    /// Names of verdicts.
    pub verdicts: Vec<String>,
    /// Names of reasons.
    pub reasons: Vec<String>,
    /// Begin with what happened in so many milliseconds before now.
    pub since_ms: Option<u64>,
    /// Of the past only the last ones.
    pub last: Option<usize>,
    /// Go on with what happens from now on.
    pub follow: bool,
}

/// Entries looked at in one go; then others have their turn.
const SCAN: usize = 1024;
/// Bytes of a chunk, roughly.
const CHUNK: usize = 32 * 1024;

/// One observer.
struct Observer {
    history: Arc<History>,
    grown: watch::Receiver<u64>,
    filter: Filter,
    cursor: Cursor,
    /// Told before everything else.
    missing: Option<Lost>,
    /// Where it ends, unless it follows.
    end: Option<u64>,
    _seat: OwnedSemaphorePermit,
}

/// Answers a question: entries as JSON, one a line.
///
/// # Errors
/// A name that nobody has, or no room for one more observer.
pub(super) fn answer(
    query: &Query,
    history: &Arc<History>,
    view: &View,
    now: SystemTime,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, Unanswerable> {
    let Ok(seat) = Arc::clone(&history.seats).try_acquire_owned() else {
        return Err(Unanswerable {
            message: "there are as many observers as the agent serves".to_owned(),
            hint: "end one of them: `dfw observe` or `dfw top` in another terminal".to_owned(),
        });
    };
    let grown = history.grown();
    let ring = history.ring();
    let filter = Filter::new(query, view, &ring)?;
    let since = query
        .since_ms
        .map(|millis| now.checked_sub(std::time::Duration::from_millis(millis)));
    // What is before all times is since ever.
    let since = since.map(|since| since.unwrap_or(SystemTime::UNIX_EPOCH));
    let observer = Observer {
        cursor: ring.before(begin(&ring, &filter, since, query.last)),
        missing: since.and_then(|since| ring.missing_since(since)),
        end: (!query.follow).then(|| ring.end().next),
        history: Arc::clone(history),
        grown,
        filter,
        _seat: seat,
    };
    drop(ring);
    Ok(stream::unfold(observer, |mut observer| async {
        let chunk = observer.next().await?;
        Some((Ok(chunk), observer))
    }))
}

/// Index of the first entry to show.
fn begin(
    ring: &super::history::Ring,
    filter: &Filter,
    since: Option<SystemTime>,
    last: Option<usize>,
) -> usize {
    let all = ring.entries().len();
    let oldest = match since {
        // Entries come in the order of their times but for what two processors do at once.
        Some(since) => ring.entries().position(|entry| entry.time() >= since),
        None => last.map(|_| 0),
    };
    let oldest = oldest.unwrap_or(all);
    let Some(last) = last else { return oldest };
    let wanted = ring
        .entries()
        .enumerate()
        .skip(oldest)
        .rev()
        .filter(|(_, entry)| matches!(entry, Entry::Flow(event) if filter.matches(event)));
    match last.checked_sub(1) {
        None => all,
        Some(others) => wanted
            .map(|(index, _)| index)
            .take(others + 1)
            .last()
            .unwrap_or(all),
    }
}

impl Observer {
    /// The next lines, as soon as there are any; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::new();
        if let Some(missing) = self.missing.take() {
            write(&mut chunk, &Entry::Lost(missing));
        }
        loop {
            self.grown.borrow_and_update();
            let at_end = {
                let ring = self.history.ring();
                let end = self.end.unwrap_or_else(|| ring.end().next);
                let most = usize::try_from(end.saturating_sub(self.cursor.next)).unwrap_or(SCAN);
                ring.read(&mut self.cursor, most.min(SCAN), |entry| {
                    if self.filter.passes(entry) {
                        write(&mut chunk, entry);
                    }
                    chunk.len() < CHUNK
                });
                self.cursor.next >= end
            };
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
            if !at_end {
                yield_now().await;
            } else if self.end.is_some() {
                return None;
            } else {
                self.grown.changed().await.ok()?;
            }
        }
    }
}

fn write(out: &mut Vec<u8>, entry: &Entry) {
    serde_json::to_writer(&mut *out, entry).expect("plain values, into memory");
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
