//! The same frames, whatever they are, through the kernel and through the same code on plain maps: one verdict, the same
//! counters, the same flows.

use std::{collections::HashMap, env};

use dfw_common::{key::FlowKey, value::Flow};

use crate::{
    corpus::{Corpus, Random},
    in_lab, state,
    table::{Fate, Lab, Seen, Step},
    ways,
};

/// How many frames are tried, unless `DFW_FRAMES` says otherwise.
const FRAMES: u32 = 20_000;
/// After how many frames counters and flows are compared, and everything begins anew.
const EPISODE: u32 = 250;

fn without_time(flows: impl IntoIterator<Item = (FlowKey, Flow)>) -> HashMap<FlowKey, Flow> {
    let flows = flows.into_iter();
    flows
        .map(|(key, flow)| (key, Flow { seen: 0, ..flow }))
        .collect()
}

fn compare(lab: &mut Lab<'_>, episode: u32, before: &Seen, expected: &Seen) {
    let counted = lab.counters().since(before);
    assert_eq!(&counted, expected, "counters of episode {episode}");
    let in_kernel = without_time(lab.kernel.flows());
    let plain = without_time(lab.plain.flows.clone());
    assert_eq!(in_kernel, plain, "flows of episode {episode}");
    let learned = lab.compare_learned(&format!("episode {episode}"));
    assert_eq!(learned, Ok(()));
}

#[test]
fn the_kernel_and_plain_maps_agree_on_any_frame() {
    let frames = env::var("DFW_FRAMES").map_or(FRAMES, |text| text.parse().expect("a number"));
    let corpus = Corpus::of_table();
    let ways = ways();
    for is_open in &ways {
        agree(&corpus, frames / ways.len() as u32, *is_open);
    }
}

fn agree(corpus: &Corpus, frames: u32, is_open: bool) {
    in_lab(is_open, |lab| {
        let (mut passed, mut redirected) = (0, 0);
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
                let fate = lab.in_kernel(at, &frame);
                let plain = lab.on_plain_maps(at, &frame);
                assert_eq!(
                    fate, plain.fate,
                    "frame {number} of episode {episode} at {at:?}: {frame:02x?}\n{plain:?}"
                );
                passed += u32::from(fate != Fate::Dropped);
                redirected += u32::from(fate == Fate::Redirected);
                expected.add(&plain);
            }
            compare(lab, episode, &before, &expected);
        }
        // Neither all nor nothing: otherwise this has tried little.
        assert!(
            passed > frames / 20 && passed < frames - frames / 20,
            "{passed} pass"
        );
        assert_eq!(is_open, redirected > 0, "{redirected} are redirected");
    });
}
