//! What the decision sees of a packet.

use crate::addr::{Addr, Mac};

/// The bytes of one Ethernet frame, wherever they are.
pub trait Packet {
    /// Length of the whole frame in bytes, also of what is not linear. May exceed an MTU: segmentation offload.
    fn len(&self) -> u32;

    /// Whether the frame has no bytes.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from `offset`; none when they are not all there.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Whether the frame carries a VLAN tag in metadata, beside its bytes.
    fn is_tagged(&self) -> bool;
}

/// TCP flags, as in the 14th byte of the header (RFC 9293 section 3.1).
pub mod tcp {
    /// No more data from sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// Ethertypes that may pass (IEEE 802 numbers), host order.
pub mod ethertype {
    /// IPv4, RFC 894.
    pub const IPV4: u16 = 0x0800;
    /// ARP, RFC 826.
    pub const ARP: u16 = 0x0806;
    /// IPv6, RFC 2464.
    pub const IPV6: u16 = 0x86dd;
}

/// The headers of one packet, of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// Destination MAC.
    pub destination_mac: Mac,
    /// Source MAC.
    pub source_mac: Mac,
    /// Source address; ARP: the sender's.
    pub source: Addr,
    /// Destination address; ARP: the target's.
    pub destination: Addr,
    /// Ethertype, host order.
    pub ethertype: u16,
    /// Source port, host order. ICMP echo: the identifier. Otherwise 0.
    pub source_port: u16,
    /// Destination port, host order. ICMP: the type. Otherwise 0.
    pub destination_port: u16,
    /// Where the upper layer starts, bytes from the start of the frame.
    pub upper: u16,
    /// IP protocol; 0 for ARP.
    pub protocol: u8,
    /// TCP flags; ICMP: the code.
    pub flags: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// Whether IPv6 extension headers were passed.
    pub extended: bool,
}

#[cfg(any(test, feature = "user"))]
mod host {
    use super::Packet;

    impl Packet for &[u8] {
        fn len(&self) -> u32 {
            <[u8]>::len(self) as u32
        }

        fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
            self.get(offset..)?.first_chunk().copied()
        }

        fn is_tagged(&self) -> bool {
            false
        }
    }
}
