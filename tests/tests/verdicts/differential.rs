//! The same frames, whatever they are, through the kernel and through the same code on plain maps: one verdict, the same
//! counters, the same flows.

use std::{collections::HashMap, env};

use dfw_common::{
    decide::{Hook, Place},
    key::FlowKey,
    plain::Tables,
    value::Flow,
};

use crate::{
    in_lab, rows,
    scenario::{BRIDGE, ENDPOINTS, INTERFACES},
    state,
    table::{At, Lab, Seen, Step},
};

/// How many frames are tried, unless `DFW_FRAMES` says otherwise.
const FRAMES: u32 = 20_000;
/// After how many frames counters and flows are compared, and everything begins anew.
const EPISODE: u32 = 250;

/// xorshift64* (Vigna 2016): the same frames each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
        high % end
    }

    fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }
}

/// What the table is made of.
#[derive(Default)]
struct Corpus {
    frames: Vec<(At, Vec<u8>)>,
    changes: Vec<fn(&mut Tables)>,
}

impl Corpus {
    fn of_table() -> Self {
        let mut corpus = Self::default();
        for row in rows() {
            for step in row.before {
                match step {
                    Step::Seen(at, frame) => corpus.frames.push((at, frame)),
                    Step::Written(change) => corpus.changes.push(change),
                    Step::Silence(_) | Step::Corrupted => {}
                }
            }
            corpus.frames.push((row.at, row.frame));
        }
        corpus
    }

    /// A frame of the table, most often changed a little.
    fn frame(&self, random: &mut Random) -> (At, Vec<u8>) {
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

fn without_time(flows: impl IntoIterator<Item = (FlowKey, Flow)>) -> HashMap<FlowKey, Flow> {
    let flows = flows.into_iter();
    flows
        .map(|(key, flow)| (key, Flow { seen: 0, ..flow }))
        .collect()
}

fn compare(lab: &mut Lab<'_>, episode: u32, before: &Seen, expected: &Seen) {
    let counted = lab.counters().since(before);
    assert_eq!(&counted, expected, "counters of episode {episode}");
    let flows = lab.kernel.flows();
    let in_kernel = flows.iter().map(|item| item.expect("a flow"));
    let in_kernel = without_time(in_kernel);
    let plain = without_time(lab.plain.flows.clone());
    assert_eq!(in_kernel, plain, "flows of episode {episode}");
}

#[test]
fn the_kernel_and_plain_maps_agree_on_any_frame() {
    let frames = env::var("DFW_FRAMES").map_or(FRAMES, |text| text.parse().expect("a number"));
    let corpus = Corpus::of_table();
    in_lab(|lab| {
        let mut passed = 0;
        for episode in 0..frames.div_ceil(EPISODE) {
            let mut random = Random(u64::from(episode) + 1);
            lab.reset();
            let before = lab.counters();
            let mut expected = Seen::default();
            for number in 0..EPISODE {
                match random.below(100) {
                    0 => lab.step(&Step::Written(*random.of(&corpus.changes))),
                    1 => lab.step(&Step::Silence(*random.of(&[11, 31, 61, 200]))),
                    _ => {}
                }
                let (at, frame) = corpus.frame(&mut random);
                if !state::takes(&frame) {
                    continue;
                }
                lab.plain.now = lab.kernel.now();
                let pass = lab.in_kernel(at, &frame);
                let plain = lab.on_plain_maps(at, &frame);
                assert_eq!(
                    pass,
                    plain.passes(),
                    "frame {number} of episode {episode} at {at:?}: {frame:02x?}\n{plain:?}"
                );
                passed += u32::from(pass);
                expected.add(&plain);
            }
            compare(lab, episode, &before, &expected);
        }
        // Neither all nor nothing: otherwise this has tried little.
        assert!(
            passed > frames / 20 && passed < frames - frames / 20,
            "{passed} pass"
        );
    });
}
