//! Echo requests: ICMP (RFC 792) and ICMPv6 (RFC 4443).

use std::{
    io::{self, ErrorKind, Read as _},
    net::SocketAddr,
    process,
    sync::atomic::{AtomicU16, Ordering},
    time::Instant,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::attempt::{Attempt, Outcome};

const HEADER: usize = 8;

/// Sends one echo request and waits for its reply.
pub(crate) fn echo(attempt: &Attempt) -> io::Result<Outcome> {
    let is_v4 = attempt.to.is_ipv4();
    let protocol = if is_v4 {
        Protocol::ICMPV4
    } else {
        Protocol::ICMPV6
    };
    let socket = Socket::new(Domain::for_address(attempt.to), Type::RAW, Some(protocol))?;
    if let Some(from) = attempt.from {
        socket.bind(&without_port(from))?;
    }
    // Connected, the kernel only delivers what comes from the target.
    socket.connect(&without_port(attempt.to))?;
    let request = request(is_v4);
    socket.send(&request)?;
    let deadline = Instant::now() + attempt.patience;
    let mut packet = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = (&socket).read(&mut packet)?;
        if is_reply(&packet[..length], &request, is_v4) {
            return Ok(Outcome::Answered(attempt.to));
        }
    }
}

/// A raw socket takes the port for a protocol number, and wants none.
fn without_port(mut addr: SocketAddr) -> SockAddr {
    addr.set_port(0);
    addr.into()
}

/// Type, code, checksum, identifier, sequence number.
fn request(is_v4: bool) -> [u8; HEADER] {
    static SEQUENCE: AtomicU16 = AtomicU16::new(0);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let [.., a, b] = process::id().to_be_bytes();
    let kind = if is_v4 { 8 } else { 128 };
    let mut packet = [kind, 0, 0, 0, a, b, sequence[0], sequence[1]];
    if is_v4 {
        // For ICMPv6 the kernel does it.
        let checksum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&checksum);
    }
    packet
}

fn is_reply(packet: &[u8], request: &[u8; HEADER], is_v4: bool) -> bool {
    // IPv4 raw sockets deliver the IP header too.
    let skip = if is_v4 {
        packet
            .first()
            .map_or(0, |first| usize::from(first & 0xf) * 4)
    } else {
        0
    };
    let kind = if is_v4 { 0 } else { 129 };
    packet
        .get(skip..skip + HEADER)
        .is_some_and(|icmp| icmp[0] == kind && icmp[4..] == request[4..])
}

/// RFC 1071; an odd last byte counts as the high one of its word.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
