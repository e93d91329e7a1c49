//! ICMP: echoes, and errors about a packet of a flow of this network to the end that sent it (docs/semantics.md section 8).

use dfw_common::reason::Reason;
use dfw_tests::frame::{Ip, flags, icmp, tcp, udp};

use crate::{
    flows::{inherited, to_heir},
    scenario::{Family, UPLINK, Who},
    table::{Row, Step, allow, audit, deny, from, packet, row, silent, to},
};
use Who::{A, B, C, D, Host, World};

/// An error by `reporter` to `sender` that quotes a packet.
fn error(family: Family, reporter: Who, sender: Who, quoted: &Ip) -> Ip {
    let (protocol, kind) = family.unreachable();
    let quote = &quoted.frame()[14..];
    let rest = [&[0; 4], quote].concat();
    packet(family, reporter, sender, icmp(protocol, kind, 1, &rest))
}

pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = echoes(family);
    rows.extend(errors(family));
    rows
}

fn echoes(family: Family) -> Vec<Row> {
    let (protocol, echo, reply) = family.icmp();
    let ping = |sender, receiver, id| {
        packet(
            family,
            sender,
            receiver,
            icmp(protocol, echo, 0, &[0, id, 0, 1]),
        )
    };
    let pong = |sender, receiver, id| {
        packet(
            family,
            sender,
            receiver,
            icmp(protocol, reply, 0, &[0, id, 0, 1]),
        )
    };
    let other = match family {
        Family::V4 => icmp(protocol, 13, 0, &[0; 16]),
        Family::V6 => icmp(protocol, 139, 0, &[0; 16]),
    };
    vec![
        row("echo", from(A), ping(A, B, 7), allow(Reason::Allowed)),
        row("echo reply", from(B), pong(B, A, 7), allow(Reason::Reply))
            .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply received",
            to(A, B.ifindex()),
            pong(B, A, 7),
            allow(Reason::Reply),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply to nothing",
            from(B),
            pong(B, A, 7),
            deny(Reason::NoFlow),
        ),
        row(
            "echo reply with another id",
            from(B),
            pong(B, A, 8),
            deny(Reason::NoFlow),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply by the asker",
            from(A),
            pong(A, B, 7),
            deny(Reason::NoFlow),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "the same id asked the other way",
            from(B),
            ping(B, A, 7),
            deny(Reason::NoRule),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "id 0 asked the other way",
            from(B),
            ping(B, A, 0),
            deny(Reason::NoRule),
        )
        .seen(from(A), ping(A, B, 0)),
        row(
            "the same id asked the other way, received",
            to(A, B.ifindex()),
            ping(B, A, 7),
            deny(Reason::NoRule),
        )
        .seen(from(A), ping(A, B, 7)),
        row(
            "echo reply to one that audits",
            to(C, UPLINK),
            pong(World, C, 7),
            audit(Reason::NoFlow),
        ),
        row(
            "another type of message",
            from(A),
            packet(family, A, B, other),
            deny(Reason::NoRule),
        ),
    ]
}

