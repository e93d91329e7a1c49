//! What an endpoint may get: whatever its interface delivered must have been allowed, or the firewall leaks. Reads frames
//! by itself, without a line of dfw's own code.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::frame::{Mac, protocol};

/// One way: source, destination, protocol, and the port that is dialled (ICMP: 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who dials.
    pub source: IpAddr,
    /// Who answers.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
}

/// What an endpoint may get.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// Its own MAC: what it sends is not judged.
    pub own: Mac,
    /// Who may resolve its address, or be resolved by it: the gateway, and whom a rule lets it talk to.
    pub neighbours: BTreeSet<Mac>,
    /// Flows that rules allow, in either direction; their replies pass too.
    pub flows: BTreeSet<Flow>,
}

impl Oracle {
    /// Checks what was captured at the endpoint's interface.
    ///
    /// # Panics
    /// When something came that was not allowed; shows it.
    #[track_caller]
    pub fn assert_allowed(&self, frames: &[Vec<u8>]) {
        let foreign = frames.iter().filter(|frame| source_mac(frame) != self.own);
        let leaks: Vec<_> = foreign.filter(|frame| !self.allows(frame)).collect();
        assert!(leaks.is_empty(), "{} leaks: {leaks:02x?}", leaks.len());
    }

    fn allows(&self, frame: &[u8]) -> bool {
        if !self.neighbours.contains(&source_mac(frame)) {
            return false;
        }
        match Content::read(frame) {
            Some(Content::Neighbour) => true,
            Some(Content::Packet {
                source,
                destination,
                protocol,
                ports,
            }) => {
                let flow = |source, destination, port| Flow {
                    source,
                    destination,
                    protocol,
                    port,
                };
                self.flows.contains(&flow(source, destination, ports.1))
                    || self.flows.contains(&flow(destination, source, ports.0))
            }
            None => false,
        }
    }
}

fn source_mac(frame: &[u8]) -> Mac {
    let bytes = frame.get(6..12).and_then(|bytes| bytes.try_into().ok());
    bytes.expect("an Ethernet frame has two addresses")
}

/// What a frame carries.
enum Content {
    /// ARP, neighbour or router discovery, group membership: what makes a link work.
    Neighbour,
    /// A whole packet.
    Packet {
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
    },
}

impl Content {
    /// None for what is never allowed: tags, other ethertypes, fragments, options, extension headers, what is cut.
    fn read(frame: &[u8]) -> Option<Self> {
        match frame.get(12..14)? {
            [8, 6] => Some(Self::Neighbour),
            [8, 0] => {
                let header: &[u8; 20] = frame.get(14..)?.first_chunk()?;
                let is_fragment = header[6] & 0x3f != 0 || header[7] != 0;
                if header[9] == protocol::IGMP {
                    return Some(Self::Neighbour);
                }
                if header[0] != 0x45 || is_fragment {
                    return None;
                }
                let address = |at: usize| -> [u8; 4] { std::array::from_fn(|i| header[at + i]) };
                let ends = (address(12), address(16));
                let ends = (Ipv4Addr::from(ends.0).into(), Ipv4Addr::from(ends.1).into());
                Self::packet(ends, header[9], &frame[34..])
            }
            [0x86, 0xdd] => {
                let header: &[u8; 40] = frame.get(14..)?.first_chunk()?;
                let address = |at: usize| -> [u8; 16] { std::array::from_fn(|i| header[at + i]) };
                let ends = (address(8), address(24));
                let ends = (Ipv6Addr::from(ends.0).into(), Ipv6Addr::from(ends.1).into());
                let is_link = match (header[6], frame.get(54)?) {
                    (protocol::ICMP6, 130..=137 | 143) => true,
                    // Membership reports have a hop-by-hop header (RFC 3810 section 5).
                    (0, &protocol::ICMP6) => matches!(frame.get(62)?, 130..=132 | 143),
                    _ => false,
                };
                if is_link {
                    return Some(Self::Neighbour);
                }
                Self::packet(ends, header[6], &frame[54..])
            }
            _ => None,
        }
    }

    fn packet((source, destination): (IpAddr, IpAddr), protocol: u8, upper: &[u8]) -> Option<Self> {
        let port = |at: usize| Some(u16::from_be_bytes([*upper.get(at)?, *upper.get(at + 1)?]));
        let ports = match protocol {
            protocol::TCP | protocol::UDP | protocol::SCTP => (port(0)?, port(2)?),
            _ => (0, 0),
        };
        Some(Self::Packet {
            source,
            destination,
            protocol,
            ports,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Ip, arp, ethernet, flags, tagged, tcp, udp};

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const PEER: Mac = [2, 0, 0, 0, 0, 2];

    fn packet(source: &str, destination: &str, upper: crate::frame::Upper) -> Ip {
        Ip {
            macs: [OWN, PEER],
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            hops: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            upper,
        }
    }

    #[test]
    fn only_what_is_written_is_allowed() {
        for (peer, own) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")] {
            let flow = Flow {
                source: peer.parse().expect("an address"),
                destination: own.parse().expect("an address"),
                protocol: protocol::UDP,
                port: 7,
            };
            let oracle = Oracle {
                own: OWN,
                neighbours: BTreeSet::from([PEER]),
                flows: BTreeSet::from([flow]),
            };
            let good = packet(peer, own, udp(4000, 7));
            assert!(oracle.allows(&good.frame()));
            assert!(oracle.allows(&packet(own, peer, udp(7, 4000)).frame()));
            let mut other_mac = good.clone();
            other_mac.macs[1] = [2, 0, 0, 0, 0, 3];
            let mut fragment = good.clone();
            fragment.fragment = Some((0, true));
            for bad in [
                packet(peer, own, udp(4000, 8)).frame(),
                packet(peer, own, tcp(4000, 7, flags::SYN)).frame(),
                packet(own, peer, udp(4000, 7)).frame(),
                tagged(&good.frame(), 0x8100, 0),
                good.frame()[..36].to_vec(),
                other_mac.frame(),
                fragment.frame(),
                ethernet([OWN, PEER], 0x8847, &[0; 28]),
            ] {
                assert!(!oracle.allows(&bad), "{bad:02x?}");
            }
        }
        let asks = arp(1, (PEER, [10, 0, 0, 2]), ([0; 6], [10, 0, 0, 1]));
        let oracle = Oracle {
            own: OWN,
            ..Oracle::default()
        };
        assert!(!oracle.allows(&ethernet([OWN, PEER], 0x0806, &asks)));
    }
}
