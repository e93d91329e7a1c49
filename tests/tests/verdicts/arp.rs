//! ARP: what works without a rule, and nothing more.

use dfw_common::{plain::Tables, reason::Reason, value::mode};
use dfw_tests::frame::{Mac, arp, ethernet};

use crate::{
    scenario::{Family, Who},
    table::{Row, audit, deny, from, packet, row, silent, to, unclaimed},
};
use Who::{A, B, C, D, E, Host, Nobody, World};

const BROADCAST: Mac = [0xff; 6];
const SPOOFED: Reason = Reason::SpoofedNeighbour;

/// Rows of IPv4.
pub(crate) fn rows() -> Vec<Row> {
    let own = |who: Who| (who.mac(), v4(who));
    let asks_for = |who: Who, target: Who| asks(own(who), who.mac(), v4(target));
    let claims = |who: Who, claimed: Who| (who.mac(), v4(claimed));
    let probe = |who: Who, target: Who| asks((who.mac(), [0; 4]), who.mac(), v4(target));
    let spoofed = deny(SPOOFED);
    let unseen = deny(Reason::Neighbour);
    let enforced: fn(&mut Tables) = |tables| {
        let endpoint = tables.endpoints.get_mut(&D.ifindex());
        endpoint.expect("the endpoint is there").mode = mode::ENFORCE;
    };
    let mut rows = vec![
        row("asks for the gateway", from(A), asks_for(A, Host), silent()),
        row(
            "asks for a neighbour it may dial",
            from(A),
            asks_for(A, B),
            silent(),
        ),
        row(
            "asks for one that may dial it",
            from(B),
            asks_for(B, A),
            silent(),
        ),
        row(
            "asks for one that no rule lets it meet",
            from(B),
            asks_for(B, D),
            silent(),
        ),
        row("asks for nobody", from(A), asks_for(A, Nobody), unseen),
        row(
            "asks for nobody, audited",
            from(C),
            asks_for(C, Nobody),
            silent(),
        ),
        row("asks for the world", from(A), asks_for(A, World), silent()),
        row("asks for another network", from(A), asks_for(A, E), unseen),
        row(
            "announces itself",
            from(A),
            asks(own(A), A.mac(), v4(A)),
            silent(),
        ),
        row(
            "asks whether its address is free",
            from(A),
            probe(A, A),
            silent(),
        ),
        row(
            "asks whether another's address is free",
            from(A),
            probe(A, B),
            spoofed,
        ),
        row("answers", from(B), answers(own(B), A), silent()),
        row(
            "answer received",
            to(A, B.ifindex()),
            answers(own(B), A),
            silent(),
        ),
        row(
            "question received",
            to(B, A.ifindex()),
            asks_for(A, B),
            silent(),
        ),
        row(
            "question of the host received",
            to(B, 0),
            ethernet(
                [BROADCAST, Host.mac()],
                0x0806,
                &arp(1, own(Host), ([0; 6], v4(B))),
            ),
            silent(),
        ),
        row(
            "question for another received",
            to(B, A.ifindex()),
            asks_for(A, Host),
            unseen,
        ),
        row("probe received", to(B, C.ifindex()), probe(C, C), silent()),
        row(
            "probe for its own address received",
            to(B, C.ifindex()),
            probe(C, B),
            spoofed,
        ),
        row(
            "question for another received, audited",
            to(C, A.ifindex()),
            asks_for(A, Host),
            silent(),
        ),
        row(
            "question of one that may dial it, for another, received",
            to(B, C.ifindex()),
            asks_for(C, Host),
            unseen,
        ),
        row(
            "asks for one that enforces and lets nobody in",
            from(A),
            asks_for(A, D),
            unseen,
        )
        .written(enforced),
        row(
            "asks for one that enforces and lets nobody out",
            from(B),
            asks_for(B, D),
            unseen,
        )
        .written(enforced),
        row(
            "asks for one that enforces, audited",
            from(C),
            asks_for(C, D),
            unseen,
        )
        .written(enforced),
        row(
            "question beside a flow of protocol 0",
            from(C),
            asks_for(C, D),
            silent(),
        )
        .seen(from(C), packet(Family::V4, C, D, (0, vec![0; 8]))),
        row(
            "claims a neighbour's address",
            from(A),
            answers(claims(A, C), B),
            spoofed,
        ),
        row(
            "claims the gateway's address",
            from(A),
            answers(claims(A, Host), B),
            spoofed,
        ),
        row(
            "gratuitous claim of the gateway's address",
            from(A),
            asks(claims(A, Host), A.mac(), v4(Host)),
            spoofed,
        ),
        row(
            "gratuitous claim, audited",
            from(C),
            asks(claims(C, Host), C.mac(), v4(Host)),
            audit(SPOOFED),
        ),
        row(
            "gratuitous claim of one that audits, received",
            to(B, C.ifindex()),
            asks(claims(C, Host), C.mac(), v4(Host)),
            spoofed,
        ),
        row(
            "claim of a neighbour's address, received",
            to(B, C.ifindex()),
            asks(claims(C, A), C.mac(), v4(A)),
            spoofed,
        ),
        row(
            "claim of the world's address, received",
            to(B, C.ifindex()),
            asks(claims(C, World), C.mac(), v4(World)),
            spoofed,
        ),
        row(
            "claims to one that enforces, audited",
            from(C),
            answers(claims(C, Host), B),
            spoofed,
        ),
        row(
            "claim of one that enforces to the host, from one that audits",
            from(C),
            answers(claims(C, A), Host),
            spoofed,
        ),
        row(
            "claim of one that is off to the host, from one that audits",
            from(C),
            answers(claims(C, D), Host),
            audit(SPOOFED),
        ),
        row(
            "claim of one that enforces with a foreign MAC, from one that audits",
            from(C),
            asks((Nobody.mac(), v4(A)), C.mac(), v4(Host)),
            spoofed,
        ),
        row(
            "a foreign MAC in the message, audited",
            from(C),
            asks((Nobody.mac(), v4(C)), C.mac(), v4(Host)),
            audit(SPOOFED),
        ),
        row(
            "another's MAC in the message",
            from(A),
            asks((C.mac(), v4(A)), A.mac(), v4(B)),
            spoofed,
        ),
        row(
            "another's MAC in the frame",
            from(A),
            asks((A.mac(), v4(A)), C.mac(), v4(B)),
            spoofed,
        ),
        row(
            "another's MAC in both",
            from(A),
            asks((C.mac(), v4(A)), C.mac(), v4(B)),
            deny(Reason::SpoofedMac),
        ),
        row(
            "from a port without identity",
            unclaimed(),
            asks_for(A, Host),
            deny(Reason::NotReady),
        ),
        row(
            "to another's MAC",
            to(B, A.ifindex()),
            answers(own(A), C),
            deny(Reason::WrongMac),
        ),
    ];
    for (at, byte, what) in [
        (14, 9, "hardware type"),
        (17, 1, "protocol type"),
        (18, 8, "hardware length"),
        (19, 16, "protocol length"),
    ] {
        let mut frame = asks_for(A, Host);
        frame[at] = byte;
        rows.push(row(
            format!("another {what}"),
            from(A),
            frame,
            deny(Reason::Malformed),
        ));
    }
    let mut short = asks_for(A, Host);
    short.truncate(41);
    rows.push(row("cut", from(A), short, deny(Reason::Malformed)));
    rows
}

fn v4(who: Who) -> [u8; 4] {
    match who.ip(Family::V4) {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(address) => panic!("{address}"),
    }
}

/// A question, sent to everybody.
fn asks(sender: (Mac, [u8; 4]), source: Mac, target: [u8; 4]) -> Vec<u8> {
    ethernet(
        [BROADCAST, source],
        0x0806,
        &arp(1, sender, ([0; 6], target)),
    )
}

/// An answer.
fn answers(sender: (Mac, [u8; 4]), target: Who) -> Vec<u8> {
    let macs = [target.mac(), sender.0];
    ethernet(macs, 0x0806, &arp(2, sender, (target.mac(), v4(target))))
}
