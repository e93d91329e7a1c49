//! The hostile first process: frames as fast as they can be sent, from the first moment on.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    process,
    str::FromStr,
    time::{Duration, Instant},
};

use nix::{ifaddrs::getifaddrs, sys::socket::bind};
use socket2::{Domain, Protocol, Socket, Type};

use crate::icmp::checksum;

/// The interface that an engine gives a container.
const INTERFACE: &str = "eth0";
/// Frames between two looks at the clock, for each target.
const BURST: u16 = 16;

type Mac = [u8; 6];

/// What is blasted at: `ADDRESS:PORT@MAC`, with brackets around an IPv6 address. The MAC is the next hop's, so that nothing
/// waits for address resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The far end.
    pub to: SocketAddr,
    /// Of the container, or of the bridge as its gateway.
    pub mac: Mac,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not ADDRESS:PORT@MAC");
        let (to, mac) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Self {
            to: to.parse().map_err(|_| wrong())?,
            mac: parse_mac(mac).ok_or_else(wrong)?,
        })
    }
}

/// Sends SYNs and datagrams in turn, each from another port, to every target until the time is over; returns how many frames
/// the kernel took. Waits for nothing: what is not there yet, interface or address, is tried again at once. Needs `NET_RAW`.
pub fn blast(targets: &[Target], time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut port = None;
    let mut sources = vec![None; targets.len()];
    let mut number = 0_u16;
    let mut sent = 0;
    while Instant::now() < end {
        if port.is_none() {
            port = Port::open().ok();
        }
        let Some(port) = &port else { continue };
        for (target, source) in targets.iter().zip(&mut sources) {
            if source.is_none() {
                *source = source_to(target.to).ok();
            }
            let Some(source) = *source else { continue };
            for step in 0..BURST {
                // Clear of well-known ports; 2^15 flows before one comes again.
                let from = SocketAddr::new(source, 0x8000 | number.wrapping_add(step));
                for upper in [syn, datagram] {
                    let frame = frame([target.mac, port.mac], from, target.to, upper);
                    sent += u64::from(port.socket.send(&frame).is_ok());
                }
            }
        }
        number = number.wrapping_add(BURST);
    }
    sent
}

/// The interface, for whole frames.
struct Port {
    socket: Socket,
    mac: Mac,
}

impl Port {
    fn open() -> io::Result<Self> {
        let mut own = getifaddrs()?.filter(|address| address.interface_name == INTERFACE);
        let link = own.find_map(|address| address.address?.as_link_addr().copied());
        let link = link.ok_or(ErrorKind::NotFound)?;
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
        bind(socket.as_raw_fd(), &link)?;
        let mac = link.addr().ok_or(ErrorKind::InvalidData)?;
        Ok(Self { socket, mac })
    }
}

/// The own address that the kernel would use; no packet is sent.
fn source_to(to: SocketAddr) -> io::Result<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok());
    let mut mac = [0; 6];
    for byte in &mut mac {
        *byte = bytes.next()??;
    }
    bytes.next().is_none().then_some(mac)
}

/// An upper layer without its checksum: protocol number, bytes, and where the checksum belongs.
type Upper = (u8, Vec<u8>, usize);

/// RFC 9293: a new connection.
fn syn(from: u16, to: u16) -> Upper {
    let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
    header.extend(process::id().to_be_bytes());
    header.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    (6, header, 16)
}

/// RFC 768.
fn datagram(from: u16, to: u16) -> Upper {
    let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
    header.extend([0, 12, 0, 0]);
    header.extend(b"dfwt");
    (17, header, 6)
}

/// A whole Ethernet frame, right in every checksum; `macs` are those of destination and source.
fn frame(
    macs: [Mac; 2],
    from: SocketAddr,
    to: SocketAddr,
    upper: fn(u16, u16) -> Upper,
) -> Vec<u8> {
    let (protocol, mut upper, place) = upper(from.port(), to.port());
    let length = upper.len() as u16;
    let addresses = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => unreachable!("the kernel gave {from} as the way to {to}"),
    };
    // The pseudo header of RFC 9293 and of RFC 8200 have the same sum.
    let [high, low] = length.to_be_bytes();
    let sum = checksum(&[&addresses[..], &[0, protocol, high, low], &upper].concat());
    upper[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    let (ethertype, mut header) = if to.is_ipv4() {
        let [high, low] = (20 + length).to_be_bytes();
        let fixed = [0x45, 0, high, low, 0, 1, 0x40, 0, 64, protocol, 0, 0];
        (0x0800_u16, fixed.to_vec())
    } else {
        (0x86dd, vec![0x60, 0, 0, 0, high, low, protocol, 64])
    };
    header.extend(&addresses);
    if to.is_ipv4() {
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
    }
    [
        &macs.concat()[..],
        &ethertype.to_be_bytes(),
        &header,
        &upper,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_nothing_else_is() {
        let target: Target = "[fd78:1::2]:9@02:42:0a:4e:01:02".parse().expect("a target");
        assert_eq!(target.to, "[fd78:1::2]:9".parse().expect("an address"));
        assert_eq!(target.mac, [2, 0x42, 0x0a, 0x4e, 1, 2]);
        for wrong in [
            "",
            "10.0.0.1:9",
            "10.0.0.1:9@02:42",
            "10.0.0.1@02:42:0a:4e:01:02",
            "10.0.0.1:9@02:42:0a:4e:01:02:03",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn checksums_are_right() {
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
            let (from, to): (SocketAddr, SocketAddr) =
                (from.parse().expect("valid"), to.parse().expect("valid"));
            for (upper, protocol, length) in [(syn as fn(_, _) -> _, 6, 20), (datagram, 17, 12)] {
                let frame = frame([[1; 6], [2; 6]], from, to, upper);
                let (header, addresses) = if to.is_ipv4() { (20, 8) } else { (40, 32) };
                assert_eq!(frame.len(), 14 + header + length);
                let end = 14 + header;
                let mut sum = frame[end - addresses..].to_vec();
                sum.extend([0, protocol, 0, length as u8]);
                assert_eq!(checksum(&sum), 0, "{to}");
                if to.is_ipv4() {
                    assert_eq!(checksum(&frame[14..34]), 0);
                }
            }
        }
    }
}
