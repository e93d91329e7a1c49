//! Map keys. Fixed layout, explicit padding that is always zero, so that equal keys are equal bytes.

use crate::addr::Addr;

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

/// Key of a flow: both directions of one conversation have the same key.
#[repr(C)]
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
    pub pad: [u8; 2],
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

const _: () = {
    assert!(size_of::<AddressKey>() == 20);
    assert!(size_of::<PrefixKey>() == 20);
    assert!(size_of::<PolicyKey>() == 16);
    assert!(size_of::<FlowKey>() == 44);
    assert!(size_of::<SeenKey>() == 32);
};
