//! Uplinks: what is dropped before the host's stack (docs/semantics.md section 17), and all that is not.

use std::net::IpAddr;

use dfw_agent::policy::Blocks;
use dfw_common::{plain::Tables, reason::Reason};
use dfw_tests::frame::{Ip, arp, ethernet, flags, icmp, nd, protocol, tagged, tcp, udp};

use crate::{
    scenario::{Family, Who},
    table::{At, Row, deny, packet, row, silent},
};
use Who::{A, B, C, D, E, Host, Nobody, World};

/// Numbers of the lists in force.
const DENIED: u32 = 2;
const SUBNETS: u32 = 3;

/// Of every length that a block has, private ranges included: lists of others' making have them.
const LIST: [&str; 12] = [
    "203.0.113.0/25",
    "198.18.0.0/15",
    "45.0.0.0/8",
    "192.0.2.200",
    "10.0.0.0/7",
    "192.168.0.0/16",
    "2001:db8:dead::/47",
    "2400::/12",
    "2001:db8:0:1::/64",
    "2001:db8::c8",
    "fc00::/7",
    "fe80::/10",
];
const NETS: [&str; 4] = ["10.1.0.0/24", "fd01::/64", "10.2.0.0/24", "fd02::/64"];

fn lists(tables: &mut Tables) {
    let nets = |nets: &[&str]| {
        let parsed = nets.iter().map(|net| {
            let address = net.parse::<IpAddr>().map(Into::into);
            address.or_else(|_| net.parse()).expect("a net")
        });
        Blocks::of(parsed)
    };
    let (denied, subnets) = (nets(&LIST), nets(&NETS));
    tables.uplink.denied = denied.list(DENIED);
    tables.uplink.subnets = subnets.list(SUBNETS);
    tables.blocks = denied
        .numbered(DENIED)
        .chain(subnets.numbered(SUBNETS))
        .collect();
}

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = senders(family);
    rows.extend(receivers(family));
    rows.extend(forms(family));
    rows.extend(links(family));
    let rows = rows.into_iter().map(|row| {
        let mut row = Row {
            name: format!("uplink: {}", row.name),
            ..row
        };
        row.before.insert(0, crate::table::Step::Written(lists));
        row
    });
    let mut rows: Vec<Row> = rows.collect();
    // Without lists there is nothing that could be dropped but what contradicts itself.
    rows.push(row(
        "uplink: without lists",
        At::Uplink,
        at(family, listed(family), outside(family)),
        silent(),
    ));
    rows
}

fn at(family: Family, source: IpAddr, destination: IpAddr) -> Ip {
    Ip {
        source,
        destination,
        ..packet(family, World, Host, tcp(4000, 22, flags::SYN))
    }
}

/// The host's address on the uplink, as far as the table has one: nobody's in the maps.
fn outside(family: Family) -> IpAddr {
    ip(family, "192.0.2.1", "2001:db8::1")
}

fn listed(family: Family) -> IpAddr {
    ip(family, "203.0.113.7", "2001:db8:dead::7")
}

fn ip(family: Family, v4: &str, v6: &str) -> IpAddr {
    let text = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    text.parse().expect("an address")
}

