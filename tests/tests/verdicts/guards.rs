//! Form: tags, ethertypes, truncation, options, fragments, extension headers.

use dfw_common::reason::Reason;
use dfw_tests::frame::{ethernet, flags, icmp, protocol, sctp, tagged, tcp, udp};

use crate::{
    scenario::{Family, Who},
    table::{Row, allow, audit, deny, from, packet, row, to},
};
use Who::{A, B, C, D};

/// Rows of both families, then of the one.
pub(crate) fn rows(family: Family) -> Vec<Row> {
    let mut rows = frames(family);
    rows.extend(fragments(family));
    rows.extend(match family {
        Family::V4 => v4(),
        Family::V6 => v6(),
    });
    rows
}

fn frames(family: Family) -> Vec<Row> {
    let syn = packet(family, A, B, tcp(4000, 80, flags::SYN));
    let frame = syn.frame();
    let macs = [B.mac(), A.mac()];
    let mut rows = vec![row("plain", from(A), syn.clone(), allow(Reason::Allowed))];
    for (name, frame, reason) in [
        ("VLAN 7", tagged(&frame, 0x8100, 7), Reason::VlanTag),
        ("VLAN 0", tagged(&frame, 0x8100, 0), Reason::VlanTag),
        ("802.1ad", tagged(&frame, 0x88a8, 7), Reason::VlanTag),
        ("old QinQ", tagged(&frame, 0x9100, 7), Reason::VlanTag),
        (
            "stacked VLAN 0",
            tagged(&tagged(&frame, 0x8100, 0), 0x8100, 0),
            Reason::VlanTag,
        ),
        (
            "MPLS",
            ethernet(macs, 0x8847, &frame[14..]),
            Reason::Ethertype,
        ),
        (
            "PPPoE",
            ethernet(macs, 0x8864, &frame[14..]),
            Reason::Ethertype,
        ),
        (
            "LLDP",
            ethernet(macs, 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0]),
            Reason::Ethertype,
        ),
        (
            "LLC/SNAP",
            ethernet(macs, 60, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
            Reason::Ethertype,
        ),
        ("RARP", ethernet(macs, 0x8035, &[0; 28]), Reason::Ethertype),
    ] {
        rows.push(row(
            format!("{name} from one that enforces"),
            from(A),
            frame.clone(),
            deny(reason),
        ));
        rows.push(row(
            format!("{name} to one that enforces"),
            to(B, C.ifindex()),
            frame.clone(),
            deny(reason),
        ));
        // Whom a tagged frame names is not read, and it may be one that enforces.
        let sent = if reason == Reason::VlanTag {
            deny(reason)
        } else {
            audit(reason)
        };
        rows.push(row(
            format!("{name} from one that audits"),
            from(C),
            frame.clone(),
            sent,
        ));
        rows.push(row(
            format!("{name} to one that audits"),
            to(C, D.ifindex()),
            frame,
            audit(reason),
        ));
    }
    let header = frame.len() - 20;
    for (name, cut) in [
        ("in the IP header", 30),
        ("after the IP header", header),
        ("in the ports", header + 2),
        ("before the flags", header + 13),
        ("in the TCP header", header + 19),
    ] {
        rows.push(row(
            format!("ends {name}"),
            from(A),
            frame[..cut].to_vec(),
            deny(Reason::Malformed),
        ));
    }
    for (name, upper, cut) in [
        ("UDP", udp(4000, 53), 7),
        ("SCTP", sctp(4000, 36), 11),
        (
            "ICMP",
            icmp(family.icmp().0, family.icmp().1, 0, &[0; 4]),
            7,
        ),
    ] {
        let mut short = packet(family, A, B, upper);
        short.upper.1.truncate(cut);
        rows.push(row(
            format!("{name} header cut"),
            from(A),
            short,
            deny(Reason::Malformed),
        ));
    }
    let mut low = syn.clone();
    low.upper.1[12] = 0x40;
    rows.push(row(
        "TCP header of 16 bytes",
        from(A),
        low,
        deny(Reason::Malformed),
    ));
    let mut long = syn.clone();
    long.upper.1[12] = 0x60;
    rows.push(row(
        "TCP header beyond the packet",
        from(A),
        long,
        deny(Reason::Malformed),
    ));
    let mut padded = frame;
    padded.extend([0; 8]);
    rows.push(row(
        "padding behind the packet",
        from(A),
        padded,
        allow(Reason::Allowed),
    ));
    let other = match family {
        Family::V4 => icmp(protocol::ICMP6, 128, 0, &[0; 4]),
        Family::V6 => icmp(protocol::ICMP, 8, 0, &[0; 4]),
    };
    rows.push(row(
        "ICMP of the other family",
        from(A),
        packet(family, A, B, other),
        deny(Reason::Malformed),
    ));
    rows
}

