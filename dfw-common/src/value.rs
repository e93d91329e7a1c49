//! Map values. Fixed layout, explicit padding, no bool, enum or Option: every bit pattern that the kernel hands back is valid.

use crate::{
    addr::Mac,
    check::Check,
    key::{FlowKey, NetworkId},
    reason::Verdict,
};

/// The identity that a policy header falls back to: every peer that no rule of the policy names.
pub const IDENTITY_OTHER: u32 = 0;

/// Modes of an endpoint, as numbers in [`Endpoint::mode`].
pub mod mode {
    /// Not judged.
    pub const OFF: u32 = 0;
    /// Judged and counted, nothing dropped by policy.
    pub const AUDIT: u32 = 1;
    /// Judged and dropped.
    pub const ENFORCE: u32 = 2;
}

/// What an address is, as numbers in [`Address::kind`] and [`Prefix::kind`] (docs/semantics.md section 2).
pub mod kind {
    /// Neither a container, this host, nor in a managed subnet.
    pub const WORLD: u32 = 1;
    /// Local to the host.
    pub const HOST: u32 = 2;
    /// A managed endpoint.
    pub const ENDPOINT: u32 = 3;
    /// Multicast or broadcast.
    pub const GROUP: u32 = 4;
    /// In a managed subnet but nobody's, or ambiguous: always denied.
    pub const UNKNOWN: u32 = 5;
}

/// Who opened a flow, as numbers in [`Flow::opener`].
pub mod opener {
    /// Its initiator.
    pub const INITIATOR: u8 = 0;
    /// Its responder: it is older than dfw, and was taken in by an answer.
    pub const RESPONDER: u8 = 1;
    /// It is older than dfw, and does not tell.
    pub const UNKNOWN: u8 = 2;
}

/// One managed port, in the port table at a position that its ifindex hashes to. An entry with `ifindex` 0 is free.
///
/// `mode`, `policy` and `epoch` are one 8-byte aligned group each with what must change together.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// Host-side ifindex.
    pub ifindex: u32,
    /// Its network: the ifindex of the bridge.
    pub network: NetworkId,
    /// [`mode`], as a number.
    pub mode: u32,
    /// The policy that both its directions are judged by.
    pub policy: u32,
    /// First position of its part of the flow ring.
    pub ring_base: u32,
    /// Length of that part minus one; the length is a power of two. How many flows it may own.
    pub ring_mask: u32,
    /// The container's MAC.
    pub mac: Mac,
    /// 1 when nobody needs to see its packets on the bridge: they may be redirected past it, to and from its neighbours.
    pub redirects: u32,
    /// Zero.
    pub pad: u32,
}

/// Who has an exact address.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Address {
    /// [`kind`], as a number.
    pub kind: u32,
    /// Identity in policy entries.
    pub identity: u32,
    /// Host-side ifindex of the endpoint, else 0.
    pub ifindex: u32,
    /// The endpoint's network, else 0.
    pub network: NetworkId,
}

/// What the addresses under a prefix are. Carries the identity of *all* CIDR peers that cover it, or deny would not
/// beat allow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Prefix {
    /// [`kind`], as a number.
    pub kind: u32,
    /// Identity in policy entries.
    pub identity: u32,
}

/// A policy header, or the verdict of one port prefix (see [`crate::key::PolicyKey`]).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyEntry {
    /// Header: bit N is set when some protocol has entries with N leading port bits. Otherwise zero.
    pub lengths: u32,
    /// Number of the deciding rule in its policy, [`PolicyEntry::NO_RULE`] if none.
    pub rule: u16,
    /// [`PolicyEntry::ALLOW`] or [`PolicyEntry::DENY`]. In a header: of everything that has no entry.
    pub verdict: u8,
    /// [`PolicyEntry::LOG`], and in a header [`PolicyEntry::SOME_ALLOWED`].
    pub flags: u8,
}

impl PolicyEntry {
    /// Denied.
    pub const DENY: u8 = 0;
    /// Allowed.
    pub const ALLOW: u8 = 1;
    /// Each new flow makes an event.
    pub const LOG: u8 = 1;
    /// Header: at least one entry, or the header itself, allows: address resolution may pass.
    pub const SOME_ALLOWED: u8 = 2;
    /// No rule decided.
    pub const NO_RULE: u16 = u16::MAX;
    /// The header of a policy that allows nothing.
    pub const NOTHING: Self = Self {
        lengths: 0,
        rule: Self::NO_RULE,
        verdict: Self::DENY,
        flags: 0,
    };
}

