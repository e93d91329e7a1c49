//! What an uplink costs at 100 000 denied prefixes: the whole test run, nothing subtracted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dfw_agent::policy::Blocks;
use dfw_common::plain::Tables;
use dfw_tests::frame::{Ip, flags, tcp};
use ipnet::IpNet;

use crate::{
    kernel::{Kernel, xdp_action},
    node::Size,
    packets::{Effort, Measured},
    report::Report,
};

/// Prefixes of both families together.
pub(crate) const PREFIXES: u32 = 100_000;
/// Networks of containers, each with a subnet of both families.
const NETWORKS: u8 = 30;
/// Frames of each kind, each measured alone.
const FRAMES: usize = 16;

/// Measures a packet from somebody on the list and from somebody who is not.
pub(crate) fn measure(kernel: &mut Kernel, effort: Effort, report: &mut Report) {
    let mut random = Random(1);
    let nets: Vec<IpNet> = (0..PREFIXES)
        .map(|number| net(&mut random, number % 2 == 0))
        .collect();
    let subnets = (0..NETWORKS).flat_map(|number| {
        [
            IpNet::new_assert(Ipv4Addr::new(172, 20, number, 0).into(), 24),
            IpNet::new_assert(
                Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, 0).into(),
                64,
            ),
        ]
    });
    let (denied, subnets) = (Blocks::of(nets.iter().copied()), Blocks::of(subnets));
    let mut tables = Tables::default();
    tables.uplink.denied = denied.list(1);
    tables.uplink.subnets = subnets.list(3);
    tables.blocks = denied.numbered(1).chain(subnets.numbered(3)).collect();
    kernel.write(&tables);
    for is_v4 in [true, false] {
        let family = if is_v4 { "IPv4" } else { "IPv6" };
        let own = nets.iter().filter(|net| net.addr().is_ipv4() == is_v4);
        let listed: Vec<IpAddr> = own.map(IpNet::addr).take(FRAMES).collect();
        let is_listed = |address: &IpAddr| nets.iter().any(|net| net.contains(address));
        let strangers = std::iter::repeat_with(|| address(&mut random, is_v4));
        let strangers: Vec<IpAddr> = strangers.filter(|a| !is_listed(a)).take(FRAMES).collect();
        for (what, sources, verdict) in [
            (
                "uplink, denied, 100 000 prefixes (whole run)",
                listed,
                xdp_action::XDP_DROP,
            ),
            (
                "uplink, passed, 100 000 prefixes (whole run)",
                strangers,
                xdp_action::XDP_PASS,
            ),
        ] {
            let costs = sources.into_iter().flat_map(|source| {
                let frame = frame(source);
                let rounds = 0..effort.rounds;
                let round = |_| {
                    let (returned, duration) = kernel.run_uplink(&frame, effort.repeat);
                    assert_eq!(returned, verdict, "{source}");
                    duration.as_nanos() as f64
                };
                rounds.map(round).collect::<Vec<_>>()
            });
            let costs = Measured::new(costs.collect(), vec![0.0]);
            report.packet(what, family, Size::LEAST, 1, None, &costs);
        }
    }
}

fn frame(source: IpAddr) -> Vec<u8> {
    let destination = match source {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 1).into(),
    };
    Ip {
        macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
        source,
        destination,
        hops: 64,
        options: Vec::new(),
        extensions: Vec::new(),
        fragment: None,
        upper: tcp(4000, 443, flags::SYN),
    }
    .frame()
}

/// As feeds have them: most are single addresses and customers' networks, of all lengths some.
fn net(random: &mut Random, is_v4: bool) -> IpNet {
    let bits = match (is_v4, random.below(10)) {
        (true, 0..=5) => 32,
        (true, 6 | 7) => 24,
        (true, _) => 12 + random.below(20) as u8,
        (false, 0..=2) => 128,
        (false, 3..=5) => 64,
        (false, 6 | 7) => 48,
        (false, _) => 24 + random.below(40) as u8,
    };
    IpNet::new_assert(address(random, is_v4), bits).trunc()
}

/// Of the public Internet.
fn address(random: &mut Random, is_v4: bool) -> IpAddr {
    let high = random.next();
    if is_v4 {
        // From 32.0.0.0 to 95.255.255.255: nothing there is anybody's private network.
        return Ipv4Addr::from((high as u32 & 0x3fff_ffff) + (32 << 24)).into();
    }
    let address = (u128::from(high) << 64) | u128::from(random.next());
    Ipv6Addr::from((address >> 3) | (1 << 125)).into()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
