//! Reads a frame, slowly: what is wrong with it, or what it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reasons;

/// What a frame says.
#[derive(Clone, Debug)]
pub(super) struct Frame<'a> {
    pub(super) destination: [u8; 6],
    pub(super) source: [u8; 6],
    pub(super) payload: Payload<'a>,
}

#[derive(Clone, Debug)]
pub(super) enum Payload<'a> {
    Arp { sender: Ipv4Addr, target: Ipv4Addr },
    Ip(Packet<'a>),
}

/// An IP packet.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hops: u8,
    pub(super) protocol: u8,
    /// It has IPv4 options or IPv6 extension headers.
    pub(super) is_extended: bool,
    pub(super) upper: Upper,
    /// The upper layer and all that is in the frame behind it.
    pub(super) rest: &'a [u8],
}

/// What the upper layer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upper {
    Tcp {
        source: u16,
        destination: u16,
        flags: u8,
    },
    /// UDP and SCTP.
    Ports {
        source: u16,
        destination: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
        id: u16,
    },
    Igmp {
        kind: u8,
    },
    Other,
}

/// A frame that is not as it should be: all that is wrong, and its addresses where they could be read.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) faults: Reasons,
    pub(super) addresses: Option<(IpAddr, IpAddr)>,
}

fn broken<T>(fault: &'static str, addresses: Option<(IpAddr, IpAddr)>) -> Result<T, Broken> {
    Err(Broken {
        faults: vec![fault],
        addresses,
    })
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    Ipv6Addr::from(octets)
}

fn mac(bytes: &[u8], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    mac
}

impl Frame<'_> {
    /// Source and destination; of ARP sender and target.
    pub(super) fn addresses(&self) -> (IpAddr, IpAddr) {
        match &self.payload {
            Payload::Arp { sender, target } => ((*sender).into(), (*target).into()),
            Payload::Ip(packet) => (packet.source, packet.destination),
        }
    }
}

/// Reads a frame.
pub(super) fn frame(bytes: &[u8]) -> Result<Frame<'_>, Broken> {
    if bytes.len() < 14 {
        return broken("malformed", None);
    }
    let (destination, source) = (mac(bytes, 0), mac(bytes, 6));
    let body = &bytes[14..];
    let payload = match word(bytes, 12) {
        0x0800 => Payload::Ip(ipv4(body)?),
        0x86dd => Payload::Ip(ipv6(body)?),
        0x0806 => arp(body, source)?,
        0x8100 | 0x88a8 | 0x9100 => return broken("vlan-tag", None),
        _ => return broken("ethertype", None),
    };
    Ok(Frame {
        destination,
        source,
        payload,
    })
}

fn arp(body: &[u8], source: [u8; 6]) -> Result<Payload<'static>, Broken> {
    // Ethernet, IPv4, and the lengths of their addresses.
    if body.len() < 28 || body[..6] != [0, 1, 8, 0, 6, 4] {
        return broken("malformed", None);
    }
    let (sender, target) = (v4(body, 14), v4(body, 24));
    if mac(body, 8) != source {
        return broken("spoofed-neighbour", Some((sender.into(), target.into())));
    }
    Ok(Payload::Arp { sender, target })
}

fn ipv4(body: &[u8]) -> Result<Packet<'_>, Broken> {
    if body.len() < 20 || body[0] >> 4 != 4 {
        return broken("malformed", None);
    }
    let addresses = (IpAddr::from(v4(body, 12)), IpAddr::from(v4(body, 16)));
    let header = usize::from(body[0] & 15) * 4;
    let total = usize::from(word(body, 2));
    let mut faults = Vec::new();
    // The test frames are shorter than 64 KiB, so no length of zero means more than it can say.
    if header < 20 || total < header || total > body.len() {
        faults.push("malformed");
    }
    // Reserved and don't-fragment may be set.
    let is_fragment = word(body, 6) & 0x3fff != 0;
    if is_fragment {
        faults.push("fragment");
    }
    if header > 20 {
        faults.extend(options(body.get(20..header)));
    }
    if !faults.is_empty() {
        return Err(Broken {
            faults,
            addresses: Some(addresses),
        });
    }
    let start = Start {
        addresses,
        hops: body[8],
        protocol: body[9],
        is_extended: header > 20,
    };
    upper(start, &body[header..], total - header)
}

/// No source routes, and lengths that add up; at most twelve are walked.
fn options(bytes: Option<&[u8]>) -> Option<&'static str> {
    let Some(mut left) = bytes else {
        return Some("malformed");
    };
    for _ in 0..12 {
        match left {
            [] | [0, ..] => return None,
            [1, rest @ ..] => left = rest,
            [131 | 137, ..] => return Some("ip-options"),
            [_, length, ..] if *length >= 2 && usize::from(*length) <= left.len() => {
                left = &left[usize::from(*length)..];
            }
            _ => return Some("ip-options"),
        }
    }
    (!left.is_empty()).then_some("ip-options")
}