fn fragments(family: Family) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, fragment) in [
        ("first fragment", (0, true)),
        ("tiny first fragment", (0, true)),
        ("second fragment", (1, true)),
        ("last fragment", (185, false)),
    ] {
        let mut fragmented = packet(family, A, B, udp(4000, 53));
        fragmented.fragment = Some(fragment);
        if name.starts_with("tiny") {
            fragmented.upper.1.truncate(8);
        }
        rows.push(row(
            format!("{name} sent"),
            from(A),
            fragmented.clone(),
            deny(Reason::Fragment),
        ));
        rows.push(row(
            format!("{name} received"),
            to(B, A.ifindex()),
            fragmented,
            deny(Reason::Fragment),
        ));
        let mut audited = packet(family, C, D, udp(4000, 53));
        audited.fragment = Some(fragment);
        rows.push(row(
            format!("{name}, audited"),
            from(C),
            audited.clone(),
            audit(Reason::Fragment),
        ));
        audited.source = A.ip(family);
        rows.push(row(
            format!("{name} in the name of one that enforces"),
            from(C),
            audited,
            deny(Reason::Fragment),
        ));
    }
    // Ports that could not be read are zero, and somebody may have a flow of just these.
    let mut cut = packet(family, C, D, tcp(4000, 80, flags::ACK));
    cut.upper.1.truncate(12);
    let zero = packet(family, C, D, tcp(0, 0, flags::SYN));
    let cut = row(
        "TCP that is cut, beside a flow of ports 0",
        from(C),
        cut,
        audit(Reason::Malformed),
    );
    rows.push(cut.seen(from(C), zero));
    rows
}

fn v4() -> Vec<Row> {
    let syn = packet(Family::V4, A, B, tcp(4000, 80, flags::SYN));
    let mut rows = Vec::new();
    let mut option = |name: &str, options: &[u8], expect| {
        let mut packet = syn.clone();
        packet.options = options.to_vec();
        rows.push(row(name, from(A), packet, expect));
    };
    let bad = deny(Reason::IpOptions);
    option("router alert", &[148, 4, 0, 0], allow(Reason::Allowed));
    option(
        "no-operations and an end",
        &[1, 1, 1, 0],
        allow(Reason::Allowed),
    );
    option(
        "record route",
        &[7, 7, 4, 0, 0, 0, 0, 0],
        allow(Reason::Allowed),
    );
    option("loose source route", &[131, 7, 4, 1, 2, 3, 4, 0], bad);
    option("strict source route", &[137, 7, 4, 1, 2, 3, 4, 0], bad);
    option(
        "source route behind no-operations",
        &[1, 1, 131, 6, 4, 1, 2, 3],
        bad,
    );
    option("option of length 0", &[7, 0, 0, 0], bad);
    option("option of length 1", &[7, 1, 0, 0], bad);
    option("option beyond the header", &[7, 9, 4, 0], bad);
    option(
        "as many options as are walked",
        &[1; 12],
        allow(Reason::Allowed),
    );
    option("more options than are walked", &[1; 16], bad);
    let mut byte = |name: &str, at: usize, value: u8| {
        let mut frame = syn.frame();
        frame[at] = value;
        rows.push(row(name, from(A), frame, deny(Reason::Malformed)));
    };
    byte("IHL 4", 14, 0x44);
    byte("IHL 15 in a packet of 40 bytes", 14, 0x4f);
    byte("version 6", 14, 0x65);
    byte("total length beyond the frame", 17, 41);
    byte("total length shorter than the header", 17, 19);
    byte("total length 0", 17, 0);
    let mut datagram = packet(Family::V4, A, B, udp(4000, 53)).frame();
    datagram[14] = 0x44;
    rows.push(row(
        "IHL 4 of a datagram",
        from(A),
        datagram,
        deny(Reason::Malformed),
    ));
    let mut beyond = packet(Family::V4, A, B, (protocol::GRE, vec![0; 40])).frame();
    (beyond[14], beyond[17]) = (0x4f, 28);
    rows.push(row(
        "GRE that begins beyond the packet",
        from(A),
        beyond,
        deny(Reason::Malformed),
    ));
    let mut reserved = syn.frame();
    reserved[20] = 0x40;
    rows.push(row(
        "don't fragment",
        from(A),
        reserved,
        allow(Reason::Allowed),
    ));
    rows
}