/// What one side of a flow was found to be.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Side {
    /// The policy epoch under which it was judged; 0 = never judged.
    pub epoch: u32,
    /// [`Verdict`] as a number, Allow or Audit; a denied side is never recorded.
    pub verdict: u8,
    /// [`crate::reason::Reason`] as a number.
    pub reason: u8,
    /// Number of the deciding rule.
    pub rule: u16,
}

/// State of a flow in the kernel's flow table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// The initiator's egress side and the responder's ingress side, in this order.
    pub sides: [Side; 2],
    /// ifindex of initiator and responder where they are endpoints of this network, else 0.
    pub ifindex: [u32; 2],
    /// Last packet, in jiffies (truncated; compare by wrapping difference).
    pub seen: u32,
    /// Position in the flow ring.
    pub ring: u32,
    /// Packets from initiator, from responder.
    pub packets: [u64; 2],
    /// Bytes from initiator, from responder, as the hook sees them (Ethernet frame).
    pub bytes: [u64; 2],
    /// Where the receiver's hook last saw the packets of the end that is no endpoint come from: `ingress_ifindex`, 0 for
    /// the host itself. Another origin is looked at anew.
    pub origin: u32,
    /// 1 when the initiator is the low end of the key, else 0.
    pub initiator_low: u8,
    /// [`crate::conntrack::state`] as a number.
    pub state: u8,
    /// [`opener`] as a number.
    pub opener: u8,
    /// 1 when its initiator's last packet came to the receiver by the bridge, translated on the way perhaps: answers take
    /// it too.
    pub bridged: u8,
}

impl Flow {
    /// Never judged, between nobody.
    pub const NONE: Self = Self {
        sides: [Side::NONE; 2],
        ifindex: [0; 2],
        seen: 0,
        ring: 0,
        packets: [0; 2],
        bytes: [0; 2],
        origin: 0,
        initiator_low: 0,
        state: 0,
        opener: opener::INITIATOR,
        bridged: 0,
    };
}

/// One position of the flow ring: the flow that holds this place of its owner's quota.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingEntry {
    /// The flow's key; [`FlowKey::network`] is zero when the position is free.
    pub key: FlowKey,
    /// The flow.
    pub flow: Flow,
    /// In the first entry of each part: how many flows were placed in it.
    pub cursor: u64,
}

impl RingEntry {
    /// Free, and nothing was ever placed.
    pub const FREE: Self = Self {
        key: FlowKey::NONE,
        flow: Flow::NONE,
        cursor: 0,
    };
}

/// What was seen of one [`crate::key::SeenKey`] since an agent last read it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeenTimes {
    /// Flows that were opened; packets of groups. One at least.
    pub flows: u64,
    /// The first time, in jiffies (truncated).
    pub first: u32,
    /// The last time, in jiffies (truncated).
    pub last: u32,
}

/// What is at the expense of the endpoint in one slot of the port table. The agent zeroes it when it has read everything.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SeenQuota {
    /// Whose it is.
    pub ifindex: u32,
    /// Zero.
    pub pad: u32,
    /// Entries that were made.
    pub used: u64,
    /// What was seen and not kept: no room, or nobody can tell who opened it.
    pub missing: u64,
}

/// Node-wide settings, one entry.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Bumped after each change of policy; flows judged under another epoch are judged again. Never 0.
    pub epoch: u32,
    /// 1 when `--unlabelled enforce`: the bridge backstop closes what no endpoint owns.
    pub enforcing: u32,
    /// Until when (jiffies, truncated) TCP packets without a flow are taken in; 0 = not at all.
    pub adopt_until: u32,
    /// Jiffies a second (CONFIG_HZ).
    pub hz: u32,
    /// Events a second and CPU.
    pub event_rate: u32,
    /// Zero.
    pub pad: u32,
}

/// A list of prefixes in the blocks.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Its number in [`crate::key::BlockKey::list`].
    pub number: u32,
    /// Which blocks it may have, by the octets in common: bit N for IPv6, bit 16 + N for IPv4. None: it is empty.
    pub octets: u32,
}

