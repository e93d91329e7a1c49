//! Any frames through the kernel and through the oracle: for each the same verdict and the same counts, by the million.

mod twin;
mod uplink;

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use dfw_agent::datapath::load::Options;
use dfw_common::reason::{Direction, Reason, Verdict};
use dfw_tests::campaign;

use crate::{
    corpus::{Corpus, Random},
    kernel,
    scenario::INTERFACES,
    state,
    table::{Seen, counters, fate},
};
use twin::{FLOWS, Twin, spot};

/// After how many frames counts are compared and everything begins anew.
const EPISODE: u32 = 1000;
/// One frame in so many is held against the reasons too.
const SAMPLE: usize = 64;
/// How often each reason must have been met in a campaign.
const ENOUGH: u64 = 1000;

type Reasons = BTreeMap<(Direction, Verdict, Reason), u64>;
type Counts = BTreeMap<(u32, Direction, Verdict), u64>;

/// `DFW_FRAMES` is how many, `DFW_EPISODE` a single episode, in which every frame is held against everything.
#[test]
fn the_kernel_and_the_oracle_agree_on_any_frame() {
    let number = |name| {
        env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    let frames: u32 = number("DFW_FRAMES").unwrap_or(campaign::scale(20_000, 50_000_000));
    let only = number("DFW_EPISODE");
    let episodes = frames.div_ceil(EPISODE);
    let next = AtomicU32::new(0);
    let met = Mutex::new(Reasons::new());
    let start = Instant::now();
    let work = || {
        let options = Options {
            flows: Some(FLOWS),
            fast_path: true,
            ..Options::default()
        };
        kernel::inside(&INTERFACES, options, |kernel| {
            let corpus = Corpus::of_table().without_uplinks();
            let mut twin = Twin::new(kernel);
            if let Some(number) = only {
                episode(&mut twin, &corpus, number, 1);
                return;
            }
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= episodes {
                    break;
                }
                let reasons = episode(&mut twin, &corpus, number, SAMPLE);
                let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
                for (key, packets) in reasons {
                    *met.entry(key).or_default() += packets;
                }
                if (number + 1).is_multiple_of((episodes / 50).max(1)) {
                    let seconds = start.elapsed().as_secs_f64();
                    let done = f64::from(number + 1) * f64::from(EPISODE);
                    eprintln!("{done} frames, {:.0} a second", done / seconds);
                }
            }
        });
    };
    let workers = match only {
        Some(_) => 1,
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("the kernel and the oracle agree");
        }
    });
    let met = met.into_inner().unwrap_or_else(PoisonError::into_inner);
    print(&met, start.elapsed().as_secs_f64(), frames);
    if only.is_none() {
        every_reason_is_met(&met, campaign::scale(0, ENOUGH));
    }
}

/// One episode; what the kernel counted in it.
fn episode(twin: &mut Twin<'_>, corpus: &Corpus, number: u32, sample: usize) -> Reasons {
    let mut random = Random(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    twin.reset();
    let before = counters(twin.kernel);
    let mut expected = Counts::new();
    let mut silences = 0;
    for at_frame in 0..EPISODE {
        match random.below(200) {
            0 => twin.change(&mut random),
            // Few enough that no sum of them is just as long as a timeout.
            1 if silences < 3 => {
                silences += 1;
                twin.wait(*random.of(&[10_300, 30_300, 60_300, 120_300, 180_300, 600_300]));
            }
            _ => {}
        }
        let (at, frame) = corpus.frame(&mut random);
        if !state::takes(&frame) {
            continue;
        }
        let is_sampled = random.below(sample) == 0;
        let earlier = is_sampled.then(|| counters(twin.kernel));
        let spot = spot(at);
        let answer = twin.node.judge(spot, &frame);
        let fate = fate(twin.kernel, at, &frame);
        let seen = earlier.map(|earlier| counters(twin.kernel).since(&earlier));
        let agrees = seen
            .as_ref()
            .is_none_or(|seen| twin::tells(seen, spot, &answer));
        assert!(
            fate == twin::fate(&answer) && agrees,
            "frame {at_frame} of episode {number} at {spot:?}: {}\nthe kernel: {fate:?}, {seen:?}\nthe oracle: {answer:?}\n{:?}",
            hex(&frame),
            twin.node
        );
        for (ifindex, verdict, of) in twin::counts(spot, &answer) {
            *expected.entry((ifindex, of, verdict)).or_default() += 1;
        }
    }
    let seen = counters(twin.kernel).since(&before);
    compare(number, &seen, expected);
    seen.reasons
}

/// The same counts, by endpoint and altogether.
fn compare(number: u32, seen: &Seen, mut expected: Counts) {
    let hint = format!("counts of episode {number}; DFW_EPISODE={number} says which frame");
    let by_verdict = |sums: &mut BTreeMap<(Direction, Verdict), u64>, of, verdict, packets| {
        *sums.entry((of, verdict)).or_default() += packets;
    };
    let (mut all_seen, mut all_expected) = (BTreeMap::new(), BTreeMap::new());
    for ((of, verdict, _), packets) in &seen.reasons {
        by_verdict(&mut all_seen, *of, *verdict, *packets);
    }
    for ((_, of, verdict), packets) in &expected {
        by_verdict(&mut all_expected, *of, *verdict, *packets);
    }
    assert_eq!(all_seen, all_expected, "{hint}");
    // Who is nobody's endpoint is counted by reason only.
    expected.retain(|(ifindex, _, _), _| twin::is_endpoint(*ifindex));
    assert_eq!(seen.endpoints, expected, "{hint}");
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print(met: &Reasons, seconds: f64, frames: u32) {
    println!(
        "{frames} frames in {seconds:.0} s, {:.0} a second, no mismatch",
        f64::from(frames) / seconds
    );
    for reason in Reason::ALL {
        let of = |verdict| -> u64 {
            let counts = met
                .iter()
                .filter(|((_, of, why), _)| *of == verdict && why == reason);
            counts.map(|(_, packets)| packets).sum()
        };
        let [allow, deny, audit] = Verdict::ALL.map(of);
        let name = reason.name();
        println!("{name:22} allow {allow:10}  deny {deny:10}  audit {audit:10}");
    }
}

/// Every reason but those that take a broken or a full table.
fn every_reason_is_met(met: &Reasons, enough: u64) {
    for reason in Reason::ALL {
        let packets: u64 = met
            .iter()
            .filter(|((_, _, why), _)| why == reason)
            .map(|(_, packets)| packets)
            .sum();
        assert!(
            packets >= enough || matches!(reason, Reason::FlowTableFull | Reason::Internal),
            "{} was met {packets} times",
            reason.name()
        );
    }
}
