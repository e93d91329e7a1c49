//! Any frames and any deny lists through the uplink's program and through the oracle.

use std::{
    collections::BTreeMap,
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use dfw_agent::{datapath::load::Options, policy::Blocks};
use dfw_common::reason::Reason;
use dfw_tests::campaign;

use super::{
    hex,
    twin::{Twin, outside},
};
use crate::{
    corpus::{Corpus, Random},
    kernel,
    scenario::{Family, INTERFACES, Who},
    state,
    table::{At, Fate, counters, fate},
};

/// After how many frames there is another list.
const EPISODE: u32 = 500;
/// One frame in so many is held against the reasons too.
const SAMPLE: usize = 16;
/// Prefixes of a list at most.
const LIST: usize = 60;

type Net = (IpAddr, u8);

#[test]
fn the_uplink_and_the_oracle_agree_on_any_frame() {
    let frames: u32 = env::var("DFW_FRAMES").map_or_else(
        |_| campaign::scale(20_000, 10_000_000),
        |text| text.parse().expect("a number"),
    );
    let corpus = Corpus::of_table();
    let met = kernel::inside(&INTERFACES, Options::default(), |kernel| {
        let mut twin = Twin::new(kernel);
        let mut met = BTreeMap::new();
        for number in 0..frames.div_ceil(EPISODE) {
            episode(&mut twin, &corpus, number, &mut met);
        }
        met
    });
    println!("{frames} frames: {met:?}");
    for reason in [
        Reason::Malformed,
        Reason::DenyList,
        Reason::SpoofedAddress,
        Reason::NoRule,
        Reason::Unmanaged,
    ] {
        assert!(met.contains_key(&reason), "{} is not met", reason.name());
    }
}

fn episode(twin: &mut Twin<'_>, corpus: &Corpus, number: u32, met: &mut BTreeMap<Reason, u64>) {
    let mut random = Random(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    twin.reset();
    let denied: Vec<Net> = (0..random.below(LIST)).map(|_| net(&mut random)).collect();
    let subnets = ["10.1.0.0/24", "fd01::/64", "10.2.0.0/24", "fd02::/64"];
    let written = denied.iter().map(|(base, bits)| format!("{base}/{bits}"));
    let blocks = |nets: &mut dyn Iterator<Item = String>| {
        Blocks::of(nets.map(|net| net.parse().expect("a net")))
    };
    let subnets = blocks(&mut subnets.iter().map(|net| (*net).to_owned()));
    twin.list(&blocks(&mut { written }), &subnets);
    for at_frame in 0..EPISODE {
        if random.below(50) == 0 {
            twin.change(&mut random);
        }
        let (_, mut frame) = corpus.frame(&mut random);
        match random.below(4) {
            0 | 1 => resource(&mut frame, &denied, &mut random),
            2 => inwards(&mut frame, &mut random),
            _ => {}
        }
        if !state::takes(&frame) {
            continue;
        }
        let is_sampled = random.below(SAMPLE) == 0;
        let earlier = is_sampled.then(|| counters(twin.kernel));
        let answer = twin.node.at_uplink(&denied, &frame);
        let fate = fate(twin.kernel, At::Uplink, &frame);
        let seen = earlier.map(|earlier| counters(twin.kernel).since(&earlier));
        let agrees = match fate {
            Fate::Passed => answer.may_pass,
            Fate::Dropped => !answer.reasons.is_empty(),
            Fate::Redirected => false,
        };
        let told: Option<Vec<_>> = seen.map(|seen| seen.reasons.into_keys().collect());
        let tells = told.as_deref().is_none_or(|told| match (fate, told) {
            (Fate::Passed, []) => true,
            (Fate::Dropped, [(_, _, reason)]) => answer.reasons.contains(&reason.name()),
            _ => false,
        });
        assert!(
            agrees && tells,
            "frame {at_frame} of episode {number}: {}\nthe kernel: {fate:?}, {told:?}\nthe oracle: {answer:?}\ndenied: {denied:?}\n{:?}",
            hex(&frame),
            twin.node
        );
        for (.., reason) in told.into_iter().flatten() {
            *met.entry(reason).or_default() += 1;
        }
    }
}

/// A prefix of any length, most often near somebody.
fn net(random: &mut Random) -> Net {
    let family = *random.of(&Family::ALL);
    let near = random
        .of(&[Who::World, Who::Denied, Who::A, Who::Host])
        .ip(family);
    let address = match random.below(3) {
        0 => any(family, random),
        _ => near,
    };
    match address {
        IpAddr::V4(v4) => {
            let bits = 1 + random.below(32);
            let base = u32::from(v4) & (u32::MAX << (32 - bits));
            (Ipv4Addr::from(base).into(), bits as u8)
        }
        IpAddr::V6(v6) => {
            let bits = 1 + random.below(128);
            let base = u128::from(v6) & (u128::MAX << (128 - bits));
            (Ipv6Addr::from(base).into(), bits as u8)
        }
    }
}

fn any(family: Family, random: &mut Random) -> IpAddr {
    let mut octets = [0; 16];
    octets.fill_with(|| random.below(256) as u8);
    match family {
        Family::V4 => Ipv4Addr::from(*octets.first_chunk().expect("sixteen")).into(),
        Family::V6 => Ipv6Addr::from(octets).into(),
    }
}

/// Gives a packet a source in a denied net or, by one bit, beside it.
fn resource(frame: &mut [u8], denied: &[Net], random: &mut Random) {
    if denied.is_empty() {
        return;
    }
    let (base, _) = *random.of(denied);
    let bit = random.below(if base.is_ipv4() { 32 } else { 128 });
    put(frame, End::Source, base, Some(bit));
}

/// Sends a packet from the world, or from this host's own address, to somebody in a container's subnet.
fn inwards(frame: &mut [u8], random: &mut Random) {
    let receiver = *random.of(&[Who::A, Who::B, Who::C, Who::D, Who::E, Who::Nobody]);
    let sender = *random.of(&[Some(Who::World), Some(Who::Denied), None]);
    for family in Family::ALL {
        let source = sender.map_or_else(|| outside(family), |sender| sender.ip(family));
        put(frame, End::Source, source, None);
        put(frame, End::Destination, receiver.ip(family), None);
    }
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Puts an address into a packet of its family, with one bit of it turned over.
fn put(frame: &mut [u8], end: End, address: IpAddr, bit: Option<usize>) {
    let (start, mut octets) = match (frame.get(12..14), address) {
        (Some([8, 0]), IpAddr::V4(v4)) => (26, v4.octets().to_vec()),
        (Some([0x86, 0xdd]), IpAddr::V6(v6)) => (22, v6.octets().to_vec()),
        _ => return,
    };
    if let Some(bit) = bit {
        octets[bit / 8] ^= 0x80 >> (bit % 8);
    }
    let start = match end {
        End::Source => start,
        End::Destination => start + octets.len(),
    };
    if let Some(place) = frame.get_mut(start..start + octets.len()) {
        place.copy_from_slice(&octets);
    }
}