/// What holds at uplinks. To change a list is to write the new one under another number, then to name that here.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Uplink {
    /// Whose packets are dropped.
    pub denied: List,
    /// Subnets of containers.
    pub subnets: List,
}

/// 256 neighbouring prefixes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// A bit for each, the first is the lowest of the first word.
    pub covered: [u64; 4],
}

impl Block {
    /// One of each eight neighbours among which the list covers any.
    pub fn eights(&self) -> impl Iterator<Item = u32> + '_ {
        let eights = (0..256).step_by(8);
        eights.filter(|first| self.covered[*first as usize / 64] >> (first % 64) & 0xff != 0)
    }

    /// Whether the list covers one of them.
    #[inline(always)]
    pub const fn covers(&self, neighbour: u32) -> bool {
        // An index that is computed would not be bounded to the verifier.
        let [a, b, c, d] = self.covered;
        let word = match neighbour >> 6 & 3 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        };
        word >> (neighbour & 63) & 1 != 0
    }
}

/// Packets and bytes of one counter on one CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes of the Ethernet frame.
    pub bytes: u64,
}

/// Event budget of one CPU.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventBudget {
    /// Second (in jiffies / hz) that `spent` belongs to.
    pub second: u32,
    /// Events sent in that second.
    pub spent: u32,
    /// Events sent since load.
    pub sent: u64,
    /// Events not sent: over the rate, or no room in the buffer.
    pub lost: u64,
}

/// One event of the ring buffer: a new or a denied flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Nanoseconds since boot (CLOCK_MONOTONIC).
    pub time: u64,
    /// Source address; zero when the packet has none that could be read.
    pub source: crate::addr::Addr,
    /// Destination address.
    pub destination: crate::addr::Addr,
    /// Source port, host order.
    pub source_port: u16,
    /// Destination port (ICMP: type), host order.
    pub destination_port: u16,
    /// Network of the hook.
    pub network: NetworkId,
    /// ifindex of the endpoint whose side this is; 0 when none.
    pub ifindex: u32,
    /// Frame length, bytes.
    pub length: u32,
    /// Number of the deciding rule in the endpoint's policy.
    pub rule: u16,
    /// Ethertype, host order.
    pub ethertype: u16,
    /// IP protocol.
    pub protocol: u8,
    /// [`crate::reason::Direction`] as a number.
    pub direction: u8,
    /// [`Verdict`] as a number.
    pub verdict: u8,
    /// [`crate::reason::Reason`] as a number.
    pub reason: u8,
    /// The endpoint's policy, to which `rule` belongs.
    pub policy: u32,
    /// Zero.
    pub pad: u32,
}

impl Side {
    /// Never judged.
    pub const NONE: Self = Self {
        epoch: 0,
        verdict: 0,
        reason: 0,
        rule: 0,
    };

    /// Whether this side was judged under `epoch`. Never before the agent has written the settings: a side that was not
    /// judged would look as if it had been.
    #[inline(always)]
    pub fn is_current(&self, epoch: u32) -> bool {
        self.epoch == epoch && Check::EpochWritten.holds(epoch != 0)
    }

    /// A side that was judged.
    #[inline(always)]
    pub const fn judged(epoch: u32, verdict: Verdict, reason: u8, rule: u16) -> Self {
        Self {
            epoch,
            verdict: verdict as u8,
            reason,
            rule,
        }
    }
}

const _: () = {
    assert!(size_of::<Endpoint>() == 40);
    assert!(size_of::<Address>() == 16);
    assert!(size_of::<Prefix>() == 8);
    assert!(size_of::<PolicyEntry>() == 8);
    assert!(size_of::<Side>() == 8);
    assert!(size_of::<Flow>() == 72);
    assert!(size_of::<RingEntry>() == 128);
    assert!(size_of::<SeenTimes>() == 16);
    assert!(size_of::<SeenQuota>() == 24);
    assert!(size_of::<Settings>() == 24);
    assert!(size_of::<Uplink>() == 16);
    assert!(size_of::<Block>() == 32);
    assert!(size_of::<Count>() == 16);
    assert!(size_of::<EventBudget>() == 24);
    assert!(size_of::<Event>() == 72);
};
