//! What an uplink costs at 100 000 denied prefixes: the whole test run, nothing subtracted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dfw_agent::policy::Blocks;
use dfw_common::plain::Tables;
use dfw_tests::{
    frame::{Ip, flags, tcp},
    prefixes::{self, Random},
};
use ipnet::IpNet;

use crate::{
    kernel::{Kernel, xdp_action},
    node::Size,
    packets::{Effort, Measured},
    report::Report,
};

/// Networks of containers, each with a subnet of both families.
const NETWORKS: u8 = 30;
/// Frames of each kind, each measured alone.
const FRAMES: usize = 16;

/// Measures a packet from somebody on the list and from somebody who is not.
pub(crate) fn measure(kernel: &mut Kernel, effort: Effort, report: &mut Report) {
    let mut random = Random(1);
    let nets = prefixes::many(&mut random);
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
        let strangers = std::iter::repeat_with(|| prefixes::address(&mut random, is_v4));
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
