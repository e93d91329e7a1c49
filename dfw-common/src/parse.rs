//! Bytes to [`Headers`]: Ethernet, ARP, IPv4 with options, IPv6 with extension headers, and the start of the upper layer.
//!
//! What cannot be parsed is an error with its reason, never a guess; the addresses are told where they could be read.

use crate::{
    addr::{Addr, Mac},
    check::Check,
    key::proto,
    packet::{Headers, Packet, ethertype},
    reason::Reason,
};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6: usize = 40;
/// IPv6 extension headers that are walked before giving up.
const EXTENSIONS: usize = 6;
/// IPv4 options that are walked before giving up; 40 bytes hold as many of any real use.
const OPTIONS: usize = 12;

/// Extension headers (IANA protocol numbers).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
}

/// Reads the headers of a frame.
///
/// # Errors
/// The [`Reason`] for which such a frame is dropped: `vlan-tag`, `ethertype`, `malformed`, `ip-options`, `fragment` or
/// `extension-header`.
#[inline(always)]
pub fn parse<P: Packet>(packet: &P, headers: &mut Headers) -> Result<(), Reason> {
    let mut is_addressed = false;
    let result = read(packet, headers, &mut is_addressed);
    // Not before: on the path of every packet it would be work for nothing.
    if result.is_err() && !is_addressed {
        headers.source = Addr::UNSPECIFIED;
        headers.destination = Addr::UNSPECIFIED;
    }
    result
}