fn ipv6(body: &[u8]) -> Result<Packet<'_>, Broken> {
    if body.len() < 40 || body[0] >> 4 != 6 {
        return broken("malformed", None);
    }
    let (source, destination) = (v6(body, 8), v6(body, 24));
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        return broken("malformed", None);
    }
    let addresses = (IpAddr::from(source), IpAddr::from(destination));
    let length = usize::from(word(body, 4));
    let mut faults = Vec::new();
    if 40 + length > body.len() {
        faults.push("malformed");
    }
    let (mut next, mut at) = (body[6], 40);
    let mut walked = 0;
    while matches!(next, 0 | 43 | 44 | 51 | 60) {
        if walked == 6 {
            faults.push("extension-header");
            break;
        }
        let Some(&[following, size, third, fourth]) = body
            .get(at..at + 4)
            .and_then(|head| head.first_chunk::<4>())
        else {
            faults.push("malformed");
            break;
        };
        match next {
            0 if walked > 0 => faults.push("extension-header"),
            43 if third == 0 => faults.push("extension-header"),
            // An offset or more to come; two bits are reserved.
            44 if third != 0 || fourth & 0xf9 != 0 => faults.push("fragment"),
            _ => {}
        }
        at += match next {
            44 => 8,
            51 => (usize::from(size) + 2) * 4,
            _ => (usize::from(size) + 1) * 8,
        };
        next = following;
        walked += 1;
    }
    if !faults.is_empty() {
        return Err(Broken {
            faults,
            addresses: Some(addresses),
        });
    }
    let Some(left) = (40 + length).checked_sub(at) else {
        return broken("malformed", Some(addresses));
    };
    let start = Start {
        addresses,
        hops: body[7],
        protocol: next,
        is_extended: walked > 0,
    };
    upper(start, &body[at..], left)
}

/// What is known before the upper layer.
struct Start {
    addresses: (IpAddr, IpAddr),
    hops: u8,
    protocol: u8,
    is_extended: bool,
}

/// `length` is how much of `rest` the packet says is its own.
fn upper(start: Start, rest: &[u8], length: usize) -> Result<Packet<'_>, Broken> {
    let is_v4 = start.addresses.0.is_ipv4();
    let own = &rest[..length];
    let malformed = broken("malformed", Some(start.addresses));
    let needs = match (start.protocol, is_v4) {
        (1 | 2, false) | (58, true) => return malformed,
        (6, _) => 20,
        (17 | 1 | 58 | 2, _) => 8,
        (132, _) => 12,
        _ => 0,
    };
    if own.len() < needs {
        return malformed;
    }
    let upper = match start.protocol {
        6 => {
            let header = usize::from(own[12] >> 4) * 4;
            if header < 20 || header > own.len() {
                return malformed;
            }
            Upper::Tcp {
                source: word(own, 0),
                destination: word(own, 2),
                flags: own[13],
            }
        }
        17 | 132 => Upper::Ports {
            source: word(own, 0),
            destination: word(own, 2),
        },
        1 | 58 => Upper::Icmp {
            kind: own[0],
            code: own[1],
            id: word(own, 4),
        },
        2 => Upper::Igmp { kind: own[0] },
        _ => Upper::Other,
    };
    Ok(Packet {
        source: start.addresses.0,
        destination: start.addresses.1,
        hops: start.hops,
        protocol: start.protocol,
        is_extended: start.is_extended,
        upper,
        rest,
    })
}

/// The tuple that an ICMP error quotes: source, destination, protocol, and what stands where ports are. None when it
/// cannot be told: options or extension headers outside or inside, no first fragment, no echo.
pub(super) fn quoted(error: &Packet<'_>) -> Option<(IpAddr, IpAddr, u8, Upper)> {
    if error.is_extended {
        return None;
    }
    let inner = error.rest.get(8..)?;
    let (source, destination, protocol, head) = if error.source.is_ipv4() {
        let header = inner.get(..20)?;
        if header[0] != 0x45 || word(header, 6) & 0x1fff != 0 {
            return None;
        }
        let ends = (v4(header, 12).into(), v4(header, 16).into());
        (ends.0, ends.1, header[9], inner.get(20..28)?)
    } else {
        let header = inner.get(..40)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let ends = (v6(header, 8).into(), v6(header, 24).into());
        (ends.0, ends.1, header[6], inner.get(40..48)?)
    };
    let upper = match protocol {
        6 | 17 | 132 => Upper::Ports {
            source: word(head, 0),
            destination: word(head, 2),
        },
        1 | 58 => Upper::Icmp {
            kind: head[0],
            code: 0,
            id: word(head, 4),
        },
        _ => Upper::Other,
    };
    Some((source, destination, protocol, upper))
}
