//! Router solicitations, advertisements and redirects, and link-local addresses.

use std::net::Ipv6Addr;

use dfw_common::reason::Reason;
use dfw_tests::frame::Mac;

use crate::{
    discovery::{ALL_NODES, nd, v6},
    scenario::{BRIDGE, Who},
    table::{Row, allow, audit, deny, from, row, silent, to},
};
use Who::{A, B, C, Host, World};

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Rows of IPv6.
pub(crate) fn rows() -> Vec<Row> {
    let rs = |sender: Who, source, destination, mac: Mac| {
        nd(
            133,
            sender,
            source,
            destination,
            &[&[0, 0, 0, 0, 1, 1], &mac[..]].concat(),
        )
    };
    let nothing = [0; 12];
    let spoofed = deny(Reason::SpoofedNeighbour);
    let ra = Reason::RouterAdvertisement;
    let mut low = rs(A, A.link_local(), ALL_ROUTERS, A.mac());
    low.hops = 1;
    let mut to_one = nd(134, C, C.link_local(), v6(B), &nothing);
    to_one.macs[0] = B.mac();
    vec![
        row(
            "RS",
            from(A),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            silent(),
        ),
        row(
            "RS without an address",
            from(A),
            nd(133, A, Ipv6Addr::UNSPECIFIED, ALL_ROUTERS, &[0; 4]),
            silent(),
        ),
        row(
            "RS with another's address",
            from(A),
            rs(A, v6(C), ALL_ROUTERS, A.mac()),
            spoofed,
        ),
        row(
            "RS with another's MAC",
            from(A),
            rs(A, A.link_local(), ALL_ROUTERS, C.mac()),
            spoofed,
        ),
        row("RS with hop limit 1", from(A), low, spoofed),
        row(
            "RS to the world",
            from(A),
            rs(A, v6(A), v6(World), A.mac()),
            spoofed,
        ),
        row(
            "RS received",
            to(B, A.ifindex()),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            deny(Reason::Neighbour),
        ),
        row(
            "RS received, audited",
            to(C, A.ifindex()),
            rs(A, A.link_local(), ALL_ROUTERS, A.mac()),
            silent(),
        ),
        row(
            "RA",
            from(A),
            nd(134, A, A.link_local(), ALL_NODES, &nothing),
            deny(ra),
        ),
        row(
            "RA, audited",
            from(C),
            nd(134, C, C.link_local(), ALL_NODES, &nothing),
            audit(ra),
        ),
        row("RA to one that enforces", from(C), to_one, deny(ra)),
        row(
            "RA of a neighbour received",
            to(B, C.ifindex()),
            nd(134, C, C.link_local(), ALL_NODES, &nothing),
            deny(ra),
        ),
        row(
            "RA of the host received",
            to(B, 0),
            nd(134, Host, Host.link_local(), ALL_NODES, &nothing),
            silent(),
        ),
        row(
            "RA through the bridge received",
            to(B, BRIDGE),
            nd(134, Host, Host.link_local(), ALL_NODES, &nothing),
            silent(),
        ),
        row(
            "redirect",
            from(A),
            nd(137, A, A.link_local(), v6(B), &[0; 36]),
            deny(ra),
        ),
        row(
            "redirect of a neighbour received",
            to(B, C.ifindex()),
            nd(137, C, C.link_local(), ALL_NODES, &[0; 36]),
            deny(ra),
        ),
        row(
            "link-local echo",
            from(A),
            nd(128, A, A.link_local(), B.link_local(), &[0; 4]),
            allow(Reason::Allowed),
        ),
        row(
            "another's link-local address",
            from(A),
            nd(128, A, C.link_local(), B.link_local(), &[0; 4]),
            deny(Reason::SpoofedAddress),
        ),
    ]
}