fn senders(family: Family) -> Vec<Row> {
    let mut rows = Vec::new();
    let listed: [(&str, &str, bool); 12] = [
        ("203.0.113.0", "2001:db8:deac::", true),
        ("203.0.113.127", "2001:db8:dead:ffff::1", true),
        ("203.0.113.128", "2001:db8:deae::", false),
        ("203.0.112.255", "2001:db8:deab::", false),
        ("198.19.255.255", "240f:ffff::1", true),
        ("198.20.0.0", "2410::", false),
        ("45.255.0.1", "2001:db8:0:1:ffff::", true),
        ("46.0.0.0", "2001:db8:0:2::", false),
        ("192.0.2.200", "2001:db8::c8", true),
        ("192.0.2.201", "2001:db8::c9", false),
        // A list covers them, and they are somebody's network.
        ("192.168.3.4", "fd12::1", false),
        ("11.9.8.7", "2400:1::1", true),
    ];
    for (v4, v6, is_denied) in listed {
        let source = ip(family, v4, v6);
        for (to, destination) in [
            ("this host", outside(family)),
            ("a container", B.ip(family)),
        ] {
            let expect = if is_denied {
                deny(Reason::DenyList)
            } else if source.to_string().starts_with("192.168") || destination == outside(family) {
                silent()
            } else {
                continue;
            };
            let frame = at(family, source, destination);
            rows.push(row(
                format!("from {source} to {to}"),
                At::Uplink,
                frame,
                expect,
            ));
        }
    }
    let private = ip(family, "10.200.0.1", "fe80::c8");
    let spoofed = deny(Reason::SpoofedAddress);
    rows.extend([
        row(
            "from a local network",
            At::Uplink,
            at(family, private, outside(family)),
            silent(),
        ),
        row(
            "from the world",
            At::Uplink,
            at(family, World.ip(family), outside(family)),
            silent(),
        ),
        row(
            "from a container's address",
            At::Uplink,
            at(family, A.ip(family), outside(family)),
            spoofed,
        ),
        row(
            "from a container's subnet",
            At::Uplink,
            at(family, Nobody.ip(family), outside(family)),
            spoofed,
        ),
        row(
            "from one container to another",
            At::Uplink,
            at(family, E.ip(family), B.ip(family)),
            spoofed,
        ),
        row(
            "from this host's address to it",
            At::Uplink,
            at(family, outside(family), outside(family)),
            silent(),
        ),
    ]);
    rows
}

fn receivers(family: Family) -> Vec<Row> {
    let enforcing: fn(&mut Tables) = |tables| tables.settings.enforcing = 1;
    // The host's address that containers do not see as their gateway's.
    let own: fn(&mut Tables) = |tables| {
        let of_host = |family: Family| {
            let host = dfw_common::key::AddressKey {
                network: 0,
                addr: Host.ip(family).into(),
            };
            let class = tables.addresses.get(&host).copied().unwrap_or_default();
            (
                dfw_common::key::AddressKey {
                    addr: outside(family).into(),
                    ..host
                },
                class,
            )
        };
        let classes = Family::ALL.map(of_host);
        tables.addresses.extend(classes);
    };
    let to = |who: Who| at(family, World.ip(family), who.ip(family));
    let mut fragment = to(E);
    fragment.fragment = Some((1, true));
    let (protocol, unreachable) = family.unreachable();
    let quoted = packet(family, E, World, udp(4000, 53)).frame();
    let error = Ip {
        upper: icmp(protocol, unreachable, 0, &[&[0; 4], &quoted[14..]].concat()),
        ..to(E)
    };
    let error_of_host = Ip {
        source: outside(family),
        ..error.clone()
    };
    let (protocol, echo, _) = family.icmp();
    let ping = Ip {
        upper: icmp(protocol, echo, 0, &[0; 4]),
        ..to(E)
    };
    // No agent was there when it went; the next one may have its address.
    let gone: fn(&mut Tables) = |tables| {
        let addresses = tables.addresses.values_mut();
        let of_gone = addresses.filter(|address| address.ifindex == E.ifindex());
        of_gone.for_each(|address| address.ifindex = 999);
    };
    let audits: fn(&mut Tables) = |tables| {
        let endpoint = tables.endpoints.get_mut(&E.ifindex());
        endpoint.expect("an endpoint").mode = dfw_common::value::mode::AUDIT;
    };
    vec![
        row(
            "to whom a rule lets the world come",
            At::Uplink,
            to(B),
            silent(),
        ),
        row(
            "to whom a rule lets talk to the world",
            At::Uplink,
            to(A),
            silent(),
        ),
        row(
            "to whom no rule lets meet the world",
            At::Uplink,
            to(E),
            deny(Reason::NoRule),
        ),
        row(
            "a ping to whom no rule lets meet the world",
            At::Uplink,
            ping,
            deny(Reason::NoRule),
        ),
        row("a report on a flow", At::Uplink, error, silent()),
        row("a fragment", At::Uplink, fragment, silent()),
        row("to one that audits", At::Uplink, to(C), silent()),
        row("to one that is off", At::Uplink, to(D), silent()),
        row(
            "to whom no rule lets meet the world, it audits",
            At::Uplink,
            to(E),
            silent(),
        )
        .written(audits),
        row("to one that is gone", At::Uplink, to(E), silent()).written(gone),
        row("to the gateway", At::Uplink, to(Host), silent()),
        row("to the gateway, enforcing", At::Uplink, to(Host), silent()).written(enforcing),
        row("to nobody", At::Uplink, to(Nobody), silent()),
        row(
            "to nobody, enforcing",
            At::Uplink,
            to(Nobody),
            deny(Reason::Unmanaged),
        )
        .written(enforcing),
        row("to one that audits, enforcing", At::Uplink, to(C), silent()).written(enforcing),
        row(
            "as this host to a container",
            At::Uplink,
            at(family, outside(family), B.ip(family)),
            deny(Reason::SpoofedAddress),
        )
        .written(own),
        row(
            "as this host to a container, a report on a flow",
            At::Uplink,
            error_of_host,
            deny(Reason::SpoofedAddress),
        )
        .written(own),
        row(
            "as this host to it",
            At::Uplink,
            at(family, outside(family), outside(family)),
            silent(),
        )
        .written(own),
    ]
}

