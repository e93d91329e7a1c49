//! Map keys. Fixed layout, explicit padding that is always zero, so that equal keys are equal bytes.

use crate::{
    addr::Addr,
    maps::{FILTER_WORDS, FLOW_HINTS_LEN},
};

/// A network is named by the ifindex of its bridge: the kernel never uses one twice while the machine runs, and the
/// same subnet may exist on two of them.
pub type NetworkId = u32;

/// The scope of what is true on every network: addresses of the host, endpoints of other networks, CIDR peers.
pub const ANY_NETWORK: NetworkId = 0;

/// Protocol numbers that the decision knows (IANA).
pub mod proto {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IGMP, RFC 3376.
    pub const IGMP: u8 = 2;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMP6: u8 = 58;
    /// SCTP, RFC 9260.
    pub const SCTP: u8 = 132;
}

/// Key of an exact address: who has this address, as seen on this network.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AddressKey {
    /// The network, or [`ANY_NETWORK`].
    pub network: NetworkId,
    /// The address.
    pub addr: Addr,
}

/// Data part of a longest-prefix key: [`AddressKey`] with the network in network byte order, as the trie compares bits.
/// The prefix length counts the 32 bits of the network too.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PrefixKey {
    /// The network's number, big endian.
    pub network: u32,
    /// The address, network order.
    pub addr: Addr,
}

impl PrefixKey {
    /// Bits before the address.
    pub const NETWORK_BITS: u32 = 32;

    /// Key of an address on a network.
    #[inline(always)]
    pub const fn new(network: NetworkId, addr: Addr) -> Self {
        Self {
            network: network.to_be(),
            addr,
        }
    }
}

/// Key of a policy entry. With [`PolicyKey::HEADER`] as `length` it is the header of a (policy, direction, identity);
/// otherwise it is one port prefix of one protocol under that header.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PolicyKey {
    /// The policy (a compiled set of rules, shared by equal endpoints).
    pub policy: u32,
    /// The peer's identity, or [`crate::value::IDENTITY_OTHER`].
    pub identity: u32,
    /// Port (ICMP: type), host order, low bits beyond `length` zero. Zero in a header.
    pub port: u16,
    /// [`crate::reason::Direction`] as a number.
    pub direction: u8,
    /// IP protocol. Zero in a header.
    pub protocol: u8,
    /// Leading bits of `port` that count, 0 to 16, or [`PolicyKey::HEADER`].
    pub length: u8,
    /// Zero.
    pub pad: [u8; 3],
}

impl PolicyKey {
    /// The value of `length` that marks a header.
    pub const HEADER: u8 = 0xff;
}

/// Key of a flow: both directions of one conversation have the same key. Aligned so that it is read as [`FlowKey::words`].
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FlowKey {
    /// The end that is first in [`Addr::is_before`], or by port where the addresses are equal.
    pub low: Addr,
    /// The other end.
    pub high: Addr,
    /// Port of the low end, host order. ICMP echo: the identifier.
    pub low_port: u16,
    /// Port of the high end, host order. ICMP echo: zero.
    pub high_port: u16,
    /// The network on which the packet was seen.
    pub network: NetworkId,
    /// IP protocol.
    pub protocol: u8,
    /// ICMP only: 1 when the low end asks, 2 when the high end asks. Two pings that cross with one identifier are two
    /// flows (GHSA-c66w-hq56-4q97). Otherwise zero.
    pub asker: u8,
    /// Zero.
    pub pad: [u8; 6],
}

impl FlowKey {
    /// No flow's key: the network is always one.
    pub const NONE: Self = Self {
        low: Addr::UNSPECIFIED,
        high: Addr::UNSPECIFIED,
        low_port: 0,
        high_port: 0,
        network: ANY_NETWORK,
        protocol: 0,
        asker: 0,
        pad: [0; 6],
    };

    /// The whole key in as few words as hold it; where numbers are little endian, they lie in memory so.
    #[inline(always)]
    const fn words(&self) -> [u64; 6] {
        const fn pair(low: u32, high: u32) -> u64 {
            low as u64 | (high as u64) << 32
        }
        let ([a, b, c, d], [e, f, g, h]) = (self.low.0, self.high.0);
        let ports = self.low_port as u32 | (self.high_port as u32) << 16;
        let rest = self.protocol as u32 | (self.asker as u32) << 8;
        [
            pair(a, b),
            pair(c, d),
            pair(e, f),
            pair(g, h),
            pair(ports, self.network),
            rest as u64,
        ]
    }