fn errors(family: Family) -> Vec<Row> {
    let syn = packet(family, A, B, tcp(4000, 80, flags::SYN));
    let out = packet(family, A, World, tcp(4000, 443, flags::SYN));
    let datagram = packet(family, A, B, udp(4000, 53));
    let (echo_protocol, echo, reply) = family.icmp();
    let ping = packet(family, A, B, icmp(echo_protocol, echo, 0, &[0, 7, 0, 1]));
    let pong = packet(family, B, A, icmp(echo_protocol, reply, 0, &[0, 7, 0, 1]));
    let never = packet(family, A, B, tcp(4001, 80, flags::SYN));
    let related = allow(Reason::Related);
    let no_flow = deny(Reason::NoFlow);
    let of_syn = error(family, B, A, &syn);
    let of_out = error(family, World, A, &out);
    let mut cut = of_syn.clone();
    cut.upper.1.truncate(8 + 20);
    let mut cut_in_ports = of_syn.clone();
    cut_in_ports.upper.1.truncate(of_syn.upper.1.len() - 14);
    let mut rows = vec![
        row("sent by the other end", from(B), of_syn.clone(), related).seen(from(A), syn.clone()),
        row(
            "received from the other end",
            to(A, B.ifindex()),
            of_syn.clone(),
            related,
        )
        .seen(from(A), syn.clone()),
        row(
            "about a datagram",
            from(B),
            error(family, B, A, &datagram),
            related,
        )
        .seen(from(A), datagram),
        row(
            "about an echo",
            from(B),
            error(family, B, A, &ping),
            related,
        )
        .seen(from(A), ping.clone()),
        row(
            "about an echo reply",
            from(A),
            error(family, A, B, &pong),
            related,
        )
        .seen(from(A), ping)
        .seen(from(B), pong),
        row(
            "from a router of the world",
            to(A, UPLINK),
            of_out.clone(),
            related,
        )
        .seen(from(A), out.clone()),
        row(
            "from the host",
            to(A, 0),
            error(family, Host, A, &out),
            related,
        )
        .seen(from(A), out.clone()),
        row("about nothing", from(B), of_syn.clone(), no_flow),
        row(
            "about nothing, received",
            to(A, B.ifindex()),
            of_syn.clone(),
            no_flow,
        ),
        row(
            "about nothing of the world, received",
            to(A, UPLINK),
            of_out.clone(),
            no_flow,
        ),
        row(
            "about a packet that was not sent",
            from(B),
            error(family, B, A, &never),
            no_flow,
        )
        .seen(from(A), syn.clone()),
        row(
            "to the end that did not send",
            from(A),
            error(family, A, B, &syn),
            no_flow,
        )
        .seen(from(A), syn.clone()),
        row(
            "forged by a neighbour that is not in the flow",
            from(C),
            error(family, C, A, &syn),
            audit(Reason::NoFlow),
        )
        .seen(from(A), syn.clone()),
        row(
            "forged by a neighbour, received",
            to(A, C.ifindex()),
            error(family, C, A, &syn),
            no_flow,
        )
        .seen(from(A), syn.clone()),
        row(
            "forged by a neighbour about the world, received",
            to(A, C.ifindex()),
            error(family, C, A, &out),
            no_flow,
        )
        .seen(from(A), out.clone()),
        row(
            "forged by one that is off",
            from(D),
            error(family, D, A, &syn),
            silent(),
        )
        .seen(from(A), syn.clone()),
        row(
            "forged by one that is off, received",
            to(A, D.ifindex()),
            error(family, D, A, &syn),
            no_flow,
        )
        .seen(from(A), syn.clone()),
        row(
            "about another's flow",
            to(B, UPLINK),
            error(family, World, B, &out),
            no_flow,
        )
        .seen(from(A), out.clone()),
        row("about an expired flow", from(B), of_syn.clone(), no_flow)
            .seen(from(A), syn.clone())
            .after(Step::Silence(61)),
        row(
            "received by one that audits, about nothing",
            to(C, UPLINK),
            error(family, World, C, &packet(family, C, World, udp(1, 2))),
            audit(Reason::NoFlow),
        ),
        row("quotes too little", from(B), cut, no_flow).seen(from(A), syn.clone()),
        row("quotes no whole port", from(B), cut_in_ports, no_flow).seen(from(A), syn.clone()),
    ];
    let mut other_version = of_syn.clone();
    other_version.upper.1[8] ^= 0x10;
    rows.push(
        row("quotes another version", from(B), other_version, no_flow).seen(from(A), syn.clone()),
    );
    rows.push(
        row(
            "to who has no part in it",
            from(B),
            error(family, B, C, &syn),
            no_flow,
        )
        .seen(from(A), syn.clone()),
    );
    rows.push(
        row(
            "to who had the address before",
            to(C, UPLINK),
            to_heir(of_out),
            audit(Reason::NoFlow),
        )
        .seen(from(A), out)
        .written(inherited),
    );
    if family == Family::V4 {
        // What is quoted begins where it would without options.
        let (protocol, kind) = family.unreachable();
        let quote = &syn.frame()[14..];
        let mut shifted = packet(family, B, A, icmp(protocol, kind, 1, quote));
        shifted.options = vec![1, 1, 1, 0];
        rows.push(row("with options", from(B), shifted, no_flow).seen(from(A), syn.clone()));
    }
    let mut fragment = syn.clone();
    match family {
        Family::V4 => fragment.fragment = Some((1, true)),
        Family::V6 => fragment.extensions = vec![(60, vec![0, 0, 1, 4, 0, 0, 0, 0])],
    }
    rows.push(
        row(
            "quotes what has no ports to read",
            from(B),
            error(family, B, A, &fragment),
            no_flow,
        )
        .seen(from(A), syn),
    );
    rows
}
