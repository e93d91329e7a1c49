//! What others changed, remembered for people: told once, counted, and told again as it goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Tampering;
use crate::model::{Finding, Level};

/// How long it stays among the findings after it was seen last.
const MEMORY: Duration = Duration::from_secs(600);
/// Different things that are remembered at most; the metric counts the others too.
const MOST: usize = 1_000;

#[derive(Debug)]
struct Seen {
    times: u32,
    last: Instant,
    error: Option<String>,
}

/// Everything foreign that was found lately, by interface and kind.
#[derive(Debug, Default)]
pub(super) struct Memory {
    seen: BTreeMap<(Option<u32>, String), Seen>,
}

impl Memory {
    /// Takes in one thing; whether there is something to tell: it is new, or has been seen twice as often as when it was
    /// told last.
    pub(super) fn note<E: std::error::Error>(
        &mut self,
        tampering: Tampering<E>,
        now: Instant,
    ) -> bool {
        let error = tampering.repaired.err().map(|error| error.to_string());
        let key = (tampering.ifindex, tampering.what);
        if self.seen.len() >= MOST && !self.seen.contains_key(&key) {
            return false;
        }
        let seen = self.seen.entry(key).or_insert(Seen {
            times: 0,
            last: now,
            error: None,
        });
        let is_news = seen.error != error;
        seen.times = seen.times.saturating_add(1);
        seen.last = now;
        seen.error = error;
        is_news || seen.times.is_power_of_two()
    }

    /// As findings; `name` says what people call an interface.
    pub(super) fn findings(&mut self, now: Instant, name: impl Fn(u32) -> String) -> Vec<Finding> {
        self.seen
            .retain(|_, seen| now.saturating_duration_since(seen.last) < MEMORY);
        let findings = self.seen.iter().map(|((ifindex, what), seen)| {
            let subject = ifindex.map(&name).unwrap_or_default();
            // Not each time makes a new line of the log.
            let times = 1 << seen.times.ilog2();
            let message = match times {
                1 => what.clone(),
                times => format!("{what} ({times} times or more)"),
            };
            match &seen.error {
                None => Finding::new(Level::Warning, "tampered", &subject, message),
                Some(error) => {
                    let message = format!("{message}; but it could not be put right: {error}");
                    Finding::new(Level::Error, "tampered", &subject, message)
                }
            }
        });
        findings.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn found(ifindex: u32, repaired: io::Result<()>) -> Tampering<io::Error> {
        Tampering {
            ifindex: Some(ifindex),
            what: "moved".to_owned(),
            repaired,
        }
    }

    fn messages(memory: &mut Memory, now: Instant) -> Vec<String> {
        let findings = memory.findings(now, |ifindex| format!("veth{ifindex}"));
        let lines = findings.iter();
        lines
            .map(|finding| format!("{}: {}", finding.subject, finding.message))
            .collect()
    }

    #[test]
    fn what_goes_on_is_told_again_and_again_but_ever_more_rarely() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let told = (0..100)
            .filter(|_| memory.note(found(7, Ok(())), now))
            .count();
        assert_eq!(told, 7);
        assert_eq!(
            messages(&mut memory, now),
            ["veth7: moved (64 times or more)"]
        );
        assert!(memory.note(found(8, Ok(())), now), "another interface");
        assert!(
            memory.note(found(7, Err(io::ErrorKind::StorageFull.into())), now),
            "that it fails now is news"
        );
        assert_eq!(
            messages(&mut memory, now),
            [
                "veth7: moved (64 times or more); but it could not be put right: no storage space",
                "veth8: moved"
            ]
        );
        assert!(messages(&mut memory, now + MEMORY).is_empty(), "long ago");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for ifindex in 0..5_000 {
            memory.note(found(ifindex, Ok(())), now);
        }
        assert_eq!(messages(&mut memory, now).len(), MOST);
    }
}