fn forms(family: Family) -> Vec<Row> {
    let plain = at(family, World.ip(family), outside(family));
    let denied = at(family, listed(family), outside(family));
    let frame = plain.frame();
    let malformed = deny(Reason::Malformed);
    let mut rows = Vec::new();
    for (name, tags) in [
        ("VLAN 7", &[0x8100][..]),
        ("QinQ", &[0x88a8, 0x8100]),
        ("old QinQ", &[0x9100, 0x8100]),
    ] {
        let tag = |frame: Vec<u8>| {
            let tags = tags.iter().rev();
            tags.fold(frame, |frame, kind| tagged(&frame, *kind, 7))
        };
        rows.push(row(
            format!("{name}, from the world"),
            At::Uplink,
            tag(frame.clone()),
            silent(),
        ));
        rows.push(row(
            format!("{name}, denied"),
            At::Uplink,
            tag(denied.frame()),
            deny(Reason::DenyList),
        ));
        let cut = tag(frame[..frame.len() - 1].to_vec());
        rows.push(row(format!("{name}, cut"), At::Uplink, cut, malformed));
    }
    let thrice = [0x8100; 3]
        .iter()
        .fold(denied.frame(), |frame, kind| tagged(&frame, *kind, 7));
    let mut bad_version = frame.clone();
    bad_version[14] = 0x50 | bad_version[14] & 0xf;
    let mut short = plain.clone();
    short.upper = (protocol::UDP, vec![0; 4]);
    let mut bad_offset = plain.clone();
    bad_offset.upper.1[12] = 0x40;
    let mut padded = frame.clone();
    padded.extend([0; 40]);
    let mut fragment = plain.clone();
    fragment.fragment = Some((3, false));
    let mut denied_fragment = denied.clone();
    denied_fragment.fragment = Some((3, false));
    let mut unknown = plain.clone();
    unknown.upper = (protocol::GRE, vec![0; 4]);
    rows.extend([
        row(
            "three tags are nobody's to read",
            At::Uplink,
            thrice,
            silent(),
        ),
        row("another version", At::Uplink, bad_version, malformed),
        row(
            "cut",
            At::Uplink,
            frame[..frame.len() - 1].to_vec(),
            malformed,
        ),
        row("half a UDP header", At::Uplink, short, malformed),
        row(
            "a TCP header of four words",
            At::Uplink,
            bad_offset,
            malformed,
        ),
        row("padded", At::Uplink, padded, silent()),
        row("a fragment for this host", At::Uplink, fragment, silent()),
        row(
            "a fragment of one that is denied",
            At::Uplink,
            denied_fragment,
            deny(Reason::DenyList),
        ),
        row("another protocol", At::Uplink, unknown, silent()),
    ]);
    match family {
        Family::V4 => {
            for (name, options) in [
                ("a source route", [131, 4, 4, 0]),
                ("bad options", [7, 9, 4, 0]),
            ] {
                let options = options.to_vec();
                rows.push(row(
                    name,
                    At::Uplink,
                    Ip {
                        options: options.clone(),
                        ..plain.clone()
                    },
                    silent(),
                ));
                let frame = Ip {
                    options,
                    ..denied.clone()
                };
                rows.push(row(
                    format!("{name}, denied"),
                    At::Uplink,
                    frame,
                    deny(Reason::DenyList),
                ));
            }
            let mut short = frame;
            short[14] = 0x44;
            rows.push(row("a header of four words", At::Uplink, short, malformed));
        }
        Family::V6 => {
            for (name, extension) in [
                ("an old source route", (43, vec![0; 8])),
                ("hop-by-hop options", (0, vec![0, 0, 1, 4, 0, 0, 0, 0])),
            ] {
                let extensions = vec![extension];
                let frame = Ip {
                    extensions: extensions.clone(),
                    ..plain.clone()
                };
                rows.push(row(name, At::Uplink, frame, silent()));
                let frame = Ip {
                    extensions,
                    ..denied.clone()
                };
                rows.push(row(
                    format!("{name}, denied"),
                    At::Uplink,
                    frame,
                    deny(Reason::DenyList),
                ));
            }
            let mapped = "::ffff:203.0.113.7".parse().expect("an address");
            rows.push(row(
                "a v4-mapped source",
                At::Uplink,
                Ip {
                    source: mapped,
                    ..plain
                },
                malformed,
            ));
        }
    }
    rows
}

