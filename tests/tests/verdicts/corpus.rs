//! Any frames: those of the table, most often changed a little, and seen anywhere.

use dfw_common::{
    decide::{Hook, Place},
    plain::Tables,
};

use crate::{
    rows,
    scenario::{BRIDGE, ENDPOINTS, INTERFACES},
    table::{At, Step},
};

/// xorshift64* (Vigna 2016): the same frames each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
        high % end
    }

    /// One of these.
    pub(crate) fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}

/// What the table is made of.
#[derive(Default)]
pub(crate) struct Corpus {
    frames: Vec<(At, Vec<u8>)>,
    pub(crate) changes: Vec<fn(&mut Tables)>,
}

impl Corpus {
    pub(crate) fn of_table() -> Self {
        let mut corpus = Self::default();
        for row in rows() {
            for step in row.before {
                match step {
                    Step::Seen(at, frame) => corpus.frames.push((at, frame)),
                    Step::Written(change) => corpus.changes.push(change),
                    Step::Halfway(_) | Step::Silence(_) | Step::Corrupted => {}
                }
            }
            corpus.frames.push((row.at, row.frame));
        }
        corpus
    }

    /// A frame of the table, most often changed a little.
    pub(crate) fn frame(&self, random: &mut Random) -> (At, Vec<u8>) {
        let (mut at, mut frame) = random.of(&self.frames).clone();
        if random.below(4) == 0 {
            at = place(random);
        }
        for _ in 0..random.below(4) {
            change(&mut frame, random, self);
        }
        (at, frame)
    }
}

fn place(random: &mut Random) -> At {
    let hook = *random.of(&[Hook::From, Hook::To]);
    if random.below(8) == 0 {
        return At::Bridge(hook);
    }
    let ifindex = random.of(&ENDPOINTS).ifindex();
    let ingress = match hook {
        Hook::From => ifindex,
        Hook::To => *random.of(&[&INTERFACES[..], &[0, BRIDGE]].concat()),
    };
    At::Endpoint(Place {
        hook,
        ifindex,
        ingress,
    })
}

fn change(frame: &mut Vec<u8>, random: &mut Random, corpus: &Corpus) {
    let (_, other) = random.of(&corpus.frames);
    let at = random.below(frame.len());
    match random.below(8) {
        0 => frame[at] ^= 1 << random.below(8),
        1 => frame[at] = random.below(256) as u8,
        2 => frame[at] = *random.of(&[0, 1, 4, 6, 17, 43, 44, 47, 51, 58, 60, 132, 255]),
        3 => frame.truncate(at.max(15)),
        4 => frame.extend(&other[random.below(other.len())..]),
        // From another frame: the link's header, the addresses, what follows.
        5 => {
            let end = *random.of(&[6, 12, 14, 34, 54]);
            let end = end.min(frame.len()).min(other.len());
            frame[..end].copy_from_slice(&other[..end]);
        }
        6 => {
            let from = (*random.of(&[14, 22, 26, 34, 38, 54])).min(frame.len());
            frame.truncate(from);
            frame.extend(other.get(from..).unwrap_or_default());
        }
        _ => frame
            .splice(at..at, [random.below(256) as u8])
            .for_each(drop),
    }
    // A test run takes neither less than a header nor more than a page.
    frame.resize(frame.len().clamp(15, 2000), 0);
}