/// [`parse`], which may leave the addresses of an earlier packet where it fails before `is_addressed`.
#[inline(always)]
fn read<P: Packet>(
    packet: &P,
    headers: &mut Headers,
    is_addressed: &mut bool,
) -> Result<(), Reason> {
    headers.ethertype = 0;
    headers.source_port = 0;
    headers.destination_port = 0;
    headers.upper = 0;
    headers.protocol = 0;
    headers.flags = 0;
    headers.hops = 0;
    headers.extended = false;
    Check::TagBeside.require(!packet.is_tagged(), Reason::VlanTag)?;
    let mac = packet.load::<ETHERNET>(0).ok_or(Reason::Malformed)?;
    headers.destination_mac = Mac::new([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
    headers.source_mac = Mac::new([mac[6], mac[7], mac[8], mac[9], mac[10], mac[11]]);
    headers.ethertype = u16::from_be_bytes([mac[12], mac[13]]);
    match headers.ethertype {
        ethertype::IPV4 => {
            let end = ipv4(packet, headers, is_addressed)?;
            upper(packet, headers, end)
        }
        ethertype::IPV6 => {
            let end = ipv6(packet, headers, is_addressed)?;
            upper(packet, headers, end)
        }
        ethertype::ARP => arp(packet, headers, is_addressed),
        // 802.1Q, 802.1ad and the old QinQ number.
        0x8100 | 0x88a8 | 0x9100 => Check::TagInFrame.require(false, Reason::VlanTag),
        _ => Check::Ethertype.require(false, Reason::Ethertype),
    }
}

/// RFC 826 for IPv4 over Ethernet; nothing else is ARP here.
#[inline(always)]
fn arp<P: Packet>(
    packet: &P,
    headers: &mut Headers,
    is_addressed: &mut bool,
) -> Result<(), Reason> {
    let fixed = packet.load::<8>(ETHERNET).ok_or(Reason::Malformed)?;
    Check::ArpForm.require(fixed[..6] == [0, 1, 8, 0, 6, 4], Reason::Malformed)?;
    let body = packet.load::<20>(ETHERNET + 8).ok_or(Reason::Malformed)?;
    headers.source = Addr::v4([body[6], body[7], body[8], body[9]]);
    headers.destination = Addr::v4([body[16], body[17], body[18], body[19]]);
    *is_addressed = true;
    headers.flags = fixed[7];
    // The hardware address that the message itself claims must be the frame's.
    let claimed = Mac::new([body[0], body[1], body[2], body[3], body[4], body[5]]);
    Check::ArpMac.require(claimed == headers.source_mac, Reason::SpoofedNeighbour)?;
    Ok(())
}

/// RFC 791. Returns where the packet ends, in bytes of the frame.
#[inline(always)]
fn ipv4<P: Packet>(
    packet: &P,
    headers: &mut Headers,
    is_addressed: &mut bool,
) -> Result<u32, Reason> {
    let ip = packet.load::<IPV4>(ETHERNET).ok_or(Reason::Malformed)?;
    let length = usize::from(ip[0] & 0xf) * 4;
    Check::Ipv4Version.require(ip[0] >> 4 == 4, Reason::Malformed)?;
    headers.source = Addr::v4([ip[12], ip[13], ip[14], ip[15]]);
    headers.destination = Addr::v4([ip[16], ip[17], ip[18], ip[19]]);
    *is_addressed = true;
    Check::Ipv4HeaderLength.require(length >= IPV4, Reason::Malformed)?;
    let total = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
    let end = end_of(packet, ETHERNET as u32, total)?;
    Check::Ipv4Length.require(end >= (ETHERNET + length) as u32, Reason::Malformed)?;
    // More-fragments or an offset; only the first fragment has ports, and none is needed to know that it is one.
    let is_whole = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff == 0;
    Check::Ipv4Fragment.require(is_whole, Reason::Fragment)?;
    if length > IPV4 {
        options(packet, length)?;
    }
    headers.protocol = ip[9];
    headers.hops = ip[8];
    headers.upper = (ETHERNET + length) as u16;
    Ok(end)
}

/// RFC 791 section 3.1: source routes are refused (RFC 7126 section 4.3), anything that does not add up too.
#[inline(never)]
fn options<P: Packet>(packet: &P, length: usize) -> Result<(), Reason> {
    let end = ETHERNET + length;
    let mut offset = ETHERNET + IPV4;
    for _ in 0..OPTIONS {
        if offset >= end {
            return Ok(());
        }
        // The byte after a last one-byte option is the upper layer's; no use of options goes without.
        let [kind, size] = packet.load::<2>(offset).ok_or(Reason::Malformed)?;
        match kind {
            0 => return Ok(()),
            1 => offset += 1,
            // Loose and strict source route.
            131 | 137 if Check::SourceRoute.finds(true) => return Err(Reason::IpOptions),
            _ => {
                let size = usize::from(size);
                let adds_up = size >= 2 && offset + size <= end;
                Check::OptionLength.require(adds_up, Reason::IpOptions)?;
                offset += size;
            }
        }
    }
    Check::OptionCount.require(offset == end, Reason::IpOptions)
}

/// RFC 8200. Returns where the packet ends, in bytes of the frame.
#[inline(always)]
fn ipv6<P: Packet>(
    packet: &P,
    headers: &mut Headers,
    is_addressed: &mut bool,
) -> Result<u32, Reason> {
    let ip = packet.load::<IPV6>(ETHERNET).ok_or(Reason::Malformed)?;
    Check::Ipv6Version.require(ip[0] >> 4 == 6, Reason::Malformed)?;
    let word = |i: usize| u32::from_ne_bytes([ip[i], ip[i + 1], ip[i + 2], ip[i + 3]]);
    let source = Addr::v6([word(8), word(12), word(16), word(20)]);
    let destination = Addr::v6([word(24), word(28), word(32), word(36)]);
    // A v4-mapped address on the wire would be taken for IPv4 (RFC 4942 section 2.2).
    let is_mapped = source.is_v4() || destination.is_v4();
    Check::MappedAddress.require(!is_mapped, Reason::Malformed)?;
    headers.source = source;
    headers.destination = destination;
    *is_addressed = true;
    headers.hops = ip[7];
    let end = end_of(
        packet,
        (ETHERNET + IPV6) as u32,
        u32::from(u16::from_be_bytes([ip[4], ip[5]])),
    )?;
    let next = ip[6];
    if is_extension(next) {
        extensions(packet, headers, next)?;
    } else {
        headers.protocol = next;
        headers.upper = (ETHERNET + IPV6) as u16;
    }
    Ok(end)
}

/// End of a packet whose header says `length` bytes from `start`. A zero length with more than 64 KiB of frame is a
/// segmentation-offloaded packet beyond what the field can say (BIG TCP, Linux 5.19 for IPv6 and 6.3 for IPv4).
#[inline(always)]
fn end_of<P: Packet>(packet: &P, start: u32, length: u32) -> Result<u32, Reason> {
    let frame = packet.len();
    if length == 0 && frame > 0xffff {
        return Ok(frame);
    }
    Check::PacketLength.require(start + length <= frame, Reason::Malformed)?;
    Ok(start + length)
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::AUTHENTICATION
            | extension::DESTINATION
    )
}

/// RFC 8200 section 4: finds the upper layer's protocol and where it starts.
#[inline(never)]
fn extensions<P: Packet>(packet: &P, headers: &mut Headers, first: u8) -> Result<(), Reason> {
    let mut next = first;
    let mut offset = ETHERNET + IPV6;
    for step in 0..EXTENSIONS {
        let head = packet.load::<4>(offset).ok_or(Reason::Malformed)?;
        match next {
            // Only directly after the IPv6 header (section 4.1).
            extension::HOP_BY_HOP if Check::HopByHop.finds(step > 0) => {
                return Err(Reason::ExtensionHeader);
            }
            // The old source route (RFC 5095).
            extension::ROUTING if Check::RoutingHeader.finds(head[2] == 0) => {
                return Err(Reason::ExtensionHeader);
            }
            extension::FRAGMENT => {
                // Offset or more-fragments; an atomic fragment (RFC 6946) goes on.
                let is_whole = u16::from_be_bytes([head[2], head[3]]) & 0xfff9 == 0;
                Check::Ipv6Fragment.require(is_whole, Reason::Fragment)?;
                offset += 8;
            }
            extension::AUTHENTICATION => offset += (usize::from(head[1]) + 2) * 4,
            _ => offset += (usize::from(head[1]) + 1) * 8,
        }
        next = head[0];
        if !is_extension(next) {
            headers.extended = true;
            headers.protocol = next;
            headers.upper = offset as u16;
            return Ok(());
        }
    }
    Check::ExtensionCount.require(false, Reason::ExtensionHeader)
}

/// The start of the upper layer: ports, flags, type and code.
#[inline(always)]
fn upper<P: Packet>(packet: &P, headers: &mut Headers, end: u32) -> Result<(), Reason> {
    let offset = usize::from(headers.upper);
    let is_v4 = headers.ethertype == ethertype::IPV4;
    // Each family has its own; in the other one they would be taken for what they are not.
    let is_of_family = match headers.protocol {
        proto::ICMP | proto::IGMP => is_v4,
        proto::ICMP6 => !is_v4,
        _ => true,
    };
    Check::IcmpFamily.require(is_of_family, Reason::Malformed)?;
    let need = match headers.protocol {
        proto::TCP => 20,
        proto::UDP | proto::ICMP | proto::ICMP6 | proto::IGMP => 8,
        proto::SCTP => 12,
        _ => {
            return Check::UpperStart.require(u32::from(headers.upper) <= end, Reason::Malformed);
        }
    };
    let is_whole = u32::from(headers.upper) + need <= end;
    Check::UpperLength.require(is_whole, Reason::Malformed)?;
    let head = packet.load::<8>(offset).ok_or(Reason::Malformed)?;
    let (first, second) = (
        u16::from_be_bytes([head[0], head[1]]),
        u16::from_be_bytes([head[2], head[3]]),
    );
    match headers.protocol {
        proto::TCP => {
            let tail = packet.load::<2>(offset + 12).ok_or(Reason::Malformed)?;
            let length = u32::from(tail[0] >> 4) * 4;
            Check::TcpHeaderLength.require(length >= need, Reason::Malformed)?;
            let is_whole = u32::from(headers.upper) + length <= end;
            Check::TcpHeaderEnd.require(is_whole, Reason::Malformed)?;
            headers.source_port = first;
            headers.destination_port = second;
            headers.flags = tail[1];
        }
        proto::UDP | proto::SCTP => {
            headers.source_port = first;
            headers.destination_port = second;
        }
        _ => {
            headers.destination_port = u16::from(head[0]);
            headers.flags = head[1];
            if is_echo(headers) {
                headers.source_port = u16::from_be_bytes([head[4], head[5]]);
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn is_echo(headers: &Headers) -> bool {
    match headers.protocol {
        proto::ICMP => matches!(headers.destination_port, 0 | 8),
        proto::ICMP6 => matches!(headers.destination_port, 128 | 129),
        _ => false,
    }
}

/// What an ICMP message is to connection tracking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmp {
    /// Not ICMP.
    No,
    /// Opens a flow.
    EchoRequest,
    /// Answers one.
    EchoReply,
    /// Reports on the packet it quotes.
    Error,
    /// Neighbour discovery (ICMPv6 133 to 137).
    Neighbour,
    /// Multicast listener discovery (ICMPv6 130 to 132, 143).
    Membership,
    /// Any other type: a message of its own.
    Other,
}

/// Class of an ICMP or ICMPv6 message by its type (RFC 792, RFC 4443, RFC 4861, RFC 3810).
#[inline(always)]
pub fn icmp(headers: &Headers) -> Icmp {
    match (headers.protocol, headers.destination_port) {
        (proto::ICMP, 8) | (proto::ICMP6, 128) => Icmp::EchoRequest,
        (proto::ICMP, 0) | (proto::ICMP6, 129) => Icmp::EchoReply,
        (proto::ICMP, 3 | 4 | 11 | 12) | (proto::ICMP6, 1..=4) => Icmp::Error,
        (proto::ICMP6, 133..=137) => Icmp::Neighbour,
        (proto::ICMP6, 130..=132 | 143) => Icmp::Membership,
        (proto::ICMP | proto::ICMP6, _) => Icmp::Other,
        _ => Icmp::No,
    }
}

/// The tuple of the packet that an ICMP error quotes: as it was sent, so its source is who gets the error.
/// Options and extension headers, of either header, are not walked: such an error is not related to anything.
/// False when there is no such tuple. (An `Option` of headers would be a type that the kernel's BTF does not know.)
#[inline(never)]
pub fn quoted<P: Packet>(packet: &P, outer: &Headers, inner: &mut Headers) -> bool {
    quoted_tuple(packet, outer, inner).is_some()
}

#[inline(always)]
fn quoted_tuple<P: Packet>(packet: &P, outer: &Headers, inner: &mut Headers) -> Option<()> {
    *inner = *outer;
    inner.flags = 0;
    inner.source_port = 0;
    inner.destination_port = 0;
    // Plain headers only, outside too: the verifier likes its offsets constant.
    let offset = if outer.ethertype == ethertype::IPV4 {
        let start = ETHERNET + IPV4 + 8;
        Check::QuotePlace.demand(usize::from(outer.upper) + 8 == start)?;
        let ip = packet.load::<IPV4>(start)?;
        Check::QuoteForm.demand(ip[0] == 0x45)?;
        Check::QuoteFragment.demand(u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff == 0)?;
        inner.source = Addr::v4([ip[12], ip[13], ip[14], ip[15]]);
        inner.destination = Addr::v4([ip[16], ip[17], ip[18], ip[19]]);
        inner.protocol = ip[9];
        start + IPV4
    } else {
        let start = ETHERNET + IPV6 + 8;
        Check::QuotePlace.demand(usize::from(outer.upper) + 8 == start)?;
        let ip = packet.load::<IPV6>(start)?;
        Check::QuoteForm.demand(ip[0] >> 4 == 6)?;
        let word = |i: usize| u32::from_ne_bytes([ip[i], ip[i + 1], ip[i + 2], ip[i + 3]]);
        inner.source = Addr::v6([word(8), word(12), word(16), word(20)]);
        inner.destination = Addr::v6([word(24), word(28), word(32), word(36)]);
        inner.protocol = ip[6];
        start + IPV6
    };
    let head = packet.load::<8>(offset)?;
    match inner.protocol {
        proto::TCP | proto::UDP | proto::SCTP => {
            inner.source_port = u16::from_be_bytes([head[0], head[1]]);
            inner.destination_port = u16::from_be_bytes([head[2], head[3]]);
        }
        proto::ICMP | proto::ICMP6 => {
            inner.destination_port = u16::from(head[0]);
            if is_echo(inner) {
                inner.source_port = u16::from_be_bytes([head[4], head[5]]);
            }
        }
        _ => {}
    }
    Some(())
}