    /// Whether both are one key. In words: a comparison of fields is three times as many instructions.
    #[inline(always)]
    pub const fn is(&self, other: &Self) -> bool {
        let (a, b) = (self.words(), other.words());
        (a[0] ^ b[0])
            | (a[1] ^ b[1])
            | (a[2] ^ b[2])
            | (a[3] ^ b[3])
            | (a[4] ^ b[4])
            | (a[5] ^ b[5])
            == 0
    }

    /// Where in [`crate::maps::FLOW_HINTS`] the position of this flow stands, if no other flow's stands there.
    #[inline(always)]
    pub const fn hint(&self) -> u32 {
        let [low, low_end, high, high_end, ports, rest] = self.words();
        // Constants as in `BlockKey::filter`.
        let mixed = (low_end ^ low.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (high_end ^ high.rotate_left(29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
            ^ (ports ^ rest.rotate_left(40)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - FLOW_HINTS_LEN.trailing_zeros())) as u32
    }
}

/// Key of what was seen in audit: one side's view of all flows of one kind.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeenKey {
    /// The other end's address where it is of the world or a group, else zero: an endpoint is one peer in both families.
    pub addr: Addr,
    /// ifindex of the endpoint whose side it is.
    pub ifindex: u32,
    /// ifindex of the other end where it is an endpoint, else 0.
    pub peer: u32,
    /// The port that was dialled, as this side is asked about it; ICMP: the type; else 0.
    pub port: u16,
    /// The other end's [`crate::value::kind`] as a number.
    pub kind: u8,
    /// IP protocol.
    pub protocol: u8,
    /// [`crate::reason::Direction`] as a number.
    pub direction: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Key of a block: 256 neighbouring prefixes, whose address they have in common up to their last 8 bits. What is shorter
/// than that is several neighbours.
///
/// The address is two numbers, so that a mask is a shift; IPv4 is v4-mapped.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BlockKey {
    /// The first 64 bits of the address.
    pub high: u64,
    /// The others.
    pub low: u64,
    /// How many octets of the address the block has in common, 0 to 15; the others are zero.
    pub octets: u32,
    /// Which list it belongs to.
    pub list: u32,
}

impl BlockKey {
    /// The block of an address that has so many octets in common, and which of the 256 neighbours the address is in.
    #[inline(always)]
    pub const fn of(list: u32, addr: &Addr, octets: u32) -> (Self, u32) {
        let (high, low) = addr.halves();
        // Octets are counted from the highest bits of each half.
        let bits = (octets & 7) * 8;
        let keep = !(u64::MAX >> bits);
        let shift = 56 - bits;
        let (high, low, neighbour) = if octets < 8 {
            (high & keep, 0, high >> shift)
        } else {
            (high, low & keep, low >> shift)
        };
        let key = Self {
            high,
            low,
            octets,
            list,
        };
        (key, neighbour as u32 & 0xff)
    }

    /// Word and bit in the filter of the eight neighbours that one of this block is among. Eight, so that a prefix has a few
    /// bits at most, and a crowded block is not asked for each address near it.
    #[inline(always)]
    pub const fn filter(&self, neighbour: u32) -> (u32, u32) {
        // Odd constants of no meaning (from splitmix64 and the golden ratio); the highest bits of a product are the best.
        let lists =
            ((self.list as u64) << 32) | (self.octets as u64) << 8 | (neighbour >> 3) as u64;
        let mixed = self.high.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.low.wrapping_mul(0xbf58_476d_1ce4_e5b9)
            ^ lists.wrapping_mul(0x94d0_49bb_1331_11eb);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = mixed >> (u64::BITS - 6 - FILTER_WORDS.trailing_zeros());
        ((place >> 6) as u32, (place & 63) as u32)
    }
}

const _: () = {
    assert!(size_of::<AddressKey>() == 20);
    assert!(size_of::<PrefixKey>() == 20);
    assert!(size_of::<PolicyKey>() == 16);
    assert!(size_of::<FlowKey>() == 48);
    assert!(size_of::<SeenKey>() == 32);
    assert!(size_of::<BlockKey>() == 24);
};