/// What keeps the link itself going.
fn links(family: Family) -> Vec<Row> {
    let macs = [[0xff; 6], World.mac()];
    match family {
        Family::V4 => {
            let asks = |who: [u8; 4]| {
                ethernet(
                    macs,
                    0x0806,
                    &arp(1, (World.mac(), who), ([0; 6], [192, 0, 2, 1])),
                )
            };
            let broadcast = at(
                family,
                ip(family, "0.0.0.0", "::"),
                ip(family, "255.255.255.255", "::"),
            );
            vec![
                row("ARP", At::Uplink, asks([192, 0, 2, 9]), silent()),
                row(
                    "ARP of one that is denied",
                    At::Uplink,
                    asks([203, 0, 113, 7]),
                    silent(),
                ),
                row(
                    "ARP of a container's address",
                    At::Uplink,
                    asks([10, 1, 0, 11]),
                    silent(),
                ),
                row(
                    "ARP that is cut",
                    At::Uplink,
                    asks([192, 0, 2, 9])[..30].to_vec(),
                    silent(),
                ),
                row(
                    "DHCP",
                    At::Uplink,
                    Ip {
                        upper: udp(68, 67),
                        ..broadcast
                    },
                    silent(),
                ),
                row(
                    "LLDP",
                    At::Uplink,
                    ethernet(macs, 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0]),
                    silent(),
                ),
                row(
                    "PPPoE",
                    At::Uplink,
                    ethernet(macs, 0x8864, &[0; 40]),
                    silent(),
                ),
                row(
                    "LLC",
                    At::Uplink,
                    ethernet(macs, 60, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
                    silent(),
                ),
            ]
        }
        Family::V6 => [
            ("from the world", World.ip(family)),
            ("denied", listed(family)),
        ]
        .map(|(name, source)| {
            let upper = nd(135, &[0; 20], &[(1, World.mac())]);
            let frame = Ip {
                upper,
                hops: 255,
                ..at(family, source, outside(family))
            };
            row(
                format!("a neighbour solicitation, {name}"),
                At::Uplink,
                frame,
                silent(),
            )
        })
        .into(),
    }
}
