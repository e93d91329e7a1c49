//! Ethernet frames, byte by byte: also those that no kernel would send.

use std::net::{IpAddr, Ipv6Addr};

/// A MAC address.
pub type Mac = [u8; 6];

/// Protocol numbers (IANA).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// TCP flags.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// SYN and ACK.
    pub const SYN_ACK: u8 = SYN | ACK;
}

/// An upper layer: protocol and bytes.
pub type Upper = (u8, Vec<u8>);

/// An IP packet in an Ethernet frame. The family is that of `source`.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Destination and source MAC.
    pub macs: [Mac; 2],
    /// Source address.
    pub source: IpAddr,
    /// Destination address; of the same family.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// IPv4 options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and bytes of which the first becomes the next header's number.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Offset in units of eight bytes, and whether more follow. IPv6: a last extension header.
    pub fragment: Option<(u16, bool)>,
    /// What it carries.
    pub upper: Upper,
}

impl Ip {
    /// The frame.
    ///
    /// # Panics
    /// When the addresses are of two families.
    pub fn frame(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = self.v4(source.octets(), destination.octets());
                ethernet(self.macs, 0x0800, &[header, self.upper.1.clone()].concat())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = self.v6(source.octets(), destination.octets());
                ethernet(self.macs, 0x86dd, &[header, self.upper.1.clone()].concat())
            }
            (source, destination) => panic!("{source} and {destination}"),
        }
    }

    /// With the checksum of its upper layer, as a receiving kernel wants it.
    ///
    /// # Panics
    /// When the upper layer has none that is known here.
    pub fn sealed(mut self) -> Self {
        let (protocol, bytes) = &mut self.upper;
        let at = match *protocol {
            protocol::ICMP | protocol::ICMP6 => 2,
            protocol::TCP => 16,
            protocol::UDP => 6,
            other => panic!("protocol {other}"),
        };
        bytes[at..at + 2].fill(0);
        let mut covered = bytes.clone();
        if *protocol != protocol::ICMP {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => covered.extend(address.octets()),
                    IpAddr::V6(address) => covered.extend(address.octets()),
                }
            }
            covered.extend([0, *protocol]);
            covered.extend((bytes.len() as u16).to_be_bytes());
        }
        let sum = checksum(&covered).to_be_bytes();
        bytes[at..at + 2].copy_from_slice(&sum);
        self
    }

    fn v4(&self, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let length = 20 + self.options.len();
        let total = (length + self.upper.1.len()) as u16;
        let (offset, more) = self.fragment.unwrap_or_default();
        let fragment = offset | if more { 0x2000 } else { 0 };
        let mut header = vec![0x40 | (length / 4) as u8, 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 1]);
        header.extend(fragment.to_be_bytes());
        header.extend([self.hops, self.upper.0, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(&self.options);
        // A bridge that calls iptables looks at it.
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        header
    }

    fn v6(&self, source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let mut extensions = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let [high, low] = ((offset << 3) | u16::from(more)).to_be_bytes();
            extensions.push((44, vec![0, 0, high, low, 0, 0, 0, 1]));
        }
        let mut next = self.upper.0;
        for (number, bytes) in extensions.iter_mut().rev() {
            bytes[0] = next;
            next = *number;
        }
        let extensions: Vec<u8> = extensions
            .into_iter()
            .flat_map(|(_, bytes)| bytes)
            .collect();
        let length = (extensions.len() + self.upper.1.len()) as u16;
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([next, self.hops]);
        header.extend(source);
        header.extend(destination);
        header.extend(extensions);
        header
    }
}

/// A frame; `macs` are those of destination and source.
pub fn ethernet(macs: [Mac; 2], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let header = [&macs.concat()[..], &ethertype.to_be_bytes()].concat();
    [&header, payload].concat()
}

/// Puts an 802.1Q or 802.1ad tag into a frame.
pub fn tagged(frame: &[u8], ethertype: u16, id: u16) -> Vec<u8> {
    let tag = [ethertype.to_be_bytes(), id.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

/// An ARP message, 1 asks and 2 answers.
pub fn arp(operation: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        body.extend(mac);
        body.extend(address);
    }
    body
}

/// A neighbour discovery message: what follows the checksum, and options that name a MAC (1 source, 2 target).
pub fn nd(kind: u8, body: &[u8], options: &[(u8, Mac)]) -> Upper {
    let options = options
        .iter()
        .flat_map(|(number, mac)| [&[*number, 1], &mac[..]].concat());
    let rest: Vec<u8> = body.iter().copied().chain(options).collect();
    icmp(protocol::ICMP6, kind, 0, &rest)
}

/// The link-local address that the kernel makes of a MAC (RFC 4291 appendix A).
pub fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    let words = [[a ^ 2, b], [c, 0xff], [0xfe, d], [e, f]].map(u16::from_be_bytes);
    Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

/// A TCP header.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Upper {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    (protocol::TCP, header)
}

/// A UDP header with four bytes.
pub fn udp(source: u16, destination: u16) -> Upper {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    header.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    (protocol::UDP, header)
}

/// An SCTP header with the head of a chunk.
pub fn sctp(source: u16, destination: u16) -> Upper {
    let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    header.extend([0; 12]);
    (protocol::SCTP, header)
}

/// An ICMP or ICMPv6 message; `rest` is what follows the checksum, at least four bytes.
pub fn icmp(protocol: u8, kind: u8, code: u8, rest: &[u8]) -> Upper {
    (protocol, [&[kind, code, 0, 0], rest].concat())
}