fn v6() -> Vec<Row> {
    let syn = packet(Family::V6, A, B, tcp(4000, 80, flags::SYN));
    let mut rows = Vec::new();
    let plain = |number: u8| (number, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let mut chain = |name: &str, extensions: Vec<(u8, Vec<u8>)>, expect| {
        let mut packet = syn.clone();
        packet.extensions = extensions;
        rows.push(row(name, from(A), packet, expect));
    };
    let bad = deny(Reason::ExtensionHeader);
    let good = allow(Reason::Allowed);
    chain("hop-by-hop", vec![plain(0)], good);
    chain("destination options", vec![plain(60)], good);
    chain(
        "hop-by-hop and destination options",
        vec![plain(0), plain(60)],
        good,
    );
    chain(
        "long destination options",
        vec![(60, [&[0, 1], &[0; 14][..]].concat())],
        good,
    );
    chain("six headers", vec![plain(60); 6], good);
    chain("seven headers", vec![plain(60); 7], bad);
    chain("hop-by-hop in the middle", vec![plain(60), plain(0)], bad);
    chain(
        "routing type 0",
        vec![(43, vec![0, 0, 0, 0, 0, 0, 0, 0])],
        bad,
    );
    chain(
        "routing type 2",
        vec![(43, vec![0, 0, 2, 0, 0, 0, 0, 0])],
        good,
    );
    chain(
        "authentication",
        vec![(
            51,
            vec![
                0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
        )],
        good,
    );
    chain(
        "atomic fragment",
        vec![(44, vec![0, 0, 0, 0, 0, 0, 0, 1])],
        good,
    );
    chain(
        "second fragment behind options",
        vec![plain(60), (44, vec![0, 0, 0, 8, 0, 0, 0, 1])],
        deny(Reason::Fragment),
    );
    chain(
        "header beyond the packet",
        vec![(60, vec![0, 9, 1, 4, 0, 0, 0, 0])],
        deny(Reason::Malformed),
    );
    chain(
        "header beyond the frame",
        vec![(60, vec![0, 255, 1, 4, 0, 0, 0, 0])],
        deny(Reason::Malformed),
    );
    chain(
        "mobility, which is not walked",
        vec![(135, vec![0, 0, 1, 4, 0, 0, 0, 0])],
        deny(Reason::NoRule),
    );
    chain(
        "ESP",
        vec![(50, vec![0, 0, 1, 4, 0, 0, 0, 0])],
        deny(Reason::NoRule),
    );
    let mut beyond = packet(Family::V6, A, B, (protocol::GRE, Vec::new()));
    beyond.extensions = vec![(60, vec![0, 9, 1, 4, 0, 0, 0, 0])];
    rows.push(row(
        "GRE that begins beyond the packet",
        from(A),
        beyond,
        deny(Reason::Malformed),
    ));
    let mut byte = |name: &str, at: usize, value: u8| {
        let mut frame = syn.frame();
        frame[at] = value;
        rows.push(row(name, from(A), frame, deny(Reason::Malformed)));
    };
    byte("version 4", 14, 0x40);
    byte("payload length beyond the frame", 19, 21);
    byte("payload length 0", 19, 0);
    let mut mapped = syn.clone();
    mapped.source = "::ffff:10.1.0.11".parse().expect("an address");
    rows.push(row(
        "v4-mapped source",
        from(A),
        mapped,
        deny(Reason::Malformed),
    ));
    let mut mapped = syn;
    mapped.destination = "::ffff:10.1.0.12".parse().expect("an address");
    rows.push(row(
        "v4-mapped destination",
        from(A),
        mapped,
        deny(Reason::Malformed),
    ));
    rows
}
