//! The bridge device's own hooks: never policy, only whose a frame is (docs/semantics.md section 10).

use std::net::{Ipv4Addr, Ipv6Addr};

use dfw_common::{decide::Hook, plain::Tables, reason::Reason};
use dfw_tests::frame::{arp, ethernet, flags, icmp, protocol, tagged, tcp, udp};

use crate::{
    scenario::{Family, Who},
    table::{At, Row, deny, packet, row, silent},
};
use Who::{A, C, D, E, Group, Host, Nobody, World};

const OUT: At = At::Bridge(Hook::From);
const IN: At = At::Bridge(Hook::To);
/// No interface has this number.
const GONE: u32 = 999;

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let enforcing: fn(&mut Tables) = |tables| tables.settings.enforcing = 1;
    let syn = |sender, receiver| packet(family, sender, receiver, tcp(4000, 80, flags::SYN));
    let unmanaged = deny(Reason::Unmanaged);
    let mut fragment = packet(family, C, World, udp(4000, 53));
    fragment.fragment = Some((1, false));
    let mut stray = fragment.clone();
    stray.source = Nobody.ip(family);
    let tag = tagged(&syn(A, Host).frame(), 0x8100, 0);
    let mut nameless = packet(family, A, Group, udp(68, 67));
    nameless.source = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut addressless = syn(Host, A);
    addressless.destination = nameless.source;
    let mut rows = vec![
        row("bridge: of an endpoint", OUT, syn(A, Host), silent()),
        row(
            "bridge: of an endpoint that audits",
            OUT,
            syn(C, World),
            silent(),
        ),
        row(
            "bridge: of an endpoint that is off",
            OUT,
            syn(D, World),
            silent(),
        ),
        row(
            "bridge: what policy would deny",
            OUT,
            syn(A, World),
            silent(),
        ),
        row(
            "bridge: a fragment of one that audits",
            OUT,
            fragment,
            silent(),
        ),
        row("bridge: a fragment of nobody", OUT, stray, unmanaged),
        row("bridge: of nobody", OUT, syn(Nobody, Host), unmanaged),
        row("bridge: of another network", OUT, syn(E, Host), unmanaged),
        row("bridge: of the world", OUT, syn(World, Host), unmanaged),
        row(
            "bridge: of the host's address",
            OUT,
            syn(Host, Host),
            unmanaged,
        ),
        row("bridge: without an address yet", OUT, nameless, silent()),
        row("bridge: tagged", OUT, tag.clone(), deny(Reason::VlanTag)),
        row(
            "bridge: of no known type",
            OUT,
            ethernet([A.mac(); 2], 0x8847, &[0; 40]),
            deny(Reason::Ethertype),
        ),
        row("bridge: to an endpoint", IN, syn(Host, A), silent()),
        row("bridge: to a group", IN, syn(Host, Group), silent()),
        row("bridge: to nobody", IN, syn(Host, Nobody), unmanaged),
        row("bridge: to no address", IN, addressless, unmanaged),
        row("bridge: to the world", IN, syn(Host, World), unmanaged),
        row("bridge: to another network", IN, syn(Host, E), unmanaged),
        row(
            "bridge: tagged, to an endpoint",
            IN,
            tag,
            deny(Reason::VlanTag),
        ),
    ];
    rows.extend(match family {
        Family::V4 => {
            let asks = |sender: ([u8; 6], [u8; 4]), target| {
                ethernet(
                    [[0xff; 6], sender.0],
                    0x0806,
                    &arp(1, sender, ([0; 6], target)),
                )
            };
            let gateway = (Host.mac(), [10, 1, 0, 1]);
            vec![
                row(
                    "bridge: question of an endpoint",
                    OUT,
                    asks((A.mac(), [10, 1, 0, 11]), [10, 1, 0, 1]),
                    silent(),
                ),
                row(
                    "bridge: question of nobody",
                    OUT,
                    asks((Nobody.mac(), [10, 1, 0, 99]), [10, 1, 0, 1]),
                    unmanaged,
                ),
                row(
                    "bridge: question for an endpoint",
                    IN,
                    asks(gateway, [10, 1, 0, 11]),
                    silent(),
                ),
                row(
                    "bridge: question for nobody",
                    IN,
                    asks(gateway, [10, 1, 0, 99]),
                    unmanaged,
                ),
            ]
        }
        Family::V6 => {
            let mut mapped = syn(A, Host);
            mapped.source = "::ffff:10.1.0.11".parse().expect("an address");
            let mut local = packet(family, A, Group, icmp(protocol::ICMP6, 133, 0, &[0; 4]));
            local.source = A.link_local().into();
            vec![
                row(
                    "bridge: a v4-mapped source",
                    OUT,
                    mapped,
                    deny(Reason::Malformed),
                ),
                row("bridge: link-local", OUT, local, silent()),
            ]
        }
    });
    // No agent was there when it went; the next one may have its address.
    let gone: fn(&mut Tables) = |tables| {
        let addresses = tables.addresses.values_mut();
        let of_gone = addresses.filter(|address| address.ifindex == C.ifindex());
        of_gone.for_each(|address| address.ifindex = GONE);
    };
    rows.extend([
        row("bridge: of one that is gone", OUT, syn(C, Host), unmanaged).written(gone),
        row("bridge: to one that is gone", IN, syn(Host, C), unmanaged).written(gone),
    ]);
    let mut open = Vec::new();
    for mut row in rows {
        if !row.expect.passes() {
            open.push(Row {
                name: format!("{}, nothing enforces", row.name),
                before: Vec::new(),
                frame: row.frame.clone(),
                expect: silent(),
                ..row
            });
        }
        row = row.written(enforcing);
        open.push(row);
    }
    open
}
