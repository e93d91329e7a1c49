//! Own connection tracking: keys, states, timeouts and the quota of each endpoint.

use crate::{
    check::Check,
    env::Env,
    key::{ANY_NETWORK, FlowKey, NetworkId, proto},
    packet::{Headers, tcp},
    parse::{Icmp, icmp},
    value::Flow,
};

/// States of a flow, as numbers in [`Flow::state`].
pub mod state {
    /// Only the initiator has sent.
    pub const NEW: u8 = 0;
    /// Both have sent.
    pub const ESTABLISHED: u8 = 1;
    /// TCP: one end has sent FIN.
    pub const CLOSING: u8 = 2;
    /// TCP: reset.
    pub const CLOSED: u8 = 3;
}

/// Positions of the ring that one placement looks at. Each placement has its own, so two CPUs never take the same.
pub const RING_WINDOW: u32 = 4;

/// Writes the key of the flow a packet belongs to; whether its source is the low end. (To return a key would take stack.)
#[inline(always)]
pub fn write_key(headers: &Headers, network: NetworkId, key: &mut FlowKey) -> bool {
    // An echo reply's identifier stands where the request's does: both are the asker's port.
    let kind = icmp(headers);
    let (source_port, destination_port) = match kind {
        Icmp::EchoRequest => (headers.source_port, 0),
        Icmp::EchoReply => (0, headers.source_port),
        // Type 0 of ICMPv6 is no echo with identifier 0: the other port tells them apart.
        Icmp::Error | Icmp::Neighbour | Icmp::Membership | Icmp::Other => {
            (headers.destination_port, 1)
        }
        Icmp::No => (headers.source_port, headers.destination_port),
    };
    let low = if headers.source == headers.destination {
        source_port <= destination_port
    } else {
        headers.source.is_before(&headers.destination)
    };
    let asker = match kind {
        Icmp::No => 0,
        Icmp::EchoReply => 1 + u8::from(low),
        Icmp::EchoRequest | Icmp::Error | Icmp::Neighbour | Icmp::Membership | Icmp::Other => {
            2 - u8::from(low)
        }
    };
    (key.low, key.high) = if low {
        (headers.source, headers.destination)
    } else {
        (headers.destination, headers.source)
    };
    (key.low_port, key.high_port) = if low {
        (source_port, destination_port)
    } else {
        (destination_port, source_port)
    };
    key.network = if Check::FlowNetwork.finds(true) {
        network
    } else {
        ANY_NETWORK
    };
    key.protocol = headers.protocol;
    key.asker = if Check::FlowAsker.finds(true) {
        asker
    } else {
        0
    };
    key.pad = [0; 6];
    low
}

/// Whether a packet asks for a judgement of its own, whatever flow there is: a TCP SYN.
#[inline(always)]
pub fn is_syn(headers: &Headers) -> bool {
    headers.protocol == proto::TCP && headers.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

/// Whether a packet may open a flow.
#[inline(always)]
pub fn may_open(headers: &Headers) -> bool {
    if headers.protocol == proto::TCP {
        let flags = headers.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN);
        return Check::OpenSyn.holds(flags == tcp::SYN);
    }
    Check::OpenEcho.holds(!matches!(icmp(headers), Icmp::EchoReply | Icmp::Error))
}

/// The state after a packet.
#[inline(always)]
pub fn next_state(now: u8, headers: &Headers, from_initiator: bool) -> u8 {
    if headers.protocol == proto::TCP {
        if Check::FlowReset.finds(headers.flags & tcp::RST != 0) {
            return state::CLOSED;
        }
        if Check::FlowFin.finds(headers.flags & tcp::FIN != 0) {
            return state::CLOSING;
        }
    }
    if now == state::NEW && !from_initiator {
        state::ESTABLISHED
    } else {
        now
    }
}

/// After how many seconds of silence a flow is forgotten.
///
/// TCP as in nf_conntrack (five days established; RFC 5382 REQ-5 asks for two hours and four minutes at least), UDP as
/// RFC 4787 REQ-5, ICMP as RFC 5508 REQ-1 asks at least.
#[inline(always)]
pub const fn timeout_seconds(protocol: u8, state: u8) -> u32 {
    match (protocol, state) {
        (proto::TCP, state::ESTABLISHED) => 432_000,
        (proto::TCP, state::CLOSING) => 120,
        (proto::TCP, state::CLOSED) => 10,
        (proto::UDP, state::NEW) => 30,
        (proto::UDP, _) => 180,
        (proto::ICMP | proto::ICMP6, _) => 60,
        (_, state::NEW) => 60,
        (_, _) => 600,
    }
}

/// Whether a flow has been silent for too long. Times in jiffies.
#[inline(always)]
pub const fn is_expired(flow: &Flow, protocol: u8, now: u32, hz: u32) -> bool {
    let age = now.wrapping_sub(flow.seen);
    age > timeout_seconds(protocol, flow.state).saturating_mul(hz)
}

/// Finds a place for a new flow within its owner's quota: a free one, else that of an expired flow, else that of a flow
/// nobody answered, else the one whose turn it is. So a flood recycles the flooder's own flows, and its established
/// ones last. Live flows of another owner, who had this part of the ring before it was halved, are left alone. None when
/// only such are there, or the part does not exist.
#[inline(always)]
pub fn place<E: Env>(env: &mut E, owner: u32, base: u32, mask: u32) -> Option<u32> {
    let (now, hz) = (env.now(), env.settings().hz);
    let turn = env.next_in_ring(base).wrapping_mul(RING_WINDOW);
    let mut best = base;
    let mut best_cost = cost::FORBIDDEN;
    for step in 0..RING_WINDOW {
        let position = base.wrapping_add(turn.wrapping_add(step) & mask);
        let mut whose = owner;
        let mut cost = match env.held(position) {
            Some((protocol, flow)) => {
                // One that was taken in by an answer is at the expense of who answered.
                if flow.ifindex[1] != owner {
                    whose = owner_of(flow);
                }
                if is_expired(flow, protocol, now, hz) {
                    cost::EXPIRED
                } else if Check::RingAnswered.finds(flow.state == state::ESTABLISHED) {
                    cost::ESTABLISHED
                } else {
                    cost::UNANSWERED
                }
            }
            None => cost::FREE,
        };
        if Check::RingOwner.finds(whose != owner) && cost > cost::EXPIRED {
            cost = if env.endpoint(whose).is_some() {
                cost::FORBIDDEN
            } else {
                cost::EXPIRED
            };
        }
        if cost < best_cost {
            best_cost = cost;
            best = position;
        }
        // Nothing is cheaper.
        if best_cost == cost::FREE {
            break;
        }
    }
    if best_cost == cost::FORBIDDEN {
        return None;
    }
    if Check::RingEvict.finds(best_cost != cost::FREE) {
        env.evict(best);
    }
    Some(best)
}

/// What it costs to take a place, cheapest first.
mod cost {
    pub(super) const FREE: u32 = 0;
    pub(super) const EXPIRED: u32 = 1;
    pub(super) const UNANSWERED: u32 = 2;
    pub(super) const ESTABLISHED: u32 = 3;
    pub(super) const FORBIDDEN: u32 = 4;
}

/// At whose expense a flow is: its initiator's, or the responder's where the initiator is no endpoint of the network.
#[inline(always)]
const fn owner_of(flow: &Flow) -> u32 {
    if flow.ifindex[0] != 0 {
        flow.ifindex[0]
    } else {
        flow.ifindex[1]
    }
}
